"""One process at a time makes a thing of the cache; the others wait for it, and then find it there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(cache: Path, name: str) -> Iterator[None]:
    """`name`: of what is made in `cache`. Held until the process ends, at the latest."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
