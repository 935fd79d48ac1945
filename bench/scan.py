"""How fast a log is scanned for its few statistics lines: this project's vLLM dialect, mtail and GNU grep in one run.

The logs are 200 MB with one statistics line in 500: one as vLLM writes it with --enable-log-requests (a request line and
an access line for each request), one of access lines alone, the shortest lines and so the most statistics there can be.
All three read the same file from the page cache on one core. Ours parses it and counts the tokens; grep only finds the lines; mtail, the field's log
to metrics daemon, runs the same pattern as a program and counts too. mtail and grep are measured where installed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenyield_agent.tokens.offline import read_log

ONE_IN = 500
MTAIL = """
counter completion_tokens
/Avg prompt throughput: (?P<prompt>\\d+\\.\\d+) tokens\\/s, Avg generation throughput: (?P<generation>\\d+\\.\\d+) tokens\\/s/ {
  completion_tokens += $generation * 10.0
}
"""


ACCESS = b'INFO:     10.1.2.3:48682 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
RECEIVED = (
    b"(APIServer pid=1) INFO 11-23 12:02:22 [logger.py:43] Received request chatcmpl-0e5f7c0a4b5d4bb8a0a5a6a3c9e8d7f6: "
    b"params: SamplingParams(n=1, presence_penalty=0.0, frequency_penalty=0.0, repetition_penalty=1.0, temperature=0.7, "
    b"top_p=0.95, top_k=-1, min_p=0.0, seed=None, stop=[], stop_token_ids=[], bad_words=[], ignore_eos=False, "
    b"max_tokens=1024, min_tokens=0, logprobs=None, skip_special_tokens=True, spaces_between_special_tokens=True, "
    b"truncate_prompt_tokens=None, guided_decoding=None, extra_args=None), lora_request: None.\n"
)


def write_log(path: Path, megabytes: int, filler: bytes) -> None:
    """`filler` lines with one statistics line in `ONE_IN`."""
    lines_in_filler = filler.count(b"\n")
    with path.open("wb") as file:
        file.write(
            b"(APIServer pid=1) INFO 11-01 00:00:00 [utils.py:286] non-default args: {'served_model_name': ['llama']}\n"
        )
        clock = 0
        while file.tell() < megabytes * 1_000_000:
            clock += 10
            stamp = f"11-{1 + clock // 86400:02} {clock // 3600 % 24:02}:{clock // 60 % 60:02}:{clock % 60:02}"
            line = (
                f"(APIServer pid=1) INFO {stamp} [loggers.py:335] Engine 000: Avg prompt throughput: 608.9 tokens/s, "
                "Avg generation throughput: 1073.9 tokens/s, Running: 4 reqs, Waiting: 0 reqs, "
                "GPU KV cache usage: 0.1%, Prefix cache hit rate: 33.5%\n"
            )
            file.write(filler * ((ONE_IN - 1) // lines_in_filler) + line.encode())


def measure(run: Callable[[], object], size: int, runs: int) -> dict[str, Any]:
    seconds = []
    for _ in range(runs):
        started_s = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started_s)
    rates = sorted(size / s / 1e9 for s in seconds)
    return {"gb_per_second": round(statistics.median(rates), 3), "spread": [round(rates[0], 3), round(rates[-1], 3)]}


def scan(folder: Path, megabytes: int, runs: int, filler: bytes) -> dict[str, Any]:
    log = folder / "vllm.log"
    write_log(log, megabytes, filler)
    size = log.stat().st_size
    log.read_bytes()
    totals = read_log(log, "vllm")
    assert totals.completion is not None
    assert abs(totals.completion - totals.events * 10_739) <= 1
    found: dict[str, Any] = {"bytes": size, "events": totals.events, "requests": totals.requests}
    found["tokenyield"] = measure(lambda: read_log(log, "vllm"), size, runs)
    if shutil.which("grep"):
        call = ["grep", "-c", "-F", "generation throughput: ", str(log)]
        # Into a pipe: grep stops at the first match when it writes to /dev/null.
        env = {**os.environ, "LC_ALL": "C"}
        grep = measure(lambda: subprocess.run(call, check=True, capture_output=True, env=env), size, runs)
        found["gnu_grep"] = grep
    if shutil.which("mtail"):
        program = folder / "vllm.mtail"
        program.write_text(MTAIL)
        call_mtail = ["mtail", "--one_shot", "--progs", str(program), "--logs", str(log), "--stderrthreshold", "3"]

        def mtail() -> None:
            subprocess.run(call_mtail, check=True, capture_output=True, cwd=folder)

        found["mtail"] = measure(mtail, size, min(runs, 3))
        ours, theirs = found["tokenyield"]["gb_per_second"], found["mtail"]["gb_per_second"]
        found["times_mtail"] = round(ours / theirs, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, for us and what we start
    with tempfile.TemporaryDirectory() as folder:
        result = {
            name: scan(Path(folder), arguments.megabytes, arguments.runs, filler)
            for name, filler in (("requests_logged", RECEIVED + ACCESS), ("access_lines_only", ACCESS))
        }
    print(json.dumps({"bench": "scan", **result}, indent=2))


if __name__ == "__main__":
    main()
