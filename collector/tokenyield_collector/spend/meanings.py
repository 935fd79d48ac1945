"""What each vendor's token counts mean: the one table, and how it becomes ours. Pure.

Ours: `fresh` input, `cache_read`, `cache_write`, `output`; they add up to all tokens. `reasoning` is a part of output,
`long_cache_write` one of cache_write. Vendors differ in whether their input includes what was read from or
written to a cache.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tokenyield_collector.spend.slices import SpendAmounts
from tokenyield_collector.spend.values import UnusableSpend, count_at


class TokenMeaning(NamedTuple):
    """Names of a vendor's counts, as paths with dots; several are added up."""

    input: str
    output: str
    cache_read: str = ""
    cache_write: tuple[str, ...] = ()
    long_cache_write: str = ""
    reasoning: str = ""
    total: str = ""
    """All tokens by the vendor's own count, where it gives one: the parts must sum to it."""
    input_includes_cache: bool = False


MEANINGS: dict[str, TokenMeaning] = {
    "anthropic report": TokenMeaning(
        input="uncached_input_tokens",
        cache_read="cache_read_input_tokens",
        cache_write=("cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens"),
        long_cache_write="cache_creation.ephemeral_1h_input_tokens",
        output="output_tokens",
        total="total_tokens",
    ),
    "anthropic Claude Code report": TokenMeaning(
        input="input", cache_read="cache_read", cache_write=("cache_creation",), output="output"
    ),
    "anthropic message": TokenMeaning(
        input="input_tokens",
        cache_read="cache_read_input_tokens",
        cache_write=("cache_creation_input_tokens",),
        long_cache_write="cache_creation.ephemeral_1h_input_tokens",
        output="output_tokens",
    ),
    "openai usage": TokenMeaning(
        input="input_tokens",
        cache_read="input_cached_tokens",
        cache_write=("input_cache_write_30m_tokens", "input_cache_write_12h_tokens"),
        long_cache_write="input_cache_write_12h_tokens",
        output="output_tokens",
        input_includes_cache=True,
    ),
    "codex": TokenMeaning(
        input="input_tokens",
        cache_read="cached_input_tokens",
        cache_write=("cache_write_input_tokens",),
        output="output_tokens",
        reasoning="reasoning_output_tokens",
        total="total_tokens",
        input_includes_cache=True,
    ),
    "openrouter activity": TokenMeaning(
        input="prompt_tokens",
        cache_read="cached_tokens",
        output="completion_tokens",
        reasoning="reasoning_tokens",
        input_includes_cache=True,
    ),
    "openrouter generation": TokenMeaning(
        input="native_tokens_prompt",
        cache_read="native_tokens_cached",
        output="native_tokens_completion",
        reasoning="native_tokens_reasoning",
        input_includes_cache=True,
    ),
    "litellm spend log": TokenMeaning(
        input="prompt_tokens",
        cache_read="metadata.additional_usage_values.cache_read_input_tokens",
        cache_write=("metadata.additional_usage_values.cache_creation_input_tokens",),
        output="completion_tokens",
        total="total_tokens",
        input_includes_cache=True,
    ),
    "cursor event": TokenMeaning(
        input="inputTokens", cache_read="cacheReadTokens", cache_write=("cacheWriteTokens",), output="outputTokens"
    ),
    "copilot": TokenMeaning(input="prompt_tokens_sum", output="output_tokens_sum"),
}
"""What is counted -> what its names mean. docs/spend.md shows it."""


def tokens_of(counts: Mapping[str, Any], meaning: TokenMeaning) -> SpendAmounts:
    """Without requests and money. Raises `UnusableSpend` where a part is more than its whole, or the parts do not sum
    to the vendor's own total."""
    whole_input, output = count_at(counts, meaning.input), count_at(counts, meaning.output)
    cache_read = count_at(counts, meaning.cache_read) if meaning.cache_read else None
    writes = [count for path in meaning.cache_write if (count := count_at(counts, path)) is not None]
    cache_write = sum(writes) if writes else None
    reasoning = count_at(counts, meaning.reasoning) if meaning.reasoning else None
    long_cache_write = count_at(counts, meaning.long_cache_write) if meaning.long_cache_write else None
    fresh = whole_input
    if meaning.input_includes_cache and whole_input is not None:
        fresh = whole_input - (cache_read or 0) - (cache_write or 0)
        if fresh < 0:
            raise UnusableSpend(
                meaning.input,
                expected="at least the tokens that were read from and written to the cache, which it includes",
                found=f"{whole_input} of which {whole_input - fresh} cached",
                fix="leave the row out, or report it: the vendor changed what it counts",
            )
    amounts = SpendAmounts(fresh, cache_read, cache_write, long_cache_write, output, reasoning)
    total = count_at(counts, meaning.total) if meaning.total else None
    if total is not None and total != (amounts.tokens or 0):
        raise UnusableSpend(
            meaning.total,
            expected=f"the sum of its parts, {amounts.tokens or 0}",
            found=str(total),
            fix="leave the row out, or report it: the vendor changed what it counts",
        )
    return amounts


def table_rows() -> Iterator[tuple[str, str, str, str, str, str]]:
    """(what is counted, fresh, cache read, cache write, output, reasoning): for the docs."""
    for name, meaning in MEANINGS.items():
        less = [meaning.cache_read, *meaning.cache_write] if meaning.input_includes_cache else []
        reasoning = f"`{meaning.reasoning}`, within output" if meaning.reasoning else "within output"
        yield (
            name,
            " - ".join(f"`{path}`" for path in [meaning.input, *less] if path),
            f"`{meaning.cache_read}`" if meaning.cache_read else "-",
            " + ".join(f"`{path}`" for path in meaning.cache_write) or "-",
            f"`{meaning.output}`",
            reasoning,
        )
