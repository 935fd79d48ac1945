"""What a workload is called that is not of the scope which used its name first (workload_names.py). Pure."""

import re

from tokenyield_wire.bounded import bounded
from tokenyield_wire.window import NAME_CHARS_MAX

SCOPE_CHARS_MAX = 64
FOREIGN = re.compile(r" \((node|scope) (.*)\)$", re.DOTALL)
"""How the name of a workload ends that is not of the first scope. Of names that are sent it is no part."""


def sent(name: str) -> str:
    """A name as a node may use it: one that ends as if the collector had made it ends in brackets instead."""
    if not name.endswith(")") or (match := FOREIGN.search(name)) is None:
        return name
    return f"{name[: match.start()]} [{match[1]} {match[2]}]"


def foreign(name: str, scope: str, node: str) -> str:
    """What the workload of that name is called that is not of the first scope; its end is always whole."""
    which = f"node {node}" if scope == node else f"scope {scope}"
    end = f" ({bounded(which, SCOPE_CHARS_MAX + len('scope '))})"
    return bounded(name, NAME_CHARS_MAX - len(end)) + end


def marked(name: str) -> str:
    """Another name, which ends as this one does: its sender uses this one as well."""
    match = FOREIGN.search(name)
    head, end = (name[: match.start()], name[match.start() :]) if match else (name, "")
    return bounded(f"{head}'", NAME_CHARS_MAX - len(end)) + end
