"""Recorded GPU readings: written by `tokenyield-agent record`, replayed for demos and tests.

A trace is JSON lines. The first line is a header (`TraceHeader`) that says honestly what it is; every other line is
one poll: milliseconds since the recording began, and the readings. Replay runs at the recorded speed, starts over at
the end, and carries energy counters on across the seam, so that they never run backwards.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from tokenyield_agent.gpu.reading import GpuReading, Snapshot


class TraceHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """`label` says in words what was recorded, on what, and whether the GPU was real."""

    trace: int = 1
    label: str
    real_gpu: bool


class TraceLine(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    gpus: tuple[GpuReading, ...]


class TraceError(Exception):
    """The file is no trace, or line N of it is broken."""


def load_trace(path: Path) -> tuple[TraceHeader, list[TraceLine]]:
    """Raises `TraceError` naming the file, the line and the mend."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error}); check the path") from error
    try:
        header = msgspec.json.decode(lines[0] if lines else b"", type=TraceHeader)
    except msgspec.MsgspecError as error:
        raise TraceError(f"{path}:1: no trace header ({error}); make one with `tokenyield-agent record`") from error
    readings = []
    decoder = msgspec.json.Decoder(TraceLine)
    for number, line in enumerate(lines[1:], start=2):
        try:
            readings.append(decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise TraceError(f"{path}:{number}: {error}; cut the file before this line or record it again") from error
    if len(readings) < 2:
        raise TraceError(f"{path}: holds {len(readings)} polls, a replay needs at least 2; record for longer")
    return header, readings


def encode_line(at_ms: int, snapshot: Snapshot) -> bytes:
    return msgspec.json.encode(TraceLine(at_ms=at_ms, gpus=snapshot.gpus)) + b"\n"


def encode_header(label: str, real_gpu: bool) -> bytes:
    return msgspec.json.encode(TraceHeader(label=label, real_gpu=real_gpu)) + b"\n"


def positions(lines: list[TraceLine], elapsed_ms: int) -> tuple[int, TraceLine]:
    """(rounds completed, line showing) after `elapsed_ms` of replay: the newest line not in the future."""
    step_ms = lines[-1].at_ms - lines[-2].at_ms
    rounds, within_ms = divmod(elapsed_ms, lines[-1].at_ms - lines[0].at_ms + step_ms)
    showing = lines[0]
    for line in lines:
        if line.at_ms - lines[0].at_ms > within_ms:
            break
        showing = line
    return rounds, showing


def energy_per_round(lines: list[TraceLine]) -> dict[str, int]:
    """How far each GPU's energy counter goes in one round, the step over the seam laid at its last power."""
    first = {gpu.uuid: gpu.energy_mj for gpu in lines[0].gpus}
    step_ms = lines[-1].at_ms - lines[-2].at_ms
    growth = {}
    for gpu in lines[-1].gpus:
        start = first.get(gpu.uuid)
        if gpu.energy_mj is not None and start is not None:
            growth[gpu.uuid] = gpu.energy_mj - start + (gpu.power_mw or 0) * step_ms // 1000
    return growth


class TraceReader:
    """A `GpuReader` that replays a trace."""

    def __init__(self, path: Path, mono_s: Callable[[], float] = time.monotonic) -> None:
        self.header, self._lines = load_trace(path)
        self._growth_mj = energy_per_round(self._lines)
        self._mono_s = mono_s
        self._started_s = mono_s()

    def read(self) -> Snapshot:
        rounds, line = positions(self._lines, int((self._mono_s() - self._started_s) * 1000))
        return Snapshot(gpus=tuple(self._carried(line.gpus, rounds)))

    def close(self) -> None:
        pass

    def _carried(self, gpus: tuple[GpuReading, ...], rounds: int) -> Iterator[GpuReading]:
        for gpu in gpus:
            if gpu.energy_mj is None:
                yield gpu
            else:
                yield replace(gpu, energy_mj=gpu.energy_mj + rounds * self._growth_mj.get(gpu.uuid, 0))
