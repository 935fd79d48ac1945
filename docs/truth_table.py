"""The table of docs/dialects.md that shows what bench/truth.py measured on real servers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "bench" / "results-truth.json"
HEAD = """
## Measured on real servers
`python bench/truth.py`, {at}: each server real, on the CPU with a tiny random model, and watched by three agents at once: by its counters, by its log,
and by both while its endpoint goes away and comes back every three seconds. What stands beside is the sum of `usage` in all answers; of clients that went
away there is none, so that the server's own counters stand there. `=` is equal to the last token.

| server | load | path | completion tokens | prompt tokens | requests |
|---|---|---|---|---|---|
"""
LOADS = {
    "plain": "completions and chats",
    "streams": "the same, streamed",
    "choices": "three choices each",
    "gone": "clients that go away",
}


def section() -> str:
    results = json.loads(RESULTS.read_text())
    return HEAD.format(at=results["date"]) + "".join(_row(row) for row in results["rows"])


def _row(row: Mapping[str, Any]) -> str:
    answers, own, counted = row["answers"], row["own_counters"], row["counted"]
    cells = [
        f"{row['server']} {row['version']}".strip(),
        LOADS[row["load"]],
        row["path"],
        _against(counted["completion"], answers.get("completion"), own.get("completion")),
        _prompt(counted, answers, own),
        _requests(counted, answers),
    ]
    return f"| {' | '.join(cells)} |\n"


def _prompt(counted: Mapping[str, int | None], answers: Mapping[str, int], own: Mapping[str, int]) -> str:
    """Of a path that does not report what the cache served, the computed part alone."""
    if counted["prompt_cached"] is not None or "prompt_cached" not in own:
        return _against(counted["prompt"], answers.get("prompt"), own.get("prompt"))
    return f"computed {_against(counted['prompt_computed'], None, own['prompt'] - own['prompt_cached'])}"


def _against(counted: int | None, answers: int | None, own: int | None) -> str:
    if not counted:
        return "unknown"
    parts = [
        _difference(counted, value, name) for value, name in ((answers, "answers"), (own, "its counters")) if value
    ]
    return f"{counted:,}: {', '.join(parts)}" if parts else f"{counted:,}"


def _difference(counted: int, truth: int, name: str) -> str:
    return f"= {name}" if counted == truth else f"{100 * (counted - truth) / truth:+.1f} % of {name}"


def _requests(counted: Mapping[str, int | None], answers: Mapping[str, int]) -> str:
    names = {"requests": "answered", "requests_aborted": "aborted", "requests_failed": "failed"}
    parts = [f"{value:,} {name}" for kind, name in names.items() if (value := counted[kind])]
    made = answers.get("requests") or answers.get("left") or 0
    return f"{', '.join(parts) or 'unknown'}; sent {made:,}"
