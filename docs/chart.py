"""What the Helm chart shows of other files: the table of values in its README, and its copies of dashboards and rules."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "tokenyield"
MONITORING = ROOT / "collector" / "tokenyield_collector" / "monitoring"
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: (?P<value>.*?))?(?: +# (?P<said>.*))?")
BEGIN, END = "<!-- values: made by `make docs` from values.yaml -->\n", "<!-- end of values -->\n"


def values() -> Iterator[tuple[str, str, str]]:
    """(dotted key, default, what it is): the lines of values.yaml that carry a comment."""
    path: list[tuple[int, str]] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        match = _LINE.fullmatch(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        indent = len(match["indent"])
        path = [*(above for above in path if above[0] < indent), (indent, match["key"])]
        if match["said"]:
            yield ".".join(key for _, key in path), (match["value"] or "").strip(), match["said"]


def readme() -> str:
    text = (CHART / "README.md").read_text()
    head, rest = text.split(BEGIN)
    rows = "".join(f"| `{key}` | {f'`{default}`' if default else ''} | {said} |\n" for key, default, said in values())
    return f"{head}{BEGIN}\n| value | default | what it is |\n|---|---|---|\n{rows}\n{END}{rest.split(END)[1]}"


def pages() -> dict[Path, str]:
    """Files of the chart -> what they are to hold: helm reads nothing outside the chart's folder."""
    sources = [*sorted((MONITORING / "dashboards").glob("*.json")), *sorted((MONITORING / "rules").glob("*.yaml"))]
    copies = {CHART / "monitoring" / source.name: source.read_text() for source in sources}
    return {CHART / "README.md": readme(), **copies}
