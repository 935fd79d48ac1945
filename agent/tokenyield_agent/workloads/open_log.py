"""Opening the log of a workload or gateway: files or a unit of the journal, with its dialect and what is remembered."""

from collections.abc import Mapping

from tokenyield_agent.config import GatewaySettings, Settings, WorkloadSettings
from tokenyield_agent.tokens.dialects.registry import GATEWAY_DIALECTS, SERVER_DIALECTS, new_dialect
from tokenyield_agent.tokens.event import Dialect
from tokenyield_agent.tokens.log_source import JournalUnit, LogFiles, LogSource, SourceMark
from tokenyield_agent.tokens.parsing.request_class import RequestClasses
from tokenyield_agent.workloads.discovered import DiscoveredLog


def open_configured(
    source: WorkloadSettings | GatewaySettings, settings: Settings, marks: list[SourceMark]
) -> LogSource | None:
    """The log that the settings name; None for a workload without one."""
    is_gateway = isinstance(source, GatewaySettings)
    return _open(
        source.name,
        (source.log,) if source.log else (),
        source.journal,
        source.dialect,
        settings=settings,
        marks=marks,
        from_end=source.start == "end",
        among=GATEWAY_DIALECTS if is_gateway else SERVER_DIALECTS,
        fields=source.fields if isinstance(source, GatewaySettings) else {},
    )


def open_discovered(name: str, log: DiscoveredLog, settings: Settings, marks: list[SourceMark]) -> LogSource | None:
    """From its end: what a server wrote before it was discovered is about its start, not about tokens."""
    return _open(name, log.patterns, log.unit, "auto", settings=settings, marks=marks, from_end=True, owners=log.owners)


def _open(
    name: str,
    patterns: tuple[str, ...],
    unit: str | None,
    dialect: str,
    *,
    settings: Settings,
    marks: list[SourceMark],
    from_end: bool,
    among: Mapping[str, type[Dialect]] = SERVER_DIALECTS,
    fields: Mapping[str, str] | None = None,
    owners: Mapping[str, int] | None = None,
) -> LogSource | None:
    edges = settings.context_edges if "context" in settings.caller_labels else ()
    classes = RequestClasses(frozenset(settings.service_tiers), edges)

    def make() -> Dialect:
        return new_dialect(dialect, patterns=settings.dialects, fields=fields, among=among, classes=classes)

    labels = frozenset(settings.caller_labels)
    if unit is not None:
        return JournalUnit(workload=name, unit=unit, dialect_name=dialect, dialect=make(), marks=marks, labels=labels)
    if not patterns:
        return None
    return LogFiles(
        workload=name,
        patterns=patterns,
        dialect_name=dialect,
        make_dialect=make,
        from_end=from_end,
        marks=marks,
        labels=labels,
        roots=(settings.pods_dir, settings.docker_dir, *settings.log_roots),
        owners=owners,
    )
