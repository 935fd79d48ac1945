"""Usage objects of many vendors into kinds of tokens, and what is no count into unknown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.tokens.event import LINE_COUNT_MAX
from tokenyield_agent.tokens.parsing.usage import count_of, usage_kinds
from tokenyield_wire.window import TOKEN_KINDS

json_values = st.sampled_from([
    None, True, False, -1, 0, 15, 2**40 - 1, 2**40, 10**30, 1.5, 7.0, float("nan"), float("inf"), "", "15", "1e3",
    "x" * 500, [], [1], {}, {"cached_tokens": 3}, {"cached_tokens": -3}, {"reasoning_tokens": 5}, {"prompt_tokens": 4},
    '{"input_tokens":4}',
])  # fmt: skip
NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
    "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "tokens", "usage",
)  # fmt: skip


@pytest.mark.parametrize("value", [15, 15.0, "15", " 15 ", "15.0", "1.5e1", "1.5E+1"])
def test_a_count_may_be_text_or_have_a_point(value: Any) -> None:
    assert count_of(value) == 15


@pytest.mark.parametrize(
    "value",
    [None, True, "", "-", "nan", "inf", "-1", -1, -0.5, 1.5, "1.5", float("nan"), float("inf"), 1e300, LINE_COUNT_MAX,
     "9" * 5000, "1e99", "0x10", "١٥", [15], {"count": 15}],
)  # fmt: skip
def test_what_cannot_be_a_count_is_unknown(value: Any) -> None:
    assert count_of(value) is None


@pytest.mark.parametrize(
    ("usage", "kinds"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
         {"prompt_computed": 6, "prompt_cached": 4, "completion": 2}),
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 11}},
         {"prompt_unsplit": 10, "completion": 2}),
        ({"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 7, "output_tokens": 1},
         {"prompt_unsplit": 7, "completion": 1}),
        ({"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 100},
         {"prompt_computed": 10, "prompt_cached": 100, "completion": 2}),
        ({"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": -3, "cache_creation_input_tokens": 5},
         {"prompt_unsplit": 15, "completion": 2}),
        ({"prompt_tokens": 10, "completion_tokens": 2, "cache_read_input_tokens": 4},
         {"prompt_computed": 6, "prompt_cached": 4, "completion": 2}),
        ({"usage": {"prompt_tokens": 3}}, {"prompt_unsplit": 3}),
        ({"total_tokens": 9}, {}),
    ],
)  # fmt: skip
def test_a_usage_object_gives_its_kinds(usage: Any, kinds: dict[str, int]) -> None:
    assert usage_kinds(usage) == kinds


@pytest.mark.parametrize("usage", [None, [], "", "text", 15, {}, {"cpu": 0.5}, [{"prompt_tokens": 3}], '{"broken'])
def test_what_holds_no_counts_is_no_usage(usage: Any) -> None:
    assert usage_kinds(usage) is None


@given(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=8))
def test_no_usage_object_raises_or_gives_what_is_no_count(usage: dict[str, Any]) -> None:
    kinds = usage_kinds(usage) or {}
    assert set(kinds) <= set(TOKEN_KINDS)
    assert all(0 <= count < LINE_COUNT_MAX for count in kinds.values())
