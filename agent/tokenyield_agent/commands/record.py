"""`record`: GPU readings as a trace, to be replayed where there is no GPU."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenyield_agent.gpu import HARDWARE_READERS
from tokenyield_settings.terminal import show

if TYPE_CHECKING:
    from tokenyield_agent.gpu.reading import GpuReader

HELP = "record GPU readings as a trace"
EXAMPLE = "record --seconds 60 --out trace.jsonl"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, required=True, help="how long to record")
    parser.add_argument("--out", type=Path, required=True, help="the trace to write")
    parser.add_argument("--label", default="", help="what is recorded, in words")
    parser.add_argument("--interval-ms", type=int, default=1000, help="between two readings")
    parser.add_argument("--gpu-reader", choices=HARDWARE_READERS, default="nvml", help="as the setting; default nvml")
    parser.add_argument("--synthetic", action="store_true", help="note in the trace that the GPU was not a real one")


def run(arguments: argparse.Namespace) -> int:
    """1 where no GPU can be read."""
    from tokenyield_agent.gpu.readers import open_reader
    from tokenyield_agent.gpu.reading import ReaderOptions

    reader = open_reader(arguments.gpu_reader, ReaderOptions())
    snapshot = reader.read()
    if snapshot.problem or not snapshot.gpus:
        show(f"nothing to record: {snapshot.problem or 'the driver lists no GPU'}", is_error=True)
        return 1
    models = ", ".join(sorted({gpu.model or "unknown" for gpu in snapshot.gpus}))
    label = arguments.label or f"{len(snapshot.gpus)} x {models}, {arguments.seconds:g} s"
    polls = _record(reader, arguments, label)
    reader.close()
    print(file=sys.stderr)
    show(f"{arguments.out}: {polls} polls of {label}", is_error=True)
    return 0


def _record(reader: "GpuReader", arguments: argparse.Namespace, label: str) -> int:
    """How many polls were written, until the time is over or SIGINT or SIGTERM asks to stop."""
    import signal
    import threading
    import time

    from tokenyield_agent.gpu.trace import encode_header, encode_line

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    polls, started_s = 0, time.monotonic()
    with arguments.out.open("wb") as file:
        file.write(encode_header(label, real_gpu=not arguments.synthetic))
        while (elapsed_s := time.monotonic() - started_s) <= arguments.seconds and not stop.is_set():
            file.write(encode_line(int(elapsed_s * 1000), reader.read()))
            polls += 1
            print(f"\r{elapsed_s:6.0f} of {arguments.seconds:g} s", end="", file=sys.stderr, flush=True)
            stop.wait(max(0.0, started_s + polls * arguments.interval_ms / 1000 - time.monotonic()))
    return polls
