"""What every ledger engine must keep: DuckDB here, ClickHouse (a server, two shards, today's dialect) with `make test-real`."""

import os
from dataclasses import replace
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from collector.ledger.engines import NewPlace, Open
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from hostile import NAMES
from tokenyield_collector.errors import LedgerError, LedgerInUse, UnstorableShipment
from tokenyield_collector.ledger.closed import PeriodCheck, StatementRecord
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.duckdb.schema import MIGRATIONS, SCHEMA_VERSION
from tokenyield_collector.ledger.facts import Facts, GpuNow
from tokenyield_collector.ledger.tables import AMOUNT_MAX
from tokenyield_collector.live.counting import COUNTED
from tokenyield_wire.window import COUNT_MAX, Batch, Demand, StateMillijoules, TokenCount, Workload

DAY_MS = 86_400_000
EMPTY = Facts(gpus=[], measures=[], reasons=[], shares=[], tokens=[], demand=[], labels=[], latency=[])


def completion(facts: Facts) -> int:
    return sum(row.completion or 0 for row in facts.tokens)


def nameless(facts: Facts) -> Facts:
    """The same sums without their hour, to compare hours with windows."""
    return Facts(
        gpus=[replace(row, hour_ms=0) for row in facts.gpus],
        measures=[replace(row, hour_ms=0) for row in facts.measures],
        reasons=[replace(row, hour_ms=0) for row in facts.reasons],
        shares=[replace(row, hour_ms=0) for row in facts.shares],
        tokens=[replace(row, hour_ms=0) for row in facts.tokens],
        demand=[replace(row, hour_ms=0) for row in facts.demand],
        labels=[replace(row, hour_ms=0) for row in facts.labels],
        latency=[replace(row, hour_ms=0) for row in facts.latency],
    )


def test_an_empty_ledger_is_empty(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert (ledger.fold(), ledger.first_ms(), ledger.facts_of_hours()) == ([], None, EMPTY)
    ledger.close()


def test_hours_and_windows_hold_the_same_sums(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000))], NOON_MS) == [(2, 0)]
    assert ledger.fold() == [NOON_MS]
    hours = ledger.facts_of_hours()
    (gpus,), (share,), (requests, tokens) = hours.gpus, hours.shares, hours.tokens
    assert (gpus.hour_ms, gpus.cluster, gpus.node, gpus.gpu_model, gpus.gpus) == (
        NOON_MS, "c", "n1", "NVIDIA H100 80GB HBM3", 2,
    )  # fmt: skip
    assert (gpus.active_ms, gpus.idle_ms, gpus.unallocated_ms, gpus.unknown_ms) == (36_000, 16_000, 4_000, 4_000)
    assert (gpus.active_mj, gpus.idle_mj, gpus.unallocated_mj, gpus.unknown_mj) == (
        21_600_000, 1_920_000, 280_000, 200_000,
    )  # fmt: skip
    assert (share.workload, share.active_ms, share.idle_mj) == ("chat", 36_000, 1_920_000)
    assert (tokens.method, tokens.prompt_computed, tokens.prompt_cached, tokens.completion) == ("rate", 80, None, 200)
    assert (requests.method, requests.requests, requests.completion) == ("count", 6, None)
    assert (requests.requests_aborted, requests.requests_failed, tokens.prompt_unsplit) == (2, None, None)
    (labels,) = hours.labels
    assert (labels.workload, labels.labels, labels.seen_ms) == ("chat", '{"pod":"chat-0","team":"search"}', 30_000)
    search, ads = hours.demand
    assert (ads.gateway, ads.model, ads.caller, ads.completion) == ("litellm", "chat", '{"team":"ads"}', 18)
    assert (search.caller, search.prompt_computed, search.prompt_cached, search.requests_failed) == (
        '{"key":"prod","team":"search"}', 14, 6, 2,
    )  # fmt: skip
    end_to_end, first_token = hours.latency
    assert (first_token.workload, first_token.model, first_token.kind) == ("chat", "llama", "first_token")
    assert (first_token.sum_ms, first_token.counts) == (900, (0, 0, 2, 0, 0, 0, 0, 4, *[0] * 13))
    assert (end_to_end.sum_ms, end_to_end.counts) == (8_200, (*[0] * 6, 4, 2, *[0] * 13))
    assert nameless(hours) == ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)
    assert ledger.first_ms() == NOON_MS
    ledger.close()


def test_only_the_facts_of_hours_that_are_asked_for_are_read(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    ledger.fold()
    counted, whole = ledger.facts_of_hours(kinds=COUNTED), ledger.facts_of_hours()
    assert (len(counted.labels), len(counted.latency)) == (0, 0)
    assert (counted.gpus, counted.tokens, counted.measures) == (whole.gpus, whole.tokens, whole.measures)
    ledger.close()


def test_waits_are_read_by_work_with_the_labels_that_it_carried_longest(open_ledger: Open) -> None:
    ledger = open_ledger()
    one = batch(3, NOON_MS + 30_000)
    other = structs.replace(one, workloads=(structs.replace(one.workloads[0], labels={"team": "z"}),))
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000), other)], NOON_MS)
    ledger.roll()
    end_to_end, first_token = ledger.usage().latency(NOON_MS, NOON_MS + HOUR_MS)
    assert first_token.identity == ("c", "chat", "llama", '{"pod":"chat-0","team":"search"}', "{}")
    assert (first_token.sum_ms, sum(first_token.counts), sum(end_to_end.counts)) == (3 * 450, 9, 9)
    assert ledger.usage().latency(NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS) == []
    ledger.close()


def test_what_is_sent_again_is_counted_once(open_ledger: Open) -> None:
    ledger = open_ledger()
    one, two = shipment(batch(1, NOON_MS)), shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000))
    assert ledger.append([one, one, two], NOON_MS) == [(1, 0), (0, 1), (1, 1)]
    assert ledger.append([two], NOON_MS) == [(0, 2)]
    ledger.close()
    ledger = open_ledger()
    assert ledger.append([two, shipment(batch(3, NOON_MS + 30_000))], NOON_MS) == [(0, 2), (1, 0)]
    ledger.fold()
    assert completion(ledger.facts_of_hours()) == 300
    ledger.close()


def test_what_no_column_holds_is_refused_and_the_ledger_goes_on(open_ledger: Open) -> None:
    """No shipment of the wire comes this far. A transaction that stayed open refused everyone's commits after it."""
    ledger = open_ledger()
    impossible = shipment(batch(1, NOON_MS, completion=2**70), agent_id="liar", node="liar")
    with pytest.raises(UnstorableShipment):
        ledger.append([shipment(batch(1, NOON_MS)), impossible], 1)
    assert ledger.append([shipment(batch(1, NOON_MS))], 1)[0].accepted == 1
    ledger.fold()
    assert completion(ledger.facts_of_hours()) == 100
    ledger.close()


def test_sums_of_an_hour_are_cut_to_what_is_computed_with(open_ledger: Open) -> None:
    """Amounts that are multiplied fit 48 bits, others their column; windows keep what was sent."""
    ledger = open_ledger()
    lies = [
        structs.replace(
            batch(seq, NOON_MS + seq * 15_000, completion=COUNT_MAX),
            gpus=tuple(
                structs.replace(gpu, energy_mj=StateMillijoules(active=COUNT_MAX, idle=1))
                for gpu in batch(seq, NOON_MS).gpus
            ),
        )
        for seq in range(3)
    ]
    ledger.append([shipment(*lies)], NOON_MS)
    ledger.fold()
    ledger.roll(NOON_MS + HOUR_MS)
    hours = ledger.facts_of_hours([NOON_MS])
    assert completion(hours) == AMOUNT_MAX
    assert sum(gpu.active_mj for gpu in hours.gpus) == 3 * len(lies[0].gpus) * COUNT_MAX
    assert completion(ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)) == 3 * COUNT_MAX
    ledger.close()


def test_other_agents_and_epochs_have_their_own_numbers(open_ledger: Open) -> None:
    ledger = open_ledger()
    sent = [
        shipment(batch(1, NOON_MS)),
        shipment(batch(1, NOON_MS), epoch="e2"),
        shipment(batch(1, NOON_MS), agent_id="a2", node="n2"),
    ]
    assert ledger.append(sent, NOON_MS) == [(1, 0)] * 3
    ledger.fold()
    assert completion(ledger.facts_of_hours()) == 300
    assert {row.node for row in ledger.facts_of_hours().gpus} == {"n1", "n2"}
    (over_all,) = ledger.facts_of_hours(by_node=False).gpus
    assert (over_all.node, over_all.active_ms) == ("", 3 * 18_000)
    assert over_all == replace(ledger.facts_between(0, NOON_MS + HOUR_MS, by_node=False).gpus[0], hour_ms=NOON_MS)
    ledger.close()


def test_agents_of_a_copied_host_have_their_own_numbers(open_ledger: Open) -> None:
    """Two hosts made from one image: the same agent_id and epoch, other names."""
    ledger = open_ledger()
    assert ledger.append([shipment(batch(1, NOON_MS)), shipment(batch(1, NOON_MS), node="n2")], NOON_MS) == [(1, 0)] * 2
    ledger.close()
    ledger = open_ledger()
    assert ledger.append([shipment(batch(1, NOON_MS), node="n2"), shipment(batch(1, NOON_MS))], NOON_MS) == [(0, 1)] * 2
    ledger.fold()
    assert completion(ledger.facts_of_hours()) == 200
    ledger.close()


def test_what_every_gpu_did(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append(
        [shipment(batch(1, NOON_MS)), shipment(batch(1, NOON_MS - HOUR_MS), node="n0", agent_id="a0")], NOON_MS
    )
    ledger.fold()
    before, *rest = ledger.gpus_between(NOON_MS, NOON_MS + 15_000, NOON_MS - 2 * HOUR_MS)
    assert (before.node, before.active_ms, before.workload) == ("n0", 0, "")
    assert [(gpu.node, gpu.uuid) for gpu in rest] == [("n0", "GPU-1"), ("n1", "GPU-0"), ("n1", "GPU-1")]
    assert rest[1] == GpuNow("c", "n1", "GPU-0", "NVIDIA H100 80GB HBM3", 9_000, 4_000, 1_000, 1_000, 6_000_000, "chat")
    ledger.close()


def test_what_gpus_measure_is_summed(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000))], NOON_MS)
    facts = ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)
    (gpu,) = facts.gpus
    assert (gpu.integrated_mj, gpu.energy_error_mj) == (12_000_000, 60_000)
    assert (gpu.parked_ms, gpu.parked_mj) == (8_000, 960_000)
    assert (gpu.activity_known_ms, gpu.sm_ms, gpu.tensor_ms, gpu.dram_ms) == (30_000, 12_000, 1_800, 10_000)
    assert (gpu.nvlink_mib, gpu.pcie_mib) == (140, 14)
    assert {(row.kind, row.name): row.amount for row in facts.measures} == {
        ("energy", "samples"): 11_800_000,
        ("energy", "power"): 200_000,
        ("throttled_lost", "sw_power_cap"): 260,
        ("event", "xid_31"): 2,
        ("host", "rapl"): 5_400_000,
        ("host_gpu_ms", "rapl"): 60_000,
        ("host_gpu_mj", "rapl"): 24_000_000,
    }
    assert {(row.kind, row.reason): row.duration_ms for row in facts.reasons} == {
        ("throttled", "sw_power_cap"): 2_000,
        ("unknown", "agent_down"): 4_000,
    }
    (share,) = facts.shares
    assert (share.parked_ms, share.parked_mj) == (8_000, 960_000)
    ledger.roll()
    (day,) = ledger.usage().host_energy(NOON_MS, NOON_MS + HOUR_MS)
    assert day == (NOON_MS - NOON_MS % DAY_MS, "c", "n1", "rapl", 5_400_000, 60_000, 24_000_000)
    assert ledger.usage().host_energy(NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS) == []
    ledger.close()


def test_what_workloads_did_step_by_step(open_ledger: Open) -> None:
    ledger = open_ledger()
    batches = [batch(i, NOON_MS + (i - 1) * 15_000, completion=10 * i) for i in range(1, 6)]
    ledger.append([shipment(*batches)], NOON_MS)
    work = ledger.work_between(NOON_MS, NOON_MS + 75_000, 60_000)
    assert [(row.slot_ms - NOON_MS, row.gpus, row.active_ms, row.idle_ms, row.parked_ms) for row in work] == [
        (0, 2, 72_000, 32_000, 16_000),
        (60_000, 2, 18_000, 8_000, 4_000),
    ]
    assert [(row.activity_known_ms, row.sm_ms, row.tensor_ms, row.dram_ms) for row in work] == [
        (60_000, 24_000, 3_600, 20_000),
        (15_000, 6_000, 900, 5_000),
    ]
    assert [(row.throttled_ms, row.throttled_lost_ms) for row in work] == [(4_000, 520), (1_000, 130)]
    assert work[0][:3] == ("c", "chat", "NVIDIA H100 80GB HBM3")
    made = ledger.made_between(NOON_MS, NOON_MS + 75_000, 60_000)
    assert [(row.slot_ms - NOON_MS, row.completion, row.prompt_computed, row.prompt_cached) for row in made] == [
        (0, 100, 160, None),
        (60_000, 50, 40, None),
    ]
    assert made[1][8:] == (10_000, 35_000, 4_000, 2_500)
    ledger.fold()
    assert ledger.last_tokens() == {("c", "chat"): NOON_MS + 60_000}
    ledger.close()


def test_work_on_a_shared_gpu_has_its_part_of_the_gpus_activity(open_ledger: Open) -> None:
    ledger = open_ledger()
    whole = batch(1, NOON_MS, gpus=1)
    third, rest = (
        msgspec.structs.replace(whole.shares[0], workload=name, split="sm", active_ms=ms, idle_ms=0, active_mj=0,
                                idle_mj=0, parked_ms=0, parked_mj=0)
        for name, ms in (("chat", 3_000), ("other", 6_000))
    )  # fmt: skip
    other = msgspec.structs.replace(whole.workloads[0], key="other")
    shared = msgspec.structs.replace(whole, shares=(third, rest), workloads=(whole.workloads[0], other))
    ledger.append([shipment(shared)], NOON_MS)
    assert {row.workload: (row.sm_ms, row.dram_ms) for row in ledger.work_between(NOON_MS, NOON_MS + 1, 60_000)} == {
        "chat": (round(6_000 * 3 / 13), round(5_000 * 3 / 13)),
        "other": (round(6_000 * 6 / 13), round(5_000 * 6 / 13)),
    }
    ledger.close()


def test_late_batches_recompute_their_hour(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    assert ledger.fold() == [NOON_MS + HOUR_MS]
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    assert ledger.fold() == [NOON_MS]
    assert ledger.fold() == []
    assert completion(ledger.facts_of_hours([NOON_MS])) == 100
    assert completion(ledger.facts_of_hours()) == 200
    assert ledger.facts_of_hours([]) == EMPTY
    ledger.close()


def test_hours_not_yet_folded_are_folded_after_a_restart(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    ledger.close()
    ledger = open_ledger()
    assert ledger.fold() in ([], [NOON_MS]), "closing may have written them down"
    assert completion(ledger.facts_of_hours()) == 100
    ledger.close()


def test_retention_keeps_hours_and_what_was_received(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 2 * HOUR_MS))], NOON_MS)
    ledger.fold()
    ledger.retire(windows_before_ms=NOON_MS + HOUR_MS + 5, hours_before_ms=0, counter_bases={})
    assert completion(ledger.facts_between(0, NOON_MS + 9 * HOUR_MS)) == 100
    assert completion(ledger.facts_of_hours()) == 200
    assert ledger.append([shipment(batch(2, NOON_MS + 2 * HOUR_MS))], NOON_MS) == [(0, 1)]
    ledger.close()
    ledger = open_ledger()
    assert ledger.first_ms() == NOON_MS
    ledger.retire(windows_before_ms=0, hours_before_ms=NOON_MS + HOUR_MS, counter_bases={"tokens": 100})
    ledger.retire(windows_before_ms=0, hours_before_ms=NOON_MS + 2 * HOUR_MS, counter_bases={"tokens": 11, "x": 1})
    assert completion(ledger.facts_of_hours()) == 100
    ledger.close()
    ledger = open_ledger()
    assert ledger.counter_bases() == {"tokens": 111, "x": 1}
    ledger.close()


def test_what_was_seen_last_of_each_node(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert ledger.last_seen() == {}
    ledger.append([shipment(batch(2, NOON_MS + HOUR_MS), batch(1, NOON_MS))], NOON_MS)
    ledger.append([shipment(batch(1, NOON_MS - 30 * HOUR_MS), node="gone", agent_id="b")], NOON_MS)
    assert ledger.last_seen() == {("c", "n1"): NOON_MS + HOUR_MS + 15_000}
    ledger.close()


@given(
    order=st.permutations(range(12)),
    repeats=st.lists(st.integers(0, 11), max_size=12),
    cuts=st.lists(st.integers(0, 24), max_size=4),
)
@settings(
    max_examples=int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "6")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_order_repeats_and_restarts_change_nothing(
    new_place: NewPlace, order: list[int], repeats: list[int], cuts: list[int]
) -> None:
    open_ledger = new_place()
    batches: list[Batch] = [batch(n + 1, NOON_MS + n * 600_000, completion=2**n) for n in range(12)]
    ledger = open_ledger()
    for at, n in enumerate([*order, *repeats]):
        ledger.append([shipment(batches[n])], NOON_MS)
        if at in cuts:
            ledger.fold()
            ledger.close()
            ledger = open_ledger()
    ledger.fold()
    assert completion(ledger.facts_of_hours()) == 2**12 - 1
    assert [row.active_ms for row in ledger.facts_of_hours().gpus] == [108_000, 108_000]
    ledger.close()


def test_a_ledger_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """Schema 1 as it was released: rows without the kinds that came later are kept, and unknown in them."""
    path = tmp_path / "ledger.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version BIGINT)")
        for statement in MIGRATIONS[1]():
            connection.execute(statement)
        connection.execute("INSERT INTO schema_version VALUES (1)")
        connection.execute("""INSERT INTO counter_bases VALUES ('["cost","c"]', 5), ('["tokens","c"]', 7)""")
        for table, at in (("windows", NOON_MS), ("hours", NOON_MS)):
            order = "'c','n1','chat','vllm','n1','llama','rate'"
            row = f"{order},{at},40,NULL,100,3" if table == "windows" else f"{at},{order},40,NULL,100,3"
            connection.execute(f"INSERT INTO token_{table} VALUES ({row})")
    ledger = DuckDbLedger(path)
    ledger.append([shipment(batch(1, NOON_MS + 15_000))], NOON_MS)
    assert ledger.fold() == [NOON_MS]
    facts = ledger.facts_of_hours()
    assert completion(facts) == 200
    assert ledger.counter_bases() == {'["tokens","c"]': 7}, "money is no counter since schema 4"
    assert sum(row.requests_aborted or 0 for row in facts.tokens) == 1
    assert {row.kind: row.sum_ms for row in facts.latency} == {"first_token": 450, "end_to_end": 4_100}
    ledger.close()


def test_labels_of_nodes_and_statements_are_kept(open_ledger: Open) -> None:
    ledger = open_ledger()
    labelled = structs.replace(shipment(batch(1, NOON_MS)), labels={"rack": "a7"})
    ledger.append([labelled], NOON_MS)
    record = StatementRecord("2026-11", 1, "facts", "{}", "{}", "")
    ledger.versions.add_record(record)
    ledger.fold()
    ledger.close()
    again = open_ledger()
    assert again.versions.records("2026-11") == [record]
    assert again.versions.records("2026-12") == []
    assert again.facts_of_hours().node_labels == {("c", "n1"): {"rack": "a7"}}
    again.roll()
    assert [group.labels for group in again.usage().gpu_groups()] == ['{"rack":"a7"}']
    again.close()


def test_what_is_kept_of_closed_periods_outlives_restarts_and_retention(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    ledger.roll()
    revision = ledger.revision(NOON_MS, NOON_MS + HOUR_MS)
    versions = ledger.versions
    assert (versions.periods(), versions.checks(), versions.part_counts(), versions.day_part([], 0)) == ([], {}, {}, {})
    versions.add_day("a" * 64, ["first", "x" * 100_000])
    versions.add_day("b" * 64, ["other"])
    versions.add_day("a" * 64, ["first", "x" * 100_000])
    second = StatementRecord("2026-11", 2, "f", "{}", "{}", "it's \\ why\n", '{"days": {}}')
    versions.add_record(StatementRecord("2026-11", 1, "f", "{}", "{}", "", '{"days": []}'))
    versions.add_record(second)
    versions.note_check(PeriodCheck("2026-11", "first", 1, "wrong"))
    versions.note_check(PeriodCheck("2026-11", "second", 2, ""))
    ledger.retire(windows_before_ms=NOON_MS + DAY_MS, hours_before_ms=NOON_MS + DAY_MS, counter_bases={})
    assert ledger.first_ms() is None
    assert ledger.revision(NOON_MS, NOON_MS + HOUR_MS) != revision, "the hour is gone"
    ledger.close()
    again = open_ledger()
    assert again.versions.periods() == ["2026-11"]
    assert again.versions.records("2026-11")[1] == second
    assert again.versions.records("2026-10") == []
    assert dict(again.versions.part_counts()) == {"a" * 64: 2, "b" * 64: 1}
    assert again.versions.day_part(["a" * 64, "b" * 64, "c" * 64], 0) == {"a" * 64: "first", "b" * 64: "other"}
    assert again.versions.day_part(["a" * 64, "b" * 64], 1) == {"a" * 64: "x" * 100_000}
    assert again.versions.checks() == {"2026-11": PeriodCheck("2026-11", "second", 2, "")}
    again.versions.forget_days({"a" * 64})
    assert again.versions.part_counts()["a" * 64] == 2
    again.close()


def test_a_late_window_changes_the_revision_of_its_hour(open_ledger: Open) -> None:
    """On ClickHouse of later ones too: it may decide whose their GPUs are, which DuckDB's revision shows by itself."""
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    ledger.roll()

    def revisions() -> list[str]:
        return [ledger.revision(NOON_MS + i * HOUR_MS, NOON_MS + (i + 1) * HOUR_MS) for i in (-1, 0, 1)]

    before = revisions()
    ledger.append([shipment(batch(2, NOON_MS + 15_000))], NOON_MS)
    ledger.roll()
    after = revisions()
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert (after[2] == before[2]) is not ledger.is_shared
    ledger.close()


def test_a_ledger_that_is_in_use_is_reported(tmp_path: Path) -> None:
    import subprocess
    import sys

    DuckDbLedger(tmp_path / "ledger.duckdb").close()
    hold = f"import duckdb,sys; c=duckdb.connect({str(tmp_path / 'ledger.duckdb')!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LedgerInUse):
            DuckDbLedger(tmp_path / "ledger.duckdb")
        holder.communicate()


def test_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    DuckDbLedger(tmp_path / "ledger.duckdb").close()
    with duckdb.connect(str(tmp_path / "ledger.duckdb")) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99)")
    with pytest.raises(LedgerError, match=f"expected schema version {SCHEMA_VERSION} or older, found 99"):
        DuckDbLedger(tmp_path / "ledger.duckdb")


def test_a_ledger_that_cannot_be_opened_reports_why(tmp_path: Path) -> None:
    (tmp_path / "ledger.duckdb").write_bytes(b"this is no database" * 1000)
    with pytest.raises(LedgerError, match="cannot be opened"):
        DuckDbLedger(tmp_path / "ledger.duckdb")


def test_names_of_any_characters_keep_their_rows(open_ledger: Open) -> None:
    ledger = open_ledger()
    workloads = tuple(
        Workload(key=name, server="vllm", place="n", model=name, labels={"team": name},
                 tokens=(TokenCount(method="count", completion=i + 1),))
        for i, name in enumerate(NAMES)
    )  # fmt: skip
    demand = tuple(
        Demand(gateway=name, model=name, caller={"team": name}, completion=i + 1) for i, name in enumerate(NAMES)
    )
    sent = Batch(seq=1, start_ms=NOON_MS, end_ms=NOON_MS + 15_000, workloads=workloads, demand=demand)
    ledger.append([shipment(sent)], NOON_MS)
    ledger.fold()
    expected = {name: i + 1 for i, name in enumerate(NAMES)}
    for facts in (ledger.facts_of_hours(), ledger.facts_between(NOON_MS, NOON_MS + HOUR_MS)):
        assert {row.workload: row.completion for row in facts.tokens} == expected
        assert {row.model: row.completion for row in facts.tokens} == expected
        assert {msgspec.json.decode(row.caller)["team"]: row.completion for row in facts.demand} == expected
        assert {msgspec.json.decode(row.labels)["team"] for row in facts.labels} == set(NAMES)
    ledger.close()
