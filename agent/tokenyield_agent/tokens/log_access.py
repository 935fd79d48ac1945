"""Opening a log that a tenant may have put something else in the place of.

In: the path of a log, and the folders to which links may lead. Out: an open file, or an OSError in words. A tenant may
move, replace and link files in its own folder while the agent, which may read more, follows one of them. So:

* A file is opened by its name in its folder, never through a link at the end of its path; and the folder is the one
  that it was at first, wherever links in its path lead now.
* A link is followed only where root owns it and its target lies below one of `roots` (kubelets on Docker link from
  /var/log/pods to /var/lib/docker/containers). Inside a container's own files, seen through /proc/PID/root, none is:
  there root is the tenant.
* All files of a log have one owner, that of the first; another one only where nobody but root can have put it there.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable

_OF_CONTAINER = re.compile(r"^(?P<root>.*/\d+/root)/")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW  # a pipe must not block the readings


class LogAccess:
    """Of one log and what it is rotated to, all in `folder`. `owner` (uid) where it is known already."""

    def __init__(self, folder: str, roots: Iterable[str] = (), owner: int | None = None) -> None:
        self._folder = folder
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._owner = owner
        self._real: tuple[str, int] | None = None
        """The folder's own path and device."""
        container = _OF_CONTAINER.match(f"{folder}/")
        self._container = container["root"] if container else None

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A regular file in the folder. Raises OSError."""
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check_folder(folder)
            descriptor = self._open(path, folder)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(None, "is not a regular file")
                self._check_owner(status, os.fstat(folder))
            except OSError:
                os.close(descriptor)
                raise
            return descriptor, status
        finally:
            os.close(folder)

    def _check_folder(self, folder: int) -> None:
        real = (os.readlink(f"/proc/self/fd/{folder}"), os.fstat(folder).st_dev)
        if self._real is None:
            self._check_links()
            self._real = real
        elif real != self._real:
            raise OSError(None, f"its folder leads to {real[0]} now; expected {self._real[0]}")

    def _check_links(self) -> None:
        """Links in the folder's path are root's."""
        at = self._container or ""
        for part in self._folder.removeprefix(at).split("/"):
            at = f"{at}/{part}" if part else at
            if not part or not os.path.islink(at):
                continue
            if self._container is not None:
                raise OSError(None, f"its folder is reached through a link in a container, {at}; none is followed")
            if os.lstat(at).st_uid != 0:
                raise OSError(None, f"its folder is reached through the link {at}, which root does not own")

    def _open(self, path: str, folder: int) -> int:
        name = os.path.basename(path)
        try:
            return os.open(name, _FLAGS, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        if self._container is not None or os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid != 0:
            raise OSError(None, "is a link that root does not own, and is not followed; name the file itself")
        target = os.path.realpath(path)
        if not any(target.startswith(f"{root}/") for root in self._roots):
            raise OSError(None, f"is a link to {target}, which lies in no folder of log_roots, and is not followed")
        descriptor = os.open(target, _FLAGS)
        if os.readlink(f"/proc/self/fd/{descriptor}") != target:
            os.close(descriptor)
            raise OSError(None, "is a link whose target changes, and is not followed")
        return descriptor

    def _check_owner(self, status: os.stat_result, folder: os.stat_result) -> None:
        only_root = folder.st_uid == 0 and not folder.st_mode & stat.S_IWOTH
        if self._owner is not None and status.st_uid != self._owner and not only_root:
            raise OSError(
                None, f"belongs to another user than before: expected uid {self._owner}, found {status.st_uid}"
            )
        self._owner = status.st_uid
