"""A batch leaves the spool only with its receipt, whatever is torn, cut or full."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent import spool as spool_module
from tokenyield_agent.spool import Spool
from tokenyield_wire.window import Batch

ROOMY = 1 << 30


def batches(spool: Spool, count: int) -> list[Batch]:
    return [
        Batch(seq=spool.next_seq + i, start_ms=1000 * (spool.next_seq + i), end_ms=1000 * (spool.next_seq + i) + 1000)
        for i in range(count)
    ]


def drain(spool: Spool, batches_max: int = 10) -> list[int]:
    found: list[int] = []
    while waiting := spool.waiting(batches_max=batches_max):
        found += [batch.seq for batch in waiting.batches]
        spool.acknowledge(waiting)
    return found


def test_batches_come_out_in_order_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=ROOMY)
    spool.append([], {"n": 0})
    for n in range(1, 8):
        spool.append(batches(spool, n), {"n": n})
    assert drain(spool) == list(range(1, 29))
    assert spool.waiting(batches_max=10) is None
    assert spool.depth()[0] == 0


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=ROOMY)
    spool.append(batches(spool, 2), {"n": 1})
    spool.append(batches(spool, 2), {"n": 2})
    first = spool.waiting(batches_max=2)
    assert first is not None
    spool.acknowledge(first)
    again = Spool(tmp_path, bytes_max=ROOMY)
    assert (again.resume, again.next_seq, again.epoch) == ({"n": 2}, 5, spool.epoch)
    assert drain(again) == [3, 4]


def test_a_lost_receipt_ships_again_and_never_less(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=ROOMY)
    spool.append(batches(spool, 3), {})
    assert drain(spool) == [1, 2, 3]
    (tmp_path / "acknowledged.json").unlink()
    assert drain(Spool(tmp_path, bytes_max=ROOMY)) == [1, 2, 3]


@given(cut=st.integers(0, 400), noise=st.binary(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_torn_tail_is_cut_and_what_was_whole_stays(
    tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, bytes_max=ROOMY)
    ends = []
    for n in range(1, 4):
        spool.append(batches(spool, 1), {"n": n})
        ends.append(spool.depth()[1])
    (segment,) = folder.glob("*.seg")
    size = max(ends[0], segment.stat().st_size - cut)
    os.truncate(segment, size)
    with segment.open("ab") as file:
        file.write(noise)
    whole = sum(end <= size for end in ends)
    again = Spool(folder, bytes_max=ROOMY)
    assert (again.resume, again.next_seq) == ({"n": whole}, whole + 1)
    again.append(batches(again, 1), {"n": "after"})
    assert drain(Spool(folder, bytes_max=ROOMY)) == list(range(1, whole + 2))


def test_segments_turn_over_and_go_when_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=ROOMY)
    for n in range(30):
        spool.append(batches(spool, 1), {"n": n})
    assert len(list(tmp_path.glob("*.seg"))) > 5
    spool = Spool(tmp_path, bytes_max=ROOMY)
    assert drain(spool) == list(range(1, 31))
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert Spool(tmp_path, bytes_max=ROOMY).resume == {"n": 29}


def test_when_full_the_oldest_go_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=2000)
    for n in range(60):
        spool.append(batches(spool, 1), {"n": n})
    left = drain(spool)
    assert spool.counts["dropped"] == 60 - len(left)
    assert left == list(range(61 - len(left), 61))
    assert 0 < len(left) < 30
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= 2000


def test_old_segments_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=ROOMY)
    for n in range(30):
        spool.append(batches(spool, 1), {"n": n})
    spool.drop_older_than(15_000)
    left = drain(spool)
    assert left[-1] == 30
    assert 1 < left[0] <= 15
    assert spool.counts["dropped"] == left[0] - 1


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, bytes_max=ROOMY)
    spool.append(batches(spool, 1), {"n": 1})
    real = os.fdatasync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        spool.append(batches(spool, 1), {"n": 2})
    monkeypatch.setattr(os, "fdatasync", real)
    again = Spool(tmp_path, bytes_max=ROOMY)
    assert (again.resume, again.counts["torn_tails"]) == ({"n": 1}, 0)
    spool.append(batches(spool, 1), {"n": 3})
    assert drain(Spool(tmp_path, bytes_max=ROOMY)) == [1, 2]


def test_a_new_spool_is_a_new_epoch(tmp_path: Path) -> None:
    one: Any = Spool(tmp_path / "a", bytes_max=ROOMY)
    two: Any = Spool(tmp_path / "b", bytes_max=ROOMY)
    assert one.epoch != two.epoch


def test_resume_states_alone_fill_segments_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=ROOMY)
    for n in range(20):
        spool.append([], {"n": n})
    assert spool.waiting(batches_max=5) is None
    spool.append(batches(spool, 2), {"n": 20})
    assert len(list(tmp_path.glob("*.seg"))) <= 2
    assert drain(spool) == [1, 2]
    assert Spool(tmp_path, bytes_max=ROOMY).resume == {"n": 20}
