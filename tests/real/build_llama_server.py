"""Build a real llama-server from the llama.cpp source that PyPI's llama-cpp-python carries; once, into a cache.

Usage: build_llama_server.py CACHE_FOLDER. About 10 minutes on 2 cores the first time, nothing after.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also as a script

from real.cache_lock import alone

VERSION = "0.3.36"


def binary(cache: Path, program: str) -> Path:
    return cache / f"{program}-{VERSION}"


def build(cache: Path, program: str = "llama-server") -> Path:
    """`llama-server`, or `llama`, the single binary with `llama serve`."""
    target = binary(cache, program)
    with alone(cache, program):
        if not target.exists():
            _build(target, program)
    return target


def _build(target: Path, program: str) -> None:
    with tempfile.TemporaryDirectory(prefix="llama-build-") as work:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*fetch, "--dest", work, f"llama-cpp-python=={VERSION}"], check=True)
        # tar itself, because Debian's Python 3.11.2 has no tarfile filter yet.
        subprocess.run(["tar", "-xzf", next(Path(work).glob("llama_cpp_python-*.tar.gz")), "-C", work], check=True)
        source = next(Path(work).glob("llama_cpp_python-*/vendor/llama.cpp"))
        options = "-DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF"
        made_by = {"llama-server": "llama-server", "llama": "llama-app"}[program]
        configure = ["cmake", "-G", "Ninja", "-B", "build", *options.split(), "-DBUILD_SHARED_LIBS=OFF"]
        subprocess.run(configure, cwd=source, check=True, stdout=subprocess.DEVNULL)
        print(f"building {program}, about 10 minutes on 2 cores", flush=True)
        make = ["cmake", "--build", "build", "--target", made_by, "-j", str(os.cpu_count() or 2)]
        subprocess.run(make, cwd=source, check=True, stdout=subprocess.DEVNULL)
        shutil.copy2(source / "build" / "bin" / program, target.with_suffix(".new"))
        target.with_suffix(".new").rename(target)


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
