"""The list of a month's versions, and what moved between two of them: by who, and why, exactly."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from collector.fleet import Gpu, Held, Server, close_months, ms, policy, prices, rules
from collector.reports.test_reports import PRICE_BOOK, month
from tokenyield_collector.errors import ParameterError
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_collector.reports.version_list import differences_csv, versions_csv

NOW = "2026-11-20"
COLUMNS = ["team", "model"]


@pytest.fixture
def maker(tmp_path: Path) -> ReportMaker:
    """Three versions: a dearer price, then a late node."""
    fleet = month()
    close_months(fleet.maker(prices(tmp_path, PRICE_BOOK), now=NOW))
    dearer = close_months(fleet.maker(prices(tmp_path, PRICE_BOOK.replace("35040", "70080")), now=NOW))
    held = [Held(workload="late", active_min=30, idle_min=29, active_j=9, idle_j=9)]
    fleet.hour(
        "2026-10-20T10:00", [Gpu(uuid="late", held=held)], [Server(key="late", labels={"team": "ads"})], node="n2"
    )
    return close_months(dearer)


def test_versions_are_listed_with_when_why_by_whom_and_what_they_come_to(maker: ReportMaker) -> None:
    document = maker.versions("2026-10")
    assert (document["period"], document["state"], document["finding"]) == ("2026-10", "closed", None)
    first, second, third = document["versions"]
    assert (first["version"], first["made_by"], first["made_at"]) == (1, "a collector", "2026-11-20T00:00:00Z")
    assert first["changes"] == []
    assert second["changes"] == ["prices: pools.h100.owned.gpu: 35040 -> 70080"]
    assert third["changes"][0] == "facts: late windows of 2026-10-20: nodes c/n2; workloads c/late"
    for version in document["versions"]:
        report = maker.report("2026-10", COLUMNS, version=version["version"])
        assert (report.total.cost, report.total.shown["cost"]) == (version["total"], version["shown"])
    assert maker.versions("2026-10-05") == document, "a day is of its month"
    assert len(list(csv.DictReader(io.StringIO(versions_csv(document["versions"]))))) == 3


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 3), (1, 3), (3, 1), (2, 2)])
def test_a_difference_sums_exactly_to_that_of_the_totals(maker: ReportMaker, first: int, second: int) -> None:
    document = maker.difference("2026-10", first, second, COLUMNS)
    old, new = (maker.report("2026-10", COLUMNS, version=number) for number in (first, second))
    assert document["total"]["difference"]["cost"] == new.total.cost - old.total.cost
    for name, moved in document["total"]["difference"].items():
        assert sum(row["difference"][name] for row in document["rows"]) == moved
        assert sum(row["shown"][name] for row in document["rows"]) == document["total"]["shown"][name]
    for row in document["rows"]:
        assert row["cost_to"] - row["cost_from"] == row["difference"]["cost"]
        assert sum(value for name, value in row["difference"].items() if name != "cost") == row["difference"]["cost"]
    names = {change.partition(":")[0] for change in document["changes"]}
    assert names == {f"version {number}" for number in range(min(first, second) + 1, max(first, second) + 1)}
    written = list(csv.DictReader(io.StringIO(differences_csv(document))))
    assert sum(Decimal(row["difference_cost"]) for row in written) == document["total"]["difference"]["cost"]
    assert (first == second) == (not document["rows"])


def test_what_a_version_cannot_be_is_refused_with_what_there_is(maker: ReportMaker, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="version: expected a version of 2026-10: 1 to 3, found 4"):
        maker.report("2026-10", COLUMNS, version=4)
    with pytest.raises(ParameterError, match="version: expected a version of 2026-11: none"):
        maker.report("2026-11", COLUMNS, version=1)
    with pytest.raises(ParameterError, match="version: expected a period within one month"):
        maker.report("2026-10-30..2026-11-02", COLUMNS, version=1)
    with pytest.raises(ParameterError, match="period: expected a month, or days of one"):
        maker.versions("2026-10-30..2026-11-02")
    euros = PRICE_BOOK + "currency: EUR\n"
    other = close_months(ReportMaker(ledger=maker.ledger, policy=policy(prices(tmp_path, euros)), now_ms=ms(NOW)))
    with pytest.raises(ParameterError, match="diff: expected two versions in one currency, found USD and EUR"):
        other.difference("2026-10", 3, 4)
    assert json.loads(other.encode("2026-10", COLUMNS, "json", version=3))["currency"] == "USD"


def test_another_dimension_can_be_read_where_the_version_has_it(maker: ReportMaker, tmp_path: Path) -> None:
    judged = policy(prices(tmp_path, PRICE_BOOK.replace("35040", "70080")), rules(tmp_path, {"dimensions": ["unit"]}))
    other = close_months(ReportMaker(ledger=maker.ledger, policy=judged, now_ms=ms(NOW)))
    assert other.report("2026-10").by == ("unit", "model")
    assert other.report("2026-10", version=3).by == ("team", "model")
    with pytest.raises(ParameterError, match="by: expected a column, found 'team'"):
        other.difference("2026-10", 3, 4, ["team"])
    with pytest.raises(ParameterError, match="by: expected a column, found 'unit'"):
        other.difference("2026-10", 3, 4, ["unit"])
    by_model = other.difference("2026-10", 3, 4, ["model"])
    assert not by_model["rows"], "another carrier, the same cost"
