"""The recordings in tests/fixtures, and what must come of them (tests/fixtures/README.md).

Out: a list for each kind of recording, whose entries name it by its folder: "vllm/v1-engines".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = sorted([*(FIXTURES / "servers").iterdir(), *(FIXTURES / "gateways").iterdir()])
EXPECTED: dict[str, dict[str, Any]] = {
    folder.name: yaml.safe_load((folder / "expected.yaml").read_text()) for folder in FOLDERS
}


@dataclass(frozen=True)
class Recording:
    """One file, and what expected.yaml holds of it."""

    path: Path
    expected: dict[str, Any]

    @property
    def dialect(self) -> str:
        return self.path.parent.name

    def __str__(self) -> str:
        return f"{self.dialect}/{self.path.stem}"

    @property
    def body(self) -> bytes:
        return self.path.read_bytes()


def _recordings(section: str, suffix: str) -> list[Recording]:
    return [
        Recording(folder / f"{stem}{suffix}", expected)
        for folder in FOLDERS
        for stem, expected in EXPECTED[folder.name].get(section, {}).items()
    ]


LOGS = _recordings("logs", ".log")
PAGES = _recordings("pages", ".prom")
RUNS = {folder.name: folder / "run" for folder in FOLDERS if "run" in EXPECTED[folder.name]}
COMMANDS = [
    (command, name, port)
    for name, expected in EXPECTED.items()
    for command, port in expected.get("commands", {}).items()
]
TRAPS = (FIXTURES / "traps.log").read_bytes()
