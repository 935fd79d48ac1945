"""NVIDIA Dynamo: its frontend, and its mocker as the worker behind it; they find each other by files."""

import shlex
import subprocess
from pathlib import Path

from real.own_venv import PROGRAMS, python_of
from real.servers.server import RealServer

MODEL = Path(__file__).parents[1] / "tiny_hf_model.py"

COUNTERS = {
    "completion": ["dynamo_frontend_output_sequence_tokens_sum"],
    "prompt": [
        "dynamo_frontend_tokenizer_cache_cached_tokens_total",
        "dynamo_frontend_tokenizer_cache_uncached_tokens_total",
    ],
}


def start(folder: Path, cache: Path) -> RealServer:
    python = python_of("dynamo", cache)
    subprocess.run([python, MODEL, folder], check=True)
    worker = f"{python} -m dynamo.mocker --model-path {folder / 'tiny'} --model-name tiny --discovery-backend file"

    def call(port: int) -> list[str]:
        frontend = f"{python} -m dynamo.frontend --http-port {port} --discovery-backend file"
        return ["/bin/sh", "-c", f"{worker} > {shlex.quote(str(folder / 'mocker.log'))} 2>&1 & exec {frontend}"]

    env = {"DYN_FILE_KV": str(folder / "discovery"), "DYN_LOGGING_JSONL": "false", "DYN_LOG": "info"}
    server = RealServer("dynamo", call, folder, model="tiny", version=PROGRAMS["dynamo"][0], env=env, counters=COUNTERS)
    server.wait_for_model()
    return server
