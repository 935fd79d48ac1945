"""Lets atheris look for bytes that break a target of fuzz_targets.py.

    python tests/fuzz.py logs --seconds 3600

Its corpus grows in build/fuzz/TARGET and serves again. What breaks a target is kept there as crash-…; play it again with
`--input FILE`. Where a target reads documents, half of the changes are made to values (fuzz_documents.py), for bytes
changed at random seldom get past the parser.
"""

import argparse
import contextlib
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path

from fuzz_documents import CHANGES, Change, NoDocument

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("agent", "collector", "tests")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("batches", "spool", "logs", "endpoints", "prices", "rules"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input", type=Path, help="play this file and nothing else")
    arguments = parser.parse_args()
    if arguments.input:
        import fuzz_targets

        fuzz_targets.TARGETS[arguments.target](arguments.input.read_bytes())
        return
    import atheris

    ours = ["tokenyield_agent", "tokenyield_collector", "tokenyield_settings", "tokenyield_wire", "fuzz_targets"]
    with atheris.instrument_imports(include=ours):
        import fuzz_targets
    corpus = ROOT / "build" / "fuzz" / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(fuzz_targets.seeds(arguments.target)):
        (corpus / f"seed-{i}").write_bytes(seed)
    logging.disable()
    flags = [f"-max_total_time={arguments.seconds}", f"-artifact_prefix={corpus}/", "-max_len=16384", "-timeout=60", "-rss_limit_mb=3000",
             "-print_final_stats=1", "-verbosity=0"]  # fmt: skip
    more = {"custom_mutator": _mutator(CHANGES[arguments.target])} if arguments.target in CHANGES else {}
    atheris.Setup([sys.argv[0], str(corpus), *flags], fuzz_targets.TARGETS[arguments.target], **more)
    atheris.Fuzz()


def _mutator(change: Change) -> Callable[[bytes, int, int], bytes]:
    import atheris

    def mutated(data: bytes, size_max: int, seed: int) -> bytes:
        chosen = random.Random(seed)
        new = None
        if chosen.random() < 0.5:
            with contextlib.suppress(NoDocument):
                new = change(data, chosen)
        if new is None or len(new) > size_max:
            new = bytes(atheris.Mutate(data, size_max))  # another function than before Fuzz()
        return new

    return mutated


if __name__ == "__main__":
    main()
