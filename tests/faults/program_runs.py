"""Many schedules over the running programs, several at once, from a command line: what programs.py and hostile_programs.py share.

A schedule is opened by a seed in a folder of its own, which stays where something is wrong. Ends with a line of JSON.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nvml.stand_in import build


class ProgramSchedule(Protocol):
    """`happened`: counts by what; a name that starts with MOST is a height, whose greatest is kept."""

    happened: Counter[str]

    def play(self) -> None:
        """To its end. Raises AssertionError where something is wrong."""


MOST = "most "
OpenSchedule = Callable[[int, Path, Path], AbstractContextManager[ProgramSchedule]]
"""(seed, folder, the NVML stand-in's library) -> a schedule, whose programs end with the block."""


@dataclass
class ScheduleEnd:
    """How a schedule ended; `why` is empty where nothing is wrong."""

    seed: int
    happened: Counter[str]
    why: str = ""
    seconds: float = 0.0


def play_one(opened: OpenSchedule, seed: int, root: Path, library: Path) -> ScheduleEnd:
    """One schedule, in `root`/schedule-SEED."""
    started_s = time.monotonic()
    folder = root / f"schedule-{seed}"
    folder.mkdir()
    end = ScheduleEnd(seed, Counter())
    with opened(seed, folder, library) as schedule:
        end.happened = schedule.happened
        try:
            schedule.play()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed and the folder are what matters
            end.why = f"seed {seed}: {type(error).__name__}: {error}"
    if not end.why:
        shutil.rmtree(folder, ignore_errors=True)
    end.seconds = time.monotonic() - started_s
    return end


def run_many(about: str | None, opened: OpenSchedule, schedules: int, at_once: int) -> int:
    """The command: its exit code."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=schedules)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=at_once)
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="schedules-"))
    library = build(root)
    happened, failed, done = Counter[str](), [], 0
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.schedules)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for end in pool.map(lambda seed: play_one(opened, seed, root, library), seeds):
            add(happened, end.happened)
            done += 1
            if end.why:
                failed.append(end.seed)
                print(f"{end.why}\n  kept in {root}/schedule-{end.seed}", file=sys.stderr)
            print(f"{done} schedules, {len(failed)} failed, {end.seconds:.0f} s", file=sys.stderr, flush=True)
    if not failed:
        shutil.rmtree(root)
    print(json.dumps({"schedules": done, "failed": failed, "happened": dict(happened.most_common())}, indent=2))
    return 1 if failed else 0


def add(happened: Counter[str], more: Counter[str]) -> None:
    """Sums, but for what starts with MOST."""
    for name, count in more.items():
        happened[name] = max(happened[name], count) if name.startswith(MOST) else happened[name] + count
