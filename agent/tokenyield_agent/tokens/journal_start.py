"""What a unit logged as its server started: that is where servers name their model.

In: a unit that is followed from now on. Out: the first lines of its running invocation, at most `START_BYTES_MAX` of
them, by two children of journalctl one after the other: the first finds the invocation by the unit's newest entry, the
second reads from its beginning. Where entries have no invocation, the unit is read from the beginning of the boot.
Nothing blocks and nothing raises: a start that cannot be read is empty.
"""

import json
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

START_BYTES_MAX = 4 * 1024 * 1024
"""Of journalctl's output, in which a line of a hundred bytes takes three hundred."""
ANSWER_S_MAX = 5.0
"""Of each child; then it is killed, and what it gave is taken."""
_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = "_SYSTEMD_UNIT,_SYSTEMD_INVOCATION_ID"
ENTRY_FIELDS = "MESSAGE,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT"
"""What journal.py reads of an entry, of a unit's start too."""


class UnitStart:
    """One unit's. `poll` until it gives the lines."""

    def __init__(self, unit: str, call: list[str], matches: list[str]) -> None:
        """`call` is journalctl with what all calls have in common; `matches` are for what the unit wrote."""
        self._unit = unit
        self._call = call
        self._matches = matches
        self._ends_at_s: float | None = None
        self._data = b""
        self._is_second = False
        self._child = _child([*call, "--lines=1", f"--output-fields={_FIELDS}", *matches])

    def poll(self, now_mono_s: float) -> list[bytes] | None:
        """The entries of the start as journalctl writes them, a line each; None while they are being read."""
        if self._ends_at_s is None:
            self._ends_at_s = now_mono_s + ANSWER_S_MAX
        if not self._is_ended(now_mono_s):
            return None
        self.close()
        if self._is_second:
            return self._data.splitlines()
        invocation = _invocation(self._data, self._unit)
        match = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else ["--boot", *self._matches]
        self._child = _child([*self._call, f"--output-fields={ENTRY_FIELDS}", *match])
        self._data, self._ends_at_s, self._is_second = b"", now_mono_s + ANSWER_S_MAX, True
        return None

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdout is not None:
                self._child.stdout.close()
        self._child = None

    def _is_ended(self, now_mono_s: float) -> bool:
        assert self._ends_at_s is not None
        if self._child is None or self._child.stdout is None or now_mono_s >= self._ends_at_s:
            return True
        while len(self._data) < START_BYTES_MAX:
            try:
                data = os.read(self._child.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._data += data
        return True


def _child(call: list[str]) -> "subprocess.Popen[bytes] | None":
    import subprocess

    try:
        child = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None  # the child that follows says why
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    return child


def _invocation(data: bytes, unit: str) -> str | None:
    """The invocation of a unit's newest entry. A user's unit has that of its manager, which is no use."""
    try:
        entry = json.loads(data.splitlines()[0])
        found = entry.get("_SYSTEMD_INVOCATION_ID") if entry.get("_SYSTEMD_UNIT") == unit else None
    except (ValueError, IndexError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None
