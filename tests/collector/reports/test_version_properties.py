"""Random late windows, prices, rules, retention and restarts: versions that were made never change, a new one is made
exactly where something of the month changed, with its cause, and what moved sums to the difference."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.fleet import HOUR_MS, Fleet, Gpu, Held, Server, close_months, ms, prices, rules
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.version_check import verify_versions

EXAMPLES = int(os.environ.get("TOKENYIELD_FUZZ_EXAMPLES", "4"))
NOW = "2026-11-20"
BY = ["team", "model"]
STEPS = (
    "late",
    "dearer",
    "later price",
    "budget",
    "unused rule",
    "other team",
    "learned",
    "restart",
    "retire",
    "nothing",
)
MADE_BY = {"late": "facts: ", "dearer": "prices: ", "other team": "attribution: ", "learned": "pace: "}
"""Step -> how the cause of its version begins; the others make none."""


class Played:
    """A ledger, and the policy of its collector, which change step by step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "ledger.duckdb"
        self.fleet = Fleet(self.path)
        self.price, self.later, self.budget, self.unused, self.team = 1, 0, 0, 0, 0
        self.hours = 0
        self.is_retired = False
        self.add(10_000)

    def add(self, completion: int) -> None:
        self.hours += 1
        held = [Held(workload="chat", active_min=40, idle_min=10, active_j=9_000 + self.hours, idle_j=90)]
        server = Server(key="chat", labels={"team": "search"}, completion=completion, requests=3)
        self.fleet.hour(ms("2026-10-05") + self.hours * 7 * HOUR_MS, [Gpu(held=held)], [server])

    def play(self, step: str) -> None:
        if step == "late":
            self.add(9_000)
        elif step == "learned":
            for _ in range(2):  # the best hours of two days, and late windows too
                self.hours += 3
                self.add(1_000_000 * self.hours)
        elif step == "dearer":
            self.price += 1
        elif step == "later price":
            self.later += 1
        elif step == "budget":
            self.budget += 1
        elif step == "unused rule":
            self.unused += 1
        elif step == "other team":
            self.team += 1
        elif step == "restart":
            self.fleet.ledger.close()
            self.fleet.ledger = DuckDbLedger(self.path)
        elif step == "retire":
            self.is_retired = True
            before = ms("2026-10-06")
            self.fleet.ledger.retire(windows_before_ms=before, hours_before_ms=before, counter_bases={})

    def closed(self) -> ReportMaker:
        later = f", {{from: 2027-01-01, per_gpu_hour: {9 + self.later}}}" if self.later else ""
        book = prices(self.folder, f"pools: [{{name: p, rented: [{{per_gpu_hour: {self.price}}}{later}]}}]")
        unused = [{"match": {"workload": f"nobody-{i}"}, "set": {"team": "none"}} for i in range(self.unused)]
        own = [{"match": {"workload": "chat"}, "set": {"team": f"team-{self.team}"}}]
        budgets = [{"name": f"b{i}", "monthly": 5} for i in range(self.budget)]
        return close_months(
            self.fleet.maker(book, rules(self.folder, {"rules": unused + own, "budgets": budgets}), now=NOW)
        )


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(st.sampled_from(STEPS), min_size=3, max_size=6))
def test_a_version_never_changes_and_a_new_one_has_its_cause(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        played = Played(Path(folder))
        shown: dict[tuple[int, str], bytes] = {}
        maker = played.closed()
        count = 1
        for step in ["nothing", *steps]:
            played.play(step)
            maker = played.closed()
            versions = maker.versions("2026-10")["versions"]
            if step in MADE_BY and not played.is_retired:
                count += 1
                assert any(change.startswith(MADE_BY[step]) for change in versions[-1]["changes"]), versions[-1]
                moved = maker.difference("2026-10", count - 1, count, BY)
                old, new = versions[-2]["total"], versions[-1]["total"]
                assert old is not None
                assert new is not None
                assert moved["total"]["difference"]["cost"] == new - old
                for name, amount in moved["total"]["difference"].items():
                    assert sum(row["difference"][name] for row in moved["rows"]) == amount
            assert [version["version"] for version in versions] == list(range(1, count + 1)), step
            assert all(version["changes"] for version in versions[1:])
            for number in range(1, count + 1):
                for form in ("json", "csv", "focus"):
                    data = maker.encode("2026-10", BY, form, version=number)
                    assert shown.setdefault((number, form), data) == data, (number, form, step)
        maker.ledger.roll()
        if not played.is_retired:
            assert list(verify_versions(maker.ledger)) == []
        played.fleet.ledger.close()
