"""A batch leaves the spool only with its receipt, whatever is torn, cut or full."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenyield_agent.shipping import segments as segment_files
from tokenyield_agent.shipping.disk import Disk
from tokenyield_agent.shipping.spool import Spool
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
    (tmp_path / "acknowledged").unlink()
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
    (folder / "newest").unlink()
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


@pytest.mark.parametrize("is_shipped", [False, True])
def test_an_old_block_at_the_end_is_no_record(tmp_path: Path, is_shipped: bool) -> None:
    """After a power cut a disk may give back blocks that held an older part of this spool, or another's: each record of
    them is whole."""
    other = Spool(tmp_path / "other", bytes_max=ROOMY)
    other.append(batches(other, 2), {"n": 9})
    (old_block,) = (tmp_path / "other").glob("*.seg")
    spool = Spool(tmp_path / "own", bytes_max=ROOMY)
    for n in range(1, 4):
        spool.append(batches(spool, 1), {"n": n})
    if is_shipped:
        assert drain(spool) == [1, 2, 3]
    (segment,) = (tmp_path / "own").glob("*.seg")
    size = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[: size // 3] + old_block.read_bytes())
    again = Spool(tmp_path / "own", bytes_max=ROOMY)
    assert (again.epoch, again.next_seq, again.resume) == (spool.epoch, 4, {"n": 3})
    assert segment.stat().st_size == size
    again.append(batches(again, 1), {"n": 4})
    assert drain(Spool(tmp_path / "own", bytes_max=ROOMY)) == ([4] if is_shipped else [1, 2, 3, 4])


def test_what_is_no_segment_stays_untouched(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=ROOMY)
    spool.append(batches(spool, 1), {"n": 1})
    (segment,) = tmp_path.glob("*.seg")
    others = [tmp_path / f"{segment.stem} (copy).seg", tmp_path / "mine.seg", tmp_path / f"{10**20 - 1}.seg"]
    for other in others:
        other.write_bytes(b"mine")
    again = Spool(tmp_path, bytes_max=ROOMY)
    again.append(batches(again, 1), {"n": 2})
    assert drain(Spool(tmp_path, bytes_max=ROOMY)) == [1, 2]
    assert all(other.read_bytes() == b"mine" for other in others)


def test_segments_turn_over_and_go_when_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=ROOMY)
    for n in range(30):
        spool.append(batches(spool, 1), {"n": n})
    assert len(list(tmp_path.glob("*.seg"))) > 5
    spool = Spool(tmp_path, bytes_max=ROOMY)
    assert drain(spool) == list(range(1, 31))
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert Spool(tmp_path, bytes_max=ROOMY).resume == {"n": 29}


def test_when_full_the_oldest_go_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=2000)
    for n in range(60):
        spool.append(batches(spool, 1), {"n": n})
    left = drain(spool)
    assert spool.counts["dropped"] == 60 - len(left)
    assert left == list(range(61 - len(left), 61))
    assert 0 < len(left) < 30
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= 2000


def test_old_segments_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "SEGMENT_BYTES_MAX", 500)
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
    monkeypatch.setattr(segment_files, "SEGMENT_BYTES_MAX", 500)
    spool = Spool(tmp_path, bytes_max=ROOMY)
    for n in range(20):
        spool.append([], {"n": n})
    assert spool.waiting(batches_max=5) is None
    spool.append(batches(spool, 2), {"n": 20})
    assert len(list(tmp_path.glob("*.seg"))) <= 2
    assert drain(spool) == [1, 2]
    assert Spool(tmp_path, bytes_max=ROOMY).resume == {"n": 20}


def filled(folder: Path, count: int, **settings: Any) -> Spool:
    spool = Spool(folder, bytes_max=ROOMY, **settings)
    for n in range(count):
        spool.append(batches(spool, 1), {"n": n})
    return spool


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), acknowledged=st.integers(0, 12))
@settings(max_examples=80, deadline=None)
def test_a_flipped_bit_costs_one_record_at_most_and_it_is_counted(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int, acknowledged: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = filled(folder, 12)
    if acknowledged:
        waiting = spool.waiting(batches_max=acknowledged)
        assert waiting is not None
        spool.acknowledge(waiting)
    (segment,) = folder.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    segment.write_bytes(data)
    again = Spool(folder, bytes_max=ROOMY)
    found = drain(again, 100)
    lost = set(range(acknowledged + 1, 13)) - set(found)
    assert len(lost) <= 1
    assert again.counts["corrupt"] == len(lost)
    assert 12 not in lost, "the newest stands beside, too"
    if acknowledged == 12:
        assert (again.next_seq, again.resume) == (13, {"n": 11}), "nothing with a receipt is counted again"
    again.append(batches(again, 1), {"n": "after"})
    assert drain(again) == [again.next_seq - 1]


def test_a_damaged_receipt_ships_again_and_never_less(tmp_path: Path) -> None:
    assert drain(filled(tmp_path, 3)) == [1, 2, 3]
    data = bytearray((tmp_path / "acknowledged").read_bytes())
    data[20] ^= 1
    (tmp_path / "acknowledged").write_bytes(data)
    assert drain(Spool(tmp_path, bytes_max=ROOMY)) == [1, 2, 3]


def test_what_has_its_receipt_is_kept_and_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_files, "SEGMENT_BYTES_MAX", 500)
    spool = filled(tmp_path, 60, keep_bytes=3000)
    assert drain(spool) == list(range(1, 61))
    spool.append(batches(spool, 1), {"n": 60})
    spool.send_again([(1, 60)])
    kept = drain(spool)
    assert kept[-1] == 61
    assert kept == list(range(kept[0], 62))
    assert 10 < len(kept) < 40
    assert spool.counts["sent_again"] == len(kept) - 1
    spool.send_again([(1, 60)])
    refused = spool.waiting(batches_max=100)
    assert refused is not None
    spool.acknowledge(refused, refused=True)
    spool.send_again([(1, 60)])
    assert drain(spool) == [], "refused for good"
    again = Spool(tmp_path, bytes_max=ROOMY, keep_bytes=3000)
    assert again.waiting(batches_max=1) is None
    again.send_again([(1, 5)])
    assert again.waiting(batches_max=1) is None, "long gone"
    again.send_again([(1, 5), (50, 52)])
    assert drain(again)[:3] == [50, 51, 52]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) < 4500


def test_a_disk_that_takes_no_receipt_does_not_end_shipping(tmp_path: Path) -> None:
    class ReadOnly(Disk):
        def replace(self, path: Path, data: bytes) -> None:
            raise OSError(30, "Read-only file system")

        def delete(self, path: Path) -> None:
            raise OSError(30, "Read-only file system")

    spool = filled(tmp_path, 5, disk=ReadOnly())
    assert drain(spool) == [1, 2, 3, 4, 5]
    assert drain(Spool(tmp_path, bytes_max=ROOMY)) == [1, 2, 3, 4, 5]


def test_a_damaged_state_without_batches_is_taken_from_beside(tmp_path: Path) -> None:
    """Found by seed 3903 of faults/world.py: it has the number of the record before, and was taken for no newer."""
    spool = filled(tmp_path, 2)
    spool.append([], {"state": "newest"})
    (segment,) = tmp_path.glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[-3] ^= 1
    segment.write_bytes(damaged)
    again = filled(tmp_path, 0)
    assert again.resume == {"state": "newest"}
    assert again.next_seq == spool.next_seq
    again.append(batches(again, 1), {"state": "later"})
    assert filled(tmp_path, 0).resume == {"state": "later"}
    assert again.counts["corrupt"] == 0


def test_what_stands_beside_is_not_taken_where_it_is_older(tmp_path: Path) -> None:
    """A disk that was full took the record and not its copy; then a write was torn."""
    spool = filled(tmp_path, 1)
    old = (tmp_path / "newest").read_bytes()
    spool.append([], {"state": "newest"})
    (tmp_path / "newest").write_bytes(old)
    (segment,) = tmp_path.glob("*.seg")
    with segment.open("ab") as file:
        file.write(old[:20])
    assert filled(tmp_path, 0).resume == {"state": "newest"}


def test_gaps_that_are_being_filled_may_open_again(tmp_path: Path) -> None:
    """Found by seed 4384 of faults/world.py: a collector was restored twice, and its second question was taken for the
    first one's rest."""
    spool = filled(tmp_path, 6, keep_bytes=ROOMY)
    drain(spool)
    spool.send_again([(2, 6)])
    waiting = spool.waiting(batches_max=2)
    assert waiting is not None
    spool.acknowledge(waiting)
    spool.send_again([(4, 6)])  # what a receipt says while the rest is on its way
    assert drain(spool) == [4, 5, 6]
    spool.send_again([(4, 6)])  # restored to what it was then
    assert drain(spool) == [4, 5, 6]
