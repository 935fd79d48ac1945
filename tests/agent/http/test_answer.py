"""An HTTP answer is the same in whatever pieces it comes, and what is none ends in words."""

import http.client
import io
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.http.answer import Answer, AnswerReader, BadAnswer

BODY_BYTES_MAX = 1000
HEAD = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "a length": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "the end": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "after a hundred": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello",
}  # fmt: skip


def read(pieces: list[bytes]) -> Answer:
    reader = AnswerReader(BODY_BYTES_MAX)
    for piece in pieces:
        if (answer := reader.feed(piece)) is not None:
            return answer
    return reader.end()


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
@given(cuts=st.lists(st.integers(0, 1000), max_size=30))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    answer = read(pieces_of(data, cuts))
    assert (answer.status, answer.body) == (200, b"hello")


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


@given(
    status=st.sampled_from([200, 206, 302, 404, 500]),
    headers=st.lists(st.tuples(st.sampled_from([b"X-A", b"Content-Type", b"Retry-After"]), st.binary(max_size=20)), max_size=5),
    body=st.binary(max_size=200), is_chunked=st.booleans(), cuts=st.lists(st.integers(0, 1000), max_size=10),
)  # fmt: skip
def test_it_reads_what_the_standard_library_reads(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, is_chunked: bool, cuts: list[int]
) -> None:
    lines = [b"%s: %s" % (name, value.hex().encode()) for name, value in headers]
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    data = b"\r\n".join([b"HTTP/1.1 %d Words" % status, *lines, framing, b"", b""])
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in pieces_of(body, cuts) if part]
    data += b"".join(chunks) + b"0\r\n\r\n" if is_chunked else body
    expected = http.client.HTTPResponse(_Socket(data))  # type: ignore[arg-type]
    expected.begin()
    answer = read(pieces_of(data, cuts))
    assert (answer.status, answer.body) == (expected.status, expected.read())
    assert all(
        answer.headers[name.lower()] == value for name, value in dict(expected.getheaders()).items() if name != "X-A"
    )


BAD = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "a length that is none": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length in other digits": HEAD + "Content-Length: ٣\r\n\r\n".encode(),
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a body beyond its bound": HEAD + b"Content-Length: 1001\r\n\r\n",
    "a body without end beyond its bound": HEAD + b"\r\n" + bytes(1001),
    "chunks beyond it": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + bytes(512) + b"\r\n" + b"200\r\n",
    "a chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    "a size without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000,
    "a chunk longer than its size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc",
    "tiny chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 5000,
    "headers without end": HEAD + b"X: y\r\n" * 20_000,
    "hundreds": b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
    "compressed": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "cut": HEAD + b"Content-Length: 5\r\n\r\nhel",
    "cut in its head": HEAD,
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_answer_is_said(data: bytes) -> None:
    for size in (1, 7, 1 << 16):
        with pytest.raises(BadAnswer):
            read([data[at : at + size] for at in range(0, len(data), size)])


@given(st.binary(max_size=300))
def test_nothing_else_is_raised(data: bytes) -> None:
    for start in (b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            read([start + data])
        except BadAnswer:
            continue
