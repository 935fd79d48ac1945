"""Inference servers by their command line. Pure.

A server's workers often do not name it (they are forked, or rename themselves), but one of their parents does.
"""

import re

from tokenyield_agent.tokens.dialects.base import Server
from tokenyield_agent.tokens.dialects.registry import server_of_command

_OWN = re.compile(r"\btokenyield[-_](?:agent|collector)\b")
_PORT = re.compile(r"--(?:http[-_])?port[= ](?P<port>\d{1,5})\b")


def server_of(command: str) -> Server | None:
    """The server that `command` starts; None for any other command, and for our own programs."""
    return None if _OWN.search(command) else server_of_command(command)


def port_of(command: str, server: Server) -> int | None:
    """The port that the command line names, or the server's usual one."""
    match = _PORT.search(command)
    return int(match["port"]) if match else server.port
