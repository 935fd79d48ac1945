"""Inference servers by the process that executes them. Pure.

A server is recognized by its program, its Python module or the title that it gave itself, as its file in
tokens/dialects/ names them (`ProcessNames`); never by words in the arguments of a process that only starts it. Its
workers often do not name it (they are forked, or rename themselves), but one of their parents does.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from tokenyield_agent.tokens.dialects.base import ProcessNames, Server
from tokenyield_agent.tokens.dialects.registry import SERVERS
from tokenyield_agent.workloads.executed_program import ExecutedProgram, executed_program, program_name

_PORT = re.compile(r"--(?:http[-_])?port[= ](?P<port>\d{1,5})\b")
_VARIANT = re.compile(r"^-(?:(?:v|b)?\d[\w.-]*|(?:cuda|vulkan|rocm|hip|cpu|sycl|metal)[\w.-]*)$")
"""What a build's version or backend adds to a program's name: llama-server-b11434, llama-server-cuda."""


def server_of(argv: Sequence[str], resolved: str = "") -> Server | None:
    """The server that a process executes; None for any other. `resolved`: its executable, as the kernel knows it."""
    return _server_of(tuple(argv), resolved)


@lru_cache(maxsize=128)  # the same few processes are looked at every ten seconds
def _server_of(argv: tuple[str, ...], resolved: str) -> Server | None:
    run = executed_program(argv, resolved)
    server = next((s for s in SERVERS.values() if s.process is not None and _executes(run, s.process)), None)
    if server is None and argv and " " in argv[0]:  # a process that wrote its command line into its title
        return _server_of((*argv[0].split(), *argv[1:]), "")
    return server


def has_title_of(argv: Sequence[str], server: Server) -> bool:
    """Whether the process is one of the server's by the title that it gave itself: a worker or an engine."""
    return server.process is not None and bool(argv) and argv[0].startswith(server.process.titles)


def port_of(argv: Sequence[str], server: Server) -> int | None:
    """The port that the arguments name, or the server's usual one."""
    match = _PORT.search(" ".join(argv))
    return int(match["port"]) if match else server.port


def model_of(argv: Sequence[str], server: Server) -> str | None:
    """The file of the model that the arguments name, as the server's log would name it; None where they name none."""
    flags = server.process.model_flags if server.process is not None else ()
    for flag, value in zip(argv, (*argv[1:], ""), strict=True):
        if flag in flags and value:
            return value.rpartition("/")[2] or None
    return None


def _executes(run: ExecutedProgram, names: ProcessNames) -> bool:
    if run.title.startswith(names.titles):
        return True
    if any(_has_command(run, spec) and _is_module(run, spec.partition(" ")[0]) for spec in names.modules):
        return True
    if any(_has_command(run, spec) and _is_program(run, spec.partition(" ")[0]) for spec in names.programs):
        return True
    return any(path.startswith(folder) for folder in names.folders for path in run.paths)


def _has_command(run: ExecutedProgram, spec: str) -> bool:
    command = spec.partition(" ")[2]
    return not command or run.command == command


def _is_module(run: ExecutedProgram, module: str) -> bool:
    """`python -m module`, a module below it, or the file of one of them run as a script."""
    if run.module is not None:
        return run.module == module or run.module.startswith(f"{module}.")
    folder = "/" + module.replace(".", "/")
    for path in run.paths:
        _, there, rest = f"/{path}".rpartition(folder)
        if there and path.endswith(".py") and (rest == ".py" or rest.startswith("/")):
            return True
    return False


def _is_program(run: ExecutedProgram, program: str) -> bool:
    """`program` is a name, or the end of a path where the name alone says too little."""
    if "/" in program:
        return any(f"/{path}".endswith(f"/{program}") for path in run.paths)
    for path in run.paths:
        name = program_name(path)
        if name == program or (name.startswith(program) and _VARIANT.match(name[len(program) :])):
            return True
    return False
