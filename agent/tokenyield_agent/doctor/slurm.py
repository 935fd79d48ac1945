"""What is known of Slurm's jobs on this node, and what its prolog would add. Nothing where there is no Slurm."""

from collections.abc import Iterator

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.workloads.slurm_jobs import SlurmJobs

NAMED_MAX = 5
"""Jobs named in one finding."""


def findings_of_slurm(settings: Settings, slurm: SlurmJobs) -> Iterator[DoctorFinding]:
    """`slurm` has just looked at this node's processes."""
    records = slurm.records
    if records.problem is not None:
        yield DoctorFinding("fault", "slurm", records.problem)
    elif records.exists:
        text = f"jobs that the prolog recorded in {records.folder}: {len(records.jobs)}"
        yield DoctorFinding("ok", "slurm", text)
    if not slurm.unrecorded:
        return
    jobs = sorted(slurm.unrecorded, key=int)
    named = ", ".join(jobs[:NAMED_MAX]) + (f" and {len(jobs) - NAMED_MAX} more" if len(jobs) > NAMED_MAX else "")
    if settings.slurm_environment:
        unknown = "account and partition are what the jobs themselves name"
    else:
        unknown = "account and partition are unknown"
    fix = "they began before it was installed" if records.exists else "install it, see docs/slurm.md"
    text = (
        f"the prolog recorded nothing of jobs {named}: {unknown}, and so are GPUs that they hold and do not use; {fix}"
    )
    yield DoctorFinding("note", "slurm", text)
