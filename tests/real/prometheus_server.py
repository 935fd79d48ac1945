"""A real Prometheus in a folder: started, asked, stopped."""

import contextlib
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import answers, free_port, wait_until


class Prometheus:
    """One that runs, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: Any) -> Any:
        """The `data` of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert found["status"] == "success", found
        assert not found.get("warnings"), found
        return found["data"]

    def values(self, query: str, at_s: float | None = None) -> list[float]:
        """The values of an instant query."""
        found = self.ask("query", query=query, **({} if at_s is None else {"time": at_s}))
        return [float(row["value"][1]) for row in found["result"]]


@contextlib.contextmanager
def running(folder: Path, config: str, *flags: str, blocks_of: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """With the samples of OpenMetrics files `blocks_of` in its past."""
    file, data = folder / "prometheus.yml", folder / "tsdb"
    file.write_text(config)
    for source in blocks_of:
        call = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(data)]
        made = subprocess.run(call, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    port = free_port()
    call = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={data}", *flags]
    with (folder / "prometheus.out").open("wb") as out:
        process = subprocess.Popen([*call, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), what="Prometheus is ready")
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()
