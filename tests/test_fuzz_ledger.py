"""Shipments by structure, from decoding to verify: two examples; `make fuzz` plays them for an hour."""

import json
import os
import random

import pytest

import fuzz_ledger
from hostile_shipments import GPU_FREE, LyingNode, amounts, encoded
from kept_lies import LIES
from tokenyield_wire.codec import Refused, decode_shipment
from tokenyield_wire.window import COUNT_MAX, Batch, Demand, GpuWindow, TokenCount, Workload, WorkloadShare

EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "2"))


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.timeout(600 + 60 * EXAMPLES)
@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_lies_reach_the_ledger_and_bend_nobody_s_figures(seed: int) -> None:
    example = fuzz_ledger.ledger(seed, LIES if seed == 0 else ())
    assert example.statuses[200] >= 2
    assert bool(example.impossible) == bool(seed % 2), "windows past the checks reach verify --quarantine"


def test_lies_have_every_field_of_the_wire_and_values_at_its_bounds() -> None:
    """Else a fuzzer that looks thorough tries nothing."""
    node = LyingNode(random.Random(7), "c", "liar", ["GPU-victim"])
    taken, refused, text = 0, 0, ""
    for _ in range(300):
        document = node.document([1_795_435_200_000])
        try:
            decode_shipment(encoded(document))
        except Refused:
            refused += 1
        else:
            taken += 1
            text += json.dumps(document)
    assert taken > 100, "most reach the ledger"
    assert refused > 30
    for record in (Batch, GpuWindow, WorkloadShare, Workload, TokenCount, Demand):
        for name in record.__struct_encode_fields__:
            assert f'"{name}": ' in text, name
    assert "prompt_cached" in amounts(TokenCount)
    assert "tensor_ms" in GPU_FREE
    for value in (str(COUNT_MAX), "GPU-victim", "(dark)", "=cmd|", "\\u001b", "\\u202e", "[/]"):
        assert value in text, value
