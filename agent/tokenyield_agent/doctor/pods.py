"""What Kubernetes says of this node's pods: whether the kubelet and the API server answer."""

from collections.abc import Iterator

from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.workloads.pods import API_SERVER, KUBELET, Pods


def findings_of_pods(pods: Pods) -> Iterator[DoctorFinding]:
    """Of each that is asked, once `pods.wait_until_asked` has returned."""
    if pods.uses_kubelet:
        count = len(pods.allocations())
        yield _finding(pods, KUBELET, f"the kubelet gave GPUs to {count} container{'' if count == 1 else 's'}")
    if pods.uses_api:
        yield _finding(pods, API_SERVER, "the API server lists this node's pods")


def _finding(pods: Pods, service: str, text: str) -> DoctorFinding:
    problem = pods.problems.get(service)
    if problem is not None:
        return DoctorFinding("fault", "pods", f"{service}: {problem}")
    return DoctorFinding("ok", "pods", text)
