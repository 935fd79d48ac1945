"""Exact money. Pure.

A *quantum* is the smallest amount that can occur: one millionth of a millionth of a unit of currency a GPU-hour, times
a thousandth of a millisecond; and equally one such part a kWh, times a millijoule. Both products of a fact and a
rate are whole numbers of quanta, so costs are integers that add up in any order, and nothing is rounded before it is
shown.
"""

from collections.abc import Sequence
from decimal import Decimal

from tokenyield_wire.units import JOULES_PER_KWH, MJ_PER_JOULE, MS_PER_HOUR, apportion

QUANTA_PER_UNIT = 10**12 * JOULES_PER_KWH * MJ_PER_JOULE
_CAPACITY = JOULES_PER_KWH * MJ_PER_JOULE // MS_PER_HOUR
NANO_PER_UNIT = 10**9
QUANTA_PER_NANO = QUANTA_PER_UNIT // NANO_PER_UNIT
_CENT = Decimal("0.01")
PLAIN_DIGITS_MAX = 6
"""Decimals to which a zero is written out; one with nine would read 0E-9."""


def capacity_quanta(pico_per_gpu_hour: int, duration_ms: int) -> int:
    return pico_per_gpu_hour * duration_ms * _CAPACITY


def energy_quanta(pico_per_kwh: int, energy_mj: int) -> int:
    return pico_per_kwh * energy_mj


def amount(quanta: int) -> float:
    """For gauges and ratios."""
    return quanta / QUANTA_PER_UNIT


def decimal(quanta: int, digits: int = 9) -> Decimal:
    """To the nearest `digits` decimals, halves up."""
    return scaled(rounded(quanta * 10**digits, QUANTA_PER_UNIT), digits)


def split(quanta: int, weights: Sequence[int]) -> list[int]:
    """Parts in proportion to `weights`, which sum to `quanta` exactly. Both may be negative, as a tariff may: a weight
    below 0 counts as 0, and where none is above 0 the parts are alike."""
    positive = [max(0, weight) for weight in weights]
    parts = apportion(abs(quanta), positive if any(positive) else [1] * len(positive))
    return parts if quanta >= 0 else [-part for part in parts]


def scaled(value: int, digits: int) -> Decimal:
    """`value` steps of so many decimals, a zero written plainly."""
    number = Decimal(value).scaleb(-digits)
    return number if number or digits <= PLAIN_DIGITS_MAX else Decimal(0)


def plain(value: Decimal) -> Decimal:
    """The same number without zeros at its end beyond the second decimal."""
    cents = value.quantize(_CENT)
    return cents if cents == value else value.normalize()


def rounded(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, halves up; exact for any size."""
    return (2 * numerator + denominator) // (2 * denominator)
