"""An import of spend: files of one source become slices, and what could not be used is named.

In: a source, files, what the settings allow. Out: slices, refusals by file and place, notices. Bad rows cost only
themselves; a file whose content came before is read once.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ingest.spend_files import documents_of
from tokenyield_collector.ingest.spend_tables import added_up
from tokenyield_collector.spend.builder import LINES_MAX, SliceBuilder
from tokenyield_collector.spend.egress.rules import EgressRules, egress_rules
from tokenyield_collector.spend.format import (
    ROWS,
    ReadItem,
    ReadOptions,
    SpendNotice,
    SpendReader,
    SpendRow,
    SpendTable,
)
from tokenyield_collector.spend.people import DirectoryEntry, people_filter
from tokenyield_collector.spend.slices import FIELD_CHARS_MAX, SpendFields, SpendSlice
from tokenyield_collector.spend.sources import grain_of_slice, load_source
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_settings.loader import SettingsError, read_yaml

REFUSALS_KEPT = 1_000
PEOPLE_MAX = 1_000_000
KEY_BYTES_MIN = 16
_CHUNK_BYTES = 2**20


@dataclass
class SpendImport:
    """What files of one source said. `refused` counts all rows that could not be used, `refusals` has the first:
    (file, why). `is_cut`: there were more lines than an import holds."""

    slices: list[SpendSlice] = field(default_factory=list)
    rows: int = 0
    refused: int = 0
    is_cut: bool = False
    refusals: list[tuple[Path, str]] = field(default_factory=list)
    notices: list[tuple[Path | None, str]] = field(default_factory=list)

    def refuse(self, file: Path, why: str) -> None:
        self.refused += 1
        if len(self.refusals) < REFUSALS_KEPT:
            self.refusals.append((file, why))


def read_spend_files(
    source: str,
    files: Sequence[Path],
    *,
    account: str = "",
    mapping: Mapping[str, Any] | None = None,
    day_ms: int | None = None,
    now_ms: int = 0,
    people: Callable[[SpendFields, int], SpendFields],
    lines_max: int = LINES_MAX,
    progress: Callable[[Path, int], None] = lambda file, documents: None,
) -> SpendImport:
    """`day_ms`, `now_ms`: see `ReadOptions`. `progress`: documents read of a file. Raises OSError, `UnusableSpend` for
    a mapping that cannot be used."""
    form, read = load_source(source), SpendImport()
    options = ReadOptions(mapping=mapping or {}, day_ms=day_ms, now_ms=now_ms)
    reader = form.reader(options)
    builder = SliceBuilder(source, lambda grain: grain_of_slice(source, grain).layer, account=account, people=people,
                           lines_max=lines_max)  # fmt: skip
    seen: set[bytes] = set()
    for file in files:
        digest = _digest(file)
        if digest in seen:
            read.notices.append((file, "the same as a file before it, and read once"))
            continue
        seen.add(digest)
        if form.table and _take_added_up(read, builder, file, form.table, form.reader(options)):
            continue
        for number, (where, document) in enumerate(
            documents_of(file, is_lines=form.is_lines, is_log=form.is_log), start=1
        ):
            if isinstance(document, UnusableSpend):
                read.refuse(file, _at(where, document))
                continue
            _take(read, builder, file, where, reader.read(document))
            progress(file, number)
    if files:
        _take(read, builder, files[-1], "", reader.finish())
    read.slices, read.is_cut = builder.slices(), builder.is_full
    for key, fields in builder.folded.items():
        read.notices.append((None, f"{key.text}: too many lines; {', '.join(fields)} not kept"))
    return read


def _take(read: SpendImport, builder: SliceBuilder, file: Path, where: str, items: Iterable[ReadItem]) -> None:
    try:
        for item in items:
            if isinstance(item, SpendRow):
                builder.add(item)
                read.rows += 1
            elif isinstance(item, SpendNotice):
                read.notices.append((file, item.text))
            else:
                read.refuse(file, _at(where, item))
    except UnusableSpend as error:
        read.refuse(file, _at(where, error))


def _take_added_up(
    read: SpendImport, builder: SliceBuilder, file: Path, table: SpendTable, reader: SpendReader
) -> bool:
    """Whether all rows of a table could be used when they were added up; if not, nothing was taken, and reading them
    one by one says which cannot be used."""
    groups = added_up(file, table)
    if groups is None:
        return False
    taken: list[tuple[SpendRow, int]] = []
    try:
        for group in groups:
            for item in reader.read(group):
                if not isinstance(item, SpendRow):
                    return False
                taken.append((item, group[ROWS]))
    except UnusableSpend:
        return False
    for row, rows in taken:
        _take(read, builder, file, "", [row])
        read.rows += rows - 1
    _take(read, builder, file, "", reader.finish())
    return True


def people_of(settings: CollectorSettings) -> Callable[[SpendFields, int], SpendFields]:
    """What the settings keep of people. Raises `SettingsError`, OSError."""
    key = b""
    if settings.people == "pseudonym":
        key = Path(settings.people_key_file or "").read_bytes().strip()
        if len(key) < KEY_BYTES_MIN:
            raise SettingsError([f"people_key_file: expected at least {KEY_BYTES_MIN} bytes, found {len(key)}; make "
                                 "one with: openssl rand -hex 32"])  # fmt: skip
    directory = read_directory(Path(settings.people_file)) if settings.people_file else {}
    return people_filter(settings.people, directory, key)


def read_directory(file: Path) -> dict[str, DirectoryEntry]:
    """Vendors' names of a person (mail addresses, ids) -> who they are. Raises `SettingsError`, OSError."""
    raw, faults = read_yaml(file), []
    if not isinstance(raw, dict) or len(raw) > PEOPLE_MAX:
        raise SettingsError([f"{file}: expected a mapping of at most {PEOPLE_MAX} people, found other"])
    directory: dict[str, DirectoryEntry] = {}
    for identity, entry in raw.items():
        named = entry if isinstance(entry, dict) else {}
        unknown = [name for name in named if name not in DirectoryEntry._fields]
        values = [str(named.get(name) or "")[:FIELD_CHARS_MAX] for name in DirectoryEntry._fields]
        if unknown or not any(values):
            faults.append(f"{file}: {identity}: expected name, team or both, found "
                          f"{', '.join(map(str, unknown)) or 'neither'}; write {{team: search}}")  # fmt: skip
        directory[str(identity).casefold()] = DirectoryEntry(*values)
    if faults:
        raise SettingsError(faults)
    return directory


def read_mapping(file: Path) -> dict[str, Any]:
    """Of a table's columns (spend/sources/csv.py). Raises `SettingsError`, OSError."""
    raw = read_yaml(file)
    if not isinstance(raw, dict):
        raise SettingsError([f"{file}: expected a mapping of columns, found {type(raw).__name__}; see docs/spend.md"])
    return raw


def read_egress_file(file: Path) -> dict[str, Any]:
    """Hosts, gateways and subjects (spend/egress/rules.py), checked. Raises `SettingsError`, OSError."""
    raw = read_yaml(file) or {}
    try:
        egress_rules(raw)
    except UnusableSpend as error:
        raise SettingsError([f"{file}: {error}"]) from None
    return dict(raw)


def egress_rules_of(settings: CollectorSettings) -> EgressRules:
    """Of `egress_file`, read each time, so that a changed one counts at once. Raises `SettingsError`, OSError."""
    return egress_rules(read_egress_file(Path(settings.egress_file)) if settings.egress_file else None)


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for chunk in iter(lambda: opened.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.digest()


def _at(where: str, error: UnusableSpend) -> str:
    return f"{where}: {error}" if where else str(error)
