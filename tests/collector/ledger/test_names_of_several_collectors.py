"""Whose a workload's name is where several collectors take it in from several scopes at the same moment.

Each collector's commit is a thread that stands before every look into the ledger and every write, until it is its turn.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.ledger.test_names_of_scopes import Kept, keys, ships
from collector.samples import NOON_MS
from tokenyield_collector.ledger.workload_names import CLAIM_KEPT_MS, CLAIM_SETTLED_MS, NameKey, NameUse, WorkloadNames

AGAIN_AFTER_MS = 60_000
SKEW_MS = 2_000
SCOPES = ("fleet", "liar")


class Turns:
    """In which order threads act; beyond the end of `order`, or where its next has ended, whoever comes."""

    def __init__(self, order: Sequence[int], running: Iterable[int]) -> None:
        self._order = list(order)
        self._running = set(running)
        self._changed = threading.Condition()

    def take(self, who: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._next() in (who, None))
            if self._order:
                self._order.pop(0)
            self._changed.notify_all()

    def end(self, who: int) -> None:
        with self._changed:
            self._running.discard(who)
            self._changed.notify_all()

    def _next(self) -> int | None:
        while self._order and self._order[0] not in self._running:
            self._order.pop(0)
        return self._order[0] if self._order else None


class Collectors:
    """Several with one ledger. `named`: which scopes had the plain name."""

    def __init__(self, count: int) -> None:
        self.kept = Kept()
        self._lock = threading.Lock()
        self._turns = Turns([], [])
        self._names = [WorkloadNames(self._reader(i), AGAIN_AFTER_MS) for i in range(count)]
        self.owners: set[str] = set()

    def _reader(self, who: int) -> Callable[[Sequence[NameKey]], Iterable[NameUse]]:
        return lambda keys: self._read(who, keys)

    def _read(self, who: int, keys: Sequence[NameKey]) -> list[NameUse]:
        self._turns.take(who)
        with self._lock:
            return list(self.kept.read(keys))

    def _write(self, who: int, uses: list[NameUse]) -> None:
        if uses:
            self._turns.take(who)
            with self._lock:
                self.kept.write(uses)

    def commit_at_once(self, now_ms: int, sends: Sequence[Sequence[str]], order: Sequence[int]) -> list[list[str]]:
        """What each collector takes in, by scopes. The names that it gives."""
        self._turns = Turns(order, range(len(sends)))
        given: list[list[str]] = [[] for _ in sends]

        def commit(who: int) -> None:
            scopes = sends[who]
            sent = [ships(f"{scope}-{who}", ["chat"]) for scope in scopes]
            at_ms = now_ms + who * SKEW_MS
            named = self._names[who].decided(sent, scopes, at_ms, lambda uses: self._write(who, uses))
            given[who] = [keys(one)[0] for one in named]
            self._turns.end(who)

        threads = [threading.Thread(target=commit, args=(who,)) for who in range(len(sends))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for scopes, names in zip(sends, given, strict=True):
            self.owners |= {scope for scope, name in zip(scopes, names, strict=True) if name == "chat"}
        return given


SENDS = st.lists(
    st.permutations(SCOPES).flatmap(lambda both: st.sampled_from([both[:1], both])), min_size=3, max_size=3
)
ROUNDS = st.lists(
    st.tuples(st.sampled_from([0, 1_000, CLAIM_SETTLED_MS, AGAIN_AFTER_MS, CLAIM_KEPT_MS]), SENDS,
              st.lists(st.integers(0, 2), max_size=15)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "60")), deadline=None)
@given(ROUNDS)
@example(  # a claim whose time has passed by the clock of one, and not of another
    [(0, [["liar"], ["fleet"], ["fleet"]], [0, 0, 1]), (0, [["fleet"]] * 3, []),
     (CLAIM_KEPT_MS, [["fleet"], ["fleet"], ["liar"]], [0, 0, 2])]
)  # fmt: skip
def test_one_scope_has_the_name_whatever_happens_at_once(rounds: list[tuple[int, list[list[str]], list[int]]]) -> None:
    collectors, now_ms = Collectors(3), NOON_MS
    for later_ms, sends, order in rounds:
        now_ms += later_ms
        collectors.commit_at_once(now_ms, sends, order)
        assert len(collectors.owners) <= 1
    for _ in range(2):  # whoever is left undecided is decided, and every collector has read it
        now_ms += AGAIN_AFTER_MS + 10 * SKEW_MS
        given = collectors.commit_at_once(now_ms, [SCOPES] * 3, [])
    assert len(collectors.owners) == 1
    for names in given:
        assert [scope for scope, name in zip(SCOPES, names, strict=True) if name == "chat"] == list(collectors.owners)


def test_two_that_see_each_other_s_claim_wait_and_the_older_claim_has_the_name() -> None:
    collectors = Collectors(2)
    both = [["fleet"], ["liar"]]
    at_once = [0, 1] * 8
    assert collectors.commit_at_once(NOON_MS, both, at_once) == [["chat (scope fleet)"], ["chat (scope liar)"]]
    assert collectors.commit_at_once(NOON_MS + 1_000, both, at_once) == [["chat (scope fleet)"], ["chat (scope liar)"]]
    later_ms = NOON_MS + CLAIM_SETTLED_MS
    assert collectors.commit_at_once(later_ms, both, at_once) == [["chat"], ["chat (scope liar)"]]


def test_a_claim_of_a_collector_that_ended_holds_nobody_up_for_long() -> None:
    collectors = Collectors(1)
    collectors.kept.write([NameUse("c", "chat", "claim", "gone", "gone", NOON_MS, NOON_MS)])
    assert collectors.commit_at_once(NOON_MS + 1, [["fleet"]], []) == [["chat (scope fleet)"]]
    assert collectors.commit_at_once(NOON_MS + CLAIM_KEPT_MS, [["fleet"]], []) == [["chat"]]
