"""Errors that a caller acts upon.

AgentError
└── SetUpError      the agent cannot start as configured; the message names the setting and how to fix it
"""


class AgentError(Exception):
    """Base of the agent's errors."""


class SetUpError(AgentError):
    """The agent cannot start as configured."""
