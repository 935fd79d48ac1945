"""The chart through real helm: linted, rendered over a matrix of values, valid for Kubernetes, and its settings accepted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from real.build_helm import HELM
from tokenyield_collector.examples import example_text

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "tokenyield"
MATRIX = sorted((ROOT / "tests" / "chart").glob("*.yaml"))
GOLDEN = ROOT / "tests" / "golden" / "chart"
OLDEST, NEWEST = "1.27.0", "1.37.0"
"""As Chart.yaml and the chart's README say."""


def helm(*arguments: str) -> str:
    program = Path(os.environ["TOKENYIELD_CACHE"]) / f"helm-{HELM}" / "helm"
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(values: Path, version: str = NEWEST, *more: str) -> list[dict[str, Any]]:
    text = helm("template", "tokenyield", str(CHART), "--namespace", "tokenyield", "--values", str(values), "--kube-version",
                version, *more)  # fmt: skip
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind and name in d["metadata"]["name"]]
    return found


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_lint(values: Path) -> None:
    helm("lint", "--strict", str(CHART), "--values", str(values), "--kube-version", NEWEST)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_every_manifest_is_valid(values: Path, version: str) -> None:
    documents = rendered(values, version)
    assert len(documents) >= 5
    for document in documents:
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(document, ".".join(version.split(".")[:2]), strict=True)


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_manifests_are_as_reviewed(values: Path) -> None:
    """Dashboards and rules, which have tests of their own, by their names only."""
    documents = rendered(values)
    for document in documents:
        for name, text in document.get("data", {}).items():
            if name.endswith(".json"):
                document["data"][name] = f"{len(json.loads(text)['panels'])} panels"
        if document["kind"] == "PrometheusRule":
            document["spec"]["groups"] = [group["name"] for group in document["spec"]["groups"]]
    text = re.sub(r"--period=\d{4}-\d\d", "--period=MONTH", yaml.safe_dump_all(documents, sort_keys=True, width=120))
    golden = GOLDEN / f"{values.stem}.yaml"
    if os.environ.get("TOKENYIELD_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), "look at the difference; TOKENYIELD_WRITE_GOLDEN=1 accepts it"


@pytest.mark.parametrize("values", MATRIX, ids=lambda path: path.stem)
def test_the_rendered_settings_are_accepted(values: Path, tmp_path: Path) -> None:
    """With the mounted files where this host may have them."""
    (tmp_path / "tokens").write_text("a-token-of-agents-and-readers name=all\n")
    (tmp_path / "key").write_text("ab" * 32)
    hashed = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"
    (tmp_path / "web.yaml").write_text(f"basic_auth_users: {{alice: '{hashed}'}}\n")
    (tmp_path / "prices.yaml").write_text(example_text("prices.yaml"))
    (tmp_path / "rules.yaml").write_text(example_text("attribution.yaml"))
    seen = 0
    for document in rendered(values):
        for name, text in document.get("data", {}).items():
            if name.endswith(".yaml"):
                (tmp_path / name).write_text(
                    re.sub(r"/run/secrets/[a-z-]+/|/etc/tokenyield(-[a-z]+)?/", f"{tmp_path}/", text)
                )
    for program in ("agent", "collector"):
        if (tmp_path / f"{program}.yaml").exists():
            call = [
                sys.executable,
                "-m",
                f"tokenyield_{program}.cli",
                "check",
                "--config",
                str(tmp_path / f"{program}.yaml"),
            ]
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            seen += 1
    assert seen


def test_the_agent_takes_no_gpu_and_no_right_that_it_does_not_need() -> None:
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml")
    pod = of_kind(documents, "DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "nvidia.com/gpu" not in json.dumps(pod["containers"][0]["resources"])
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in container["env"]
    assert {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "utility"} in container["env"]
    assert pod["hostPID"] is True
    assert not pod.get("hostNetwork")
    assert not pod["automountServiceAccountToken"]
    assert not container["securityContext"].get("privileged")
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE", "DAC_READ_SEARCH"]}
    writable = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state"]
    assert not pod["volumes"] or not [v for v in pod["volumes"] if "secret" in v], "its token is its pod's alone"
    roles = [d for d in documents if d["kind"] in ("ClusterRole", "Role")]
    assert not [role for role in roles if "agent" in role["metadata"]["name"]]


def test_agents_enrol_with_their_service_account_by_default() -> None:
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml")
    pod = of_kind(documents, "DaemonSet")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if "projected" in volume]
    token = {"audience": "tokenyield-collector", "expirationSeconds": 3600, "path": "token"}
    assert volume["projected"]["sources"] == [{"serviceAccountToken": token}]
    agent = yaml.safe_load(of_kind(documents, "ConfigMap", "-agent")["data"]["agent.yaml"])
    assert agent["enrol_token_file"] == "/run/secrets/enrol/token"
    assert "collector_token_file" not in agent
    collector = yaml.safe_load(of_kind(documents, "ConfigMap", "-collector")["data"]["collector.yaml"])
    (cluster,) = collector["enrol_kubernetes"]
    assert cluster["cluster"] == agent["cluster"]
    assert cluster["audience"] == token["audience"]
    assert cluster["may"] == "write"
    assert cluster["service_account"] == f"tokenyield/{pod['serviceAccountName']}"


@pytest.mark.parametrize(("version", "reads_pods"), [("1.29.0", True), ("1.30.0", False), (NEWEST, False)])
def test_the_collector_may_review_tokens_and_before_1_30_read_its_own_pods(version: str, reads_pods: bool) -> None:
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml", version)
    rules = [rule for d in documents if d["kind"] in ("ClusterRole", "Role") for rule in d["rules"]]
    reviews = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    assert rules == [reviews] + [pods] * reads_pods
    assert [d["kind"] for d in documents if d["kind"].endswith("Role")] == ["ClusterRole"] + ["Role"] * reads_pods


def test_agents_that_read_a_gateway_s_log_may_say_who_asked() -> None:
    values = ROOT / "tests" / "chart" / "least.yaml"
    documents = rendered(values, NEWEST, "--set-json", 'agent.config.gateways=[{"name":"gw","log":"/var/log/gw"}]')
    collector = yaml.safe_load(of_kind(documents, "ConfigMap", "-collector")["data"]["collector.yaml"])
    assert collector["enrol_kubernetes"][0]["may"] == "write,gateway"


def test_scopes_of_workloads_are_entries_before_that_of_all_other_nodes() -> None:
    scopes = 'enrolment.scopes=[{"nodes":["team-a-*"]},{"nodes":["lone-*"],"workloads":"self"}]'
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml", NEWEST, "--set-json", scopes)
    collector = yaml.safe_load(of_kind(documents, "ConfigMap", "-collector")["data"]["collector.yaml"])
    *narrow, rest = collector["enrol_kubernetes"]
    assert narrow == [rest | {"nodes": ["team-a-*"]}, rest | {"nodes": ["lone-*"], "workloads": "self"}]
    assert "nodes" not in rest
    everyone = 'enrolment.scopes=[{"nodes":["*"],"workloads":"fleet"}]'
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml", NEWEST, "--set-json", everyone)
    collector = yaml.safe_load(of_kind(documents, "ConfigMap", "-collector")["data"]["collector.yaml"])
    assert collector["enrol_kubernetes"] == [rest | {"nodes": ["*"], "workloads": "fleet"}]


def test_an_existing_secret_takes_the_place_of_enrolment() -> None:
    documents = rendered(ROOT / "tests" / "chart" / "least.yaml", NEWEST, "--set", "enrolment.enabled=false")
    agent = yaml.safe_load(of_kind(documents, "ConfigMap", "-agent")["data"]["agent.yaml"])
    assert agent["collector_token_file"] == "/run/secrets/tokenyield/token"
    assert "enrol_token_file" not in agent
    assert not [d for d in documents if d["kind"] in ("ClusterRole", "Role")]
    assert "enrol" not in of_kind(documents, "ConfigMap", "-collector")["data"]["collector.yaml"]


def test_reading_pods_labels_brings_that_right_alone() -> None:
    (role,) = [
        d
        for d in rendered(ROOT / "tests" / "chart" / "all.yaml")
        if d["kind"] == "ClusterRole" and "agent" in d["metadata"]["name"]
    ]
    rules = role["rules"]
    assert rules == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]


def test_a_changed_setting_rolls_the_pods_and_a_changed_price_book_does_not() -> None:
    values = ROOT / "tests" / "chart" / "least.yaml"

    def checksum(kind: str, *more: str) -> str:
        pod = of_kind(rendered(values, NEWEST, *more), kind)["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    priced = ("--set", "collector.prices=a: b")
    assert checksum("StatefulSet", *priced) == checksum("StatefulSet", "--set", "collector.prices=a: c")
    assert checksum("StatefulSet") != checksum("StatefulSet", "--set", "collector.config.windows_keep_days=9")
    assert checksum("StatefulSet") == checksum("StatefulSet", "--set", "agent.config.log_level=debug")
    assert checksum("DaemonSet") != checksum("DaemonSet", "--set", "agent.config.log_level=debug")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tokenSecret=", "name a Secret with the keys tokens and reader"),
        ("collector.clickhouse.url=clickhouse://u@h:9000/d", "several collectors need one key"),
        ("networkPolicy.enabled=false", "nothing keeps others from the agents' /metrics"),
        ("agent.imge=x", "imge"),
        ("collector.service.port=70000", "port"),
        ("platform=gkee", "platform"),
        ("agent.serviceAccount.create=false", "name an account of yours"),
        ("collector.pricesFrom.configMap=a,collector.prices=b", "keep one"),
        ("collector.pricesFrom.configMap=a,collector.pricesFrom.secret=b", "not both"),
    ],
)
def test_values_that_cannot_be_used_are_refused_by_name(setting: str, said: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        rendered(ROOT / "tests" / "chart" / "least.yaml", NEWEST, "--set", setting)


PLATFORMS: dict[str, dict[str, str]] = yaml.safe_load((CHART / "platforms.yaml").read_text())
LEAST = ROOT / "tests" / "chart" / "least.yaml"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_is_its_driver_its_runtime_and_its_kubelet(platform: str) -> None:
    documents = rendered(LEAST, NEWEST, "--set", f"platform={platform}")
    said = PLATFORMS[platform]
    pod = of_kind(documents, "DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert pod.get("runtimeClassName") == said.get("runtimeClassName")
    assert paths["pod-resources"] == said.get("kubeletPath", "/var/lib/kubelet") + "/pod-resources"
    assert paths.get("driver") == said.get("driverPath")
    assert container["securityContext"].get("privileged", False) == ("driverPath" in said)
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment.get("LD_LIBRARY_PATH") == ("/usr/local/nvidia/lib64" if "driverPath" in said else None)
    bound = [d["roleRef"]["name"] for d in documents if d["kind"] == "RoleBinding"]
    assert bound == ([f"system:openshift:scc:{said['scc']}"] if "scc" in said else [])
    collector = of_kind(documents, "StatefulSet")["spec"]["template"]["spec"]
    assert ("runAsUser" in collector["securityContext"]) == ("scc" not in said)
    assert collector["securityContext"]["runAsNonRoot"]
    for document in documents:
        kubernetes_validate.validate(document, ".".join(NEWEST.split(".")[:2]), strict=True)


def test_what_is_set_for_the_agent_comes_before_the_platform() -> None:
    documents = rendered(LEAST, NEWEST, "--set", "platform=k0s,agent.runtimeClassName=mine,agent.kubeletPath=/k")
    pod = of_kind(documents, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["runtimeClassName"] == "mine"
    assert {"path": "/k/pod-resources", "type": "DirectoryOrCreate"} in [v.get("hostPath") for v in pod["volumes"]]


def test_the_schema_knows_the_same_platforms() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["platform"]["enum"] == list(PLATFORMS)


def test_another_chart_may_depend_on_this_one(tmp_path: Path) -> None:
    """Its condition and `global` are values of this chart too."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "tokenyield").symlink_to(CHART)
    dependency = {"name": "tokenyield", "version": "*", "condition": "tokenyield.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(chart))
    values = {"global": {"imageRegistry": "r"}, "tags": {"gpu": True}}
    values["tokenyield"] = {"enabled": True, "tokenSecret": "t", "agent": {"resources": {"limits": None}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    documents = [
        d for d in yaml.safe_load_all(helm("template", "release", str(tmp_path), "--kube-version", NEWEST)) if d
    ]
    (container,) = of_kind(documents, "DaemonSet", "release-tokenyield")["spec"]["template"]["spec"]["containers"]
    assert "limits" not in container["resources"], "null removes a default"


def test_a_package_of_the_chart_holds_all_that_it_reads(tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("tokenyield-*.tgz")
    values = ("--values", str(ROOT / "tests" / "chart" / "all.yaml"), "--kube-version", NEWEST)
    assert helm("template", "t", str(package), *values) == helm("template", "t", str(CHART), *values)


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ("", "http://tokenyield-collector.tokenyield.svc:9464/runbooks"),
        ("ingress.enabled=true,ingress.host=y.example.com", "http://y.example.com/runbooks"),
        ("ingress.enabled=true,ingress.host=y.example.com,ingress.tlsSecret=t", "https://y.example.com/runbooks"),
        ("monitoring.runbooksUrl=https://wiki.example.com", "https://wiki.example.com"),
    ],
)
def test_alerts_lead_to_runbooks_that_the_collector_serves(values: str, url: str) -> None:
    documents = rendered(LEAST, NEWEST, "--set", f"monitoring.enabled=true,{values}".rstrip(","))
    groups = of_kind(documents, "PrometheusRule")["spec"]["groups"]
    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert urls
    assert {address.partition("#")[0] for address in urls} == {url}


def test_no_secret_stands_in_a_manifest() -> None:
    for values in MATRIX:
        assert not [d for d in rendered(values) if d["kind"] == "Secret"]
