"""A Prometheus configuration of ServiceMonitors, PodMonitors and PrometheusRules, as the Prometheus operator would write it.

In: the objects as the API server has them. Out: targets with the labels that Prometheus' discovery of Kubernetes gives
them (Debian's Prometheus is built without it), and the operator's rules that choose among them. Of the monitors' fields
those that the chart uses: others raise.
Sources: prometheus.io/docs, kubernetes_sd_config; prometheus-operator.dev, API reference of monitoring.coreos.com/v1.
"""

import re
from typing import Any

Object = dict[str, Any]
KINDS = {"ServiceMonitor": "servicemonitors", "PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}
_ENDPOINT_FIELDS = {"port", "interval", "authorization", "relabelings"}


def definitions() -> list[Object]:
    """Of the operator's kinds, with any content: what each cluster with the operator has."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "scope": "Namespaced",
                "versions": [version],
            },
        }
        for kind, plural in KINDS.items()
    ]


def pod_targets(pods: list[Object]) -> list[Object]:
    """Role `pod`: a target for each declared port of each container."""
    targets = []
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                labels = {
                    **_of_pod(pod),
                    "__meta_kubernetes_pod_container_name": container["name"],
                    "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
                }
                targets.append(
                    {"targets": [f"{pod['status'].get('podIP', '')}:{port['containerPort']}"], "labels": labels}
                )
    return targets


def endpoint_targets(services: list[Object], slices: list[Object], pods: list[Object]) -> list[Object]:
    """Role `endpointslice`: a target for each port of each endpoint, with the labels of its service and pod."""
    by_name = {pod["metadata"]["name"]: pod for pod in pods}
    targets = []
    for service in services:
        name = service["metadata"]["name"]
        of_service = [one for one in slices if one["metadata"]["labels"].get("kubernetes.io/service-name") == name]
        for part in of_service:
            for endpoint in part.get("endpoints") or []:
                for port in part["ports"]:
                    labels = {
                        **_of_pod(by_name[endpoint["targetRef"]["name"]]),
                        "__meta_kubernetes_service_name": name,
                        "__meta_kubernetes_endpointslice_port_name": port["name"],
                        **_labels("service", service),
                    }
                    targets += [
                        {"targets": [f"{address}:{port['port']}"], "labels": labels}
                        for address in endpoint["addresses"]
                    ]
    return targets


def _of_pod(pod: Object) -> dict[str, str]:
    return {
        "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
        "__meta_kubernetes_pod_name": pod["metadata"]["name"],
        "__meta_kubernetes_pod_node_name": pod["spec"].get("nodeName", ""),
        "__meta_kubernetes_pod_phase": pod["status"]["phase"],
        **_labels("pod", pod),
    }


def _labels(of: str, one: Object) -> dict[str, str]:
    """Present and value of each label, as names that Prometheus allows."""
    labels = {}
    for key, value in one["metadata"].get("labels", {}).items():
        safe = _safe(key)
        labels[f"__meta_kubernetes_{of}_label_{safe}"] = value
        labels[f"__meta_kubernetes_{of}_labelpresent_{safe}"] = "true"
    return labels


def _safe(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def scrape_configs(monitor: Object, targets: list[Object], secrets: dict[str, dict[str, str]]) -> list[Object]:
    """One for each of a monitor's endpoints. `secrets`: by name, their keys' values."""
    is_pods = monitor["kind"] == "PodMonitor"
    spec, name = monitor["spec"], f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    of = "pod" if is_pods else "service"
    keeps = []
    for key, value in sorted(spec["selector"]["matchLabels"].items()):
        sources = [f"__meta_kubernetes_{of}_label_{_safe(key)}", f"__meta_kubernetes_{of}_labelpresent_{_safe(key)}"]
        keeps.append({"source_labels": sources, "regex": f"({re.escape(value)});true", "action": "keep"})
    configs = []
    for i, endpoint in enumerate(spec["podMetricsEndpoints" if is_pods else "endpoints"]):
        assert endpoint.keys() <= _ENDPOINT_FIELDS, f"{name}: {endpoint.keys() - _ENDPOINT_FIELDS}"
        port = "__meta_kubernetes_pod_container_port_name" if is_pods else "__meta_kubernetes_endpointslice_port_name"
        rules: list[Object] = [
            *keeps,
            {"source_labels": [port], "regex": endpoint["port"], "action": "keep"},
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
        ]
        if is_pods:
            rules.append({"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"})
            rules.append({"target_label": "job", "replacement": name})
        else:
            rules.append({"source_labels": ["__meta_kubernetes_service_name"], "target_label": "service"})
            rules.append({"source_labels": ["__meta_kubernetes_service_name"], "target_label": "job"})
        rules += [_snake_case(rule) for rule in endpoint.get("relabelings", [])]
        config: Object = {
            "job_name": f"{'podMonitor' if is_pods else 'serviceMonitor'}/{name}/{i}",
            "scrape_interval": endpoint["interval"],
            "static_configs": targets,
            "relabel_configs": rules,
        }
        if (authorization := endpoint.get("authorization")) is not None:
            key = authorization["credentials"]
            config["authorization"] = {"type": "Bearer", "credentials": secrets[key["name"]][key["key"]]}
        configs.append(config)
    return configs


def _snake_case(rule: Object) -> Object:
    return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in rule.items()}
