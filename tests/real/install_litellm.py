"""Installs LiteLLM's proxy in a virtual environment of its own in the cache: its pins would fight with ours.

python tests/real/install_litellm.py ~/.cache/tokenyield
"""

import subprocess
import sys
import venv
from pathlib import Path

VERSION = "1.106.2"


def install(cache: Path) -> Path:
    """The `litellm` program. Installs it the first time (two minutes)."""
    folder = cache / f"litellm-{VERSION}"
    program = folder / "bin" / "litellm"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        call = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*call, f"litellm[proxy]=={VERSION}"], check=True)
        (folder / ".installed").touch()
    return program


if __name__ == "__main__":
    print(install(Path(sys.argv[1]).expanduser()))
