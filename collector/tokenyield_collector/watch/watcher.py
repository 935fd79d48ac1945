"""Importing what is put into a folder: complete files, each content once, whatever happens to the others.

In: a folder (listing.py). Out: slices in the ledger, and how each source's folder stands. A unit is complete when two
looks find it as it was, and it is so after it was read. What was imported is kept by digest in the ledger, so a
restart imports nothing again, and a ledger from a backup is given what it lacks. A kill between slices and digest
imports once more, which changes nothing. What fails is tried again when it changes, or at each look where the ledger,
a setting or the disk is at fault. Nothing in the folder is moved, changed or deleted. Of several collectors the one
that leads imports.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.executors import Executors
from tokenyield_collector.ingest.spend_import import (
    SpendImport,
    people_of,
    read_egress_file,
    read_mapping,
    read_spend_files,
)
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.kept import KeptFigure, packed
from tokenyield_collector.ledger.spend import spend_size_faults
from tokenyield_collector.slices import slice_changes, span_of
from tokenyield_collector.spend.slices import SpendFields, SpendSlice
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_collector.steps import Steps
from tokenyield_collector.watch.listing import WatchedSource, WatchedUnit, is_unchanged, list_sources
from tokenyield_collector.watch.state import WatchState
from tokenyield_settings.loader import SettingsError
from tokenyield_wire.units import MS_PER_DAY

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
UNIT_BYTES_MAX = 4 * 2**30
LINES_MAX = 200_000
"""Of the slices of one unit, in the collector's memory."""
KEPT_MAX = 100_000
"""Digests of what was imported; beyond it those of units that are gone are forgotten."""
_PREFIX = "watch:"
_CHUNK_BYTES = 2**20
_NS_PER_MS = 1_000_000


class UnitFault(Exception):
    """Why a unit is not imported; a change of it may help."""


class SettingFault(Exception):
    """Why nothing of its kind can be imported at present: tried again at each look."""


class _Stopped(Exception):
    """The collector stops."""


class _Changed(Exception):
    """The unit is not complete yet."""


class _Read(NamedTuple):
    """`read` is None where the ledger has this content."""

    digest: str
    read: SpendImport | None


class FolderWatcher:
    """`leads`: whether this collector imports at present; `now_ms`: the time."""

    def __init__(
        self,
        settings: CollectorSettings,
        ledger: Ledger,
        executors: Executors,
        leads: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._executors = executors
        self._leads = leads
        self._now_ms = now_ms
        self._states: dict[str, WatchState] = {}
        self._looked: dict[tuple[str, str], WatchedUnit] = {}
        """As the look before found them."""
        self._settled: dict[tuple[str, str], WatchedUnit] = {}
        """Imported, or failed, as they are."""
        self._stops = False

    @property
    def states(self) -> Sequence[WatchState]:
        return [*self._states.values()]

    async def run(self) -> None:
        """Until cancelled."""
        if not self._settings.spend_folder:
            return
        self._stops, steps = False, Steps()
        try:
            while True:
                await steps.attempt("looking into spend_folder", self.look)
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self.close()

    def close(self) -> None:
        """End an import that is under way."""
        self._stops = True

    async def look(self) -> None:
        """List, and import what is complete, the oldest first, so that of two files of one day the newer one stays."""
        if not self._leads():
            return
        loop, importer = asyncio.get_running_loop(), self._executors.importer
        try:
            sources = await loop.run_in_executor(importer, list_sources, Path(self._settings.spend_folder or ""))
        except OSError as error:
            self._state("").problem = f"{self._settings.spend_folder}: cannot be read: {error.strerror}"
            return
        self._show(sources)
        digests = await loop.run_in_executor(self._executors.queries, self._ledger.figures.inputs, _PREFIX)
        kept = dict(digests)
        due = [(source, unit) for source in sources for unit in source.units if self._is_due(source, unit)]
        self._looked = {(source.name, unit.name): unit for source in sources for unit in source.units}
        for source, unit in sorted(due, key=lambda one: (one[1].modified_ns, one[0].name, one[1].name)):
            if not self._leads() or self._stops:
                return
            await self._import(source, unit, kept)
        self._count(sources)
        if len(kept) > KEPT_MAX:
            gone = set(kept) - {_name(source, unit) for source in sources for unit in source.units}
            await loop.run_in_executor(self._executors.writer, self._ledger.figures.keep, [], sorted(gone))

    def _is_due(self, source: WatchedSource, unit: WatchedUnit) -> bool:
        key = source.name, unit.name
        return self._looked.get(key) == unit and self._settled.get(key) != unit

    async def _import(self, source: WatchedSource, unit: WatchedUnit, kept: dict[str, str]) -> None:
        """What fails is in its state, and costs only itself."""
        loop, state, key = asyncio.get_running_loop(), self._state(source.name), (source.name, unit.name)
        known = {digest for name, digest in kept.items() if name.startswith(f"{_PREFIX}{source.name}/")}
        try:
            digest, read = await loop.run_in_executor(self._executors.importer, self._read, source, unit, known)
            if read is not None:
                state.rows += read.rows
                state.refused += read.refused
                figure = KeptFigure(_name(source, unit), digest, packed({"rows": read.rows, "refused": read.refused}))
                await loop.run_in_executor(self._executors.writer, self._write, read.slices, figure)
                kept[figure.name] = digest
                log.info("%s/%s: imported, %d rows understood, %d refused%s", *key, read.rows, read.refused,
                         "".join(f"; {why}" for _, why in read.refusals[:1]))  # fmt: skip
        except (_Changed, _Stopped):
            return
        except (LedgerError, SettingFault, OSError) as error:  # tried again at the next look
            self._failed(state, unit, str(error))
            return
        except (UnitFault, UnusableSpend, SettingsError) as error:
            self._failed(state, unit, str(error))
        except Exception as error:
            self._failed(state, unit, f"not foreseen, please report it: {type(error).__name__}")
            log.debug("%s/%s", *key, exc_info=True)
        else:
            if state.failed.pop(unit.name, None) is not None:
                log.info("%s/%s: works again", *key)
        self._settled[key] = unit

    # --- in the importer's thread ------------------------------------------------------------------------------------

    def _read(self, source: WatchedSource, unit: WatchedUnit, known: Iterable[str]) -> _Read:
        if unit.bytes > UNIT_BYTES_MAX:
            raise UnitFault(f"expected at most {UNIT_BYTES_MAX} bytes, found {unit.bytes}; use `import`")
        digest = self._digest(source, unit)
        if digest in known:
            return _Read(digest, None)
        newest_ms = unit.modified_ns // _NS_PER_MS
        read = read_spend_files(
            source.source,
            [file.path for file in unit.files],
            account=source.account,
            mapping=self._mapping(source, unit),
            day_ms=newest_ms - newest_ms % MS_PER_DAY,
            now_ms=self._now_ms(),
            people=self._people(),
            progress=self._progress,
            lines_max=LINES_MAX,
        )
        if not is_unchanged(unit):
            raise _Changed
        if read.is_cut:
            raise UnitFault(f"expected at most {LINES_MAX} lines, found more; use `import`, or fewer days")
        if read.refused > read.rows or (read.refusals and not read.slices):
            file, why = read.refusals[0]
            raise UnitFault(f"{read.refused} of {read.refused + read.rows} rows cannot be used: {file.name}: {why}")
        first_ms = self._now_ms() - self._settings.hours_keep_days * MS_PER_DAY
        read.slices = [one for one in read.slices if first_ms <= one.key.day_ms <= self._now_ms() + MS_PER_DAY]
        return _Read(digest, read)

    def _people(self) -> Callable[[SpendFields, int], SpendFields]:
        try:
            return people_of(self._settings)
        except (SettingsError, OSError) as error:
            raise SettingFault(f"people: {error}") from None

    def _mapping(self, source: WatchedSource, unit: WatchedUnit) -> Mapping[str, Any] | None:
        read = read_egress_file if source.source == "egress" else read_mapping
        if unit.mapping is not None:
            return read(unit.mapping.path)
        if source.source == "egress" and self._settings.egress_file:
            try:
                return read_egress_file(Path(self._settings.egress_file))
            except SettingsError as error:
                raise SettingFault(str(error)) from None
        return None

    def _digest(self, source: WatchedSource, unit: WatchedUnit) -> str:
        """Of the content: a file under another name is the same."""
        whole = hashlib.sha256(source.name.encode("utf-8", "surrogateescape"))
        for file in [*unit.files, *([unit.mapping] if unit.mapping else [])]:
            digest = hashlib.sha256()
            with file.path.open("rb") as opened:
                for chunk in iter(lambda opened=opened: opened.read(_CHUNK_BYTES), b""):  # type: ignore[misc]
                    digest.update(chunk)
                    self._progress(file.path, 0)
            whole.update(digest.digest())
        return whole.hexdigest()

    def _progress(self, _: Path, __: int) -> None:
        if self._stops:
            raise _Stopped

    # --- in the writer's thread --------------------------------------------------------------------------------------

    def _write(self, slices: Sequence[SpendSlice], figure: KeptFigure) -> None:
        stored = self._ledger.spend(*span_of(slices))
        for what, found, expected in spend_size_faults(stored, slices):
            raise UnitFault(f"{what}: expected {expected}, found {found}")
        if to_write := slice_changes(stored, slices).to_write:
            self._ledger.replace_spend(to_write, self._now_ms())
        self._ledger.figures.keep([figure])

    # --- how it stands -----------------------------------------------------------------------------------------------

    def _state(self, folder: str) -> WatchState:
        return self._states.setdefault(folder, WatchState(folder=folder))

    def _show(self, sources: Sequence[WatchedSource]) -> None:
        names = {source.name for source in sources}
        for name in [name for name in self._states if name not in names]:
            del self._states[name]
        present = {(source.name, unit.name) for source in sources for unit in source.units}
        self._settled = {key: unit for key, unit in self._settled.items() if key in present}
        for source in sources:
            state = self._state(source.name)
            state.links = len(source.links)
            if source.problem and state.problem != source.problem:
                log.error("spend_folder: %s: %s", source.name, source.problem)
            state.problem = source.problem
            state.failed = {name: why for name, why in state.failed.items() if (source.name, name) in present}
        self._count(sources)

    def _count(self, sources: Sequence[WatchedSource]) -> None:
        for source in sources:
            state = self._state(source.name)
            is_settled = [self._settled.get((source.name, unit.name)) == unit for unit in source.units]
            state.waiting = len(source.units) - sum(is_settled)
            state.imported = sum(settled and unit.name not in state.failed
                                 for settled, unit in zip(is_settled, source.units, strict=True))  # fmt: skip

    def _failed(self, state: WatchState, unit: WatchedUnit, why: str) -> None:
        if state.failed.get(unit.name) != why:
            log.error("%s/%s: not imported: %s", state.folder, unit.name, why)
        state.failed[unit.name] = why


def _name(source: WatchedSource, unit: WatchedUnit) -> str:
    return f"{_PREFIX}{source.name}/{unit.name}"
