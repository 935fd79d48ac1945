"""The reader on the stand-in, for all tests of this folder, at a time that passes only when a test says so."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvml.stand_in import Scenario
from tokenyield_agent.gpu.nvidia import device, gpm
from tokenyield_agent.gpu.nvidia.reader import NvmlReader

WALL_LESS_MONO_S = time.time_ns() / 1e9 - time.monotonic()


class Clock:
    """The time of reader, scenario and stand-in: it stands still but for `sleep` and for calls that the scenario makes
    slow. Has what the reader takes from the module `time`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._set, self._get = library.stand_in_set_time, library.stand_in_time
        self._set.argtypes, self._get.restype = [ctypes.c_double], ctypes.c_double
        self._set(time.monotonic())

    def __call__(self) -> float:
        return float(self._get())

    monotonic = perf_counter = __call__

    def time_ns(self) -> int:
        return int((self() + WALL_LESS_MONO_S) * 1e9)

    def sleep(self, seconds: float) -> None:
        self._set(self() + seconds)

    def close(self) -> None:
        self._set(-1.0)


@pytest.fixture
def clock(nvml_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    # Loaded first under its soname, this is the library that the binding's own dlopen then finds.
    clock = Clock(ctypes.CDLL(str(nvml_library), mode=os.RTLD_GLOBAL | os.RTLD_NOW))
    for module in (device, gpm):
        monkeypatch.setattr(module, "time", clock)
    yield clock
    clock.close()


@pytest.fixture
def scenario(tmp_path: Path, clock: Clock) -> Scenario:
    return Scenario(tmp_path / "scenario.txt", clock)


@pytest.fixture
def reader(scenario: Scenario, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NvmlReader]:
    monkeypatch.setenv("TOKENYIELD_NVML_SCENARIO", str(scenario.path))
    made = NvmlReader(clock, proc_root=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def later(clock: Clock) -> Callable[[float], None]:
    return clock.sleep
