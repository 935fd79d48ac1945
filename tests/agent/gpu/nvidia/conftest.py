"""The reader on the stand-in, for all tests of this folder."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvml.stand_in import Scenario
from tokenyield_agent.gpu.nvidia.reader import NvmlReader


class Clock:
    """The reader's own clock, which can be moved past its waiting times."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(
    nvml_library: Path, scenario: Scenario, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[NvmlReader]:
    # Loaded first under its soname, this is the library that the binding's own dlopen then finds.
    ctypes.CDLL(str(nvml_library), mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    monkeypatch.setenv("TOKENYIELD_NVML_SCENARIO", str(scenario.path))
    made = NvmlReader(clock, proc_root=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def later(nvml_library: Path, clock: Clock) -> Iterator[Callable[[float], None]]:
    """Moves the time of the stand-in and of the reader forward, without waiting."""
    ahead = ctypes.CDLL(str(nvml_library)).stand_in_ahead
    ahead.argtypes = [ctypes.c_double]
    gone = [0.0]

    def go(seconds: float) -> None:
        gone[0] += seconds
        clock.ahead_s = gone[0]
        ahead(gone[0])

    yield go
    ahead(0.0)
