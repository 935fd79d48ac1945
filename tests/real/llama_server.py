"""A real llama-server on a tiny random model, and clients that add up what its answers say."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness import free_port, get, wait_until
from real.build_llama_server import build
from real.tiny_model import write_tiny_model

CLIENTS = 4


class LlamaServer:
    """A real llama-server on a tiny random model, its output appended to `log`. `starts`: now; else who has it starts
    `command`, also as another user where `folder` is open to that one: `copies` the program there."""

    def __init__(self, folder: Path, log: Path, *, starts: bool = True, copies: bool = False) -> None:
        model = folder / "tiny.gguf"
        write_tiny_model(model)
        self.port = free_port()
        self._log = log
        program = build(Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
        if copies:
            program = Path(shutil.copy(program, folder))
        self.program = program
        self._call = [str(program), "-m", str(model), "--port", str(self.port), "--host", "127.0.0.1"]
        self._call += ["-np", str(CLIENTS), "-c", "4096", "--no-webui", "--metrics"]
        if starts:
            self.start()

    @property
    def command(self) -> str:
        """For a shell, its output in its log."""
        return f"{shlex.join(self._call)} >>{shlex.quote(str(self._log))} 2>&1"

    def command_as(self, program: str) -> str:
        """For another place of the program, such as a container; its output goes where that has it."""
        return shlex.join([program, *self._call[1:]])

    def start(self) -> None:
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(self._call, stdout=out, stderr=out)
        self.wait()

    def wait(self) -> None:
        wait_until(self._ready, what="llama-server is ready")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It writes nothing meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _ready(self) -> bool:
        try:
            return b"ok" in get(f"http://127.0.0.1:{self.port}/health")
        except OSError:
            return False

    def complete(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens, "seed": 1}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body)
        with urllib.request.urlopen(request, timeout=600) as answer:
            usage: dict[str, Any] = json.load(answer)["usage"]
            return usage


class Load:
    """Clients that keep the server busy and add up the `usage` of every answer."""

    def __init__(self, server: LlamaServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.sums = {"prompt": 0, "cached": 0, "completion": 0, "requests": 0}
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int) -> None:
        chosen = random.Random(seed)
        prefix = "all clients begin alike so that the cache has something to do " * 3
        while not self._stop.is_set():
            prompt = prefix[: chosen.randrange(1, len(prefix))] + str(chosen.random())
            usage = self._server.complete(prompt, chosen.randrange(1, 200))
            with self._lock:
                self.sums["prompt"] += usage["prompt_tokens"]
                self.sums["cached"] += usage["prompt_tokens_details"]["cached_tokens"]
                self.sums["completion"] += usage["completion_tokens"]
                self.sums["requests"] += 1
            self._stop.wait(0.02)

    def wait_for(self, requests: int) -> None:
        """Until so many more have been answered."""
        before = self.sums["requests"]
        wait_until(lambda: self.sums["requests"] >= before + requests, 600, f"{requests} requests are answered")

    def finish(self) -> dict[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.sums
