"""The prolog's records: what is read of them, and what does not count."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.workloads.slurm_records import (
    GPUS_MAX,
    RECORD_BYTES_MAX,
    RECORDS_MAX,
    VALUE_CHARS_MAX,
    SlurmJob,
    SlurmRecords,
    UntrustedRecordError,
    read_record,
)


def record(job: str = "42", **fields: str) -> bytes:
    names = {"SLURM_JOB_ID": job, **{f"SLURM_JOB_{name.upper()}": value for name, value in fields.items()}}
    return b"".join(f"{name}={value}\0".encode() for name, value in names.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    jobs = tmp_path / "jobs"
    jobs.mkdir(mode=0o755)
    return jobs


def test_a_record_is_what_slurmd_knows() -> None:
    data = record(uid="1000", user="ada", account="physics", partition="train", gpus="0,2-3", comment="x")
    assert read_record("42", data, 7) == SlurmJob(
        job="42", uid=1000, user="ada", account="physics", partition="train", gpus=(0, 2, 3), written_ns=7
    )
    assert read_record("42", record(uid="", user="", account="", gpus="")) == SlurmJob(job="42")


@pytest.mark.parametrize("gpus", ["(null)", "a", "1-", "-1", "1:2", "0x1", "1e9", "9999", "٣"])
def test_gpus_that_are_not_numbers_are_none(gpus: str) -> None:
    assert read_record("42", record(gpus=gpus)).gpus == ()


def test_a_value_cannot_imitate_another_line() -> None:
    """`env | grep ^SLURM_JOB_` would let a job's comment name another user."""
    data = record(account="a\nSLURM_JOB_USER=root", user="ada")
    job = read_record("42", data)
    assert job.user == "ada"
    assert job.account is not None
    assert "\n" not in job.account


def test_the_first_of_a_name_counts() -> None:
    assert read_record("42", record(user="ada") + b"SLURM_JOB_USER=eve\0").user == "ada"


def test_a_record_of_another_job_does_not_count() -> None:
    with pytest.raises(UntrustedRecordError, match="expected SLURM_JOB_ID=42, found 43"):
        read_record("42", record("43"))


@given(st.binary(max_size=RECORD_BYTES_MAX))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        job = read_record("42", b"SLURM_JOB_ID=42\0" + data)
    except UntrustedRecordError:
        pytest.fail("it is of this job")
    assert len(job.gpus) <= GPUS_MAX
    for text in (job.user, job.account, job.partition):
        assert text is None or (1 <= len(text) <= VALUE_CHARS_MAX and text.isprintable())


def test_jobs_come_and_go(folder: Path) -> None:
    records = SlurmRecords(str(folder))
    records.refresh(is_due=True)
    assert (records.exists, records.jobs, records.problem) == (True, {}, None)
    (folder / ".42.new").write_bytes(record())
    (folder / "README").write_bytes(b"")
    (folder / ".42.new").rename(folder / "42")
    records.refresh(is_due=True)
    assert list(records.jobs) == ["42"]
    (folder / "42").unlink()
    records.refresh(is_due=True)
    assert (records.jobs, records.problem) == ({}, None)


def test_a_requeued_job_is_read_again(folder: Path) -> None:
    records = SlurmRecords(str(folder))
    (folder / "42").write_bytes(record(gpus="0"))
    records.refresh(is_due=True)
    (folder / ".new").write_bytes(record(gpus="1,2"))
    (folder / ".new").rename(folder / "42")
    records.refresh(is_due=True)
    assert records.jobs["42"].gpus == (1, 2)


def test_without_a_folder_nothing_is_looked_for_between_two_looks(tmp_path: Path) -> None:
    records = SlurmRecords(str(tmp_path / "none"))
    records.refresh(is_due=True)
    assert not records.exists
    (tmp_path / "none").mkdir(mode=0o755)
    records.refresh(is_due=False)
    assert not records.exists
    records.refresh(is_due=True)
    assert records.exists


def test_what_others_can_have_written_does_not_count(folder: Path) -> None:
    (folder / "42").write_bytes(record())
    records = SlurmRecords(str(folder))
    folder.chmod(0o777)
    records.refresh(is_due=True)
    assert records.jobs == {}
    assert records.problem is not None
    assert "only root may write to, found mode 777" in records.problem
    folder.chmod(0o755)
    records.refresh(is_due=True)
    assert list(records.jobs) == ["42"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_does_not_count(folder: Path) -> None:
    (folder / "42").write_bytes(record())
    (folder / "43").write_bytes(record("43"))
    os.chown(folder / "43", 65534, -1)
    records = SlurmRecords(str(folder))
    records.refresh(is_due=True)
    assert list(records.jobs) == ["42"]
    assert records.problem is not None
    assert "of user 65534; remove it" in records.problem


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large", "other"])
def test_what_is_no_record_costs_itself_only(folder: Path, kind: str) -> None:
    (folder / "42").write_bytes(record())
    (folder / "x").write_bytes(record("43"))
    bad = folder / "43"
    match kind:
        case "link":
            bad.symlink_to(folder / "x")
        case "pipe":
            os.mkfifo(bad)
        case "folder":
            bad.mkdir()
        case "large":
            bad.write_bytes(record("43", comment="x" * RECORD_BYTES_MAX))
        case _:
            bad.write_bytes(record("44"))
    records = SlurmRecords(str(folder))
    records.refresh(is_due=True)
    assert list(records.jobs) == ["42"]
    assert records.problem is not None
    assert "/43: " in records.problem


def test_jobs_are_bounded_and_the_newest_are_kept(folder: Path) -> None:
    for job in range(90, 90 + RECORDS_MAX + 2):
        (folder / str(job)).write_bytes(record(str(job)))
    records = SlurmRecords(str(folder))
    records.refresh(is_due=True)
    assert len(records.jobs) == RECORDS_MAX
    assert not {"90", "91"} & records.jobs.keys()
    assert records.problem is not None
    assert f"expected at most {RECORDS_MAX} jobs, found {RECORDS_MAX + 2}" in records.problem
