"""Hugging Face `transformers serve`: it reports no tokens, only that a request came, and uvicorn's access log.

    [transformers] [Request received] Model: /srv/llm/model/tiny-llama@main, CB: False
    [Request received] Model: Qwen3.5-4B, CB: True
    INFO:     127.0.0.1:33064 - "POST /v1/chat/completions HTTP/1.1" 200 OK

`@main` is the model's revision. There is no /metrics (versions to 5.19). So requests are counted, and tokens stay
unknown: they can be had from a gateway in front of it that logs the `usage` of each answer.
"""

import re
from typing import Any, ClassVar

from tokenyield_agent.tokens.dialects.base import LogDialect, PathReport, ProcessNames, Server
from tokenyield_agent.tokens.event import TokenCounts
from tokenyield_agent.tokens.parsing.access_log import AccessLog
from tokenyield_agent.tokens.parsing.lines import lines_with
from tokenyield_agent.tokens.parsing.origins import BEFORE

_REQUEST = re.compile(
    BEFORE + rb"\[Request received\] Model: (?P<model>[^\s,@]{1,253})(?:@[\w./-]{1,80})?, CB: (?:True|False)\s*$"
)


class Transformers(LogDialect):
    """Dialect of `transformers serve` since 5.0."""

    name: ClassVar[str] = "transformers"

    def __init__(self) -> None:
        super().__init__()
        self._answers = AccessLog()

    def feed(self, block: bytes | bytearray, arrival_s: float) -> list[TokenCounts]:
        for line in lines_with(block, b"[Request received] Model: "):
            if match := _REQUEST.match(line):
                self.recognised += 1
                self.model = match["model"].decode("utf-8", "replace")
        self._answers.read(block)
        if self.recognised and (answers := self._answers.take()):
            return [TokenCounts(method="count", **answers)]  # type: ignore[arg-type]
        return []

    def forget_counts(self) -> None:
        self._answers.clear()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "answers": self._answers.state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._answers.restore(state["answers"])


SERVER = Server(
    name="transformers",
    title="Hugging Face `transformers serve`",
    process=ProcessNames(
        programs=("transformers serve", "transformers-cli serve"),
        modules=("transformers.cli.transformers serve", "transformers.commands.transformers_cli serve"),
    ),
    port=8000,
    log=Transformers,
    log_report=PathReport(exact=("requests", "requests_failed"), caveat="requests are those of the access log"),
    advice="put a gateway in front of it that logs usage",
)
