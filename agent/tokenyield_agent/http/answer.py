"""The bytes of an HTTP answer into its status, headers and body. Pure.

In: bytes as they come, in any pieces. Out: an `Answer` once it is whole. What can go wrong is a `BadAnswer`: what is no
HTTP, and what goes beyond the bounds. A body that is compressed is refused, for nobody asked for one: so what is held
is never more than what came over the wire.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass, field

HEAD_BYTES_MAX = 64 * 1024
"""Of the heads of one answer, `100 Continue` included."""
INTERIM_MAX = 8
"""Answers of the kind `100 Continue` before the one that counts."""
CHUNK_LINE_BYTES_MAX = 1024
CHUNKS_MAX = 4096
"""Smaller than `CHUNK_BYTES_LEAST` on average: each costs time, whatever is in it."""
CHUNK_BYTES_LEAST = 64
_STATUS_LINE = re.compile(rb"HTTP/1\.(?P<minor>\d) (?P<status>[1-9]\d\d)(?: [^\r\n]*)?")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class BadAnswer(Exception):
    """In words. `reason`: `too_large`, `cut`, `packed` or `no_http`."""

    def __init__(self, problem: str, reason: str = "no_http") -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(slots=True)
class Answer:
    """A whole one. Names of headers are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keeps_connection: bool = False


class AnswerReader:
    """Feed it until it gives the answer; `end` where the connection ends."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._buffer = bytearray()
        self._body = bytearray()
        self._head_bytes = self._interim = 0
        self._steps = self._read()
        self._is_until_end = False
        self._missing = 0
        self.answer: Answer | None = None
        next(self._steps)

    def drop(self) -> None:
        """Let go of what is held, now: an answer that was given up refers to itself."""
        self._steps.close()
        self._buffer.clear()
        self._body.clear()

    @property
    def held_bytes(self) -> int:
        return len(self._buffer) + len(self._body)

    @property
    def has_begun(self) -> bool:
        return bool(self._buffer or self._head_bytes)

    def feed(self, data: bytes) -> Answer | None:
        """Raises `BadAnswer`."""
        self._buffer += data
        try:
            next(self._steps)
        except StopIteration:
            return self.answer
        return None

    def end(self) -> Answer:
        """Nothing more comes. Raises `BadAnswer`."""
        if self._is_until_end and self.answer is not None:
            self.answer.body = bytes(self._body)
            return self.answer
        missing = self._missing - len(self._buffer)
        if self.answer is not None and missing > 0:
            raise BadAnswer(f"ends {missing} bytes early", "cut")
        raise BadAnswer("ends in the middle of its answer" if self.has_begun else "ends without an answer", "cut")

    def _read(self) -> Generator[None, None, None]:
        yield
        while True:
            head = yield from self._head()
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > INTERIM_MAX:
                raise BadAnswer(f"says {head.status} more than {INTERIM_MAX} times, and answers nothing")
        self.answer = head
        headers = head.headers
        if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise BadAnswer(f"is compressed ({headers['content-encoding'][:20]}), which was not asked for", "packed")
        if head.status in (204, 304):
            pass
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            yield from self._chunks()
        elif "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit() and len(length) <= 15):
                raise BadAnswer("has a Content-Length that is no number")
            yield from self._take(int(length))
        else:
            head.keeps_connection = False
            self._is_until_end = True
            while True:
                self._grow(bytes(self._buffer))
                self._buffer.clear()
                yield
        head.keeps_connection = head.keeps_connection and not self._buffer
        head.body = bytes(self._body)
        self._body.clear()

    def _head(self) -> Generator[None, None, Answer]:
        start = 0
        while (end := self._buffer.find(b"\r\n\r\n", start)) < 0:
            if self._head_bytes + len(self._buffer) > HEAD_BYTES_MAX:
                raise BadAnswer(f"has a head of more than {HEAD_BYTES_MAX >> 10} KiB", "too_large")
            start = max(0, len(self._buffer) - 3)
            yield
        self._head_bytes += end + 4
        if self._head_bytes > HEAD_BYTES_MAX:
            raise BadAnswer(f"has a head of more than {HEAD_BYTES_MAX >> 10} KiB", "too_large")
        status_line, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        match = _STATUS_LINE.fullmatch(status_line)
        if match is None:
            raise BadAnswer("does not answer with HTTP")
        headers: dict[str, str] = {}
        for line in lines:
            name, is_header, value = line.partition(b":")
            if is_header:
                key, text = name.decode("latin-1").lower(), value.strip().decode("latin-1")
                if key == "content-length" and headers.get(key, text) != text:
                    raise BadAnswer("has two lengths")
                headers[key] = text
        keeps = match["minor"] != b"0" and "close" not in headers.get("connection", "").lower()
        return Answer(int(match["status"]), headers, keeps_connection=keeps)

    def _take(self, length: int) -> Generator[None, None, None]:
        """The next `length` bytes are of the body."""
        if len(self._body) + length > self._body_bytes_max:
            raise BadAnswer(f"answers more than {self._body_bytes_max >> 20} MiB", "too_large")
        while length:
            part = bytes(self._buffer[:length])
            if part:
                del self._buffer[: len(part)]
                self._grow(part)
                length -= len(part)
            self._missing = length
            if length:
                yield

    def _grow(self, part: bytes) -> None:
        if len(self._body) + len(part) > self._body_bytes_max:
            raise BadAnswer(f"answers more than {self._body_bytes_max >> 20} MiB", "too_large")
        self._body += part

    def _chunks(self) -> Generator[None, None, None]:
        chunks = 0
        while True:
            chunks += 1
            if chunks > CHUNKS_MAX and len(self._body) < CHUNK_BYTES_LEAST * chunks:
                raise BadAnswer(f"sends {chunks} chunks of a few bytes each", "too_large")
            line = yield from self._line()
            size = _SIZE.match(line)
            if size is None:
                raise BadAnswer("sends a chunk without a size")
            if not (length := int(size[0], 16)):
                break
            yield from self._take(length)
            if (yield from self._line()):
                raise BadAnswer("sends a chunk that is longer than its size")
        trailer_bytes = 0
        while line := (yield from self._line()):
            trailer_bytes += len(line)
            if trailer_bytes > HEAD_BYTES_MAX:
                raise BadAnswer("ends in headers without an end", "too_large")

    def _line(self) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(b"\r\n", 0, CHUNK_LINE_BYTES_MAX + 2)) < 0:
            if len(self._buffer) > CHUNK_LINE_BYTES_MAX:
                raise BadAnswer("sends a chunk without a size")
            yield
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line
