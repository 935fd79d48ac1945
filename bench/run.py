"""Run every benchmark and print one JSON document with the machine they ran on."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = (
    "footprint.py",
    "beside.py",
    "scan.py",
    "ingest.py",
    "fleet.py",
    "report.py",
    "closing.py",
    "scrape.py",
    "page.py",
    "peers.py",
    "soak.py",
    "gpu/bars.py",
)


def main() -> None:
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").open() if "model name" in line), "")
    results = []
    for name in BENCHES:
        print(f"running {name}", file=sys.stderr)
        done = subprocess.run([sys.executable, HERE / name], stdout=subprocess.PIPE, check=True)
        results.append(json.loads(done.stdout))
    machine = {"cores": os.cpu_count(), "cpu": cpu, "python": platform.python_version(), "kernel": platform.release()}
    print(json.dumps({"machine": machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()
