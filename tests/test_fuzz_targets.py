"""The seeds of the fuzzer, some thousand changes to them, and what it once found: nothing raises but what is documented."""

import contextlib
import os
import random
from pathlib import Path

import pytest

from fuzz_documents import CHANGES, NoDocument
from fuzz_targets import KINDS, TARGETS, seeds

FOUND = Path(__file__).parent / "fixtures" / "fuzz"
"""Named by target: what broke it before it was mended."""
TRIES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "400"))
"""Of one target, over all its seeds."""


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_changes_to_them(target: str) -> None:
    chosen = random.Random(target)
    sound = seeds(target)
    for seed in sound:
        TARGETS[target](seed)
        for _ in range(TRIES // len(sound)):
            changed = bytearray(seed)
            for _ in range(chosen.randrange(1, 4)):
                at = chosen.randrange(len(changed))
                changed[at : at + chosen.choice([0, 1, 9])] = chosen.randbytes(chosen.choice([0, 1, 4]))
                if not changed:
                    break
            TARGETS[target](bytes(changed))


@pytest.mark.parametrize("target", CHANGES)
def test_documents_with_other_values(target: str) -> None:
    chosen = random.Random(target)
    sound = seeds(target)
    for seed in sound:
        for _ in range(TRIES // len(sound)):
            with contextlib.suppress(NoDocument):
                TARGETS[target](CHANGES[target](seed, chosen))


@pytest.mark.parametrize("path", sorted(FOUND.glob("*-*")), ids=lambda path: str(path.name))
def test_what_was_found_stays_mended(path: Path) -> None:
    target, data = path.name.partition("-")[0], path.read_bytes()
    TARGETS[target](data)
    if target == "logs":  # the first byte chooses the dialect: whatever dialects there are, it is played to each
        for first in range(len(KINDS)):
            TARGETS[target](bytes([first]) + data[1:])
