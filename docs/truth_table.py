"""The table of docs/dialects.md that shows what bench/truth.py measured on real servers."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "bench" / "results-truth.json"
HEAD = """
## Measured on real servers
`python bench/truth.py`, {at}: each server is real, on the CPU with a tiny random model, and five agents watch it at once: by its counters, by its log, by the
same log as a pod's with rotation, by the same in systemd's journal, and by counters and log (`both`) while the endpoint goes away and comes back every three
seconds. What is counted stands before the colon; `=` is equal to the last token. Beside it stand the server's own counters where it has any, else the sum of
`usage` in all answers, which may be of one choice only; for clients that went away there is none.

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
    paths: dict[tuple[str, ...], list[str]] = {}
    for row in results["rows"]:
        paths.setdefault(_cells(row), []).append(row["path"])
    return HEAD.format(at=results["date"]) + "".join(_line(cells, same) for cells, same in paths.items())


def _line(cells: tuple[str, ...], paths: Iterable[str]) -> str:
    return f"| {' | '.join([*cells[:2], ', '.join(paths), *cells[2:]])} |\n"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    answers, own, counted = row["answers"], row["own_counters"], row["counted"]
    if row["load"] == "choices":  # `usage` may be of one choice only
        answers = {kind: count for kind, count in answers.items() if kind != "completion"}
    return (
        f"{row['server']} {row['version']}",
        LOADS[row["load"]],
        _against(counted["completion"], answers, own, "completion"),
        _prompt(counted, answers, own),
        _requests(counted, answers),
    )


def _prompt(counted: Mapping[str, int | None], answers: Mapping[str, int], own: Mapping[str, int]) -> str:
    """Of a path that does not report what the cache served, the computed part alone."""
    if counted["prompt_cached"] is not None or counted["prompt_computed"] is None or "prompt_cached" not in own:
        return _against(counted["prompt"], answers, own, "prompt")
    computed = {"prompt": own["prompt"] - own["prompt_cached"]}
    return f"computed only, {_against(counted['prompt_computed'], {}, computed, 'prompt')}"


def _against(counted: int | None, answers: Mapping[str, int], own: Mapping[str, int], kind: str) -> str:
    if not counted:
        return "unknown"
    name, truth = ("its counters", own[kind]) if kind in own else ("answers", answers.get(kind))
    if truth is None:
        return f"{counted:,}"
    difference = f"= {name}" if counted == truth else f"{100 * (counted - truth) / truth:+.1f} % of {name}"
    return f"{counted:,}: {difference}"


def _requests(counted: Mapping[str, int | None], answers: Mapping[str, int]) -> str:
    names = {"requests": "answered", "requests_aborted": "aborted", "requests_failed": "failed"}
    parts = [f"{value:,} {name}" for kind, name in names.items() if (value := counted[kind])]
    sent = answers.get("requests") or answers.get("left") or 0
    return f"{', '.join(parts) or 'unknown'}; sent {sent:,}"
