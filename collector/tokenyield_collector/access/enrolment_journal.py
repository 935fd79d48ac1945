"""The journal of enrolments: a file to which the collector and `tokenyield-collector enrol` append, a line an event.

In: a folder. Out: the state that its events make, read on as far as others have appended. Every change is decided and
appended under one lock of the file, so that a secret is not used more often than it may be, by however many programs
share the folder. What is appended is durable, and no secret: secrets and claims are SHA-256.
"""

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from tokenyield_collector.access.enrolments import FORGET, Enrolments, EnrolRefused, Event, lasting_events
from tokenyield_settings.private_files import give_to_owner, prepare_folder, write_private

log = logging.getLogger(__name__)

BYTES_MAX = 64 * 2**20
"""Some 300,000 events; beyond it nothing is enrolled."""
USER = "tokenyield-collector"
"""Of the Debian package."""
Result = TypeVar("Result")


class EnrolmentJournal:
    """One folder's. Functions raise OSError. Any thread may call them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "enrolments"
        self._guard = threading.Lock()
        self.state = Enrolments()
        self.faults: list[str] = []
        """Lines that cannot be read: nothing is enrolled before they are repaired."""
        self._read_to = self._lines = 0
        self._file_id = (0, 0)

    def reread(self) -> bool:
        """Read on where there is more, or from the start where it is another file. Whether anything changed."""
        with self._guard:
            try:
                with self.path.open("rb") as file:
                    return self._read_on(file.fileno())
            except FileNotFoundError:
                is_gone = self._read_to > 0
                if is_gone:
                    log.error("%s is gone: no bootstrap secret and no revocation is known", self.path)
                    self._forget()
                return is_gone

    def decide(self, judge: Callable[[Enrolments], tuple[Event | None, Result]]) -> Result:
        """What `judge` gives for the state that is current, after its event is durable. Raises what `judge` raises,
        and `EnrolRefused` where the journal cannot be used."""
        with self._guard, self._locked() as descriptor:
            self._read_on(descriptor)
            if self.faults:
                raise EnrolRefused(
                    "journal", 503, "the journal of enrolments has lines that cannot be read; see the log"
                )
            event, result = judge(self.state)
            if event is not None:
                self._append(descriptor, event)
            return result

    def forget(self, before_ms: int) -> int:
        """Write the file anew without what ended before then (`lasting_events`). How many nodes are forgotten."""
        with self._guard, self._locked() as descriptor:
            self._read_on(descriptor)
            if self.faults:
                raise EnrolRefused("journal", 503, self.faults[0])
            count = len(self.state.nodes)
            lines = (msgspec.json.encode(event) + b"\n" for event in lasting_events(self.state, before_ms))
            write_private(self.path, b"".join(lines))
        self.reread()
        return count - len(self.state.nodes)

    def prepare(self) -> None:
        """The folder, mode 0700, of the folder above or, where root makes it, of the collector's user."""
        prepare_folder(self.path.parent, mode=0o700, user=USER)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        self.prepare()
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not self._is_current(descriptor):
                    continue  # it was written anew while this waited for the lock
                give_to_owner(descriptor, self.path.parent)
                yield descriptor
                return
            finally:
                os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def _append(self, descriptor: int, event: Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        size = os.fstat(descriptor).st_size
        if size + len(line) > BYTES_MAX:
            detail = f"{self.path.name} has {BYTES_MAX >> 20} MiB, as much as it may; on the collector's host: {FORGET}"
            raise EnrolRefused("journal", 503, detail)
        if size > self._read_to:  # what was being written when a program or the machine stopped
            os.ftruncate(descriptor, self._read_to)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(f"{self.path}: only a part could be written")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, self._read_to)
            raise
        self._take(line)

    def _read_on(self, descriptor: int) -> bool:
        status = os.fstat(descriptor)
        file_id = (status.st_dev, status.st_ino)
        if file_id != self._file_id or status.st_size < self._read_to:
            self._forget()
            self._file_id = file_id
        if status.st_size == self._read_to:
            return False
        data = os.pread(descriptor, min(status.st_size, BYTES_MAX) - self._read_to, self._read_to)
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines(keepends=True):
            self._take(line)
        return bool(whole)

    def _take(self, line: bytes) -> None:
        self._read_to += len(line)
        self._lines += 1
        try:
            self.state.apply(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError as error:
            self.faults.append(
                f"{self.path}:{self._lines}: expected an event, found something else ({error}); remove it"
            )
            log.error("nothing is enrolled: %s", self.faults[-1])

    def _forget(self) -> None:
        self.state, self.faults = Enrolments(), []
        self._read_to = self._lines = 0
