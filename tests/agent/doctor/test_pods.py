"""What doctor says of the kubelet: it waits for its answer, however late, and names its refusal."""

from pathlib import Path

from kubelet import Kubelet, gpus_given
from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.examination import examine


def of_pods(folder: Path, answer: bytes | None) -> list[tuple[str, str]]:
    settings = Settings(
        gpu_reader="none",
        discover=False,
        pod_resources_socket=str(folder / "kubelet.sock"),
        slurm_jobs_dir="",
        pods_dir="/none",
        docker_dir="/none",
        state_dir=str(folder),
        collector_url="http://127.0.0.1:9",
    )
    kubelet = Kubelet(folder / "kubelet.sock", answer, delay_s=0.5)
    try:
        return [(one.level, one.text) for one in examine(settings).findings if one.about == "pods"]
    finally:
        kubelet.stop()


def test_it_waits_for_a_kubelet_that_answers_late(tmp_path: Path) -> None:
    assert of_pods(tmp_path, gpus_given(pods=2)) == [("ok", "the kubelet gave GPUs to 2 containers")]


def test_a_kubelet_that_refuses_is_a_fault(tmp_path: Path) -> None:
    ((level, text),) = of_pods(tmp_path, None)
    assert (level, "gRPC status 7: not for you" in text) == ("fault", True)
