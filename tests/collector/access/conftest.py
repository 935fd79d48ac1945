"""A collector with a token file, and certificates, for the tests of this folder."""

from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificates
from collector.access.client import TOKENS
from harness import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("access")
    (folder / "tokens").write_text(TOKENS)
    running = Stack(folder, collector={"token_file": str(folder / "tokens"), "agent_batches_per_s": 1, "body_wait_s": 1,
                                       "connections_max": 40})  # fmt: skip
    running.start_collector()
    yield running
    running.kill_all()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder
