"""Container runtimes' log files back into the lines that the container wrote. Pure.

In: blocks of whole lines of a log file. Out: blocks of the container's own lines. Two formats, told by their first
line:

* CRI (containerd, CRI-O; under /var/log/pods): `2026-11-23T12:00:00.123456789Z stdout F the line`. Runtimes cut lines
  at 16 KiB: a part is tagged `P`, the last one `F`; parts of stdout and stderr may interleave.
* Docker's json-file: `{"log":"the line\\n","stream":"stdout","time":"..."}`, where a part has no newline at its end.

Any other file is handed on as it is.
"""

import re
from typing import Any

import msgspec

PARTIAL_BYTES_MAX = 256 * 1024
"""Of a line joined from parts: a longer one is a logged prompt, and is dropped."""

_CRI = re.compile(
    rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP](?::[\w:]*)? "
)
_CRI_FULL = re.compile(rb"^[^ \n]+ std(?:out|err) F(?::[\w:]*)? ", re.MULTILINE)
_CRI_PART = re.compile(rb"^[^ \n]+ (stdout|stderr) ([FP])(?::[\w:]*)? (.*)$", re.DOTALL)
_DOCKER = re.compile(rb'^\{"log": ?".*"stream": ?"std(?:out|err)"')


class _DockerLine(msgspec.Struct, gc=False):
    log: str
    stream: str = "stdout"


_docker = msgspec.json.Decoder(_DockerLine)


class Unwrapper:
    """One log file's format, and the parts of lines that are not whole yet."""

    def __init__(self) -> None:
        self.format: str | None = None
        """`cri`, `docker` or `plain`, once a line was seen."""
        self._parts: dict[str, str] = {}
        self.lines_too_long = 0

    def feed(self, block: bytes) -> bytes:
        """The container's lines in `block`, which holds whole lines of the file."""
        if self.format is None:
            self.format = "cri" if _CRI.match(block) else "docker" if _DOCKER.match(block) else "plain"
        if self.format == "cri":
            return self._cri(block)
        return self._docker(block) if self.format == "docker" else block

    def state(self) -> dict[str, Any]:
        return {"format": self.format, "parts": dict(self._parts)}

    def restore(self, state: dict[str, Any]) -> None:
        self.format, self._parts = state["format"], dict(state["parts"])

    def forget_parts(self) -> None:
        """The next block does not follow on the last one."""
        self._parts = {}

    def _cri(self, block: bytes) -> bytes:
        if not self._parts and b" P " not in block and b" P:" not in block:
            return _CRI_FULL.sub(b"", block)
        lines = []
        for line in block.splitlines(keepends=True):
            match = _CRI_PART.match(line)
            if match is None:
                lines.append(line)  # not the runtime's: whoever wrote it, it is no part of anything
            elif match[2] == b"P":
                self._keep(match[1].decode(), match[3].rstrip(b"\n").decode("utf-8", "surrogateescape"))
            else:
                lines.append(self._joined(match[1].decode(), match[3]))
        return b"".join(lines)

    def _docker(self, block: bytes) -> bytes:
        lines = []
        for line in block.splitlines():
            try:
                entry = _docker.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if not entry.log.endswith("\n"):
                self._keep(entry.stream, entry.log)
            elif self._parts:
                lines.append(self._joined(entry.stream, entry.log.encode("utf-8", "surrogateescape")))
            else:
                lines.append(entry.log.encode("utf-8", "surrogateescape"))
        return b"".join(lines)

    def _keep(self, stream: str, part: str) -> None:
        known = self._parts.get(stream, "")
        if known == _TOO_LONG or len(known) + len(part) > PARTIAL_BYTES_MAX:
            self.lines_too_long += known != _TOO_LONG
            self._parts[stream] = _TOO_LONG
        else:
            self._parts[stream] = known + part

    def _joined(self, stream: str, last: bytes) -> bytes:
        before = self._parts.pop(stream, "")
        return b"" if before == _TOO_LONG else before.encode("utf-8", "surrogateescape") + last


_TOO_LONG = "\0"
