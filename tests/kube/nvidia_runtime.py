#!/usr/bin/python3
"""Stands for nvidia-container-runtime: runc, with the driver's library in those containers that ask for GPUs.

NVIDIA's reads NVIDIA_VISIBLE_DEVICES from the container's environment (`all`, or the uuids that a device plugin gave), mounts
the driver's libraries and device files into it, and hands it to runc. This one does that with the NVML stand-in and its
scenario, from the folder in which it lies; without device files, which the stand-in has not.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
SCENARIO = "/run/nvml-stand-in"  # where the stand-in looks by default


def add_driver(bundle: Path) -> None:
    """To the container's specification (config.json of the OCI), where it asks for GPUs."""
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    environment = dict(line.partition("=")[::2] for line in spec["process"].get("env", []))
    asks = environment.get("NVIDIA_VISIBLE_DEVICES", "void")
    if asks in ("", "void", "none"):
        return
    options = ["rbind", "ro", "nosuid", "nodev"]
    for source, target in ((HERE / "libnvidia-ml.so.1", LIBRARY), (HERE / "scenario", SCENARIO)):
        spec["mounts"].append({"destination": target, "type": "bind", "source": str(source), "options": options})
    path.write_text(json.dumps(spec))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "create" in arguments:
        add_driver(Path(arguments[arguments.index("--bundle") + 1]))
    os.execv("/usr/sbin/runc", ["runc", *arguments])  # noqa: S606 - this is what it stands for
