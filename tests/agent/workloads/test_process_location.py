"""Cgroups of every runtime that people use, v1 and v2."""

import pytest

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
        ("garbage\n::\n1:2", NOWHERE),
    ],
)
def test_place_of_a_cgroup(cgroup: str, expected: Place) -> None:
    assert place_of(cgroup) == expected
