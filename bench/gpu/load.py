"""Loads for one GPU, with torch and random weights: known duty cycles, and an LLM's prefill and decode apart.

    python bench/gpu/load.py duty --duty 0.5 --seconds 20 --log tokens.log
    python bench/gpu/load.py decode --batch 8 --seconds 20 --log tokens.log
    python bench/gpu/load.py prefill --batch 8 --seconds 20 --log tokens.log

Each second it appends `tokens prompt=P completion=C` to the log, as the agent's pattern `bench` reads it; when it is done
it prints JSON with what it did by its own count and, where Zeus is installed, the joules that Zeus measured.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LAYERS, WIDTH, HEADS, WORDS, PROMPT = 16, 2048, 16, 32_000, 512
"""About 1.1 billion weights."""
PERIOD_S = 0.5


class Counted:
    """Tokens by kind, told to the log once a second."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._told_at_s = time.monotonic()
        self._waiting = {"prompt": 0, "completion": 0}
        self.whole = {"prompt": 0, "completion": 0}

    def add(self, kind: str, tokens: int) -> None:
        self._waiting[kind] += tokens
        self.whole[kind] += tokens
        if time.monotonic() - self._told_at_s >= 1:
            self.tell()

    def tell(self) -> None:
        self._told_at_s = time.monotonic()
        if any(self._waiting.values()):
            self._file.write("tokens prompt={prompt} completion={completion}\n".format(**self._waiting))
        self._waiting = {"prompt": 0, "completion": 0}


def duty(torch: Any, seconds: float, part: float, counted: Counted) -> None:
    """Matrix products for `part` of every period."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    started_s = time.monotonic()
    while (now_s := time.monotonic()) - started_s < seconds:
        while time.monotonic() - now_s < PERIOD_S * part:
            for _ in range(4):
                a @ a
            torch.cuda.synchronize()
        time.sleep(max(0.0, now_s + PERIOD_S - time.monotonic()))


class Model:
    """A decoder with random weights: attention with a cache, and a gated feed-forward."""

    def __init__(self, torch: Any, batch: int, length: int) -> None:
        self._torch = torch
        self._place = {"device": "cuda", "dtype": torch.bfloat16}
        wide = WIDTH * 8 // 3 // 128 * 128
        new = self._random
        self._embed = new(WORDS, WIDTH)
        self._layers = [
            (new(WIDTH, 3 * WIDTH), new(WIDTH, WIDTH), new(WIDTH, 2 * wide), new(wide, WIDTH)) for _ in range(LAYERS)
        ]
        self._cache = torch.zeros(LAYERS, 2, batch, HEADS, length, WIDTH // HEADS, **self._place)
        self.length = length

    def _random(self, *shape: int) -> Any:
        return self._torch.randn(*shape, **self._place) * 0.02

    def step(self, words: Any, at: int) -> Any:
        """The next word of each row. `words`: (batch, new), standing at `at` of the cache."""
        functional = self._torch.nn.functional
        batch, new = words.shape
        x = self._embed[words]
        for layer, (qkv, out, up, down) in enumerate(self._layers):
            h = functional.rms_norm(x, (WIDTH,))
            q, k, v = (h @ qkv).view(batch, new, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            self._cache[layer, 0, :, :, at : at + new] = k
            self._cache[layer, 1, :, :, at : at + new] = v
            keys, values = self._cache[layer, :, :, :, : at + new]
            seen = functional.scaled_dot_product_attention(q, keys, values, is_causal=new > 1)
            x = x + seen.transpose(1, 2).reshape(batch, new, WIDTH) @ out
            gate, value = (functional.rms_norm(x, (WIDTH,)) @ up).chunk(2, -1)
            x = x + (functional.silu(gate) * value) @ down
        return (x[:, -1] @ self._embed.T).argmax(-1, keepdim=True)


def prefill(torch: Any, seconds: float, batch: int, counted: Counted) -> None:
    model = Model(torch, batch, PROMPT)
    words = torch.randint(WORDS, (batch, PROMPT), device="cuda")
    with torch.inference_mode():
        started_s = time.monotonic()
        while time.monotonic() - started_s < seconds:
            model.step(words, 0)
            torch.cuda.synchronize()
            counted.add("prompt", batch * PROMPT)


def decode(torch: Any, seconds: float, batch: int, counted: Counted) -> None:
    model = Model(torch, batch, 4 * PROMPT)
    with torch.inference_mode():
        word = model.step(torch.randint(WORDS, (batch, PROMPT), device="cuda"), 0)
        at, started_s = PROMPT, time.monotonic()
        while time.monotonic() - started_s < seconds:
            word = model.step(word, at)
            torch.cuda.synchronize()
            counted.add("completion", batch)
            at = at + 1 if at + 2 < model.length else PROMPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("duty", "prefill", "decode"))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--duty", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    import torch  # type: ignore[import-not-found]

    counted = Counted(arguments.log)
    loads: dict[str, Callable[[], None]] = {
        "duty": lambda: duty(torch, arguments.seconds, arguments.duty, counted),
        "prefill": lambda: prefill(torch, arguments.seconds, arguments.batch, counted),
        "decode": lambda: decode(torch, arguments.seconds, arguments.batch, counted),
    }
    zeus_joules = None
    try:
        from zeus.monitor import ZeusMonitor  # type: ignore[import-not-found]
    except ImportError:
        print("zeus is not installed: pip install zeus", file=sys.stderr)
        loads[arguments.kind]()
    else:
        monitor = ZeusMonitor(gpu_indices=[0])
        monitor.begin_window("load")
        loads[arguments.kind]()
        zeus_joules = monitor.end_window("load").total_energy
    counted.tell()
    print(json.dumps({"tokens": counted.whole, "zeus_joules": zeus_joules}))


if __name__ == "__main__":
    main()
