"""How true the agent's joules are, and what a poll costs, on NVML's stand-in whose truth is known.

`energy`: five GPUs with the same bursty load (bursts of 50 to 700 ms between 90 and 680 W), each telling its energy in
another way, polled once a second for a minute by the agent's own reader; the error against the integral of the load, and
the error that the agent itself estimates. Bars: 0.5 % by the counter; 3 % by the best way without one.

`poll`: CPU of one reading of 8 GPUs, without and with GPM, in a process that does nothing else. Bar: 4 ms with GPM.

The stand-in answers in microseconds, as NVML does from its own memory; what the driver adds on a real GPU is measured by
bench/gpu/measure.py where there is one.
"""

import argparse
import ctypes
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "agent")]

from nvml.stand_in import Scenario, build, gpu_lines
from tokenyield_agent.gpu.nvidia.reader import NvmlReader
from tokenyield_agent.gpu.reading import GpuReading
from tokenyield_agent.windows.energy import energy_between

WITHOUT = {
    "counter": (),
    "average": ("energy",),
    "samples": ("energy", "average"),
    "instant": ("energy", "samples", "average"),
    "power": ("energy", "samples", "average", "instant"),
}
"""Way -> what the GPU must lack for it to be taken."""
GPUS = 8


def bursts(gpu: int, seconds: float, seed: int) -> list[str]:
    chosen, at_s, lines, is_busy = random.Random(seed), 0.0, [], False
    while at_s < seconds:
        lines.append(f"power {gpu} {at_s:.3f} {chosen.randrange(560_000, 680_000) if is_busy else 90_000}")
        at_s += chosen.uniform(0.05, 0.7)
        is_busy = not is_busy
    return lines


def energy(scenario: Scenario, seconds: float, seed: int) -> dict[str, Any]:
    """Way -> percent off the truth, and the estimated error in percent."""
    lines = []
    for index, missing in enumerate(WITHOUT.values()):
        lines += [*gpu_lines(index, milliwatts=90_000), *bursts(index, seconds + 10, seed)]
        lines += [f"unsupported {index} {name}" for name in missing]
    scenario.restart(lines)
    reader = NvmlReader()
    used_mj: dict[int, int] = {}
    error_mj: dict[int, int] = {}
    before: dict[int, GpuReading] = {}
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    next_s = time.monotonic()
    while True:
        for gpu in reader.read().gpus:
            now_s = time.monotonic()
            if gpu.index in before:
                spent = energy_between(
                    before[gpu.index],
                    gpu,
                    counter_mj=before[gpu.index].energy_mj,
                    duration_ms=round((now_s - ended[gpu.index]) * 1000),
                    gap_ms_max=3000,
                )
                assert spent is not None
                assert spent.method == list(WITHOUT)[gpu.index]
                used_mj[gpu.index] = used_mj.get(gpu.index, 0) + spent.mj
                error_mj[gpu.index] = error_mj.get(gpu.index, 0) + spent.error_mj
            began.setdefault(gpu.index, now_s)
            before[gpu.index], ended[gpu.index] = gpu, now_s
        if next_s - began[0] >= seconds:
            break
        next_s += 1
        time.sleep(max(0.0, next_s - time.monotonic()))
    reader.close()
    found = {}
    for index, way in enumerate(WITHOUT):
        truth = scenario.energy_mj(index, ended[index]) - scenario.energy_mj(index, began[index])
        found[way] = {
            "off_percent": round(100 * (used_mj[index] - truth) / truth, 3),
            "estimated_error_percent": round(100 * error_mj[index] / truth, 2),
        }
    return found


def poll(scenario: Scenario, has_gpm: bool, rounds: int) -> dict[str, float]:
    """CPU of one reading of all GPUs in ms: median, 95th percentile, and what is between the quartiles."""
    lines = [line for gpu in range(GPUS) for line in gpu_lines(gpu, pid=os.getpid())]
    if not has_gpm:
        lines += [f"unsupported {gpu} gpm" for gpu in range(GPUS)]
    scenario.restart(lines)
    reader = NvmlReader()
    reader.read()
    took = []
    for _ in range(rounds):
        time.sleep(0.02)  # at 1 Hz caches are cold; this is a compromise between that and the time this takes
        started_s = time.process_time()
        reader.read()
        took.append(1000 * (time.process_time() - started_s))
    reader.close()
    quartiles = statistics.quantiles(took, n=20)
    return {
        "median_ms": round(statistics.median(took), 3),
        "p95_ms": round(quartiles[18], 3),
        "quartiles_ms": [round(quartiles[4], 3), round(quartiles[14], 3)],  # type: ignore[dict-item]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        library, scenario = build(Path(name)), Scenario(Path(name) / "scenario.txt")
        os.environ["TOKENYIELD_NVML_SCENARIO"] = str(scenario.path)
        # Loaded first under its soname, this is the library that the binding's own dlopen then finds.
        ctypes.CDLL(str(library), mode=os.RTLD_GLOBAL | os.RTLD_NOW)
        found = {
            "bench": "gpu/bars",
            "stand_in": True,
            "energy": [energy(scenario, arguments.seconds, seed) for seed in range(arguments.runs)],
            "poll_of_8_gpus": {
                "without_gpm": poll(scenario, False, arguments.rounds),
                "with_gpm": poll(scenario, True, arguments.rounds),
            },
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
