"""Recorded GPU readings: written by `tokenyield-agent record`, replayed for demos and tests.

A trace is JSON lines. The first line is a header (`TraceHeader`) that describes honestly what it is; every other line
is one poll: milliseconds since the recording began, and the readings. Replay runs at the recorded speed, starts over at
the end, and carries energy counters on across the seam, so that they never run backwards.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu.reading import GpuReader, GpuReading, ReaderOptions, Snapshot

TRACE_VERSION = 2


class TraceHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """`label` describes in words what was recorded and on what."""

    trace: int = TRACE_VERSION
    label: str
    real_gpu: bool


class TraceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One poll."""

    at_ms: int
    gpus: tuple[GpuReading, ...]


class TraceError(Exception):
    """The file is not a trace, or one of its lines is broken."""


def load_trace(path: Path) -> tuple[TraceHeader, list[TraceLine]]:
    """The header and at least two polls. Raises `TraceError` with the file, the line and how to fix it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error}); check the path") from error
    header = _header(path, lines[0] if lines else b"")
    polls = []
    decoder = msgspec.json.Decoder(TraceLine)
    for number, line in enumerate(lines[1:], start=2):
        try:
            polls.append(decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise TraceError(f"{path}:{number}: {error}; cut the file before this line or record it again") from error
    if len(polls) < 2:
        raise TraceError(f"{path}: expected at least 2 polls to replay, found {len(polls)}; record for longer")
    return header, polls


def _header(path: Path, line: bytes) -> TraceHeader:
    try:
        header = msgspec.json.decode(line, type=TraceHeader)
    except msgspec.MsgspecError as error:
        raise TraceError(
            f"{path}:1: expected a trace header ({error}); make a trace with `tokenyield-agent record`"
        ) from error
    if header.trace != TRACE_VERSION:
        raise TraceError(
            f"{path}:1: expected a trace of version {TRACE_VERSION}, found version {header.trace}; record it again"
        )
    return header


def encode_line(at_ms: int, snapshot: Snapshot) -> bytes:
    """One poll, `at_ms` after the recording began, with its line end."""
    return msgspec.json.encode(TraceLine(at_ms=at_ms, gpus=snapshot.gpus)) + b"\n"


def encode_header(label: str, real_gpu: bool) -> bytes:
    """The first line of a trace, with its line end."""
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
    """uuid -> how far the energy counter goes in one round, in mJ, with the step over the seam at its last power."""
    first_mj = {gpu.uuid: gpu.energy_mj for gpu in lines[0].gpus}
    step_ms = lines[-1].at_ms - lines[-2].at_ms
    growth_mj = {}
    for gpu in lines[-1].gpus:
        start_mj = first_mj.get(gpu.uuid)
        if gpu.energy_mj is not None and start_mj is not None:
            growth_mj[gpu.uuid] = gpu.energy_mj - start_mj + (gpu.power_mw or 0) * step_ms // 1000
    return growth_mj


class TraceReader:
    """A `GpuReader` that replays a trace."""

    read_seconds = 0.0

    def __init__(self, path: Path, mono_s: Callable[[], float] = time.monotonic) -> None:
        """Raises `TraceError`."""
        self.header, self._lines = load_trace(path)
        self.faults: dict[str, int] = {}
        self._growth_mj = energy_per_round(self._lines)
        self._mono_s = mono_s
        self._started_s = mono_s()

    def read(self) -> Snapshot:
        """The poll that shows now."""
        rounds, line = positions(self._lines, int((self._mono_s() - self._started_s) * 1000))
        return Snapshot(gpus=tuple(self._carried(line.gpus, rounds)))

    def close(self) -> None:
        pass

    def _carried(self, gpus: tuple[GpuReading, ...], rounds: int) -> Iterator[GpuReading]:
        for gpu in gpus:
            if gpu.energy_mj is None:
                yield gpu
            else:
                energy_mj = gpu.energy_mj + rounds * self._growth_mj.get(gpu.uuid, 0)
                yield replace(gpu, energy_mj=energy_mj, energy_read_ms=None)  # that was another host's clock


def open_reader(options: ReaderOptions) -> GpuReader:
    """A replay of `options.trace_file`. Raises `SetUpError`."""
    try:
        return TraceReader(Path(options.trace_file or ""))
    except TraceError as error:
        raise SetUpError(f"gpu_trace_file: {error}") from error
