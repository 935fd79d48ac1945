"""Units and exact splitting.

Stored facts are integers in one unit (ms, mJ, mW, tokens); this file holds the only conversions out of them and the one
way a whole is split into parts without losing any of it (largest remainder).
"""

from collections.abc import Sequence

MS_PER_SECOND = 1_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 24 * MS_PER_HOUR
NS_PER_MS = 1_000_000
MJ_PER_JOULE = 1_000
JOULES_PER_KWH = 3_600_000


def mj_to_joules(energy_mj: int) -> float:
    """For what is shown; stored facts stay in mJ."""
    return energy_mj / MJ_PER_JOULE


def ns_to_ms(instant_ns: int) -> int:
    """Whole milliseconds, rounded down, so that consecutive spans telescope: no millisecond is in two of them."""
    return instant_ns // NS_PER_MS


def hour_of_ms(instant_ms: int) -> int:
    """Start of the UTC hour that holds `instant_ms`, in ms since the Unix epoch."""
    return instant_ms - instant_ms % MS_PER_HOUR


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` (>= 0) into integer parts in proportion to `weights`; the parts sum to `total` exactly.

    Largest-remainder (Hamilton) method, ties to the earlier weight. When all weights are 0 the whole goes to the first.
    Raises ValueError on no weights, a negative weight or a negative total.
    """
    if not weights:
        raise ValueError("apportion needs at least one weight")
    if total < 0 or min(weights) < 0:
        raise ValueError(f"apportion takes no negative total or weight, got {total} over {list(weights)}")
    weight_sum = sum(weights)
    if weight_sum == 0 or len(weights) == 1:
        return [total] + [0] * (len(weights) - 1)
    parts = [total * weight // weight_sum for weight in weights]
    missing = total - sum(parts)
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % weight_sum), i))
    for i in by_remainder[:missing]:
        parts[i] += 1
    return parts
