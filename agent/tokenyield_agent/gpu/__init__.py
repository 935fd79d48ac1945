"""What one GPU showed at one poll, and which readers there are to show it.

A reader of another vendor is a folder beside nvidia/ and a line in `HARDWARE_READERS`; see readers.py for what its
module exports.
"""

HARDWARE_READERS = {"nvml": "tokenyield_agent.gpu.nvidia"}
"""Value of `gpu_reader` -> module, of those that call a driver, which may hang, so that they work behind a `Poller`."""
READERS = {
    **HARDWARE_READERS,
    "trace": "tokenyield_agent.gpu.trace",
    "none": "tokenyield_agent.gpu.no_gpus",
}
"""The same of all."""
