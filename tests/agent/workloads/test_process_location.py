"""Cgroups of every runtime that people use, v1 and v2."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenyield_agent.workloads.process_location import NOWHERE, Place, place_of

ID = "0f3c" * 16
OTHER = "9a8b" * 16
UID = "3a1bc2d4-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
UNDERSCORES = UID.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/", NOWHERE),
        ("", NOWHERE),
        ("0::/init.scope", NOWHERE),
        ("0::/user.slice/user-1000.slice/session-3.scope", NOWHERE),
        ("0::/system.slice/vllm.service", Place(unit="vllm.service")),
        ("0::/system.slice/system-vllm.slice/vllm@chat.service", Place(unit="vllm@chat.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/llama.service", Place(unit="llama.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome.scope", NOWHERE),
        (f"0::/docker/{ID}", Place(container=ID)),
        (f"0::/system.slice/docker-{ID}.scope", Place(container=ID)),
        (f"0::/machine.slice/libpod-{ID}.scope/container", Place(container=ID)),
        (f"12:pids:/docker/{ID}\n11:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/", Place(container=ID)),
        (f"0::/kubepods/burstable/pod{UID}/{ID}", Place(container=ID, pod_uid=UID)),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORES}.slice/"
            f"cri-containerd-{ID}.scope",
            Place(container=ID, pod_uid=UID),
        ),
        (f"0::/kubepods.slice/kubepods-pod{UNDERSCORES}.slice/crio-{ID}.scope", Place(container=ID, pod_uid=UID)),
        (
            f"11:memory:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}\n",
            Place(container=ID, pod_uid=UID),
        ),
        (f"0::/../../kubepods/pod{UID}/{ID}", Place(container=ID, pod_uid=UID)),
        (f"0::/docker/{OTHER}/kubepods/pod{UID}/{ID}", Place(container=ID, pod_uid=UID)),
        (f"0::/kubepods/pod{'ab' * 16}/{ID}", Place(container=ID, pod_uid="ab" * 16)),
        ("9:devices:/slurm/uid_1000/job_42/step_0/task_0\n0::/", Place(slurm_job="42")),
        ("0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0", Place(slurm_job="42")),
        ("0::/system.slice/node1_slurmstepd.scope/job_7/step_batch/user/task_special", Place(slurm_job="7")),
        # As Debian's Slurm 22.05 makes them on v1 (multiple slurmd), read from a job's /proc/PID/cgroup.
        (
            "9:name=systemd:/\n6:freezer:/slurm_gpu-7/uid_65534/job_1/step_batch\n4:memory:/tool/3f\n0::/",
            Place(slurm_job="1"),
        ),
        ("0::/../../system.slice/slurmstepd.scope/job_42/step_extern", Place(slurm_job="42")),
        ("0::/gpu.slice/gpu-jobs.slice/slurmstepd.scope/job_42/step_0", Place(slurm_job="42")),
        # A job's own container is the job's; a slurmd in a container is one.
        (f"0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0/libpod-{ID}", Place(slurm_job="42")),
        (f"0::/kubepods/pod{UID}/{ID}/system.slice/slurmstepd.scope/job_42", Place(container=ID, pod_uid=UID)),
        # A group below one that a user may write to names no job.
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/slurm/uid_1000/job_42", NOWHERE),
        ("0::/user.slice/user-1000.slice/user@1000.service/slurmstepd.scope/job_42/step_0", NOWHERE),
        ("0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0/slurm/uid_0/job_99", Place(slurm_job="42")),
        ("0::/system.slice/slurmstepd.scope/job_42/step_0/user/slurmstepd.scope/job_99", Place(slurm_job="42")),
        # Where the controllers disagree: a unit is what systemd's own hierarchy shows, however long another's path is.
        (
            f"4:memory:/process_api/{'74f9' * 8}\n1:name=systemd:/system.slice/vllm.service\n0::/",
            Place(unit="vllm.service"),
        ),
        ("3:cpuset:/partitions/of/another/tool\n0::/system.slice/vllm.service", Place(unit="vllm.service")),
        (
            "5:cpu,cpuacct:/system.slice/cpu-tuner.service/groups/high/very\n1:name=systemd:/system.slice/llm.service\n",
            Place(unit="llm.service"),
        ),
        ("4:memory:/system.slice/ssh.service\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/", NOWHERE),
        ("11:memory:/system.slice/vllm.service\n1:name=systemd:/\n0::/", Place(unit="vllm.service")),
        (
            "9:devices:/slurm/uid_1000/job_42/step_0/task_0\n1:name=systemd:/system.slice/slurmd.service\n0::/",
            Place(slurm_job="42"),
        ),
        (
            f"9:devices:/docker/{ID}\n4:memory:/a/long/path/of/a/tool/{'x' * 90}\n1:name=systemd:/system.slice/docker.service",
            Place(container=ID),
        ),
        (f"9:memory:/kubepods/pod{UID}\n1:name=systemd:/kubepods/pod{UID}/{ID}\n", Place(container=ID, pod_uid=UID)),
        (
            f"1:name=systemd:/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n4:pids:/user.slice/user-1000.slice",
            Place(container=ID),
        ),
        (f"0::/system.slice/vllm.service/libpod-payload-{ID}", Place(container=ID, unit="vllm.service")),
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/chat.service/libpod-payload-{ID}",
            Place(container=ID, unit="chat.service"),
        ),
        (f"0::/libpod_parent/libpod-{ID}", Place(container=ID)),
        (
            f"0::/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORES}.slice:cri-containerd:{ID}",
            Place(container=ID, pod_uid=UID),
        ),
        (f"0::/default/{ID}", Place(container=ID)),
        ("0::/system.slice/vllm.service/workers/0", Place(unit="vllm.service")),
        ("garbage\n::\n1:2", NOWHERE),
    ],
)
def test_place_of_a_cgroup(cgroup: str, expected: Place) -> None:
    assert place_of(cgroup) == expected


CONTROLLERS = ("cpu,cpuacct", "memory", "cpuset", "pids", "devices", "freezer")
PATHS = st.text("abcdefgh0123456789/._-", max_size=90).map(lambda text: f"/{text}.service/x")


@given(st.lists(st.tuples(st.sampled_from(CONTROLLERS), PATHS)), st.sampled_from(("name=systemd", "")), st.randoms())
def test_no_path_of_another_controller_hides_a_unit(others: list[tuple[str, str]], own: str, random: Random) -> None:
    lines = [f"{i}:{controller}:{path}" for i, (controller, path) in enumerate(others)]
    lines.insert(random.randint(0, len(lines)), f"7:{own}:/system.slice/vllm.service")
    assert place_of("\n".join(lines)) == Place(unit="vllm.service")


@given(st.text(max_size=300))
def test_any_text_is_a_place(text: str) -> None:
    place_of(text)
