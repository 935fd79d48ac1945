"""Write the dashboards into the package: `make dashboards`. A test holds what is written together with this."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import chargeback, fleet, health, node, workload

OUT = Path(__file__).parents[1] / "tokenyield_collector" / "monitoring" / "dashboards"
DASHBOARDS = {
    "fleet": fleet.DASHBOARD,
    "node": node.DASHBOARD,
    "workload": workload.DASHBOARD,
    "chargeback": chargeback.DASHBOARD,
    "health": health.DASHBOARD,
}


def encoded(made: Dashboard) -> str:
    """The dashboard's JSON, its panels and queries numbered."""
    document = json.loads(JSONEncoder(sort_keys=True).encode(made))
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
        for i, target in enumerate(panel.get("targets", [])):
            target["refId"] = target.get("refId") or chr(ord("A") + i)
    return json.dumps(document, indent=1) + "\n"


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, made in DASHBOARDS.items():
        (OUT / f"{name}.json").write_text(encoded(made))
