"""What the page shows of the catalogue of buckets: a module with their names, titles and order, and their colors."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenyield_collector.statements import buckets
from tokenyield_collector.web.page import STATIC

_SOURCE = "Made by `make docs` from statements/buckets.py; do not edit."
_LISTS = {
    "BUCKETS": ("The waterfall of a report.", buckets.BUCKETS),
    "COSTS": ("What the cost of a row consists of.", buckets.COSTS),
    "LIVE_BUCKETS": ("The waterfall of the live window.", buckets.LIVE_BUCKETS),
    "IDLE_CAPACITY": ("Capacity that is paid for while nothing runs on it.", buckets.IDLE_CAPACITY),
    "LOST": ("What made no tokens, or fewer than it could.", buckets.LOST),
}


def module() -> str:
    catalogue = {bucket.name: {"title": bucket.title, "meaning": bucket.meaning} for bucket in buckets.CATALOGUE}
    return (
        f"// @ts-check\n// {_SOURCE}\n\n"
        "/** @type {Record<string, { title: string, meaning: string }>} */\n"
        f"export const CATALOGUE = {json.dumps(catalogue, indent=2)};\n"
        + "".join(_constant(name, meaning, names) for name, (meaning, names) in _LISTS.items())
    )


def _constant(name: str, meaning: str, names: Iterable[str]) -> str:
    return f"\n/** {meaning} */\nexport const {name} = {json.dumps(list(names))};\n"


def style() -> str:
    colors = "".join(f"  --{bucket.name}: {bucket.color};\n" for bucket in buckets.CATALOGUE)
    classes = "".join(f".c-{bucket.name} {{ background: var(--{bucket.name}); }}\n" for bucket in buckets.CATALOGUE)
    return f"/* {_SOURCE} */\n:root {{\n{colors}}}\n{classes}"


def pages() -> dict[Path, str]:
    """Files of the page -> their expected text."""
    return {STATIC / "js" / "buckets.js": module(), STATIC / "buckets.css": style()}
