"""Two collectors' ledgers on one real ClickHouse that take in a new name of a workload from two scopes at the same moment."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from collector.ledger.test_workload_names import chat, names
from collector.samples import NOON_MS
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.workload_names import CLAIM_SETTLED_MS, NameKey, NameUse

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
NEW_NAMES = 10


@pytest.fixture(params=["clickhouse", "clickhouse_two_shards"])
def ledgers(request: pytest.FixtureRequest) -> Iterator[list[ClickHouseLedger]]:
    """Of nodes n1 and liar, each of a scope of its own."""
    place: Callable[[], Callable[[], Ledger]] = request.getfixturevalue(request.param)
    open_ledger = place()
    opened = [open_ledger() for _ in range(2)]
    yield [ledger for ledger in opened if isinstance(ledger, ClickHouseLedger)]
    for ledger in opened:
        ledger.close()


@contextmanager
def meeting_before_each_look(ledgers: list[ClickHouseLedger]) -> Iterator[None]:
    """Nobody looks who uses or claims a name before all have written as much as they do before that look."""
    meeting = threading.Barrier(len(ledgers))
    of_ledgers = [ledger._writer._names for ledger in ledgers]
    looks = [of_ledger._read for of_ledger in of_ledgers]

    def meet(i: int, keys: Sequence[NameKey]) -> list[NameUse]:
        meeting.wait(120)
        return list(looks[i](keys))

    for i, of_ledger in enumerate(of_ledgers):
        of_ledger._read = partial(meet, i)
    yield
    for of_ledger, look in zip(of_ledgers, looks, strict=True):
        of_ledger._read = look


def at_once(ledgers: list[ClickHouseLedger], hour: int, name: str) -> dict[str, str]:
    with ThreadPoolExecutor(2) as collectors:
        futures = [
            collectors.submit(ledger.append, [chat(node, hour, name)], NOON_MS + i, [node])
            for i, (ledger, node) in enumerate(zip(ledgers, ("n1", "liar"), strict=True))
        ]
        assert [future.result() for future in futures] == [[(1, 0)]] * 2
    return names(ledgers[0], hour)


def test_a_name_that_both_claim_before_either_looks_is_later_that_of_the_older_claim(
    ledgers: list[ClickHouseLedger],
) -> None:
    with meeting_before_each_look(ledgers):
        assert at_once(ledgers, 0, "chat") == {"n1": "chat (node n1)", "liar": "chat (node liar)"}
    for i, (ledger, node) in enumerate(zip(reversed(ledgers), ("liar", "n1"), strict=True)):
        ledger.append([chat(node, 1)], NOON_MS + 10 + CLAIM_SETTLED_MS + i, [node])
    assert names(ledgers[1], 1) == {"n1": "chat", "liar": "chat (node liar)"}


def test_names_that_come_as_they_come_have_one_owner_at_most(ledgers: list[ClickHouseLedger]) -> None:
    for i in range(NEW_NAMES):
        given = at_once(ledgers, i, f"chat-{i}")
        assert list(given.values()).count(f"chat-{i}") <= 1, given
