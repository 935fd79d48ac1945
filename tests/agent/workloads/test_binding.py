from tokenyield_agent.gpu.reading import GpuProcess, GpuReading
from tokenyield_agent.workloads.binding import UNTIED, Holder, Holding, bind


def gpu(*processes: GpuProcess, index: int = 0) -> GpuReading:
    return GpuReading(uuid=f"GPU-{index}", index=index, processes=processes)


def held(holdings: dict[str, Holding], index: int = 0) -> tuple[bool | None, str, dict[str, int]]:
    holding = holdings[f"GPU-{index}"]
    return holding.held, holding.split, dict(holding.weights)


CHAT = Holder(workload="chat", root_pids=frozenset({100}))
EMBED = Holder(workload="embed", root_pids=frozenset({200}))


def test_a_gpu_without_processes_is_not_held() -> None:
    assert held(bind([gpu()], [CHAT], {})) == (False, "exclusive", {})


def test_a_gpu_whose_processes_are_unknown_is_not_called_free() -> None:
    assert held(bind([GpuReading(uuid="GPU-0", index=0)], [CHAT], {}))[0] is None


def test_workers_are_found_through_their_ancestors() -> None:
    holdings = bind([gpu(GpuProcess(pid=103), index=i) for i in range(2)], [CHAT], {103: (102, 100, 1)})
    assert held(holdings, 0) == held(holdings, 1) == (True, "exclusive", {"chat": 1})


def test_explicit_configuration_wins_by_index_and_by_uuid() -> None:
    holders = [Holder(workload="a", gpus=("0",)), Holder(workload="b", gpus=("GPU-1",)), CHAT]
    holdings = bind([gpu(GpuProcess(pid=100), index=i) for i in range(3)], holders, {})
    assert [held(holdings, i)[2] for i in range(3)] == [{"a": 1}, {"b": 1}, {"chat": 1}]


def test_a_shared_gpu_is_split_by_sm_time_then_memory_then_evenly() -> None:
    busy = (
        GpuProcess(pid=100, memory_mib=1000, compute_percent=60),
        GpuProcess(pid=200, memory_mib=3000, compute_percent=20),
    )
    assert held(bind([gpu(*busy)], [CHAT, EMBED], {})) == (True, "sm", {"chat": 60, "embed": 20})
    idle = GpuProcess(pid=100, memory_mib=1000), GpuProcess(pid=200, memory_mib=3000)
    assert held(bind([gpu(*idle)], [CHAT, EMBED], {})) == (True, "memory", {"chat": 1000, "embed": 3000})
    blind = GpuProcess(pid=100), GpuProcess(pid=200, memory_mib=3000)
    assert held(bind([gpu(*blind)], [CHAT, EMBED], {})) == (True, "even", {"chat": 1, "embed": 1})


def test_a_process_of_no_workload_keeps_its_share() -> None:
    processes = GpuProcess(pid=100, memory_mib=1000), GpuProcess(pid=900, memory_mib=1000)
    assert held(bind([gpu(*processes)], [CHAT], {}))[2] == {"chat": 1000, UNTIED: 1000}
