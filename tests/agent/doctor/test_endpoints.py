"""What doctor says of configured endpoints: which counters they give, or what to change."""

from pathlib import Path

import pytest

from metrics_server import serving
from recordings import FIXTURES
from tokenyield_agent.config import Settings, WorkloadSettings
from tokenyield_agent.doctor.examination import examine

USED = (FIXTURES / "pages" / "dynamo-1.6.1.prom").read_bytes()


def of_endpoint(tmp_path: Path, **workload: str) -> list[tuple[str, str]]:
    settings = Settings(
        gpu_reader="none",
        discover=False,
        pod_resources_socket="",
        slurm_jobs_dir="",
        pods_dir="/none",
        docker_dir="/none",
        state_dir=str(tmp_path),
        collector_url="http://127.0.0.1:9",
        workloads=(WorkloadSettings(name="chat", **workload),),  # type: ignore[arg-type]
    )
    return [(one.level, one.text) for one in examine(settings).findings if one.about == "endpoint"]


def test_counters_that_answer_are_shown_with_their_server_and_address(tmp_path: Path) -> None:
    with serving(USED) as server:
        assert of_endpoint(tmp_path, metrics=server.url) == [("ok", f"chat: dynamo counters at {server.url}/metrics")]


def test_a_server_that_was_not_used_yet_is_neither_a_fault_nor_fine(tmp_path: Path) -> None:
    with serving(b"dynamo_frontend_inflight_requests 0\n") as server:
        ((level, text),) = of_endpoint(tmp_path, metrics=server.url)
    assert (level, "which shows no counters before its first request" in text) == ("note", True)


@pytest.mark.parametrize(
    ("status", "fix"), [(400, "?model=NAME"), (401, "metrics_token_file"), (403, "with more rights")]
)
def test_a_refusal_is_a_fault_with_its_fix(status: int, fix: str, tmp_path: Path) -> None:
    with serving(USED, status=status) as server:
        ((level, text),) = of_endpoint(tmp_path, metrics=f"{server.url}/metrics")
    assert (level, fix in text) == ("fault", True)


def test_a_token_and_a_query_reach_the_endpoint(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with serving(USED) as server:
        ((level, text),) = of_endpoint(tmp_path, metrics=f"{server.url}?model=a&key=x", metrics_token_file=str(token))
    assert level == "ok"
    assert text.endswith("/metrics?model=a&key=...")
    assert {(path, headers["Authorization"]) for path, headers in server.asked} == {
        ("/metrics?model=a&key=x", "Bearer s3cret")
    }
