"""What agents write of themselves into requests that they send through a gateway: their task, session and name. Pure.

In: the objects and fields of a log line in which clients' own metadata and headers stand. Out: labels of the caller.
The names are listed here and in docs/gateways.md; the first that is there counts. OTLP's attributes come later.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_agent.tokens.parsing.usage import as_object, dig

METADATA_NAMES: Mapping[str, tuple[str, ...]] = {
    "agent_task": ("agent_task", "agent_task_id", "task_id"),
    "session": ("session", "session_id", "litellm_session_id"),
    "agent": ("agent", "agent_name", "agent_id"),
}
"""Label -> its names in a client's metadata."""
HEADERS: Mapping[str, tuple[str, ...]] = {
    "agent_task": ("x-agent-task", "x-agent-task-id"),
    "session": ("x-session-id", "session-id"),
    "agent": ("x-agent", "x-agent-name"),
}
"""Label -> the request headers that carry it."""
AGENT_LABELS = tuple(METADATA_NAMES)


def labels_in(metadata: Any, headers: Any = None) -> Iterator[tuple[str, Any]]:
    """Labels of a client's metadata, else of its headers; each is an object or a text that holds one."""
    within, sent = as_object(metadata), as_object(headers)
    if not within and not sent:
        return
    for label in AGENT_LABELS:
        value = _first(within or {}, METADATA_NAMES[label])
        yield label, value if value is not None else _first(sent or {}, HEADERS[label])


def labels_of_line(document: Any, chosen: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """The same of a line that has them as its own fields, under `metadata`, or by the name of a header; of labels that
    `chosen` does not name already."""
    metadata = as_object(document.get("metadata")) or {}
    for label in AGENT_LABELS:
        if label in (chosen or ()):
            continue
        value = _first(document, (label, *HEADERS[label]))
        yield label, value if value is not None else _first(metadata, METADATA_NAMES[label])


def _first(holder: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((value for name in names if (value := dig(holder, name)) not in (None, "", "-")), None)
