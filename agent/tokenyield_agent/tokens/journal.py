"""systemd's journal, by unit: one `journalctl --follow` child for all units.

In: units, and the cursor of the last run. Out: (unit, block of whole lines). The journal's cursor names an entry: given
back at start, reading continues after it, whatever was rotated meanwhile. The child is restarted when it ends, with
growing pauses, and whenever the units change. Before a new unit is followed, what it logged as it started is read, of
which its model is learned (`take_starts`). Nothing here raises: `problem` says what is wrong.

The format is `journalctl -o json`: one object a line, with `MESSAGE` as a string, or as an array of bytes where it is
not UTF-8, or null where it is too long to show (systemd.journal-fields(7), journalctl(1)).
"""

import contextlib
import fcntl
import json
import logging
import os
import select
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tokenyield_agent.tokens.journal_start import ENTRY_FIELDS, UnitStart

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

POLL_BYTES_MAX = 4 * 1024 * 1024
"""Of all units: lines made to be hard to read take a second then."""
PIPE_BYTES = 1024 * 1024
"""Between two polls journalctl writes no more than its pipe holds: the usual 64 KiB are a hundred lines a second."""
REFILL_S = 0.02
"""How long a poll that emptied much of the pipe waits for journalctl to fill it again."""
LINE_BYTES_MAX = 1024 * 1024
"""An entry with its metadata; a longer one is dropped."""
LAST_CURSOR_S = 2.0
RETRY_S_MIN, RETRY_S_MAX = 1.0, 60.0


class Journal:
    """Follows the journal. `directory` is another host's journal, for tests and containers; None: this host's."""

    def __init__(self, directory: str | None = None, cursor: str | None = None) -> None:
        self.cursor = cursor
        self.problem: str | None = None
        self.counts = {"bytes": 0, "lines_too_long": 0, "restarts": 0}
        self._directory = directory
        self._units: frozenset[str] = frozenset()
        self._starting: dict[str, UnitStart] = {}
        self._starts: dict[str, bytes] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._skipping = False
        self._retry_at_s = 0.0
        self._pause_s = RETRY_S_MIN

    def set_units(self, units: frozenset[str]) -> None:
        """Follow these from now on."""
        if units != self._units:
            to_start = (units - self._units) | (self._starting.keys() & units)
            self.close()
            for unit in sorted(to_start):
                self._starting[unit] = UnitStart(unit, self._call(), journal_matches(frozenset({unit})))
            self._units = units
            self._retry_at_s = 0.0

    def take_starts(self) -> dict[str, bytes]:
        """Unit -> what it logged as it started, before it was followed; each once, and before any of its blocks."""
        taken, self._starts = self._starts, {}
        return taken

    def poll(self, now_mono_s: float) -> Iterator[tuple[str, bytes]]:
        """What was logged since the last poll."""
        if not self._units:
            return
        if self._child is None and now_mono_s >= self._retry_at_s:
            if self.cursor is None:
                self.cursor = _last_cursor([*self._call(), "--lines=1", "--output-fields=PRIORITY"])
            if self._starting:
                self._read_starts(now_mono_s)
                return  # the starts are taken before the blocks that follow
            self._start(now_mono_s)
        if self._child is None or self._child.stdout is None:
            return
        budget, ended, out = POLL_BYTES_MAX, False, self._child.stdout.fileno()
        while budget > 0:
            try:
                data = os.read(out, 1 << 16)
            except BlockingIOError:
                has_backlog = POLL_BYTES_MAX - budget >= PIPE_BYTES // 2
                if has_backlog and select.select([out], [], [], REFILL_S)[0]:
                    continue
                break
            if not data:
                ended = True
                break
            budget -= len(data)
            self.counts["bytes"] += len(data)
            yield from self._lines(data)
        if ended:
            self._ended(now_mono_s)

    def close(self) -> None:
        for start in self._starting.values():
            start.close()
        self._starting = {}
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdout, self._child.stderr):
                if pipe is not None:
                    pipe.close()
        self._child, self._rest, self._skipping = None, b"", False

    def _start(self, now_mono_s: float) -> None:
        call = [*self._call(), "--follow", "--no-tail", f"--output-fields={ENTRY_FIELDS}"]
        # Not --after-cursor: where the entry at the cursor is of another unit, systemd 252 skips one of ours.
        call += [f"--cursor={self.cursor}"] if self.cursor else ["--lines=0"]
        call += journal_matches(self._units)
        import subprocess  # only where there is a journal to follow: it takes a megabyte

        try:
            self._child = subprocess.Popen(
                call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            self._set_problem(f"journalctl cannot be started ({error}); install systemd or name a log file instead")
            self._delay_restart(now_mono_s)
            return
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)
        with contextlib.suppress(OSError):  # above what this user's pipes may hold together
            fcntl.fcntl(self._child.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.counts["restarts"] += 1

    def _read_starts(self, now_mono_s: float) -> None:
        for unit, start in list(self._starting.items()):
            if (entries := start.poll(now_mono_s)) is not None:
                del self._starting[unit]
                found = [entry for line in entries if (entry := _entry(line)) is not None and entry[1] == unit]
                self._starts[unit] = b"".join(message for _, _, message in found)

    def _call(self) -> list[str]:
        """What all calls of journalctl have in common."""
        where = [] if self._directory is None else [f"--directory={self._directory}"]
        return ["journalctl", "--output=json", "--quiet", "--no-pager", *where]

    def _ended(self, now_mono_s: float) -> None:
        assert self._child is not None
        assert self._child.stderr is not None
        message = self._child.stderr.read(500).decode("utf-8", "replace").strip()
        self.close()
        self._set_problem(f"journalctl ended: {message or 'without a message'}; it is restarted")
        self._delay_restart(now_mono_s)

    def _delay_restart(self, now_mono_s: float) -> None:
        self._retry_at_s = now_mono_s + self._pause_s
        self._pause_s = min(RETRY_S_MAX, 2 * self._pause_s)

    def _set_problem(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            log.warning("journal: %s", problem)
        self.problem = problem

    def _lines(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            self.counts["lines_too_long"] += not self._skipping
            self._rest, self._skipping = b"", True
        for line in lines:
            if self._skipping:
                self._skipping = False
                continue
            if (entry := _entry(line)) is not None and entry[0] != self.cursor:
                self.cursor, unit, message = entry
                if self.problem:
                    self._set_problem(None)
                    self._pause_s = RETRY_S_MIN
                if unit in self._units and message:
                    yield unit, message


def journal_matches(units: Iterable[str]) -> list[str]:
    """journalctl's arguments for what these units wrote. `--unit` would leave out the units of users, which belong to
    the unit of their manager (user@1000.service)."""
    named = sorted(units)
    return [*(f"_SYSTEMD_UNIT={unit}" for unit in named), "+", *(f"_SYSTEMD_USER_UNIT={unit}" for unit in named)]


def _last_cursor(call: list[str]) -> str | None:
    """Where the journal ends now, in any unit: what comes later is read, even if the child ends at once."""
    import subprocess

    try:
        done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, timeout=LAST_CURSOR_S, check=False)
        return str(json.loads(done.stdout)["__CURSOR"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None


def _entry(line: bytes) -> tuple[str, str, bytes] | None:
    """(cursor, unit, the message's lines, each with a newline)."""
    try:
        entry: Any = json.loads(line)
        cursor = entry["__CURSOR"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        try:
            text = bytes(message)
        except (ValueError, TypeError):
            return None
    else:
        text = message.encode("utf-8", "surrogateescape") if isinstance(message, str) else b""
    unit = entry.get("_SYSTEMD_USER_UNIT") or entry.get("_SYSTEMD_UNIT") or ""
    return str(cursor), str(unit), text + b"\n" if text else b""
