"""A request to let go of the GPUs for a while, from the command line to the agent that runs: a file in `state_dir`.

In: until when. Out: the same, to the agent. The instant is the file's time of modification, so that whoever may write
there needs no right to be read: root asks, and the agent is another user. The agent removes the file when the driver is
closed; that is the receipt. A file works the same under systemd, in a container without a shell, and in a pod.
"""

import contextlib
import os
from pathlib import Path

RELEASE_S, RELEASE_S_MAX = 300, 3600
"""Longer than a reset or a driver's upgrade takes; the GPUs' time is unknown meanwhile."""


class ReleaseRequest:
    """The request of one agent's folder."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "release-gpus"

    def make(self, until_s: float) -> None:
        """`until_s` is Unix time; one that is over takes the GPUs up again. Raises OSError."""
        fresh = self._path.with_suffix(".new")
        fresh.touch()
        os.utime(fresh, (until_s, until_s))
        fresh.replace(self._path)

    def pending(self, now_s: float) -> float | None:
        """For how many seconds from `now_s` it is asked for, 0 where its time is over; None where there is none."""
        try:
            until_s = self._path.stat().st_mtime
        except OSError:
            return None
        return min(max(0.0, until_s - now_s), RELEASE_S_MAX)

    def remove(self) -> None:
        """It was done, or is given up."""
        with contextlib.suppress(OSError):
            self._path.unlink()
