"""What is in a watched folder: SOURCE/FILE, or SOURCE/NAME/... whose files are imported together.

In: a folder. Out: units, and what is wrong with a source's folder. A source's folder may be named SOURCE@ACCOUNT, and
may have a mapping.yaml. No link is followed, neither to a file nor to a folder; what is still being written (names that
begin with a dot or end as temporary ones do) is passed over.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenyield_collector.spend.slices import FIELD_CHARS_MAX
from tokenyield_collector.spend.sources import SOURCES
from tokenyield_wire.bounded import fitting_name

FOLDERS_MAX = 100
ENTRIES_MAX = 20_000
"""Of one source's folder, with all below it."""
DEPTH_MAX = 5
"""Folders below that of a unit."""
MAPPING = "mapping.yaml"
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")


class WatchedFile(NamedTuple):
    """Two looks at a file that did not change are equal."""

    path: Path
    inode: int
    bytes: int
    modified_ns: int


class WatchedUnit(NamedTuple):
    """What is imported together: one file, or all files of a folder, by name. `mapping`: of the source's folder."""

    name: str
    files: tuple[WatchedFile, ...]
    mapping: WatchedFile | None

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def modified_ns(self) -> int:
        return max(file.modified_ns for file in self.files)


class WatchedSource(NamedTuple):
    """A source's folder, or without a name the watched folder itself, where it has what it should not. `problem`: why
    nothing of it can be imported; `links`: names that are not followed."""

    name: str
    source: str
    account: str
    units: list[WatchedUnit]
    problem: str = ""
    links: tuple[str, ...] = ()


class _TooMany(Exception):
    """More entries than are read."""


def list_sources(folder: Path) -> list[WatchedSource]:
    """By name. Raises OSError where the folder itself cannot be read."""
    links: list[str] = []
    try:
        entries = _entries(folder, links, [ENTRIES_MAX])
    except _TooMany:
        return [WatchedSource("", "", "", [], f"expected at most {ENTRIES_MAX} entries, found more")]
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    problem = f"expected at most {FOLDERS_MAX} folders, found {len(folders)}" if len(folders) > FOLDERS_MAX else ""
    if files := [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]:
        problem = f"expected folders named as sources, found the file '{fitting_name(files[0], FIELD_CHARS_MAX)}'"
    itself = [WatchedSource("", "", "", [], problem, tuple(links))] if problem or links else []
    return [*itself, *(_source(Path(entry.path), entry.name) for entry in folders[:FOLDERS_MAX])]


def is_unchanged(unit: WatchedUnit) -> bool:
    """Whether its files are those that were listed."""
    files = [*unit.files, *([unit.mapping] if unit.mapping else [])]
    return all(_file(file.path) == file for file in files)


def _source(path: Path, name: str) -> WatchedSource:
    source, _, account = name.partition("@")
    shown = fitting_name(name, FIELD_CHARS_MAX)
    account = fitting_name(account, FIELD_CHARS_MAX)
    if source not in SOURCES:
        expected = f"expected a folder named as a source ({', '.join(SOURCES)}), found '{source[:40]}'"
        return WatchedSource(shown, "", account, [], expected)
    links: list[str] = []
    try:
        units = list(_units(path, links))
    except _TooMany:
        return WatchedSource(shown, source, account, [], f"expected at most {ENTRIES_MAX} entries, found more")
    except OSError as error:
        return WatchedSource(shown, source, account, [], f"cannot be read: {error.strerror}")
    return WatchedSource(shown, source, account, units, links=tuple(links))


def _units(path: Path, links: list[str]) -> Iterator[WatchedUnit]:
    left = [ENTRIES_MAX]
    entries = _entries(path, links, left)
    mapping = next((file for entry in entries if entry.name == MAPPING and (file := _file(Path(entry.path)))), None)
    for entry in entries:
        if entry.name == MAPPING:
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        own = list(_files(Path(entry.path), links, left, DEPTH_MAX)) if is_folder else [_file(Path(entry.path))]
        files = tuple(file for file in own if file is not None)
        if files:
            yield WatchedUnit(fitting_name(entry.name, FIELD_CHARS_MAX), files, mapping)


def _files(path: Path, links: list[str], left: list[int], depth: int) -> Iterator[WatchedFile]:
    for entry in _entries(path, links, left):
        if not entry.is_dir(follow_symlinks=False):
            if file := _file(Path(entry.path)):
                yield file
        elif depth:
            yield from _files(Path(entry.path), links, left, depth - 1)


def _entries(path: Path, links: list[str], left: list[int]) -> "list[os.DirEntry[str]]":
    """By name, without links and what is not finished."""
    kept = []
    with os.scandir(path) as entries:
        for entry in entries:
            left[0] -= 1
            if left[0] < 0:
                raise _TooMany
            if entry.is_symlink():
                links.append(fitting_name(entry.name, FIELD_CHARS_MAX))
            elif not _is_unfinished(entry.name):
                kept.append(entry)
    return sorted(kept, key=lambda entry: entry.name)


def _file(path: Path) -> WatchedFile | None:
    """None where it is no file, or gone."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return WatchedFile(path, status.st_ino, status.st_size, status.st_mtime_ns)


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") or name.casefold().endswith(_UNFINISHED)
