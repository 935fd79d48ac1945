"""A watched folder: complete files are imported once, a bad one is named and stops no other, links lead nowhere."""

import asyncio
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.spend.test_samples import SAMPLES
from tokenyield_collector.api.sources import document
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.errors import LedgerError
from tokenyield_collector.executors import Executors
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.watch import listing, watcher
from tokenyield_collector.watch.state import WatchState
from tokenyield_collector.watch.watcher import FolderWatcher

NOW_MS = 1_795_910_400_000
"""2026-11-29."""
CARD = {"vendor": "acme", "service": "card", "currency": "USD", "columns": {"day": "day", "cost": "cost"}}


class Watching:
    """A watcher over a new ledger; `restart` is what a new process knows: the ledger alone."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder / "spend"
        self.folder.mkdir()
        self.settings = CollectorSettings(**{"people": "name", "spend_folder": str(self.folder), **settings})
        self.ledger = DuckDbLedger(folder / "ledger.duckdb", memory_limit="200MB")
        self.executors, self.leads = Executors(), True
        self.restart()

    def restart(self) -> None:
        self.watcher = FolderWatcher(self.settings, self.ledger, self.executors, lambda: self.leads, lambda: NOW_MS)

    def look(self, times: int = 2) -> dict[str, WatchState]:
        for _ in range(times):
            asyncio.run(self.watcher.look())
        return {state.folder: state for state in self.watcher.states}

    def write(self, name: str, text: str | bytes, age_s: int = 0) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        changed_at = NOW_MS / 1000 - age_s
        os.utime(file, (changed_at, changed_at))
        return file

    def card(self, name: str, *costs: tuple[str, str], age_s: int = 0) -> Path:
        out = io.StringIO()
        csv.writer(out).writerows([("day", "cost"), *costs])
        self.write("csv@card/mapping.yaml", json.dumps(CARD), 1000)
        return self.write(f"csv@card/{name}", out.getvalue(), age_s)

    def costs(self) -> dict[tuple[str, str], int]:
        """(source, account) -> millionths."""
        found: dict[tuple[str, str], int] = {}
        for one in self.ledger.spend(0, 2**42):
            key = one.key.source, one.key.account
            found[key] = found.get(key, 0) + sum(one.cost_micro().values())
        return found


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    own = Watching(tmp_path)
    try:
        yield own
    finally:
        own.executors.close(lambda: None)
        own.ledger.close()


def counts(state: WatchState) -> tuple[int, int, int]:
    return state.imported, state.waiting, len(state.failed)


def test_a_complete_file_is_imported_once_and_stays_where_it_is(watching: Watching) -> None:
    file = watching.card("october.csv", ("2026-11-03", "12.50"))
    assert counts(watching.look(1)["csv@card"]) == (0, 1, 0)
    assert watching.costs() == {}, "it may be being written"
    state = watching.look(1)["csv@card"]
    assert (counts(state), state.rows) == ((1, 0, 0), 1)
    assert watching.costs() == {("csv", "card"): 12_500_000}
    assert watching.look()["csv@card"].rows == 1
    assert file.read_text().endswith("12.50\n")


def test_a_file_that_grows_waits_until_it_is_as_it_was(watching: Watching) -> None:
    for rows in range(1, 4):
        watching.card("growing.csv", *[("2026-11-03", "1")] * rows)
        assert counts(watching.look(1)["csv@card"]) == (0, 1, 0)
    watching.look(1)
    assert watching.costs() == {("csv", "card"): 3_000_000}


def test_a_restart_imports_nothing_again_and_so_reverts_nothing(watching: Watching) -> None:
    watching.card("old.csv", ("2026-11-03", "1"), age_s=100)
    watching.look()
    (first,) = watching.ledger.spend(0, 2**42)
    corrected = first._replace(lines=(first.lines[0]._replace(amounts=first.lines[0].amounts._replace(cost_micro=7)),))
    watching.ledger.replace_spend([corrected], 1)
    watching.restart()
    state = watching.look()["csv@card"]
    assert (counts(state), state.rows) == ((1, 0, 0), 0)
    assert watching.costs() == {("csv", "card"): 7}
    watching.card("copy.csv", ("2026-11-03", "1"))
    assert counts(watching.look()["csv@card"]) == (2, 0, 0)
    assert watching.costs() == {("csv", "card"): 7}, "the same content under another name is the same"
    watching.card("old.csv", ("2026-11-03", "2"))
    watching.look()
    assert watching.costs() == {("csv", "card"): 2_000_000}


def test_of_two_files_of_one_day_the_newer_one_stays(watching: Watching) -> None:
    watching.card("a-newer.csv", ("2026-11-03", "2"), age_s=10)
    watching.card("b-older.csv", ("2026-11-03", "1"), age_s=20)
    watching.look()
    assert watching.costs() == {("csv", "card"): 2_000_000}


def test_files_of_a_folder_are_one_import(watching: Watching) -> None:
    watching.card("2026-11/page1.csv", ("2026-11-03", "1"))
    watching.card("2026-11/deep/page2.csv", ("2026-11-03", "2"))
    assert counts(watching.look()["csv@card"]) == (1, 0, 0)
    assert watching.costs() == {("csv", "card"): 3_000_000}
    watching.card("2026-11/page3.csv", ("2026-11-03", "4"))
    watching.look()
    assert watching.costs() == {("csv", "card"): 7_000_000}


def test_a_bad_file_is_named_stops_no_other_and_is_tried_again_when_it_changes(watching: Watching) -> None:
    watching.card("bad.csv", ("2026-11-03", "much"), ("yesterday", "1"), age_s=50)
    watching.write("openai/broken.json", '{"data": [', 40)
    watching.write("openai/binary.json", b"\x1f\x8b\x00\x00garbage", 30)
    watching.write("nonsense/x.json", "{}")
    watching.card("good.csv", ("2026-11-04", "1"))
    watching.write("anthropic/cost.json", (SAMPLES / "anthropic_legacy_cost_report.json").read_bytes())
    states = watching.look()
    assert {name: counts(state) for name, state in states.items()} == {
        "anthropic": (1, 0, 0), "csv@card": (1, 0, 1), "nonsense": (0, 0, 0), "openai": (0, 0, 2),
    }  # fmt: skip
    assert states["csv@card"].failed["bad.csv"].startswith("2 of 2 rows cannot be used: bad.csv: line 2: ")
    assert "expected a folder named as a source (anthropic, " in states["nonsense"].problem
    shown = {row["folder"]: row for row in document([], watching.watcher.states)["folders"]}
    assert shown["csv@card"]["problems"][0].startswith("bad.csv: 2 of 2 rows")
    assert (shown["nonsense"]["failed"], len(shown["nonsense"]["problems"])) == (0, 1)
    watching.card("bad.csv", ("2026-11-03", "5"))
    state = watching.look()["csv@card"]
    assert (counts(state), state.failed) == ((2, 0, 0), {})
    assert watching.costs()["csv", "card"] == 6_000_000


def test_a_corrected_mapping_tries_again(watching: Watching) -> None:
    watching.card("a.csv", ("2026-11-03", "5"))
    watching.write("csv@card/mapping.yaml", "columns: nonsense")
    assert counts(watching.look()["csv@card"]) == (0, 0, 1)
    watching.card("a.csv", ("2026-11-03", "5"))
    assert counts(watching.look()["csv@card"]) == (1, 0, 0)


def test_links_are_followed_nowhere_and_unfinished_files_wait(watching: Watching, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret.csv"
    secret.write_text("day,cost\n2026-11-03,9\n")
    watching.card("real.csv", ("2026-11-03", "1"))
    (watching.folder / "csv@card" / "link.csv").symlink_to(secret)
    (watching.folder / "csv@card" / "folder").symlink_to(outside)
    (watching.folder / "csv").symlink_to(outside)
    for name in (".hidden.csv", "x.csv.part", "x.tmp", "y~"):
        watching.card(name, ("2026-11-03", "100"))
    os.mkfifo(watching.folder / "csv@card" / "pipe")
    states = watching.look()
    assert {name: (counts(state), state.links) for name, state in states.items()} == {
        "": ((0, 0, 0), 1), "csv@card": ((1, 0, 0), 2),
    }  # fmt: skip
    assert watching.costs() == {("csv", "card"): 1_000_000}
    (watching.folder / "csv@card" / "x.csv.part").rename(watching.folder / "csv@card" / "x.csv")
    watching.look()
    assert watching.costs() == {("csv", "card"): 100_000_000}, "renamed in"


def test_files_beside_the_folders_of_sources_are_named(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.card("a.csv", ("2026-11-03", "1"))
    watching.write("lost.csv", "day,cost\n")
    states = watching.look()
    assert states[""].problem == "expected folders named as sources, found the file 'lost.csv'"
    assert counts(states["csv@card"]) == (1, 0, 0)
    (watching.folder / "lost.csv").unlink()
    assert list(watching.look()) == ["csv@card"]
    (watching.folder / "openai").mkdir()
    monkeypatch.setattr(listing, "FOLDERS_MAX", 1)
    assert watching.look()[""].problem == "expected at most 1 folders, found 2"


def test_a_setting_that_is_corrected_needs_no_change_of_files(tmp_path: Path) -> None:
    people = tmp_path / "people.yaml"
    own = Watching(tmp_path, people_file=str(people))
    try:
        own.card("a.csv", ("2026-11-03", "1"))
        assert own.look()["csv@card"].failed["a.csv"].startswith("people: ")
        people.write_text("ada@example.com: {team: search}\n")
        assert counts(own.look(1)["csv@card"]) == (1, 0, 0)
    finally:
        own.executors.close(lambda: None)
        own.ledger.close()


def test_what_is_too_much_is_named(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LINES_MAX", 3)
    monkeypatch.setattr(watcher, "UNIT_BYTES_MAX", 300)
    monkeypatch.setattr(listing, "ENTRIES_MAX", 5)
    watching.card("lines.csv", *[(f"2026-11-{day:02}", "1") for day in range(1, 6)], age_s=5)
    watching.card("bytes.csv", *[("2026-11-03", "1")] * 40, age_s=4)
    watching.card("fine.csv", ("2026-11-20", "1"))
    state = watching.look()["csv@card"]
    assert counts(state) == (1, 0, 2)
    assert state.failed["lines.csv"].startswith("expected at most 3 lines, found more")
    assert state.failed["bytes.csv"].startswith("expected at most 300 bytes, found 5")
    assert watching.costs() == {("csv", "card"): 1_000_000}, "half of a file would look like a whole one"
    for i in range(5):
        watching.card(f"{i}.csv", ("2026-11-21", "1"))
    assert watching.look()["csv@card"].problem == "expected at most 5 entries, found more"


def test_a_ledger_that_cannot_be_written_is_tried_again(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    watching.card("a.csv", ("2026-11-03", "5"))
    write = watching.ledger.replace_spend

    def full(*_: Any) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(watching.ledger, "replace_spend", full)
    state = watching.look()["csv@card"]
    assert (counts(state), state.failed) == ((0, 1, 1), {"a.csv": "the disk is full"})
    monkeypatch.setattr(watching.ledger, "replace_spend", write)
    assert counts(watching.look(1)["csv@card"]) == (1, 0, 0)


def test_a_kill_before_the_digest_is_kept_imports_once_more_and_changes_nothing(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.card("a.csv", ("2026-11-03", "5"))
    figures = type(watching.ledger.figures)
    with monkeypatch.context() as killed:
        killed.setattr(figures, "keep", lambda *_: (_ for _ in ()).throw(LedgerError("killed")))
        watching.look()
    assert watching.costs() == {("csv", "card"): 5_000_000}
    watching.restart()
    assert counts(watching.look()["csv@card"]) == (1, 0, 0)
    assert watching.costs() == {("csv", "card"): 5_000_000}


def test_only_the_one_that_leads_imports_and_a_folder_that_is_gone_is_a_problem(watching: Watching) -> None:
    watching.card("a.csv", ("2026-11-03", "5"))
    watching.leads = False
    assert watching.look() == {}
    watching.leads = True
    watching.look()
    watching.folder.rename(watching.folder.with_name("gone"))
    assert "cannot be read: No such file" in watching.look()[""].problem
    watching.folder.with_name("gone").rename(watching.folder)
    states = watching.look()
    assert list(states) == ["csv@card"]
    assert (counts(states["csv@card"]), states["csv@card"].rows) == ((1, 0, 0), 1)


def test_egress_takes_the_day_of_pods_from_the_file_and_rules_from_the_setting(tmp_path: Path) -> None:
    rules = tmp_path / "egress.yaml"
    rules.write_text("gateways: [gateway/litellm]\n")
    own = Watching(tmp_path, egress_file=str(rules))
    try:
        pods = own.write("egress/pods.json", (SAMPLES / "egress_pods.json").read_bytes())
        os.utime(pods, (NOW_MS / 1000, NOW_MS / 1000))
        assert counts(own.look()["egress"]) == (1, 0, 0)
        assert {one.key.day_ms for one in own.ledger.spend(0, 2**42)} == {NOW_MS}
    finally:
        own.executors.close(lambda: None)
        own.ledger.close()
