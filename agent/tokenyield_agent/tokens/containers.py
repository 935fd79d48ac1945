"""Container runtimes' log files back into the lines that the container wrote. Pure.

In: blocks of whole lines of a log file. Out: blocks of the container's own lines. Two formats, recognized by their
first line:

* CRI (containerd, CRI-O; under /var/log/pods): `2026-11-23T12:00:00.123456789Z stdout F the line`. Runtimes cut lines
  at 16 KiB: a part is tagged `P`, the last one `F`; parts of stdout and stderr may interleave.
* Docker's json-file: `{"log":"the line\\n","stream":"stdout","time":"..."}`, where a part has no newline at its end.

Any other file is passed on unchanged.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec

from tokenyield_agent.tokens.open_file import FilePosition

NO_POSITION = FilePosition(0, 0, 0)

PARTIAL_BYTES_MAX = 256 * 1024
"""Of a line joined from parts: a longer one is a logged prompt, and is dropped."""

_CRI = re.compile(
    rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP](?::[\w:]*)? "
)
_CRI_FULL = re.compile(rb"^[^ \n]+ std(?:out|err) F(?::[\w:]*)? ", re.MULTILINE)
_CRI_PART = re.compile(rb"^[^ \n]+ (stdout|stderr) ([FP])(?::[\w:]*)? (.*)$", re.DOTALL)
_DOCKER = re.compile(rb'^\{"log": ?".*"stream": ?"std(?:out|err)"')


PARTS_MAX = 1024
"""Of one line. Runtimes cut at 16 KiB: one of more parts is no runtime's."""


class _DockerLine(msgspec.Struct, gc=False):
    log: str
    stream: str = "stdout"


_docker = msgspec.json.Decoder(_DockerLine)


class Unwrapper:
    """One log file's format, and the parts of lines that are not whole yet. What is kept over a restart is where the
    parts are, not what they hold: it may be a prompt."""

    def __init__(self) -> None:
        self.format: str | None = None
        """`cri`, `docker` or `plain`, once a line was read."""
        self._parts: dict[str, _Parts] = {}
        self.lines_too_long = 0

    def feed(self, block: bytes, at: FilePosition = NO_POSITION) -> bytes:
        """The container's lines in `block`, which holds whole lines of the file and begins `at`."""
        if self.format is None:
            self.format = "cri" if _CRI.match(block) else "docker" if _DOCKER.match(block) else "plain"
        if self.format == "cri":
            return self._cri(block, at)
        return self._docker(block, at) if self.format == "docker" else block

    def state(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "parts": {stream: list(parts.positions) for stream, parts in self._parts.items()},
        }

    def restore(self, state: dict[str, Any], read: Callable[[FilePosition, int], bytes | None]) -> None:
        """`read` gives the bytes at a position again, or None where they are gone: then that line is dropped."""
        self.format = state["format"]
        for stream, positions in state["parts"].items():
            for *position, length in positions or ():
                at = FilePosition(*position)
                line = read(at, length)
                part = None if line is None or at.inode == NO_POSITION.inode else self._part(line)
                self._keep_part(stream, part, at, length)
            if not positions:
                self._parts[stream] = _Parts(None, [])

    def forget_parts(self) -> None:
        """The next block does not follow the last one."""
        self._parts = {}

    def _cri(self, block: bytes, at: FilePosition) -> bytes:
        if not self._parts and b" P " not in block and b" P:" not in block:
            return _CRI_FULL.sub(b"", block)
        lines, offset = [], at.offset
        for line in BytesIO(block):
            match = _CRI_PART.match(line)
            if match is None:
                lines.append(line)  # not the runtime's: it is part of no line
            elif match[2] == b"P":
                self._keep_part(match[1].decode(), _text(match[3]), at._replace(offset=offset), len(line))
            else:
                lines.append(self._joined(match[1].decode(), match[3]))
            offset += len(line)
        return b"".join(lines)

    def _docker(self, block: bytes, at: FilePosition) -> bytes:
        lines, offset = [], at.offset
        for line in BytesIO(block):
            before, offset = offset, offset + len(line)
            try:
                entry = _docker.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            stream = entry.stream if entry.stream == "stderr" else "stdout"
            if not entry.log.endswith("\n"):
                self._keep_part(stream, entry.log, at._replace(offset=before), len(line))
            elif self._parts:
                lines.append(self._joined(stream, entry.log.encode("utf-8", "surrogateescape")))
            else:
                lines.append(entry.log.encode("utf-8", "surrogateescape"))
        return b"".join(lines)

    def _part(self, line: bytes) -> str | None:
        """The text of a line that is a part; None if it is not one any more."""
        if self.format == "cri":
            match = _CRI_PART.match(line)
            return _text(match[3]) if match is not None and match[2] == b"P" else None
        try:
            return _docker.decode(line).log
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _keep_part(self, stream: str, part: str | None, at: FilePosition, length: int) -> None:
        parts = self._parts.setdefault(stream, _Parts([], []))
        if parts.texts is None:
            return
        if part is None or parts.chars + len(part) > PARTIAL_BYTES_MAX or len(parts.texts) >= PARTS_MAX:
            self.lines_too_long += 1
            self._parts[stream] = _Parts(None, [])
        else:
            parts.texts.append(part)
            parts.positions.append((*at, length))
            parts.chars += len(part)

    def _joined(self, stream: str, last: bytes) -> bytes:
        before = self._parts.pop(stream, None)
        if before is None:
            return last
        return b"" if before.texts is None else "".join(before.texts).encode("utf-8", "surrogateescape") + last


@dataclass(slots=True)
class _Parts:
    """Of one line. `texts` is None when it is more than is kept; `positions`: device, inode, offset, length of each."""

    texts: list[str] | None
    positions: list[tuple[int, int, int, int]]
    chars: int = 0


def _text(part: bytes) -> str:
    return part.rstrip(b"\n").decode("utf-8", "surrogateescape")
