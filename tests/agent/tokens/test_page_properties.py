"""Whatever happens to the pages of a server on their way, no token is counted that it did not make; and every one of
them, where the last page is whole and no restart took some with it."""

import os
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.tokens.dialects.registry import COUNTERS, counters_of_page
from tokenyield_agent.tokens.endpoint import Alternative, CounterNames, SeriesName, read
from tokenyield_agent.tokens.event import KINDS, sum_kinds
from tokenyield_agent.tokens.handover import Handover
from tokenyield_agent.tokens.handover_state import HandoverState

ENGINES = 2
START_S = 1_000_000.0
MADE = ("completion", "prompt", "requests", "requests_aborted", "requests_failed")


def series_of(alternative: Alternative) -> tuple[SeriesName, ...]:
    return (alternative,) if isinstance(alternative, SeriesName) else alternative


def label(spec: str) -> str:
    """A value that the label may have."""
    return "other" if spec.startswith("!") else spec.split("|")[0]


@dataclass
class SimulatedServer:
    """What a server has counted, by kind and engine, and how it shows that."""

    names: CounterNames
    shows_start: bool
    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    lives: int = 0

    def request(self, engine: int, prompt: int, cached: int, completion: int) -> None:
        split = self.names.prompt_cached and not self.names.prompt_unsplit
        raised = {
            "prompt": prompt if self.names.prompt else 0,
            "prompt_computed": prompt - cached if self.names.prompt_computed else 0,
            "prompt_cached": cached if split else 0,
            "prompt_unsplit": prompt if self.names.prompt_unsplit else 0,
            "completion": completion,
            "requests": 1,
        }
        for kind, count in raised.items():
            if getattr(self.names, kind):
                self.counts[kind, engine] = self.counts.get((kind, engine), 0) + count
        self.made = sum_kinds(self.made, {"prompt": prompt, "completion": completion, "requests": 1})

    def restart(self) -> None:
        self.counts, self.lives = {}, self.lives + 1

    def page(self, dropped: frozenset[int] = frozenset()) -> bytes:
        """`dropped`: numbers of series that are missing."""
        lines = [f"{self.names.prefixes[0]}build_info 1"] if self.names.prefixes else []
        if self.shows_start:
            lines.append(f"process_start_time_seconds {START_S + 1000 * self.lives}")
        number = 0
        for kind in ("prompt", *KINDS):
            for alternative in getattr(self.names, kind)[:1]:
                for i, one in enumerate(series_of(alternative)):
                    lines.append(f"# TYPE {one.name} counter")
                    for engine in range(ENGINES):
                        count = self.counts.get((kind, engine), 0)
                        count = count - count // 2 if i else (count // 2 if len(series_of(alternative)) > 1 else count)
                        where = "".join(f',{name}="{label(spec)}"' for name, spec in one.where.items())
                        number += 1
                        if number not in dropped and (count or not self.names.shows_late):
                            lines.append(f'{one.name}{{engine="{engine}"{where}}} {count}')
        return ("\n".join(lines) + "\n").encode()


class Counted:
    """What an agent has counted of the pages that it was given; it is restarted after each."""

    def __init__(self, names: CounterNames) -> None:
        self.names = names
        self.handover = Handover("w")
        self.sums: dict[str, int] = {}
        self.at_ms = int(START_S * 1000)

    def take(self, body: bytes) -> None:
        self.at_ms += 5000
        if counters_of_page(body) is None:
            self.handover.endpoint_failed(refused=False)
        else:
            for event in self.handover.from_counters(read(body, self.names), self.at_ms):
                kinds = event.counts.kinds()
                assert all(count >= 0 for count in kinds.values())
                self.sums = sum_kinds(self.sums, kinds)
        state = msgspec.json.decode(msgspec.json.encode(self.handover.state), type=HandoverState)
        self.handover = Handover("w", state)

    def of(self, kind: str) -> int:
        if kind != "prompt":
            return self.sums.get(kind, 0)
        return sum(self.sums.get(part, 0) for part in ("prompt_computed", "prompt_cached", "prompt_unsplit"))


REQUEST = st.tuples(
    st.just("request"), st.integers(0, ENGINES - 1), st.integers(1, 500), st.floats(0, 1), st.integers(1, 300)
)
PAGE = st.one_of(
    st.tuples(st.just("page")),
    st.tuples(st.just("lost")),
    st.tuples(st.just("old")),
    st.tuples(st.just("dropped"), st.frozensets(st.integers(1, 16), max_size=8)),
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("restart")),
)
STEPS = st.lists(st.one_of(REQUEST, PAGE), max_size=15)
EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "25"))


def play(names: CounterNames, steps: list[tuple[object, ...]], shows_start: bool, *, whole: bool) -> None:
    server, agent = SimulatedServer(names, shows_start), Counted(names)
    for engine in range(ENGINES):
        server.request(engine, 100_000, 40_000, 50_000)
    server.made = {}  # before our time
    agent.take(server.page())
    old, is_old = server.page(), False
    for step in [*steps, ("page",)]:
        kind, *values = step
        if kind == "request":
            at, prompt, part, completion = values
            server.request(at, prompt, int(part * prompt), completion)  # type: ignore[arg-type, operator]
        elif kind == "restart":
            if whole:
                agent.take(server.page())
            server.restart()
        elif whole or kind == "page":
            agent.take(server.page())
            old, is_old = server.page(), False
        elif kind == "dropped":
            agent.take(server.page(values[0]))  # type: ignore[arg-type]
        elif kind == "cut":
            body = server.page()
            agent.take(body[: int(values[0] * len(body))])  # type: ignore[operator]
        elif kind == "old" and not (server.lives or is_old):
            agent.take(old)
            is_old = True
    for made in MADE:
        if made in names.kinds or (made == "prompt" and any(name.startswith("prompt") for name in names.kinds)):
            counted, true = agent.of(made), server.made.get(made, 0)
            assert counted == true if whole else counted <= true, (made, counted, true, agent.sums)


@pytest.mark.parametrize("server", COUNTERS)
@given(steps=STEPS, shows_start=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_page_makes_tokens_out_of_nothing(server: str, steps: list[tuple[object, ...]], shows_start: bool) -> None:
    play(COUNTERS[server], steps, shows_start, whole=False)


@pytest.mark.parametrize("server", COUNTERS)
@given(steps=STEPS)
@settings(max_examples=EXAMPLES, deadline=None)
def test_nothing_is_lost_where_the_last_page_before_a_restart_is_whole(
    server: str, steps: list[tuple[object, ...]]
) -> None:
    play(COUNTERS[server], steps, shows_start=True, whole=True)
