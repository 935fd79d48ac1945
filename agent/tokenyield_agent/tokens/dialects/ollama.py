"""Ollama's log: what its llama.cpp runner prints, between Ollama's own lines.

    [GIN] 2024/04/23 - 16:33:34 | 200 |         1m51s |      172.17.0.1 | POST     "/api/chat"
    time=2025-01-10T... level=INFO source=server.go:594 msg="llama runner started in 2.01 seconds"
    slot print_timing: id  0 | task 0 | ...                                        (since 2026: the runner is
    llama-server) llama_print_timings: prompt eval time =     444.18 ms /   800 tokens ( ...     (2023)

Tokens come from the runner's lines, which the llamacpp dialect explains; requests from Ollama's access log, because one
request may take several turns of the runner. Between 2024 and 2026 Ollama's own engine printed no token counts: then
only requests are known, and a gateway in front is needed to count tokens. Ollama has no Prometheus endpoint.
"""

import re
from typing import Any, ClassVar

import msgspec

from tokenyield_agent.tokens.dialects.base import PathReport, ProcessNames, Server
from tokenyield_agent.tokens.dialects.llamacpp import LlamaCpp
from tokenyield_agent.tokens.event import TokenCounts
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE
from tokenyield_agent.tokens.parsing.outcome import CLIENT_CLOSED

_ACCESS = re.compile(
    BEFORE + rb"\[GIN\] \d{4}/\d\d/\d\d - \d\d:\d\d:\d\d \| +(?P<status>\d{3}) \|[^|\"]{1,40}\|[^|\"]{1,60}\| POST +"
    rb'"[^"?]{0,200}/(?:api/(?:chat|generate)|v1/(?:chat/)?completions|v1/messages|v1/responses)(?:\?[^"]{0,2000})?"'
)
_MARK = re.compile(rb"\[GIN\] \d{4}/|" + BEFORE + rb"time=\S{10,40} level=\w+ source=[\w./-]{1,80}\.go:\d+ ")


class Ollama:
    """Dialect of `ollama serve`."""

    name: ClassVar[str] = "ollama"

    def __init__(self) -> None:
        self._runner = LlamaCpp()
        self._accesses = 0
        self._is_ollama = False

    @property
    def model(self) -> str | None:
        return self._runner.model

    @property
    def recognised(self) -> int:
        """A runner's lines alone are llama-server's: lines of Ollama's own show that this is Ollama's log."""
        return self._runner.recognised + self._accesses if self._is_ollama else 0

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        if not self._is_ollama:
            self._is_ollama = any(_MARK.search(line) for line in lines_with(block, b"[GIN] ", b" source="))
        events = [_without_requests(counts) for counts in self._runner.feed(block, arrival_s)]
        for line in lines_with(block, b"[GIN] "):
            if match := _ACCESS.match(line):
                self._accesses += 1
                events.append(_request(int(match["status"])))
        return events

    def finish(self) -> list[TokenCounts]:
        return [_without_requests(counts) for counts in self._runner.finish()]

    def forget_counts(self) -> None:
        self._runner.forget_counts()

    def state(self) -> dict[str, Any]:
        return {"runner": self._runner.state(), "accesses": self._accesses, "is_ollama": self._is_ollama}

    def restore(self, state: dict[str, Any]) -> None:
        self._runner.restore(state["runner"])
        self._accesses = state["accesses"]
        self._is_ollama = state["is_ollama"]


def _without_requests(counts: TokenCounts) -> TokenCounts:
    return msgspec.structs.replace(counts, requests=None, requests_aborted=None)


def _request(status: int) -> TokenCounts:
    """One answer: each says of the three kinds of request how many it is."""
    return TokenCounts(
        method="count",
        requests=int(200 <= status < 300),
        requests_aborted=int(status == CLIENT_CLOSED),
        requests_failed=int(status >= 400 and status != CLIENT_CLOSED),
    )


SERVER = Server(
    name="ollama",
    title="Ollama",
    process=ProcessNames(programs=("ollama serve", "ollama start", "ollama runner", "ollama_llama_server")),
    log=Ollama,
    log_report=PathReport(
        exact=("requests", "requests_aborted", "requests_failed"),
        lower_bound=("prompt_computed", "prompt_cached", "completion"),
        caveat="tokens only where its llama.cpp runner prints them (2023, and since 2026), and none of aborted "
        "requests; requests are those of its access log",
    ),
    advice="it has no counters; a gateway in front of it that logs usage reports the rest",
    before=("llamacpp",),  # whose lines are in Ollama's log
)
