"""Hugging Face Text Generation Inference: one line for each answered request, as text or as JSON (`--json-output`).

    2024-11-03T14:51:27.393883Z  INFO generate{parameters=GenerateParameters { ... } total_time="4.065504959s"
        validation_time="440.038965ms" queue_time="94.981µs" inference_time="3.625371193s"
        time_per_token="38.982485ms" seed="None"}: text_generation_router::server: router/src/server.rs:402: Success
    {"timestamp":"...","level":"INFO","message":"Success","target":"text_generation_router::server",...,
        "span":{"inference_time":"1.7s",...,"time_per_token":"17ms",...,"name":"generate"},...}

`time_per_token` is `inference_time` divided by the tokens generated, in whole nanoseconds (router/src/server.rs). So
the tokens are their quotient, to the token. The log does not report the prompt's length: the endpoint does.
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.endpoint import CounterNames, SeriesName
from tokenyield_agent.tokens.event import LINE_COUNT_MAX, SPAN_S_MAX, TokenCounts
from tokenyield_agent.tokens.latency import LatencyNames
from tokenyield_agent.tokens.parsing import instants
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE, sender_of

_DURATION = rb"(\d{1,9}(?:\.\d{1,9})?)(ns|\xc2\xb5s|us|ms|s)"
_AT = rb"(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)"
_TEXT = re.compile(
    BEFORE + rb"(?:" + _AT + rb" +)?INFO (?:[\w ]{1,40}\{.{0,4000}?\}:)?\w{1,40}\{.{0,4000}"
    rb' inference_time="' + _DURATION + rb'" time_per_token="' + _DURATION + rb'" seed="[^"]{1,40}"[^"]{0,200}\}'
    rb": text_generation_router::server: (?:[\w/.-]{1,80}:\d{1,6}: )?Success\s*$"
)
_JSON = re.compile(
    rb"^(?P<before>[^{'\"]{0,300})\{\"timestamp\":\"" + _AT + rb'","level":"INFO","message":"Success",'
    rb'"target":"text_generation_router::server".{0,4000}?"span":\{"inference_time":"' + _DURATION + rb'"'
    rb'.{0,4000}?"time_per_token":"' + _DURATION + rb'"'
)
_FAILURE = rb"(?:Request failed during generation|Server error|Input validation error|Model is overloaded)"
_ROUTER = rb"text_generation_router(?:_v3)?::(?:infer|server|client)"
_FAILED = re.compile(
    rb"^[^'\"]{0,1200}ERROR [^\"]{0,1200}"
    + _ROUTER
    + rb"[\w:]*: [\w/.-]{1,80}:\d{1,6}: "
    + _FAILURE
    + rb'|^[^{"]{0,120}\{"timestamp":"[^"]{1,40}","level":"ERROR","message":"'
    + _FAILURE
    + rb'[^"]{0,400}","target":"'
    + _ROUTER
)
_UNIT_NS = {b"ns": 1.0, b"us": 1e3, b"\xc2\xb5s": 1e3, b"ms": 1e6, b"s": 1e9}
_MODEL = re.compile(rb'Args \{ model_id: "(?P<model>[^"]{1,253})"|"model_id":"(?P<json>[^"]{1,253})"')

COUNTERS = CounterNames(
    server="tgi",
    known_by=(SeriesName("tgi_request_generated_tokens_sum"),),
    prefixes=("tgi_",),
    shows_late=True,
    completion=(SeriesName("tgi_request_generated_tokens_sum"),),
    prompt_unsplit=(SeriesName("tgi_request_input_length_sum"),),
    requests=(SeriesName("tgi_request_success"),),
    requests_failed=(SeriesName("tgi_request_failure"),),
    running=(SeriesName("tgi_batch_current_size"),),
    waiting=(SeriesName("tgi_queue_size"),),
    latency=LatencyNames(
        inter_token=("tgi_request_mean_time_per_token_duration",),
        end_to_end=("tgi_request_duration",),
    ),
)
"""TGI's Prometheus names, read off router/src/server.rs: sums of histograms of tokens per request."""


class Tgi(LogDialect):
    """Dialect of TGI 1 to 3."""

    name: ClassVar[str] = "tgi"

    def __init__(self) -> None:
        super().__init__()
        self._last: list[str] = []
        """The last answer's sender, time and durations, to the microsecond: a line that is there twice counts once."""

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        events = []
        for line in lines_with(block, b"time_per_token", b"ERROR", b"model_id"):
            if match := _TEXT.match(line) or _JSON.match(line):
                sender = sender_of(match["before"])
                answer = [sender, *((part or b"").decode("utf-8", "replace") for part in match.groups()[-5:])]
                if answer != self._last and (counts := _counts(match, arrival_s)):
                    self.recognised += 1
                    events.append(counts)
                self._last = answer
            elif self.recognised and _FAILED.search(line):
                events.append(TokenCounts(method="count", requests_failed=1))
            elif self.model is None and (model := _MODEL.search(line)):
                self.model = (model["model"] or model["json"]).decode("utf-8", "replace")
        return events

    def state(self) -> dict[str, Any]:
        return {**super().state(), "last": list(self._last)}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._last = list(state.get("last", ()))


def _counts(match: re.Match[bytes], arrival_s: float) -> TokenCounts | None:
    """The counts of an answer; None where its numbers cannot be."""
    at, inference, inference_unit, per_token, per_token_unit = match.groups()[-5:]
    inference_ns = float(inference) * _UNIT_NS[inference_unit]
    per_token_ns = float(per_token) * _UNIT_NS[per_token_unit]
    if not per_token_ns or inference_ns > SPAN_S_MAX * 1e9 or inference_ns / per_token_ns > LINE_COUNT_MAX:
        return None
    return TokenCounts(
        method="count",
        at_s=instants.parse(at, arrival_s) if at else None,
        span_ms=int(inference_ns / 1e6),
        completion=round(inference_ns / per_token_ns),
        requests=1,
    )


SERVER = Server(
    name="tgi",
    title="Hugging Face TGI 1 to 3",
    process=ProcessNames(
        programs=("text-generation-launcher", "text-generation-router", "text-generation-server serve"),
        modules=("text_generation_server.cli serve",),
    ),
    port=3000,
    counters=COUNTERS,
    counters_report=PathReport(),
    log=Tgi,
    log_report=PathReport(
        exact=("requests", "requests_failed"),
        lower_bound=("completion",),
        caveat="per request, as text and as JSON; one that its client gave up prints no line",
    ),
    advice="its /metrics is on by default: make its port reachable from this host, or name it with metrics",
)
