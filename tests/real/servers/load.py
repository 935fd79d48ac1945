"""Clients of a real server that add up what its answers say: plain, streamed, `n` choices, and clients that go away."""

import json
import random
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Mapping
from typing import Any

from real.servers.server import RealServer

CLIENTS = 3
PREFIX = "all clients begin alike so that the cache has something to do " * 3
KINDS = ("plain", "streams", "choices", "gone")
"""Kinds of load: completions and chats; the same as streams with their usage; three choices each; streams that the client
leaves in the middle."""
CHOICES = 3


class Truth:
    """Sums of `usage` over all answers, by several threads; of clients that went away, how many, and what they saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sums: Counter[str] = Counter()

    def add(self, amounts: Mapping[str, int]) -> None:
        with self._lock:
            self.sums.update(amounts)


def usage_of(document: Mapping[str, Any]) -> dict[str, int]:
    """Prompt with what was cached, and completion: OpenAI's words."""
    usage = document["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return {
        "prompt": usage["prompt_tokens"],
        "cached": details.get("cached_tokens") or 0,
        "completion": usage.get("completion_tokens") or 0,
    }


def drive(server: RealServer, kind: str, seconds: float) -> Truth:
    """Load of one kind for so long."""
    truth = Truth()
    ends_s = time.monotonic() + seconds
    threads = [threading.Thread(target=_client, args=(server, kind, ends_s, seed, truth)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return truth


def _client(server: RealServer, kind: str, ends_s: float, seed: int, truth: Truth) -> None:
    chosen = random.Random(f"{kind}{seed}")
    while time.monotonic() < ends_s:
        text = PREFIX[: chosen.randrange(1, len(PREFIX))] + str(chosen.random())
        path, body = "/v1/completions", {"prompt": text, "max_tokens": chosen.randrange(4, 60), "seed": 1}
        if chosen.random() < 0.5:
            path, body = "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}]}
            del body["prompt"]
        try:
            if kind == "gone":
                truth.add(_left(server, path, {**body, "max_tokens": 400}))
            elif kind == "streams":
                truth.add(_streamed(server, path, body))
            else:
                if kind == "choices":
                    body |= {"n": CHOICES, "temperature": 1.0}
                with server.post(path, body) as answer:
                    truth.add({**usage_of(json.load(answer)), "requests": 1})
        except urllib.error.HTTPError as error:
            truth.add({"refused": 1, f"status_{error.code}": 1})
            time.sleep(0.2)
        time.sleep(0.02)


def _streamed(server: RealServer, path: str, body: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    with server.post(path, {**body, "stream": True, "stream_options": {"include_usage": True}}) as answer:
        for line in answer:
            text = line.removeprefix(b"data: ").strip()
            if text.startswith(b"{") and (document := json.loads(text)).get("usage"):
                found = usage_of(document)
    return {**found, "requests": 1}


def _left(server: RealServer, path: str, body: dict[str, Any]) -> dict[str, int]:
    """A client that closes its connection after some events; each event is a token or more."""
    events = 0
    with server.post(path, {**body, "stream": True}) as answer:
        for line in answer:
            events += line.startswith(b"data: {")
            if events >= 8:
                break
    return {"left": 1, "completion_seen": events}
