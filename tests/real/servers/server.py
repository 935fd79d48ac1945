"""A real inference server under test: a process, its log, its addresses."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import free_port, get, wait_until

START_TIMEOUT_S = 300.0
"""vLLM compiles nothing here (`--enforce-eager`), and still imports for a minute on a busy machine."""


class RealServer:
    """Started by `call`, its output appended to `log`, ready when `ready_path` answers 200."""

    def __init__(
        self,
        name: str,
        call: Callable[[int], Sequence[str]],
        folder: Path,
        *,
        model: str,
        version: str,
        ready_path: str = "/health",
        metrics_path: str | None = "/metrics",
        counters: Mapping[str, Sequence[str]] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.version = version
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self.metrics_path = metrics_path
        self._counters = counters or {}
        self._call = [str(part) for part in call(self.port)]
        self._folder = folder
        self._ready_path = ready_path
        self._env = {**os.environ, **(env or {})}
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self._call, stdout=out, stderr=out, cwd=self._folder, env=self._env, start_new_session=True
            )
        wait_until(self._is_ready, timeout_s=START_TIMEOUT_S, what=f"{self.name} is ready, see {self.log}")

    def stop(self) -> None:
        """It and all that it started: engines are processes of their own."""
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def own_counts(self) -> dict[str, int]:
        """The sums of its own counters, named by whoever started it; read without any code of the agent's."""
        if not self._counters:
            return {}
        assert self.metrics_path is not None
        page = get(self.url + self.metrics_path).decode()
        return {
            kind: round(
                sum(float(value) for name in names for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.M))
            )
            for kind, names in self._counters.items()
        }

    def wait_for_model(self) -> None:
        """Until it lists its model: a frontend answers before its workers do."""
        wait_until(
            lambda: self.model.encode() in get(f"{self.url}/v1/models"),
            timeout_s=START_TIMEOUT_S,
            what=f"{self.name} lists {self.model}",
        )

    def post(self, path: str, body: dict[str, Any], timeout_s: float = 120) -> Any:
        """The opened answer of a request; its status is in `.status`."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps({"model": self.model, **body}).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer none"},
        )
        return urllib.request.urlopen(request, timeout=timeout_s)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        try:
            get(self.url + self._ready_path)
            return True
        except (OSError, urllib.error.URLError):
            return False
