"""What can never be shipped, kept for a person to look at: `state_dir/rejected`.

In: a batch or record as bytes, and why. Out: a file, as far as there is room for it, and a count. Never raises.
"""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

FILES_MAX = 100
"""Beyond this many they are only counted."""


class Aside:
    """The folder. `reason` is the newest one, in words for people."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reason: str | None = None

    def keep(self, name: str, data: bytes, reason: str) -> None:
        """Under this name, unless it is there already."""
        self.reason = reason
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            if len(list(self.folder.iterdir())) < FILES_MAX:
                (self.folder / name).write_bytes(data)
        except OSError as error:
            log.error("%s cannot be set aside: %s", name, error)
        log.error("set aside as %s, for it can never be shipped: %s", name, reason)
