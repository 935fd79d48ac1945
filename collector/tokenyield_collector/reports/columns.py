"""The columns that a report is grouped and filtered by: dimensions of the rules, and the built-in ones. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from tokenyield_collector.attribution.taken import BUILT_IN
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.statements.source import Grain
from tokenyield_settings.loader import nearest


def check_by(by: Sequence[str], dimensions: Sequence[str]) -> tuple[str, ...]:
    """Raises `ParameterError` for the field `by`."""
    known = (*dimensions, *BUILT_IN)
    for name in by:
        if name not in known:
            raise ParameterError("by", expected="a column", found=f"'{name[:40]}'", fix=_nearest_column(name, known))
    if len(set(by)) != len(by) or not by:
        raise ParameterError("by", expected="at least one column, each once", found=f"'{','.join(by)[:200]}'")
    return tuple(by)


def check_where(where: Mapping[str, str], dimensions: Sequence[str]) -> dict[str, str]:
    """Raises `ParameterError`, whose field is the name that is not a column."""
    known = (*dimensions, *BUILT_IN)
    for name in where:
        if name not in known:
            fix = _nearest_column(name, known)
            raise ParameterError(name[:40], expected="a column", found=f"'{name[:40]}'", fix=fix)
    return dict(where)


def _nearest_column(name: str, known: Sequence[str]) -> str:
    return nearest(name, known).lstrip(",; ")


def grain_of(columns: Iterable[str]) -> Grain:
    """The coarsest grain whose lines can be grouped by these columns."""
    names = set(columns)
    return Grain(hour="hour" in names, node="node" in names, workload="workload" in names, cluster="cluster" in names)
