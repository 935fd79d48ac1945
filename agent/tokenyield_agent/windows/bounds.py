"""How many names one window may hold, and where what comes later goes. Pure.

The wire's own bounds are never met: whoever starts processes or sends requests under ever new names must not cost the
node its batch. What comes later is laid under a common name, and counted by its kind in `WindowBuilder.folded`.
"""

from tokenyield_agent.tokens.event import Caller
from tokenyield_wire.window import DEMAND_MAX, EVENT_NAMES_MAX, GPUS_MAX, SHARES_MAX, WORKLOADS_MAX

CALLERS_MAX, CALLERS_ALL_MAX = 1_000, 12_000
"""Callers of one gateway, and of all, in one window; those that come later are added up under `OTHER_CALLER`."""
HOLDINGS_MAX, COUNTED_MAX = 3_000, 1_000
"""Pairs of a GPU and a workload that held it, and workloads that made tokens, in one window; those that come later are
added up under `OTHER_WORKLOAD`."""
EVENT_KINDS_MAX = 200
"""Kinds of events of one GPU; those that come later are added up under `OTHER_EVENT`."""
assert CALLERS_ALL_MAX < DEMAND_MAX and HOLDINGS_MAX + COUNTED_MAX < WORKLOADS_MAX  # noqa: PT018
assert HOLDINGS_MAX + GPUS_MAX <= SHARES_MAX and EVENT_KINDS_MAX < EVENT_NAMES_MAX  # noqa: PT018

OTHER_CALLER = Caller(labels=(("team", "(other)"),))
OTHER_WORKLOAD = "(other)"
OTHER_EVENT = "other"


_OTHER_TEAM = OTHER_CALLER.labels[0][1]


def apart_from_others(caller: Caller) -> Caller:
    """A caller whose labels read like those of `OTHER_CALLER` has them in quotes. Injective."""
    if not any(_OTHER_TEAM in text for _, text in caller.labels):
        return caller
    labels = ((name, f'"{text}"' if text.strip('"') == _OTHER_TEAM else text) for name, text in caller.labels)
    return Caller(model=caller.model, labels=tuple(labels))


class Folds:
    """How often something was laid under a common name, by kind."""

    def __init__(self) -> None:
        self.counts = {"caller": 0, "workload": 0, "event": 0}

    def fold(self, kind: str, common_name: str) -> str:
        """The common name; counted."""
        self.counts[kind] += 1
        return common_name
