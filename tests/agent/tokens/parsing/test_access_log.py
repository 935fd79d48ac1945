"""Requests of every form are found, alone, among others, and in blocks of every size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.parsing.access_log import SMALL_BYTES, AccessLog

HEAD = b"INFO:     10.0.0.9:4001 - "
PLAIN = HEAD + b'"POST /v1/chat/completions HTTP/1.1" 200 OK\n'
FILLER = b"INFO 11-23 12:00:00 [logger.py:43] Received request chatcmpl-0e5f7c0a4b5d4bb8a0a5a6a3c9e8d7f6: params.\n"

FORMS = {
    PLAIN: "requests",
    HEAD + b'"POST /v1/completions HTTP/1.1" 200 OK\n': "requests",
    HEAD + b'"POST /v1/messages?beta=true HTTP/1.1" 200 OK\n': "requests",
    HEAD + b'"POST /v1/responses HTTP/2" 200 OK\n': "requests",
    HEAD + b'"POST /v1/audio/transcriptions HTTP/1.1" 201 Created\n': "requests",
    HEAD + b'"POST /llm/v1/chat/completions HTTP/1.0" 200 OK\n': "requests",
    HEAD + b'"POST /generate HTTP/1.1" 200 OK\n': "requests",
    b'{"message": "10.0.0.9:4000 - \\"POST /v1/chat/completions HTTP/1.1\\" 200"}\n': "requests",
    b'[2026-10-02 12:00:00 +0000] [42] [INFO] 10.0.0.9:1 - - [02/Oct/2026] "POST /v1/completions 1.1" 200 - "-" "-"\n': (
        "requests"
    ),
    HEAD + b'"POST /v1/chat/completions HTTP/1.1" 400 Bad Request\n': "requests_failed",
    HEAD + b'"POST /v1/messages HTTP/1.1" 503 Service Unavailable\n': "requests_failed",
    HEAD + b'"POST /v1/chat/completions HTTP/1.1" 499\n': "requests_aborted",
}
NO_REQUESTS = [
    HEAD + b'"OPTIONS /v1/chat/completions HTTP/1.1" 200 OK\n',
    HEAD + b'"GET /v1/completions HTTP/1.1" 405 Method Not Allowed\n',
    HEAD + b'"GET /metrics HTTP/1.1" 200 OK\n',
    HEAD + b'"POST /v1/embeddings HTTP/1.1" 200 OK\n',
    HEAD + b'"POST /v1/messages/count_tokens HTTP/1.1" 200 OK\n',
    HEAD + b'"POST /v1/responses/resp_1/cancel HTTP/1.1" 200 OK\n',
    HEAD + b'"POST /v1/chat/completions HTTP/1.1" 307 Temporary Redirect\n',
    b"Route: /v1/chat/completions, Methods: POST\n",
]


def counted(*blocks: bytes) -> dict[str, int]:
    log = AccessLog(b"/generate")
    for block in blocks:
        log.read(block)
    return {kind: count for kind, count in log.take().items() if count}


@pytest.mark.parametrize(("line", "kind"), FORMS.items())
@pytest.mark.parametrize("filler", [b"", FILLER * (SMALL_BYTES // len(FILLER) + 1), PLAIN * 1000], ids=len)
def test_a_request_of_any_form_is_counted(line: bytes, kind: str, filler: bytes) -> None:
    wanted = {"requests": filler.count(PLAIN)}
    wanted[kind] = wanted.get(kind, 0) + 1
    assert counted(line + filler) == {kind: count for kind, count in wanted.items() if count}


@pytest.mark.parametrize("line", NO_REQUESTS)
@pytest.mark.parametrize("filler", [b"", PLAIN * 1000], ids=len)
def test_what_makes_no_tokens_is_no_request(line: bytes, filler: bytes) -> None:
    assert counted(line + filler).get("requests", 0) == filler.count(PLAIN)
    assert "requests_failed" not in counted(line + filler)


@given(lines=st.lists(st.sampled_from([*FORMS, *NO_REQUESTS, FILLER]), max_size=40), times=st.sampled_from([1, 40]))
@settings(max_examples=60, deadline=None)
def test_the_same_in_one_block_as_line_by_line(lines: list[bytes], times: int) -> None:
    """The first block shows the form, as that of a real log does."""
    lines = [*FORMS] + lines * times
    assert counted(b"".join(FORMS), b"".join(lines[len(FORMS) :])) == counted(*lines)


def test_without_a_line_nothing_is_known_and_with_one_no_failures_are_zero() -> None:
    log = AccessLog()
    log.read(FILLER)
    assert log.take() == {}
    log.read(PLAIN)
    assert log.take() == {"requests": 1, "requests_failed": 0}
    log.restore({"requests": 0, "requests_failed": 0})
    assert log.take() == {}, "an older agent's state before any line"
