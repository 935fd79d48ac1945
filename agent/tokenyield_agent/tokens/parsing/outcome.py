"""How a request ended, from what a gateway's line says of it: answered, failed, or given up by its client. Pure.

Tokens of a request that failed or was given up were used all the same; what is decided here is only how the request
itself counts.
"""

import re
from typing import Any

from tokenyield_agent.tokens.parsing.usage import count_of

CLIENT_CLOSED = 499
"""nginx's status of a request whose client went away, which gateways have taken over."""

_ABORTED = re.compile(r"client.{0,3}(?:disconnect|close|gone|abort)|downstream.{0,10}disconnect|cancell?ed|^499$", re.I)
_FAILED = frozenset(("failure", "failed", "error", "errored", "expired", "timeout", "timed_out"))
_NOTHING = frozenset(("", "-", "none", "null", "false"))
_CAUSES = ("code", "type", "error_code", "error_class", "class", "name", "status", "status_code")
"""What names an error's cause. Its message is not read: it may quote the prompt."""


def outcome_of(*statuses: Any, error: Any = None) -> str:
    """The kind of request that ended so. `statuses` are HTTP codes or words, `error` an error's object or name."""
    causes = [error.get(name) for name in _CAUSES] if isinstance(error, dict) else [error]
    texts = [text for value in (*statuses, *causes) if (text := _text(value)).lower() not in _NOTHING]
    if any(_ABORTED.search(text) for text in texts):
        return "requests_aborted"
    names = error.values() if isinstance(error, dict) else [error]
    is_error = any(_text(name).lower() not in _NOTHING or isinstance(name, dict) for name in names)
    return "requests_failed" if is_error or any(_has_failed(status) for status in statuses) else "requests"


def _has_failed(status: Any) -> bool:
    code = count_of(status)
    if code is None:
        return isinstance(status, str) and status.lower() in _FAILED
    return 400 <= code < 600


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value[:256]
    code = count_of(value)
    return "" if code is None else str(code)
