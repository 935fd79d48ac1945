"""Opens the reader that `gpu_reader` names.

In: the setting's value and what a reader may need. Out: an open `GpuReader`. Only the module of the one that is used is
imported. That module exports `open_reader(options) -> GpuReader`, which raises `SetUpError` where its options cannot be
used.
"""

from collections.abc import Callable
from importlib import import_module

from tokenyield_agent.gpu import HARDWARE_READERS, READERS
from tokenyield_agent.gpu.poller import Poller
from tokenyield_agent.gpu.reading import GpuReader, ReaderOptions
from tokenyield_agent.supervision import Supervisor


def open_reader(name: str, options: ReaderOptions) -> GpuReader:
    """The reader called `name`, whose calls may hang. Raises `SetUpError`."""
    opened: Callable[[ReaderOptions], GpuReader] = import_module(READERS[name]).open_reader
    return opened(options)


def open_bounded_reader(
    name: str, options: ReaderOptions, *, read_s_max: float, supervisor: Supervisor | None = None
) -> GpuReader:
    """The same, where it calls a driver behind a `Poller`, so that a reading takes `read_s_max` at most."""
    if name not in HARDWARE_READERS:
        return open_reader(name, options)
    import_module(READERS[name])  # by this thread, before the one of the GPUs needs it
    return Poller(lambda: open_reader(name, options), name=name, read_s_max=read_s_max, supervisor=supervisor)
