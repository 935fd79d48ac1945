"""LiteLLM: rows of its spend log, as JSON, JSON lines, CSV or Parquet; what a gateway saw, with the price that it knew.

A request that came twice (by `request_id`) counts once. Prompts and answers (`messages`, `response`) are never read.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from tokenyield_collector.spend.format import (
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
    each,
    unknown_document,
)
from tokenyield_collector.spend.meanings import MEANINGS, tokens_of
from tokenyield_collector.spend.slices import SpendFields
from tokenyield_collector.spend.values import day_ms, money, text
from tokenyield_collector.spend.vendors import vendor_of

_MEANING = MEANINGS["litellm spend log"]
REQUESTS_REMEMBERED_MAX = 10_000_000
"""Of 8 bytes and an entry of a set each: half a gigabyte. Beyond it a repeated request would count twice, and the
import says so."""
_DIGEST_BYTES = 8


class LiteLlmReader:
    """Remembers the requests that it has read."""

    def __init__(self, _: ReadOptions) -> None:
        self._seen: set[bytes] = set()
        self._repeated = 0
        self._has_forgotten = False

    def read(self, document: Any) -> Iterator[ReadItem]:
        rows = document.get("data") if isinstance(document, Mapping) and "data" in document else document
        if isinstance(rows, list):
            yield from each(rows, "row", self._row)
        elif isinstance(rows, Mapping) and "request_id" in rows:
            yield from self._row(rows)
        else:
            raise unknown_document("LiteLLM", "rows of /spend/logs/v2 with a request_id", document)

    def finish(self) -> Iterator[ReadItem]:
        if self._repeated:
            yield SpendNotice(f"{self._repeated} requests came more than once, and count once")
        if self._has_forgotten:
            yield SpendNotice(f"more than {REQUESTS_REMEMBERED_MAX} requests: repeated ones may count twice")

    def _row(self, row: Mapping[str, Any]) -> Iterator[SpendRow]:
        request = text(row, "request_id")
        if request and self._is_repeated(request):
            return
        row = _with_metadata(row)
        named = row.get("metadata")
        metadata: Mapping[str, Any] = named if isinstance(named, dict) else {}
        fields = SpendFields(
            vendor_of(text(row, "custom_llm_provider")),
            model=text(row, "model").rpartition("/")[2],
            team=text(row, "team_id"),
            product=text(metadata, "product"),
            project=text(metadata, "project_id") or text(row, "organization_id"),
            api_key=text(metadata, "user_api_key_alias"),
            workload=text(row, "end_user"),
            person=text(row, "user"),
            agent_task=text(row, "agent_id"),
            session=text(row, "session_id"),
        )
        amounts = tokens_of(row, _MEANING)._replace(requests=1)
        cost = money(row.get("spend"), "spend")
        yield SpendRow("spend_log", day_ms(row.get("startTime"), "startTime"), fields, amounts, cost)

    def _is_repeated(self, request: str) -> bool:
        digest = blake2b(request.encode(), digest_size=_DIGEST_BYTES).digest()
        if digest in self._seen:
            self._repeated += 1
            return True
        if len(self._seen) < REQUESTS_REMEMBERED_MAX:
            self._seen.add(digest)
        else:
            self._has_forgotten = True
        return False


def _with_metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tables have `metadata` as a text."""
    metadata = row.get("metadata")
    if not isinstance(metadata, str):
        return row
    try:
        return {**row, "metadata": msgspec.json.decode(metadata)}
    except msgspec.DecodeError:
        return {**row, "metadata": None}


FORMAT = SpendFormat(
    title="LiteLLM",
    documents="rows of /spend/logs/v2, or of the table LiteLLM_SpendLogs",
    grains={"spend_log": SpendGrain("observed", "spend log of the gateway", 3)},
    reader=LiteLlmReader,
)
