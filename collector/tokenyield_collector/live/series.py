"""One series of /metrics, and how many are written down. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Series(NamedTuple):
    """Its name and label values, in the order of metrics/families.py."""

    metric: str
    labels: tuple[str, ...]

    def key(self) -> str:
        return json.dumps([self.metric, *self.labels], ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of_key(cls, key: str) -> "Series":
        metric, *labels = json.loads(key)
        return cls(metric, tuple(labels))


def rows_of(values: Mapping[Series, int]) -> list[list[Any]]:
    """A row each: metric, labels, value."""
    return [[series.metric, *series.labels, value] for series, value in values.items()]


def of_rows(rows: Iterable[list[Any]]) -> dict[Series, int]:
    """Back from `rows_of`."""
    return {Series(metric, tuple(labels)): value for metric, *labels, value in rows}
