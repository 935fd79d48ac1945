"""The rules: unit tests by promtool, and one alert through a real Prometheus and Alertmanager, fired and resolved."""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import Stack, free_port, get, wait_until
from real.prometheus_server import running
from tokenyield_collector.monitoring.files import MONITORING_FOLDER

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

TESTS = Path(__file__).parent / "rules_test.yaml"
PAID = "pools: [{name: h100, rented: {per_gpu_hour: 2, count: %d}}]\n"


def test_promtool_passes_the_rules(tmp_path: Path) -> None:
    for rules in (MONITORING_FOLDER / "rules").glob("*.yaml"):
        (tmp_path / rules.name).write_text(rules.read_text())
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    tested = subprocess.run(
        ["promtool", "test", "rules", TESTS.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_fires_in_some_test() -> None:
    groups = yaml.safe_load((MONITORING_FOLDER / "rules" / "alerts.yaml").read_text())["groups"]
    fired = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for group in groups for rule in group["rules"]}


@pytest.fixture
def webhook() -> Iterator[tuple[str, "queue.Queue[dict[str, Any]]"]]:
    alerts: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", alerts
    server.shutdown()
    server.server_close()


@pytest.fixture
def alertmanager(tmp_path: Path, webhook: tuple[str, "queue.Queue[dict[str, Any]]"]) -> Iterator[int]:
    """With the shipped configuration, given a receiver and less patience."""
    config = yaml.safe_load((MONITORING_FOLDER / "alertmanager.yml").read_text())
    config["receivers"][0]["webhook_configs"] = [{"url": webhook[0], "send_resolved": True}]
    config["route"] |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    config["global"] = {"resolve_timeout": "5s"}
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    flags = [
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.path={tmp_path}/alertmanager",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "alertmanager.out").open("wb") as out:
        process = subprocess.Popen(["prometheus-alertmanager", f"--config.file={file}", *flags], stdout=out, stderr=out)
    wait_until(lambda: _ready(port), what="Alertmanager is ready")
    yield port
    process.terminate()
    process.wait()


def _ready(port: int) -> bool:
    try:
        get(f"http://127.0.0.1:{port}/-/ready")
    except OSError:
        return False
    return True


def test_dark_gpus_raise_an_alert_and_resolve_it(
    tmp_path: Path, alertmanager: int, webhook: tuple[str, "queue.Queue[dict[str, Any]]"]
) -> None:
    """The alert as it is shipped, but for its patience."""
    rules = yaml.safe_load((MONITORING_FOLDER / "rules" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule["for"] = "2s"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    prices = tmp_path / "prices.yaml"
    prices.write_text(PAID % 12)
    trace = MONITORING_FOLDER.parent / "demo" / "trace.jsonl"
    stack = Stack(
        tmp_path,
        agent={"gpu_reader": "trace", "gpu_trace_file": str(trace), "window_length_s": 1, "window_settle_s": 0},
        collector={"prices_file": str(prices), "live_window_s": 3},
    )
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "alerts.yaml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [{"job_name": "c", "static_configs": [{"targets": [f"127.0.0.1:{stack.port}"]}]}],
    }
    try:
        stack.start_collector()
        stack.start_agent()
        with running(tmp_path, yaml.safe_dump(config)) as prometheus:
            wait_until(lambda: prometheus.values('tokenyield_gpus{bucket="dark"} > 0.5') != [], what="GPUs are dark")
            fired = _next_alert(webhook[1], "firing")
            assert "of pool h100 are paid for and do not report" in fired["annotations"]["summary"]
            assert fired["labels"]["severity"] == "warning"
            prices.write_text(PAID % 1)  # taken up by itself: more report than are paid for
            resolved = _next_alert(webhook[1], "resolved")
            assert resolved["labels"] == fired["labels"]
    finally:
        stack.kill_all()


def _next_alert(notifications: "queue.Queue[dict[str, Any]]", status: str) -> dict[str, Any]:
    while True:
        for alert in notifications.get(timeout=60)["alerts"]:
            if alert["labels"]["alertname"] == "TokenyieldDarkGpus" and alert["status"] == status:
                return dict(alert)
