"""Dashboards, rules, runbooks and compose file: made from the code, of metrics that exist, and complete."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.chargeback import chargeback
from dashboards.generate import DASHBOARDS, OUT, encoded
from tokenyield_agent.config import load_settings as load_agent_settings
from tokenyield_agent.status.metrics import every_family as agent_families
from tokenyield_collector.cli import main
from tokenyield_collector.config import load_settings as load_collector_settings
from tokenyield_collector.metrics.families import every_family
from tokenyield_collector.monitoring.files import MONITORING_FOLDER, files
from tokenyield_collector.monitoring.runbooks_page import runbooks_page

FOREIGN = {"process_cpu_seconds_total", "process_resident_memory_bytes", "scrape_samples_scraped"}
"""What the client library and Prometheus itself make."""
_NAME = re.compile(r"\b(?:tokenyield|process|scrape)_[a-z_0-9]+")
_RECORDED = re.compile(r"\b[a-z_]+:tokenyield_[a-z_]+:[a-z0-9_]+\b")


def rules(name: str) -> list[dict[str, str]]:
    return [
        rule
        for group in yaml.safe_load((MONITORING_FOLDER / "rules" / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def panels(name: str) -> Iterator[dict[str, object]]:
    yield from json.loads((OUT / f"{name}.json").read_text())["panels"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_dashboards_are_what_the_code_makes(name: str) -> None:
    assert (OUT / f"{name}.json").read_text() == encoded(DASHBOARDS[name]), "run `make dashboards`"


def test_every_metric_that_is_queried_is_exposed() -> None:
    known = {family.name for family in (*every_family(), *agent_families())} | FOREIGN
    texts = [path.read_text() for path in OUT.glob("*.json")] + [rule["expr"] for rule in rules("recording.yaml")]
    texts += [rule["expr"] for rule in rules("alerts.yaml")]
    recorded = {rule["record"] for rule in rules("recording.yaml")}
    queried = {name for text in texts for name in _NAME.findall(_RECORDED.sub("", text))}
    assert queried - known == set()
    assert {name for text in texts for name in _RECORDED.findall(text)} <= recorded
    assert len(queried) > 40


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = {
        line[3:] for line in (MONITORING_FOLDER / "runbooks.md").read_text().splitlines() if line.startswith("## ")
    }
    alerts = {rule["alert"]: rule for rule in rules("alerts.yaml")}
    assert headings == set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"RUNBOOKS#{name.lower()}"  # type: ignore[index]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")  # type: ignore[index]


def test_every_alert_leads_to_its_part_of_the_runbooks_page() -> None:
    markdown = (MONITORING_FOLDER / "runbooks.md").read_text()
    page = runbooks_page(markdown)
    anchors = re.findall(r'<h2 id="([a-z]+)">', page)
    assert sorted(anchors) == sorted(rule["alert"].lower() for rule in rules("alerts.yaml"))
    assert set(re.findall(r'href="#(.*?)"', page)) <= set(anchors)
    assert "`" not in page
    assert not re.search(r"\[.*\]\(|^(- |\* |\d+\. )", markdown, re.MULTILINE), (
        "lists and links: the page cannot show them yet"
    )


def test_the_runbooks_page_shows_text_as_text() -> None:
    page = runbooks_page("# One\nA `<b>` & *more*,\nsee TokenyieldGaps.\n\n## TokenyieldGaps\nTwo")
    assert (
        '<p>A <code>&lt;b&gt;</code> &amp; <em>more</em>, see <a href="#tokenyieldgaps">TokenyieldGaps</a>.</p>' in page
    )
    assert '<h2 id="tokenyieldgaps">TokenyieldGaps</h2>\n<p>Two</p>' in page


@pytest.mark.parametrize("service", ["collector", "agent-demo", "agent"])
def test_the_compose_file_uses_settings_that_exist(service: str) -> None:
    command = yaml.safe_load((MONITORING_FOLDER / "compose.yaml").read_text())["services"][service]["command"]
    flags = re.findall(r"--set (\w+=[^\s']+)", command)
    assert len(flags) >= 4
    if service == "collector":
        load_collector_settings(None, {}, flags)
    else:
        load_agent_settings(None, {}, flags)


def test_every_panel_has_a_title_and_a_description() -> None:
    for name in DASHBOARDS:
        numbers = [panel["id"] for panel in panels(name)]
        assert len(set(numbers)) == len(numbers)
        for panel in panels(name):
            assert panel["type"] == "row" or (panel["title"] and panel["description"] and panel["targets"])


def test_the_folder_has_all_that_compose_mounts(tmp_path: Path) -> None:
    assert main(["monitoring", str(tmp_path), "--runbooks", "https://wiki.example/runbooks"]) == 0
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    mounted = [volume for service in compose["services"].values() for volume in service["volumes"]]
    for source in {volume.split(":")[0] for volume in mounted if volume.startswith("./")}:
        assert (tmp_path / source).exists(), source
    assert "https://wiki.example/runbooks#tokenyieldgpulost" in (tmp_path / "rules" / "alerts.yaml").read_text()
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_changed_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitoring", str(tmp_path)]) == 0
    (tmp_path / "alertmanager.yml").write_text("mine\n")
    assert main(["monitoring", str(tmp_path)]) == 1
    assert (tmp_path / "alertmanager.yml").read_text() == "mine\n"
    assert "alertmanager.yml" in capsys.readouterr().err
    assert main(["monitoring", str(tmp_path), "--force"]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        n for n, _ in files()
    }


@pytest.mark.parametrize("dimensions", [("cost_center", "task"), ("task",), ("team", "product"), ("a", "b", "c")])
def test_the_chargeback_dashboard_is_of_the_dimensions(tmp_path: Path, dimensions: tuple[str, ...]) -> None:
    """What is put into the files when they are written is what the generator makes for these dimensions."""
    assert main(["monitoring", str(tmp_path), "--dimensions", ",".join(dimensions)]) == 0
    assert (tmp_path / "dashboards" / "chargeback.json").read_text() == encoded(chargeback(dimensions))
    assert f"sum by (currency, {', '.join(dimensions)}) (" in (tmp_path / "rules" / "recording.yaml").read_text()


def test_the_dimensions_are_those_of_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("dimensions: [cost_center, task]\n")
    assert main(["monitoring", str(tmp_path / "out"), "--set", f"attribution_file={tmp_path}/rules.yaml"]) == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".yaml"))
    assert b"cost_center" in written
    queries = re.findall(r'"(?:expr|query)": "(.*)"|expr: (.*)', written.decode())
    assert [query for query in queries if re.search(r"\b(team|product)\b", "".join(query))] == []


def test_a_dimension_that_is_no_label_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitoring", str(tmp_path), "--dimensions", "Cost Center,bucket"]) == 2
    assert "found 'Cost Center'" in capsys.readouterr().err
