"""Files that one program keeps for itself (tokens, keys, journals): mode 0600, whole or not there at all, durable.

Where root runs a command in the folder of a program, what it makes is that program's. All functions raise OSError.
"""

import contextlib
import os
from pathlib import Path


def prepare_folder(folder: Path, *, mode: int, user: str) -> None:
    """Make it where it is not there; where root does, for `user`, if there is such a user."""
    if folder.exists():
        return
    folder.mkdir(mode=mode, parents=True)
    if os.geteuid() == 0:
        import shutil  # only at an installation

        with contextlib.suppress(LookupError):
            shutil.chown(folder, user, user)


def give_to_owner(descriptor: int, folder: Path) -> None:
    """An open file to the owner of the folder that it is in."""
    owner = folder.stat()
    if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, os.getegid()):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def write_private(path: Path, data: bytes, *, replaces: bool = True) -> None:
    """`path` with this content, in the place of an older file; one that is there stays where this is not to replace
    it."""
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            give_to_owner(file.fileno(), path.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            fresh.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)  # unlike a rename it takes no other's place
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Which files it has, and under which names, is durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
