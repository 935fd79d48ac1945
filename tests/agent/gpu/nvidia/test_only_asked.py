"""The agent changes nothing on a GPU: of NVML it has only what reads."""

import ast
import re
from pathlib import Path

import tokenyield_agent

AGENT = Path(tokenyield_agent.__file__).parent
READS = re.compile(
    r"nvml(System|Device)Get\w+|nvmlGpm(SampleAlloc|SampleFree|SampleGet|MigSampleGet|MetricsGet|QueryDeviceSupport)"
)
OWN = {
    "nvmlInit",
    "nvmlShutdown",
    "nvmlEventSetCreate",
    "nvmlEventSetWait",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
    "nvmlDeviceRegisterEvents",
}
"""They open and close NVML for this process, and have it wait for events."""


def called() -> set[str]:
    """Every function of NVML that the agent's code names, as an attribute or in a text for getattr."""
    names: set[str] = set()
    for path in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = (
                node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else ""
            )
            if isinstance(text, str) and re.fullmatch(r"nvml[A-Z]\w+", text):
                names.add(text)
    return {name for name in names if not re.match(r"nvml(EventType|ClocksThrottleReason|Return)", name)}


def test_nvml_is_only_asked() -> None:
    functions = called()
    assert {"nvmlInit", "nvmlDeviceGetPowerUsage"} <= functions
    assert not [name for name in functions - OWN if not READS.fullmatch(name)]
