"""The parts of a rate sum to the rate that is shown below them."""

import json
import re
from decimal import Decimal
from pathlib import Path

from collector.commands.test_report import call


def test_the_parts_of_a_rate_sum_to_the_rate(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    site = "{pue: 1.37, per_kwh: 0.0913, host_watts_per_gpu: 133}"
    owned = "{gpu: 31003.1, server: 777.77, life_years: 3, network: 333.33, cost_of_capital: 0.071, maintenance_rate: 0.03, per_gpu_year: 101.01}"
    file.write_text(f"facilities: {{a: {site}}}\npools: [{{name: p, owned: {owned}}}]\n")
    text = call("rate", "--prices", str(file), "--at", "2026-10-05T14:00")
    amounts = [Decimal(line.split()[-1]) for line in text.splitlines() if re.search(r"\d\.\d{6}\s*$", line)]
    *parts, whole, _energy = amounts
    assert len(parts) > 2
    assert sum(parts) == whole
    found = json.loads(
        call("rate", "--prices", str(file), "--at", "2026-10-05T14:00", "--format", "json"), parse_float=Decimal
    )
    (pool,) = found["pools"]
    assert sum(pool["parts"].values()) == pool["per_gpu_hour"]
    assert round(pool["per_gpu_hour"], 6) == whole
