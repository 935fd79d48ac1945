"""The chart with its monitors: a real Prometheus that is configured from them as the operator would, the rules, the page."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import expect, sync_playwright

from harness import get, wait_until
from kube.chat import TEAM, Chat
from kube.cluster import NAMESPACE, Cluster
from kube.monitors import KINDS, definitions, endpoint_targets, pod_targets, scrape_configs
from real.prometheus_server import Prometheus, running

pytestmark = pytest.mark.real

PICTURE = os.environ.get("TOKENYIELD_PICTURE", "")
"""Where the page is drawn to, if anywhere."""


def items(cluster: Cluster, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.node.get(kind, "--namespace", NAMESPACE)["items"]
    return found


@pytest.fixture(scope="module")
def monitored(cluster: Cluster) -> Cluster:
    cluster.node.apply(*definitions())
    for plural in KINDS.values():
        cluster.node.kubectl(
            "wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com", "--timeout=60s"
        )
    cluster.shell(
        "helm upgrade tokenyield helm/tokenyield --namespace tokenyield --reuse-values "
        "--set monitoring.enabled=true --set monitoring.interval=1s --wait"
    )
    return cluster


@pytest.fixture(scope="module")
def prometheus(monitored: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    pods = items(monitored, "pods")
    targets = {
        "PodMonitor": pod_targets(pods),
        "ServiceMonitor": endpoint_targets(items(monitored, "services"), items(monitored, "endpointslices"), pods),
    }
    secrets = {
        one["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in one.get("data", {}).items()
        }
        for one in items(monitored, "secrets")
    }  # fmt: skip
    monitors = items(monitored, "servicemonitors") + items(monitored, "podmonitors")
    scrapes = [config for one in monitors for config in scrape_configs(one, targets[one["kind"]], secrets)]
    folder = tmp_path_factory.mktemp("prometheus")
    (rule,) = items(monitored, "prometheusrules")
    groups = [{**group, "interval": "2s"} for group in rule["spec"]["groups"]]  # some have a quarter of an hour
    (folder / "rules.yaml").write_text(json.dumps({"groups": groups}))
    config = {
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": scrapes,
    }
    with running(folder, yaml.safe_dump(config)) as found:
        yield found


def test_the_monitors_find_collector_and_agent(prometheus: Prometheus, cluster: Cluster) -> None:
    wait_until(
        lambda: sorted(one["health"] for one in prometheus.ask("targets")["activeTargets"]) == ["up", "up"],
        what="both targets are up",
    )
    labels = [one["labels"] for one in prometheus.ask("targets")["activeTargets"]]
    agent = next(one for one in labels if one["job"] == f"{NAMESPACE}/tokenyield-agent")
    assert agent["instance"] == cluster.node.name
    assert agent["container"] == "agent"
    collector = next(one for one in labels if one["job"] == "tokenyield-collector")
    assert collector["pod"] == "tokenyield-collector-0"


def test_prometheus_has_the_tokens_of_the_deployment_s_pod(
    prometheus: Prometheus, cluster: Cluster, chat: Chat
) -> None:
    pod = chat.pod()["metadata"]["name"]
    before = chat.usage["completion"]
    with chat.under_load():
        wait_until(lambda: chat.usage["completion"] > before, what="the server answers")
    chat.assert_all_is_counted()
    sql = f"SELECT sum(completion) FROM token_windows WHERE workload = 'search/{pod}/server'"
    ((completion,),) = cluster.ledger(sql)
    query = f'sum(tokenyield_tokens_total{{kind="completion",workload="search/{pod}/server"}})'
    wait_until(lambda: prometheus.values(query) == [float(completion)], what=f"{query} is {completion}")


def test_the_rules_are_evaluated_and_their_runbooks_are_served(prometheus: Prometheus, cluster: Cluster) -> None:
    def are_evaluated() -> bool:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        assert not [rule for rule in rules if rule["health"] == "err"]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    wait_until(are_evaluated, what="each rule has been evaluated")
    groups = prometheus.ask("rules")["groups"]
    links = {rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alerts" in rule}
    assert links
    service = f"http://tokenyield-collector.{NAMESPACE}.svc:9464"
    assert {link.partition("#")[0] for link in links} == {f"{service}/runbooks"}
    page = get(f"{cluster.url()}/runbooks").decode()
    assert not [link for link in links if f'id="{link.partition("#")[2]}"' not in page]


def test_the_page_shows_namespace_deployment_and_team(cluster: Cluster, chat: Chat) -> None:
    name = f"search/{chat.pod()['metadata']['name']}/server"
    with chat.under_load(), sync_playwright() as playwright:
        wait_until(lambda: name in cluster.ask("/v1/summary").decode(), what=f"{name} is in the live view")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_extra_http_headers({"Authorization": f"Bearer {cluster.reader()}"})
        page.goto(f"{cluster.url()}/#/workload/my-cluster/{name.replace('/', '%2F')}")
        known = page.get_by_role("table", name="Over the live window")
        for what, value in (("namespace", "search"), ("owner", "Deployment/chat"), ("team", TEAM)):
            expect(known.get_by_role("row").filter(has_text=what)).to_contain_text(value, timeout=120_000)
        if PICTURE:
            page.screenshot(path=Path(PICTURE), full_page=True)
        browser.close()
