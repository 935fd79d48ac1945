"""What no collector would take costs itself: it is set aside and counted, and what is around it is shipped."""

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.shipping.test_spool import ROOMY, batches, drain
from tokenyield_agent.shipping.record import HEAD, MAGIC
from tokenyield_agent.shipping.resume import resume_of
from tokenyield_agent.shipping.spool import Spool
from tokenyield_wire.window import Batch, GpuWindow, Workload


def spool_in(folder: Path) -> Spool:
    return Spool(folder / "spool", bytes_max=ROOMY)


def set_aside(folder: Path) -> list[str]:
    rejected = folder / "rejected"
    return sorted(path.name for path in rejected.iterdir()) if rejected.exists() else []


def written(payload: dict[str, Any] | bytes) -> bytes:
    """A record with the right checksum, as an earlier agent wrote it."""
    packed = zlib.compress(payload if isinstance(payload, bytes) else msgspec.json.encode(payload), 1)
    return struct.pack("<4sII", MAGIC, len(packed), zlib.crc32(packed)) + packed


def too_long(seq: int) -> dict[str, Any]:
    workload = {"key": "n" * 274, "server": "vllm", "place": "p"}
    return {"seq": seq, "start_ms": 1000 * seq, "end_ms": 1000 * seq + 1000, "workloads": [workload]}


UNFIT = {
    "a name beyond its bound": {"workloads": (Workload(key="n" * 274, server="vllm", place="p"),)},
    "half a character": {"workloads": (Workload(key="\ud800", server="vllm", place="p"),)},
    "a negative number": {"gpus": (GpuWindow(uuid="GPU-0", unknown_ms=-1),)},
    "states that do not sum": {"gpus": (GpuWindow(uuid="GPU-0", active_ms=1),)},
    "a number beyond 64 bits": {"host_energy_mj": {"rapl": 2**70}},
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_a_batch_that_no_collector_takes_is_set_aside_before_it_is_written(
    tmp_path: Path, unfit: dict[str, Any]
) -> None:
    spool = spool_in(tmp_path)
    spool.append(
        [*batches(spool, 1), Batch(seq=2, start_ms=7_000, end_ms=8_000, **unfit), *batches(spool, 1)], {"n": 1}
    )
    assert spool.counts["unsendable"] == 1
    assert set_aside(tmp_path) == ["window-7000-8000.record"]
    assert spool.next_seq == 3, "the numbers close up, so that the collector misses none"
    spool.append(batches(spool, 1), {"n": 2})
    assert drain(spool) == [1, 2, 3]
    again = spool_in(tmp_path)
    assert (again.next_seq, again.resume, again.counts["torn_tails"]) == (4, {"n": 2}, 0)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_record_that_does_not_decode_is_no_torn_tail(tmp_path: Path, is_restarted: bool) -> None:
    """An earlier agent wrote it; it has its checksum."""
    spool = spool_in(tmp_path)
    for n in range(1, 3):
        spool.append(batches(spool, 1), {"n": n})
    (segment,) = (tmp_path / "spool").glob("*.seg")
    good = msgspec.to_builtins(batches(spool, 1)[0])
    record = {"epoch": spool.epoch, "next_seq": 5, "batches": [{**good, "seq": 3}, too_long(4)], "resume": {"n": 3}}
    with segment.open("ab") as file:
        file.write(written({**record, "turn": 9}))
        file.write(written(b"no JSON at all"))
        file.write(written({**record, "batches": [too_long(5)], "next_seq": 6, "resume": {"n": 4}, "turn": 10}))
    (tmp_path / "spool" / "newest").unlink()
    again = spool_in(tmp_path)
    assert (again.next_seq, again.resume, again.counts["torn_tails"]) == (6, {"n": 4}, 0)
    again.append(batches(again, 1), {"n": 5})
    if is_restarted:
        again = spool_in(tmp_path)
    assert drain(again) == [1, 2, 3, 6]
    assert again.counts["unsendable"] == 3
    assert again.counts["corrupt"] == 0
    assert again.depth()[0] == 0
    assert len(set_aside(tmp_path)) == 3
    again.send_again([(4, 5)])  # the collector lacks them, and will for ever
    assert (again.counts["corrupt"], again.counts["unsendable"]) == (0, 3)


def test_only_unfit_batches_do_not_hold_up_the_numbers(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.append(batches(spool, 1), {})
    (segment,) = (tmp_path / "spool").glob("*.seg")
    with segment.open("ab") as file:
        file.write(written({"epoch": spool.epoch, "next_seq": 3, "batches": [too_long(2)], "resume": {}, "turn": 9}))
    again = spool_in(tmp_path)
    assert drain(again) == [1]
    assert again.depth()[0] == 0


def test_damage_is_still_cut_and_counted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.append(batches(spool, 1), {"n": 1})
    (segment,) = (tmp_path / "spool").glob("*.seg")
    with segment.open("ab") as file:
        file.write(written(b"{}")[: HEAD.size + 3])
    again = spool_in(tmp_path)
    assert (again.counts["torn_tails"], again.counts["unsendable"]) == (1, 0)


def test_a_state_that_this_agent_cannot_read_costs_the_state(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.append(batches(spool, 1), {"boot_id": 7})
    spool = spool_in(tmp_path)
    assert resume_of(spool) is None
    assert spool.counts["unsendable"] == 1
    assert len(set_aside(tmp_path)) == 1
    assert drain(spool) == [1]
