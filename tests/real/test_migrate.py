"""A DuckDB ledger moved into real ClickHouse servers: the same hours, windows, statements and counters, however often it is stopped."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from collector.ledger.test_observed import delta as observed_delta
from collector.ledger.test_observed import total as observed_total
from collector.ledger.test_workload_names import chat, names
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from real.clickhouse_server import PASSWORD, Server
from tokenyield_collector.commands.migrate import migrate
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.clickhouse.ledger import ClickHouseLedger
from tokenyield_collector.ledger.closed import StatementRecord
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.facts import Facts
from tokenyield_collector.ledger.outcomes import OutcomeSlice, SliceKey
from tokenyield_collector.ledger.verify import quarantine, verify
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import Demand

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
Place = Callable[[], Callable[[], Ledger]]
HOURS = 6
GONE = 2
"""Hours whose windows are not kept any more."""
STATEMENT = StatementRecord("2026-11", 1, "f", "p", "a", "")


def filled(path: Path) -> DuckDbLedger:
    """Three nodes over some hours, one of them under a second epoch and with two batches of one start; before them, an
    hour in which only a gateway reported."""
    ledger = DuckDbLedger(path)
    for hour in range(HOURS):
        start_ms = NOON_MS + hour * HOUR_MS
        for node in ("n1", "n2", "n3"):
            windows = [batch(hour * 10 + i, start_ms + i * 15_000, gpus=i % 3, completion=i) for i in range(1, 9)]
            ledger.append([shipment(*windows, node=node, agent_id=f"a-{node}")], start_ms)
    gateway = msgspec.structs.replace(batch(1, NOON_MS - HOUR_MS), gpus=(), shares=(), workloads=())
    ledger.append([shipment(gateway, node="gateway")], NOON_MS)
    twice = shipment(batch(1, NOON_MS + 5 * HOUR_MS + 15_000), node="n3", agent_id="a-n3", epoch="e2")
    ledger.append([twice, shipment(batch(999, NOON_MS), node="n4")], NOON_MS)
    ledger.versions.add_record(STATEMENT)
    lie = msgspec.structs.replace(batch(1, NOON_MS + 5 * HOUR_MS), demand=(Demand(gateway="g", requests=-1),))
    ledger.append([shipment(lie, node="n5", agent_id="a5")], NOON_MS)
    assert len(list(quarantine(ledger, NOON_MS))) == 1
    ledger.retire(windows_before_ms=NOON_MS + GONE * HOUR_MS, hours_before_ms=0, counter_bases={"tokens": 7})
    return ledger


def hours_of(ledger: Ledger) -> dict[int, Facts]:
    return {hour_ms: replace(ledger.facts_of_hours([hour_ms]), node_labels={}) for hour_ms in ledger.hours()}


@pytest.mark.parametrize("engine", ["clickhouse", "clickhouse_two_shards"])
def test_a_move_that_is_stopped_goes_on(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place: Place = request.getfixturevalue(engine)
    open_target = place()
    with closing(filled(tmp_path / "old.duckdb")) as source:
        with closing(open_target()) as target:
            assert isinstance(target, ClickHouseLedger)
            for done, _ in enumerate(migrate(source, target)):
                if done == 3:
                    break  # killed
        with closing(open_target()) as target:
            assert isinstance(target, ClickHouseLedger)
            assert [one.was_there for one in migrate(source, target)] == [True] * 4 + [False] * 3
            moved = list(migrate(source, target))
            assert all(one.was_there and one.is_whole for one in moved)
            assert hours_of(target) == hours_of(source)
            span = (NOON_MS + GONE * HOUR_MS, NOON_MS + 99 * HOUR_MS)
            assert target.facts_between(*span) == source.facts_between(*span)
            assert target.versions.records("2026-11") == [STATEMENT]
            assert target.quarantined() == source.quarantined()
            assert {row.node for row in target.quarantined()} == {"n5"}
            assert target.counter_bases() == source.counter_bases() == {"tokens": 7}
            assert target.last_seen() == source.last_seen()
            assert target.windows_from_ms() == source.windows_from_ms()
            assert list(verify(target)) == list(verify(source))


@pytest.mark.parametrize("engine", ["clickhouse", "clickhouse_two_shards"])
def test_what_was_moved_is_not_counted_again_when_an_agent_sends_it_again(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place: Place = request.getfixturevalue(engine)
    with closing(filled(tmp_path / "old.duckdb")) as source, closing(place()()) as target:
        assert isinstance(target, ClickHouseLedger)
        again = shipment(batch(51, NOON_MS + 5 * HOUR_MS + 15_000, gpus=1, completion=1), node="n1", agent_id="a-n1")
        late = shipment(batch(70, NOON_MS + 5 * HOUR_MS + 600_000), node="n1", agent_id="a-n1")
        assert target.append([late], NOON_MS) == [(1, 0)]  # a collector is at work there already
        assert all(one.is_whole for one in migrate(source, target))
        assert target.append([again, late], NOON_MS) == [(0, 1), (0, 1)]
        target.fold()
        assert source.append([late], NOON_MS) == [(1, 0)]
        source.roll()
        assert hours_of(target) == hours_of(source)


def test_the_command(clickhouse_servers: list[Server], tmp_path: Path) -> None:
    filled(tmp_path / "old.duckdb").close()
    (tmp_path / "password").write_text(PASSWORD)
    settings = [
        f"ledger_url=clickhouse://default@127.0.0.1:{clickhouse_servers[0].port}/moved",
        f"ledger_password_file={tmp_path / 'password'}",
        "ledger_cluster=fleet",
    ]

    def called(command: str, *more: str) -> subprocess.CompletedProcess[str]:
        flags = [part for setting in settings for part in ("--set", setting)]
        call = [sys.executable, "-m", "tokenyield_collector.cli", command, *more, *flags]
        return subprocess.run(call, capture_output=True, text=True, check=False, env=dict(os.environ))

    first = called("migrate", "--ledger", str(tmp_path / "old.duckdb"))
    assert (first.returncode, "7 hours moved" in first.stdout) == (0, True), first.stderr + first.stdout
    second = called("migrate", "--ledger", str(tmp_path / "old.duckdb"))
    assert "0 hours moved with 0 batches, 7 were there" in second.stdout
    missing = called("migrate", "--ledger", str(tmp_path / "none.duckdb"))
    assert (missing.returncode, "there is no ledger at" in missing.stderr) == (1, True)
    settings.clear()
    unnamed = called("migrate", "--ledger", str(tmp_path / "old.duckdb"))
    assert (unnamed.returncode, "ledger_url" in unnamed.stderr) == (2, True)


@pytest.mark.parametrize("engine", ["clickhouse", "clickhouse_two_shards", "chdb"])
def test_outcomes_and_spend_move_and_what_was_imported_there_since_stays(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place: Place = request.getfixturevalue(engine)
    day_ms = NOON_MS - NOON_MS % MS_PER_DAY
    old, newer, other = (
        OutcomeSlice(SliceKey("jira", day_ms, name), (("{}", count),))
        for name, count in (("tickets", 5), ("tickets", 6), ("answers", 7))
    )
    bought, restated = (
        SpendSlice(
            SpendKey("openai", "default", day_ms, grain),
            "billed",
            (SpendLine(SpendFields("openai"), SpendAmounts(cost_micro=cost)),),
        )
        for grain, cost in (("costs", 5), ("usage:x", 6))
    )
    with closing(filled(tmp_path / "old.duckdb")) as source, closing(place()()) as target:
        assert isinstance(target, ClickHouseLedger)
        source.replace_outcomes([old, other], 1)
        source.replace_spend([bought, restated], 1)
        points = [observed_delta(), observed_total(10, 1), observed_total(25, 2, day=1)]
        source.add_observed(points, 1)
        for _ in range(2):
            list(migrate(source, target))
            assert target.outcomes(0, day_ms + MS_PER_DAY) == [other, old]
            assert target.spend(0, day_ms + MS_PER_DAY) == [bought, restated]
            observed_days = source.observed_days(0)
            assert observed_days
            for day in observed_days:
                assert sorted(target.observed_sums(day), key=repr) == sorted(source.observed_sums(day), key=repr)
            assert list(target.observed_days(0)) == list(observed_days)
            assert target.observed_states(["t"]) == source.observed_states(["t"])
        target.replace_outcomes([newer], 2)
        target.replace_spend([restated._replace(lines=bought.lines)], 2)
        list(migrate(source, target))
        assert target.outcomes(0, day_ms + MS_PER_DAY) == [other, newer]
        assert target.spend(0, day_ms + MS_PER_DAY) == [bought, restated._replace(lines=bought.lines)]


@pytest.mark.parametrize("engine", ["clickhouse", "clickhouse_two_shards", "chdb"])
def test_whose_a_workload_s_name_is_moves_too(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Also where agents reported to the ClickHouse before, with other tokens, the liar first."""
    place: Place = request.getfixturevalue(engine)
    open_target = place()
    with closing(DuckDbLedger(tmp_path / "old.duckdb")) as source, closing(open_target()) as target:
        assert isinstance(target, ClickHouseLedger)
        source.append([chat("n1"), chat("n2"), chat("liar")], NOON_MS, ["*", "*", "liar"])
        target.append([chat("liar", 1), chat("n1", 1)], NOON_MS + 1, ["liar", "gpu-*"])
        for _ in range(2):
            assert all(one.is_whole for one in migrate(source, target))
    with closing(open_target()) as target:
        later = [chat(node, 2) for node in ("liar", "n1", "n2", "n3")]
        target.append(later, NOON_MS + 2, ["liar", "gpu-*", "gpu-*", "gpu-*"])
        assert names(target, 2) == {"liar": "chat (node liar)", "n1": "chat", "n2": "chat", "n3": "chat"}
        (conflict,) = target.name_conflicts()
        first = ("scope *", "scope gpu-*", "node n1", "node n2", "node n3")
        assert (conflict.first, conflict.others) == (first, ("scope liar", "node liar"))
