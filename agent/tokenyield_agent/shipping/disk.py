"""The few writes that the spool does: what is durable when they return, and what a fault leaves behind.

Raises OSError. Tests put another one in its place, which tears writes, fills up, and dies.
"""

import contextlib
import os
from pathlib import Path

from tokenyield_settings.private_files import sync_folder


class Disk:
    """The file system."""

    def create(self, path: Path, data: bytes) -> None:
        """A new file with this content: whole or not there at all, and durable."""
        fresh = path.with_suffix(".new")
        try:
            self._write(fresh, data)
            fresh.rename(path)
            self._sync_folder(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise

    def append(self, path: Path, offset: int, data: bytes) -> None:
        """Write at `offset`, where the file ends. Durable when it returns; after an error the file is as
        before, if at all possible."""
        try:
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, offset)
            raise

    def replace(self, path: Path, data: bytes) -> None:
        """The old content or the new one, whole; after a power failure perhaps the old one, or none."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(path)

    def truncate(self, path: Path, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.truncate(path, size)

    def delete(self, path: Path) -> None:
        """A file that is not there is deleted already."""
        path.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _sync_folder(self, folder: Path) -> None:
        sync_folder(folder)
