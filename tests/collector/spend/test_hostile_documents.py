"""Any value in any place of a vendor's document costs at most its row: no reader raises anything but `UnusableSpend`,
and what it gives is within bounds."""

import copy
import json
import os
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.spend.test_samples import CARD, SAMPLES
from tokenyield_collector.spend.builder import SliceBuilder
from tokenyield_collector.spend.format import ReadOptions, SpendRow
from tokenyield_collector.spend.slices import spend_findings
from tokenyield_collector.spend.sources import SOURCES, load_source
from tokenyield_collector.spend.values import UnusableSpend

FILES = {
    "anthropic": "anthropic_*.json", "openai": "openai_*.json", "openrouter": "openrouter_*.json",
    "litellm": "litellm_*.json", "cursor": "cursor_*.json", "copilot": "github_*.json*", "aws": "bedrock_*.json",
    "azure": "azure_*.json", "google": "vertex_*.json", "claude-code": "claude_*.jsonl", "codex": "codex_*.jsonl",
    "egress": "egress_*.json*",
}  # fmt: skip
FOCUS = {"BilledCost": "1.5", "BillingCurrency": "USD", "ChargePeriodStart": "2026-11-24T00:00:00Z",
         "ServiceCategory": "AI and Machine Learning", "ServiceName": "s", "ProviderName": "p"}  # fmt: skip
BILLED = {"service": {"id": "C7E2-9256-1C43"}, "cost": 1.5, "credits": [{"amount": -0.5}], "currency": "USD",
          "usage_start_time": "2026-11-24 10:00:00 UTC", "labels": [{"key": "team", "value": "a"}],
          "project": {"id": "p"}, "sku": {"description": "x"}, "billing_account_id": "b"}  # fmt: skip
TABLES: dict[str, list[Any]] = {"focus": [FOCUS], "google": [BILLED], "csv": [
    {"Date": "2026-11-03", "Description": "ANTHROPIC", "Amount": "1000.00", "Currency": "USD", "Cardholder": "E"}]}  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", "\x00\ud800"[:1], "9" * 400, 10**15, 2**60, -1, 1.5, Decimal("1e999"), Decimal("NaN"), True, [], [[]],
     {}, {"a": {}}, [None], [3], "2026-11-24", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e400", " USD "]
)  # fmt: skip


def documents_of(source: str) -> list[Any]:
    read: list[Any] = list(TABLES.get(source, []))
    for file in [*sorted(SAMPLES.glob(FILES[source]))] if source in FILES else []:
        text = file.read_text()
        lines = text.splitlines() if file.suffix == ".jsonl" else [text]
        read += [msgspec.json.Decoder(float_hook=Decimal).decode(line) for line in lines]
    return read


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a document."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = [*value.items()]
    elif isinstance(value, list):
        inside = [*enumerate(value)]
    return [(value, key) for key, _ in inside] + [place for _, part in inside for place in places(part)]


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "25")), deadline=None)
@given(data=st.data())
def test_no_value_ends_an_import(source: str, data: st.DataObject) -> None:
    documents = copy.deepcopy(documents_of(source))
    for _ in range(data.draw(st.integers(1, 3))):
        everything = places(documents)
        container, key = everything[data.draw(st.integers(0, len(everything) - 1))]
        container[key] = copy.deepcopy(data.draw(VALUES))
    form = load_source(source)
    reader = form.reader(ReadOptions(mapping=CARD if source == "csv" else {}, day_ms=1_795_824_000_000))
    refusals: list[str] = []
    builder = SliceBuilder(source, lambda grain: form.grains[grain].layer)
    for document in [*documents, None]:
        try:
            for item in reader.read(document) if document is not None else reader.finish():
                if isinstance(item, SpendRow):
                    builder.add(item)
        except UnusableSpend as error:
            refusals.append(str(error))
    assert all(len(text) < 1000 for text in refusals)
    slices = builder.slices()
    assert list(spend_findings(slices)) == []
    json.dumps([one.key for one in slices]).encode()
