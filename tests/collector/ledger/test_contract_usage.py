"""What every ledger engine computes for reports: the roll-ups of usage."""

import pytest
from msgspec import structs

from collector.ledger.engines import Open, roll_days
from collector.ledger.whole_hours import whole_hour
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.contradictions import ContestedGpu, DemandDay, DoubledGpu
from tokenyield_collector.ledger.usage import (
    WORK_SUMS,
    CapacityTimes,
    ModelInstance,
    NodeInstance,
    UsageQuery,
    WorkIdentity,
)
from tokenyield_collector.ledger.verify import verify
from tokenyield_wire.window import Batch, GpuWindow, Shipment, StateMillijoules

WEIGHTS = {"prompt_computed": 1000, "prompt_cached": 100, "prompt_unsplit": 1000, "completion": 4000}


def used(
    ledger: Ledger,
    references: dict[ModelInstance, int] | None = None,
    weights: dict[str, int] = WEIGHTS,
    *,
    node_references: dict[NodeInstance, int] | None = None,
    start_ms: int = NOON_MS - 12 * HOUR_MS,
    end_ms: int = NOON_MS + 12 * HOUR_MS,
) -> dict[tuple[str, str], dict[str, int]]:
    """(workload, model) -> sums, of one day: the same by hours and, where the engine keeps such, by days."""
    ledger.roll()
    sums = _summed(ledger, references, weights, node_references, start_ms, end_ms)
    if roll_days(ledger):
        assert _summed(ledger, references, weights, node_references, start_ms, end_ms) == sums
    return sums


def _summed(
    ledger: Ledger,
    references: dict[ModelInstance, int] | None,
    weights: dict[str, int],
    node_references: dict[NodeInstance, int] | None,
    start_ms: int,
    end_ms: int,
) -> dict[tuple[str, str], dict[str, int]]:
    identities: list[WorkIdentity] = []

    def number(identity: WorkIdentity) -> int:
        if identity not in identities:
            identities.append(identity)
        return identities.index(identity)

    usage = ledger.usage().usage(
        UsageQuery(
            start_ms=start_ms,
            end_ms=end_ms,
            by_node=False,
            weights=weights,
            chain_of=lambda group: "p",
            segments={"p": [1] * 24},
            references=references or {},
            node_references=node_references or {},
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
    """A GPU under two nodes, one of two agents, and demand for a model under a name that no server runs."""
    ledger = open_ledger()
    gpu = GpuWindow(uuid="GPU-0", model="H100", unallocated_ms=HOUR_MS, energy_mj=StateMillijoules(unallocated=500))
    for node in ("n1", "n2"):
        whole_hour = Batch(seq=1, start_ms=NOON_MS, end_ms=NOON_MS + HOUR_MS, gpus=(gpu,))
        ledger.append([shipment(whole_hour, node=node, agent_id=node)], NOON_MS)
    for agent in ("one", "two"):
        whole_hour = Batch(
            seq=1, start_ms=NOON_MS, end_ms=NOON_MS + HOUR_MS, gpus=(structs.replace(gpu, uuid="GPU-1"),)
        )
        ledger.append([shipment(whole_hour, node="n3", agent_id=agent)], NOON_MS)
    ledger.append([shipment(batch(1, NOON_MS, gpus=0), node="n3", agent_id="n3")], NOON_MS)
    ledger.roll()
    day_ms = NOON_MS - 12 * HOUR_MS
    day = (day_ms, day_ms + 24 * HOUR_MS)
    assert ledger.usage().doubled_gpus(*day) == [DoubledGpu(day_ms, "GPU-1", "c/n3", over_ms=HOUR_MS, over_mj=500)]
    left_out = (0, 0, HOUR_MS, 0, 0, 0, 500, 0)
    assert ledger.usage().contested_gpus(*day) == [ContestedGpu(day_ms, "GPU-0", "c/n1", ("c/n2",), left_out)]
    (unserved,) = ledger.usage().demand(*day, {})
    assert unserved == DemandDay(day_ms, "c", "chat", "litellm", 28, 3, 28, 3, 0, 0, None, None, callers=2)
    (served,) = ledger.usage().demand(*day, {"chat": "llama"})
    assert served == DemandDay(day_ms, "c", "llama", "litellm", 28, 3, 0, 0, 14, 14, 40, 100, callers=2)
    assert list(ledger.usage().demand(day[1], day[1] + HOUR_MS, {})) == []
    ledger.close()


def since_noon(hour: int, node: str, *, gpu: str = "GPU-0", completion: int = 3600) -> Shipment:
    return whole_hour(NOON_MS + hour * HOUR_MS, node, gpu=gpu, completion=completion)


def counted(ledger: Ledger, hours: int) -> tuple[list[set[str]], list[int]]:
    """Workloads that held a GPU, and all completion tokens, of each hour since noon."""
    workloads, tokens = [], []
    for hour in range(hours):
        start_ms = NOON_MS + hour * HOUR_MS
        sums = used(ledger, start_ms=start_ms, end_ms=start_ms + HOUR_MS)
        workloads.append({workload for (workload, _), of in sums.items() if of["productive_ms"]})
        tokens.append(sum(of["completion"] for of in sums.values()))
    return workloads, tokens


def test_a_gpu_of_two_nodes_counts_once_for_the_first_whatever_arrives_when(open_ledger: Open) -> None:
    """n1 has the GPU from noon on, n2 claims it an hour later. What n1 sent late counts as if it had come in time; each
    token is kept."""
    ledger = open_ledger()
    for hour in (1, 2):
        ledger.append([since_noon(hour, "n2")], NOON_MS)
    assert counted(ledger, 3) == ([set(), {"w-n2"}, {"w-n2"}], [0, 3600, 3600])
    ledger.append([since_noon(2, "n1")], NOON_MS)
    assert counted(ledger, 3)[0] == [set(), {"w-n2"}, {"w-n2"}], "n2 was first, for all that is known"
    ledger.append([since_noon(0, "n1"), since_noon(1, "n1")], NOON_MS)
    assert counted(ledger, 3) == ([{"w-n1"}] * 3, [3600, 7200, 7200])
    assert list(verify(ledger)) == []
    (contested,) = ledger.usage().contested_gpus(NOON_MS, NOON_MS + 3 * HOUR_MS)
    assert (contested.first, contested.others) == ("c/n1", ("c/n2",))
    assert CapacityTimes(*contested.left_out).gpu_ms == 2 * HOUR_MS
    ledger.close()
    again = open_ledger()
    later = (NOON_MS + 2 * HOUR_MS, NOON_MS + 3 * HOUR_MS)
    again.roll()
    (contested,) = again.usage().contested_gpus(*later)
    assert contested.first == "c/n1", "hours that are not read decide too"
    again.close()


def test_what_decides_whose_a_gpu_is_changes_the_revision_of_later_hours(open_ledger: Open) -> None:
    """Late windows of an earlier month move what is counted in this one: what was computed from it is computed again."""
    ledger, later = open_ledger(), (NOON_MS + 2 * HOUR_MS, NOON_MS + 3 * HOUR_MS)
    ledger.append([since_noon(2, "n1"), since_noon(2, "n2"), since_noon(1, "n1")], NOON_MS)
    ledger.roll()
    ledger.usage().contested_gpus(*later)
    before = ledger.revision(*later)
    ledger.append([since_noon(0, "n2"), since_noon(1, "n2")], NOON_MS)
    ledger.roll()
    (contested,) = ledger.usage().contested_gpus(*later)
    assert contested.first == "c/n2"
    assert ledger.revision(*later) != before
    ledger.close()


def test_a_gpu_that_moves_is_not_contested_until_its_old_node_comes_back(open_ledger: Open) -> None:
    """n1 stops; n2 has it. n1 reports it again after some hours: it is still the first; after more than a day it is not."""
    ledger = open_ledger()
    ledger.append([since_noon(0, "n1"), since_noon(1, "n2"), since_noon(2, "n2")], NOON_MS)
    assert counted(ledger, 3)[0] == [{"w-n1"}, {"w-n2"}, {"w-n2"}]
    assert list(ledger.usage().contested_gpus(NOON_MS, NOON_MS + 3 * HOUR_MS)) == []
    ledger.append([since_noon(3, "n2"), since_noon(3, "n1")], NOON_MS)
    assert counted(ledger, 4)[0][3] == {"w-n1"}
    late = 3 + 25
    ledger.append([since_noon(hour, "n2") for hour in range(4, late + 1)], NOON_MS)
    ledger.append([since_noon(late, "n1")], NOON_MS)
    start_ms = NOON_MS + late * HOUR_MS
    held = used(ledger, start_ms=start_ms, end_ms=start_ms + HOUR_MS)
    assert {workload for (workload, _), sums in held.items() if sums["productive_ms"]} == {"w-n2"}
    ledger.close()


def test_the_best_hours_are_those_of_each_node_on_its_two_best_days(open_ledger: Open) -> None:
    ledger = open_ledger()
    for day, (first, second) in enumerate(((10, 20), (50, 30), (40, 40))):
        for hour, pace in ((0, first), (1, second)):
            ledger.append([since_noon(24 * day + hour, "n1", completion=3600 * pace)], NOON_MS)
    ledger.append([since_noon(0, "n2", gpu="GPU-1", completion=3600 * 99)], NOON_MS)
    ledger.roll()
    best = ledger.usage().best_hours(NOON_MS, NOON_MS + 72 * HOUR_MS, WEIGHTS)
    instance = ModelInstance("llama", "H100", 1)
    assert [(hour.instance, hour.node, hour.pace // 4000, (hour.hour_ms - NOON_MS) // HOUR_MS) for hour in best] == [
        (instance, "n1", 50, 24),
        (instance, "n1", 40, 48),
        (instance, "n2", 99, 0),
    ]
    ledger.close()


def test_a_pace_of_one_node_holds_for_that_node_alone(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([since_noon(0, "n1"), since_noon(0, "n2", gpu="GPU-1")], NOON_MS)
    instance = ModelInstance("llama", "H100", 1)
    sums = used(ledger, node_references={NodeInstance("c", "n1", instance): 8000})
    assert [sums[f"w-{node}", "llama"]["under_yield_ms"] for node in ("n1", "n2")] == [HOUR_MS // 2, 0]
    assert [sums[f"w-{node}", "llama"]["unrated_ms"] for node in ("n1", "n2")] == [0, HOUR_MS]
    both = used(ledger, {instance: 16_000}, node_references={NodeInstance("c", "n1", instance): 8000})
    assert both["w-n1", "llama"]["under_yield_ms"] == HOUR_MS * 3 // 4, "one that holds for all comes first"
    ledger.close()
