"""What tests may not know of the machine that they run on: files of installed programs, and settings in the environment.

A test that passes here only because nothing is installed fails on a machine where something is, or changes it. So settings
in the environment are removed before the first test, and a file that belongs to an installed program is noted when this
process looks at, opens, lists or makes it, whether it exists or not. Programs that tests start as processes are not watched.
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

SETTINGS = ("TOKENYIELD_AGENT_", "TOKENYIELD_COLLECTOR_")
"""How the variables of both programs' settings begin; `TOKENYIELD_CACHE` and others are of the tests themselves."""
INSTALLED = (
    "/etc/tokenyield",
    "/run/tokenyield",
    "/var/lib/tokenyield",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/run/secrets",
)
_EVENTS = frozenset({"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.scandir", "shutil.rmtree"})
_LOOKS = ("stat", "lstat", "access")
"""Functions of `os` that only look whether a file is there, of which Python reports no event."""

touched: list[str] = []
"""Of the test that runs: what it did with which file."""


def forget_settings() -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]


def _note(event: str, path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        name = os.fsdecode(path)
        if name.startswith(INSTALLED):
            touched.append(f"{event} {name}")


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _note(event, arguments[0])


def _noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(path: Any, *arguments: Any, **named: Any) -> Any:
        _note(f"os.{name}", path)
        return function(path, *arguments, **named)

    return call


def watch() -> None:
    """For the rest of this process: an audit hook cannot be removed."""
    sys.addaudithook(_audited)
    for name in _LOOKS:
        function = getattr(os, name)
        noting = _noting(name, function)
        for group in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if function in group:
                group.add(noting)
        setattr(os, name, noting)
