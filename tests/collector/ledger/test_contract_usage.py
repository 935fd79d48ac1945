"""What every ledger engine computes for reports: the roll-ups of usage."""

import pytest
from msgspec import structs

from collector.ledger.engines import Open
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.contradictions import DemandDay, DoubledGpu
from tokenyield_collector.ledger.usage import WORK_SUMS, ModelInstance, UsageQuery, WorkIdentity
from tokenyield_wire.window import Batch, GpuWindow, StateMillijoules

WEIGHTS = {"prompt_computed": 1000, "prompt_cached": 100, "prompt_unsplit": 1000, "completion": 4000}


def used(
    ledger: Ledger, references: dict[ModelInstance, int] | None = None, weights: dict[str, int] = WEIGHTS
) -> dict[tuple[str, str], dict[str, int]]:
    """(workload, model) -> sums, of one day."""
    identities: list[WorkIdentity] = []

    def number(identity: WorkIdentity) -> int:
        if identity not in identities:
            identities.append(identity)
        return identities.index(identity)

    ledger.roll()
    start_ms = NOON_MS - 12 * HOUR_MS
    usage = ledger.usage().usage(
        UsageQuery(
            start_ms=start_ms,
            end_ms=start_ms + 24 * HOUR_MS,
            by_node=False,
            weights=weights,
            chain_of=lambda group: "p",
            segments={"p": [1] * 24},
            references=references or {},
            gateway_models={},
            group_of=number,
        )
    )
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for row in usage.work:
        of = identities[row.group]
        into = sums.setdefault((of.workload, of.model), dict.fromkeys(WORK_SUMS, 0))
        for name, value in zip(WORK_SUMS, row.sums, strict=True):
            into[name] += value
    return sums


def test_roll_ups_follow_late_and_repeated_windows(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    first = used(ledger)
    assert first["chat", "llama"]["completion"] == 100
    assert first["chat", "llama"]["productive_ms"] == 18_000
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000))], NOON_MS)
    second = used(ledger)
    for key, sums in first.items():
        for name, value in sums.items():
            assert second[key][name] == (value if name.endswith("_reported") else 2 * value), name
    before = ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS)
    ledger.roll()
    assert ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS) == before
    ledger.append([shipment(batch(3, NOON_MS + 30_000))], NOON_MS)
    ledger.roll()
    assert ledger.usage().checksum(NOON_MS, NOON_MS + HOUR_MS) != before
    ledger.close()
    again = open_ledger()
    assert used(again)["chat", "llama"]["completion"] == 300
    again.retire(windows_before_ms=NOON_MS + HOUR_MS, hours_before_ms=NOON_MS + HOUR_MS, counter_bases={})
    assert used(again) == {}
    again.close()


def test_the_time_that_was_reported_by_chain_and_hour(open_ledger: Open) -> None:
    """Of GPUs that match the same pools, in whatever state: a window of 15 s of two GPUs in each of two hours."""
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    ledger.roll()
    whole: dict[int, int] = {}
    for hour_ms in (NOON_MS, NOON_MS + HOUR_MS):
        (facts,) = ledger.facts_of_stretches([(hour_ms, hour_ms + HOUR_MS)], by_node=True)
        whole[hour_ms] = sum(row.active_ms + row.idle_ms + row.unallocated_ms + row.unknown_ms for row in facts.gpus)
        assert whole[hour_ms] > 0
    reported = ledger.usage().reported_ms(NOON_MS, NOON_MS + 2 * HOUR_MS, lambda group: "p")
    assert dict(reported) == {("p", hour_ms): total for hour_ms, total in whole.items()}
    assert dict(ledger.usage().reported_ms(NOON_MS, NOON_MS + HOUR_MS, lambda group: group.gpu_model)).keys() == {
        (group.gpu_model, NOON_MS) for group in ledger.usage().gpu_groups()
    }
    ledger.close()


def test_rolling_up_hides_no_change_from_fold(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)
    ledger.roll()
    assert ledger.fold() == [NOON_MS]
    assert ledger.fold() == []
    ledger.close()


def test_models_of_one_server_share_its_time_by_their_tokens(open_ledger: Open) -> None:
    """100 and 300 completion tokens and as many prompts each: nearly one to three of 36 s, to the whole."""
    ledger = open_ledger()
    other = batch(2, NOON_MS + 15_000, completion=300)
    other = structs.replace(other, workloads=(structs.replace(other.workloads[0], model="qwen"),))
    ledger.append([shipment(batch(1, NOON_MS), other)], NOON_MS)
    sums = used(ledger)
    times = [sums["chat", model]["productive_ms"] for model in ("llama", "qwen")]
    assert sum(times) == 36_000
    assert times[1] / times[0] == pytest.approx((300 * 40 + 40 * 10) / (100 * 40 + 40 * 10), rel=0.001)
    assert [sums["chat", model]["completion"] for model in ("llama", "qwen")] == [100, 300]
    ledger.close()


def test_models_with_as_many_weighted_tokens_have_as_much_time(open_ledger: Open) -> None:
    """A million prompt tokens of one model and a million completion tokens of the other: the price book
    defines what a token weighs."""
    ledger = open_ledger()
    sound = batch(1, NOON_MS)
    count = structs.replace(sound.workloads[0].tokens[1], prompt_computed=0, completion=0)
    models = [
        structs.replace(sound.workloads[0], model=name, place=name, tokens=(structs.replace(count, **{kind: 10**6}),))
        for name, kind in (("llama", "prompt_computed"), ("qwen", "completion"))
    ]
    ledger.append([shipment(structs.replace(sound, workloads=tuple(models)))], NOON_MS)
    even = used(ledger, weights=dict.fromkeys(WEIGHTS, 1000))
    for name in ("productive_ms", "idle_ms", "productive_mj", "idle_mj", "parked_ms", "parked_mj"):
        assert even["chat", "llama"][name] == even["chat", "qwen"][name] > 0, name
    weighted = used(ledger)
    assert weighted["chat", "qwen"]["productive_ms"] == 4 * weighted["chat", "llama"]["productive_ms"]
    assert even["chat", "llama"]["prompt_computed"] == weighted["chat", "llama"]["prompt_computed"] == 10**6
    ledger.close()


def test_parked_time_and_energy_are_in_what_reports_read(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + 15_000))], NOON_MS)
    sums = used(ledger)["chat", "llama"]
    assert (sums["idle_ms"], sums["idle_mj"]) == (16_000, 1_920_000)
    assert (sums["parked_ms"], sums["parked_mj"]) == (8_000, 960_000)
    ledger.close()


def test_tokens_of_a_workload_on_two_nodes_fall_to_them_by_active_time_and_are_held_to_a_pace(
    open_ledger: Open,
) -> None:
    ledger = open_ledger()
    silent = batch(1, NOON_MS)
    silent = structs.replace(silent, workloads=(structs.replace(silent.workloads[0], tokens=()),), demand=())
    ledger.append([shipment(batch(1, NOON_MS)), shipment(silent, agent_id="a2", node="n2")], NOON_MS)
    whole = used(ledger)["chat", "llama"]
    assert (whole["productive_ms"], whole["under_yield_ms"], whole["completion"]) == (36_000, 0, 100)
    # 440,000 weighted thousandths over 36 s: 12,222 a GPU-second; at a pace of twice as much half is under-yield.
    paced = used(ledger, {ModelInstance("llama", "NVIDIA H100 80GB HBM3", 2): 24_444})["chat", "llama"]
    assert paced["productive_ms"] + paced["under_yield_ms"] == 36_000
    assert paced["productive_ms"] == pytest.approx(18_000, abs=5)
    assert paced["unrated_ms"] == 0
    ledger.close()


def test_what_facts_contradict_is_read_by_day(open_ledger: Open) -> None:
    """A GPU under two nodes, and demand for a model under a name that no server runs."""
    ledger = open_ledger()
    gpu = GpuWindow(uuid="GPU-0", model="H100", unallocated_ms=HOUR_MS, energy_mj=StateMillijoules(unallocated=500))
    for node in ("n1", "n2"):
        whole_hour = Batch(seq=1, start_ms=NOON_MS, end_ms=NOON_MS + HOUR_MS, gpus=(gpu,))
        ledger.append([shipment(whole_hour, node=node, agent_id=node)], NOON_MS)
    ledger.append([shipment(batch(1, NOON_MS, gpus=0), node="n3", agent_id="n3")], NOON_MS)
    ledger.roll()
    day_ms = NOON_MS - 12 * HOUR_MS
    day = (day_ms, day_ms + 24 * HOUR_MS)
    assert ledger.usage().doubled_gpus(*day) == [
        DoubledGpu(day_ms, "GPU-0", ("c/n1", "c/n2"), over_ms=HOUR_MS, over_mj=500)
    ]
    (unserved,) = ledger.usage().demand(*day, {})
    assert unserved == DemandDay(day_ms, "c", "chat", "litellm", 28, 3, 28, 3, 0, 0, None, None, callers=2)
    (served,) = ledger.usage().demand(*day, {"chat": "llama"})
    assert served == DemandDay(day_ms, "c", "llama", "litellm", 28, 3, 0, 0, 14, 14, 40, 100, callers=2)
    assert list(ledger.usage().demand(day[1], day[1] + HOUR_MS, {})) == []
    ledger.close()
