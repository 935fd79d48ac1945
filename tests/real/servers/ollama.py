"""Ollama, from its Go module, with a tiny model made from a file."""

import os
import shutil
import subprocess
from pathlib import Path

from real.servers.server import RealServer
from real.tiny_model import write_tiny_model

TEMPLATE = "{{ .Prompt }}"


def start(folder: Path, cache: Path) -> RealServer:
    program = shutil.which("ollama") or str(cache / "ollama" / "ollama")
    model = folder / "tiny.gguf"
    write_tiny_model(model)
    (folder / "Modelfile").write_text(f'FROM {model}\nTEMPLATE """{TEMPLATE}"""\n')
    env = {"OLLAMA_MODELS": str(folder / "models"), "HOME": str(folder), "GIN_MODE": "release"}

    def call(port: int) -> list[str]:
        env["OLLAMA_HOST"] = f"127.0.0.1:{port}"
        return [program, "serve"]

    server = RealServer(
        "ollama", call, folder, model="tiny", version="0.17.4", ready_path="/api/version", metrics_path=None, env=env
    )
    subprocess.run(
        [program, "create", "tiny", "-f", str(folder / "Modelfile")],
        env={**os.environ, **env},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return server
