"""The server of the page: its own files, with its policy, and nothing else; and the map of the fleet."""

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.fleet import HOUR_MS
from collector.samples import NOON_MS, batch, shipment
from harness import Stack
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.facts import GpuNow
from tokenyield_collector.live.fleet_map import STATES, fleet_document
from tokenyield_collector.web.page import STATIC


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "tokens").write_text("a-secret-of-readers\n")
    running = Stack(folder, collector={"token_file": str(folder / "tokens")})
    running.start_collector()
    yield running
    running.kill_all()


def ask(stack: Stack, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """The path as it stands: nothing tidies it up on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    answered = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return answered


def test_every_file_that_the_page_names_is_there(stack: Stack) -> None:
    status, headers, index = ask(stack, "/")
    assert status == 200
    named = [part.split('"')[0] for part in index.decode().split("assets/")[1:]]
    scripts = [path.relative_to(STATIC).as_posix() for path in (STATIC / "js").rglob("*.js")]
    assert len(named) >= 8
    for name in {*named, *scripts}:
        status, headers, body = ask(stack, f"/assets/{name}")
        assert (status, body) == (200, (STATIC / name).read_bytes()), name
        assert headers["x-content-type-options"] == "nosniff"


def test_the_policy_allows_nothing_from_elsewhere(stack: Stack) -> None:
    for path in ("/", "/assets/js/main.js"):
        policy = ask(stack, path)[1]["content-security-policy"]
        rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert set(rules.values()) == {"'none'", "'self'"}


def test_a_known_version_is_not_sent_again_and_gzip_is_kept(stack: Stack) -> None:
    headers = ask(stack, "/assets/app.css")[1]
    status, _, body = ask(stack, "/assets/app.css", {"If-None-Match": headers["etag"]})
    assert (status, body) == (304, b"")
    zipped = ask(stack, "/assets/app.css", {"Accept-Encoding": "gzip"})
    assert zipped[1]["content-encoding"] == "gzip"
    assert gzip.decompress(zipped[2]) == (STATIC / "app.css").read_bytes()


@pytest.mark.parametrize(
    "path",
    ["../page.py", "..%2fpage.py", "%2e%2e/page.py", "/etc/passwd", "js", "js/", "vendor/../../page.py", "x" * 3000],
)
def test_no_request_leads_to_another_file(stack: Stack, path: str) -> None:
    status, _, body = ask(stack, f"/assets/{path}")
    assert status == 404
    assert b"import" not in body


def test_data_require_the_token_and_the_page_does_not(stack: Stack) -> None:
    for path in ("/v1/fleet", "/v1/summary", "/v1/report?period=2026-10", "/v1/budgets", "/v1/rates", "/metrics"):
        assert ask(stack, path)[0] == 401
    status, _, body = ask(stack, "/v1/fleet", {"Authorization": "Bearer a-secret-of-readers"})
    assert status == 200
    assert json.loads(body)["gpus"]["uuid"] == []
    assert ask(stack, "/")[0] == 200


def test_state_power_and_workload_of_every_gpu(tmp_path: Path) -> None:
    ledger = DuckDbLedger(tmp_path / "l.duckdb")
    ledger.append([shipment(*(batch(i + 1, NOON_MS + i * 15_000) for i in range(4)))], NOON_MS)
    ledger.append([shipment(batch(1, NOON_MS - HOUR_MS, gpus=1), node="gone", agent_id="b")], NOON_MS)
    ledger.append([shipment(batch(1, NOON_MS - 30 * HOUR_MS), node="long gone", agent_id="c")], NOON_MS)
    ledger.fold()
    gpus = ledger.gpus_between(NOON_MS + 15_000, NOON_MS + 45_000, NOON_MS - 24 * HOUR_MS)
    ledger.close()
    silent = GpuNow("c", "gone", "GPU-0", "NVIDIA H100 80GB HBM3", 0, 0, 0, 0, 0, "")
    model, times = "NVIDIA H100 80GB HBM3", (18_000, 8_000, 2_000, 2_000, 12_000_000)
    assert gpus == [silent, *(GpuNow("c", "n1", f"GPU-{i}", model, *times, "chat") for i in range(2))]
    document = fleet_document(gpus, NOON_MS + 15_000, NOON_MS + 45_000)
    columns = document["gpus"]
    assert [STATES[state] for state in columns["state"]] == ["silent", "active", "active"]
    assert columns["active_permille"] == [0, 600, 600]
    assert columns["watts"] == [0, 400, 400]
    assert [document["nodes"][node][1] for node in columns["node"]] == ["gone", "n1", "n1"]
    assert [document["workloads"][at] if at >= 0 else None for at in columns["workload"]] == [None, "chat", "chat"]
