"""What goes wrong in a GPU is counted for that GPU, lost or not, and nothing else is."""

from collections.abc import Callable

from nvml.stand_in import Scenario, gpu_lines
from tokenyield_agent.gpu.nvidia.reader import NvmlReader

ONE, TWO = "GPU-00000000-stand-in", "GPU-00000001-stand-in"
Later = Callable[[float], None]


def test_an_error_counter_of_garbage_is_not_counted(reader: NvmlReader, scenario: Scenario, later: Later) -> None:
    scenario.restart([*gpu_lines(0), "field 0 0 3 5", "field 0 10 3 9223372036854775807", "field 0 50 3 7"])
    reader.read()
    later(30)
    assert reader.read().gpus[0].events == {}
    later(30)
    assert reader.read().gpus[0].events == {"ecc_corrected": 2}


def test_xids_of_a_lost_gpu_and_of_a_healthy_one_beside_it(
    reader: NvmlReader, scenario: Scenario, later: Later
) -> None:
    scenario.restart(
        [*gpu_lines(0), *gpu_lines(1), "fault 1 1 40 15", "xid 1 1 79", "xid 0 1 31", "xid 0 5 43", "xid 1 50 63"]
    )
    reader.read()
    later(1)
    snapshot = reader.read()
    assert snapshot.lost_events == {TWO: {"xid_79": 1}}
    assert snapshot.gpus[0].events == {"xid_31": 1}
    later(4)
    assert reader.read().gpus[0].events == {"xid_43": 1}
    later(36)
    reader.read()
    later(10)
    assert {gpu.uuid: gpu.events for gpu in reader.read().gpus} == {ONE: {}, TWO: {"xid_63": 1}}


def test_a_queue_that_fails_while_a_gpu_is_lost_goes_on_for_the_others(
    reader: NvmlReader, scenario: Scenario, later: Later
) -> None:
    scenario.restart(
        [*gpu_lines(0), *gpu_lines(1), "fault 1 1 40 15", "queue 1 40 15", "xid 0 3 31", "xid 1 60 63", "xid 0 60 43"]
    )
    reader.read()
    later(1)
    reader.read()
    later(2)
    seen = [reader.read().gpus[0].events for _ in range(3)]
    assert {"xid_31": 1} in seen
    later(40)
    for _ in range(3):
        reader.read()
        later(6)
    assert {gpu.uuid: gpu.events for gpu in reader.read().gpus} == {ONE: {"xid_43": 1}, TWO: {"xid_63": 1}}


def test_an_xid_that_nobody_numbered_has_no_name_of_its_own(
    reader: NvmlReader, scenario: Scenario, later: Later
) -> None:
    scenario.restart([*gpu_lines(0), "xid 0 1 9223372036854775807", "xid 0 1 70000"])
    reader.read()
    later(1)
    assert reader.read().gpus[0].events == {"xid_other": 2}


def test_xids_are_kept_when_the_driver_goes_at_the_same_poll(
    reader: NvmlReader, scenario: Scenario, later: Later
) -> None:
    scenario.restart([*gpu_lines(0), "xid 0 1 79", "fault 0 1 40 9"])
    reader.read()
    later(1)
    snapshot = reader.read()
    assert (snapshot.lost, snapshot.lost_events) == ({ONE: "driver_down"}, {ONE: {"xid_79": 1}})
