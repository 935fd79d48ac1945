"""A node without GPUs of its own, whose logs are followed all the same: `gpu_reader: none`."""

from tokenyield_agent.gpu.reading import GpuReader, ReaderOptions, Snapshot


class NoGpusReader:
    """A `GpuReader` that lists no GPU."""

    read_seconds = 0.0

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}

    def read(self) -> Snapshot:
        return Snapshot()

    def close(self) -> None:
        pass


def open_reader(options: ReaderOptions) -> GpuReader:
    """Needs no option."""
    return NoGpusReader()
