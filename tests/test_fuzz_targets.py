"""The seeds of the fuzzer, some thousand changes to them, and what it once found: nothing raises but what is documented."""

import random
from pathlib import Path

import pytest

from fuzz_targets import TARGETS, seeds

FOUND = Path(__file__).parent / "fixtures" / "fuzz"
"""Named by target: what broke it before it was mended."""
CHANGES = 40


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_changes_to_them(target: str) -> None:
    chosen = random.Random(target)
    for seed in seeds(target)[:30]:
        TARGETS[target](seed)
        for _ in range(CHANGES):
            changed = bytearray(seed)
            for _ in range(chosen.randrange(1, 4)):
                at = chosen.randrange(len(changed))
                changed[at : at + chosen.choice([0, 1, 9])] = chosen.randbytes(chosen.choice([0, 1, 4]))
                if not changed:
                    break
            TARGETS[target](bytes(changed))


@pytest.mark.parametrize("path", sorted(FOUND.glob("*-*")), ids=lambda path: str(path.name))
def test_what_was_found_stays_mended(path: Path) -> None:
    TARGETS[path.name.partition("-")[0]](path.read_bytes())
