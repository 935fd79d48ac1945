"""No dimension may be called like something that a row has already: in a flat format it would hide it."""

import json
from pathlib import Path

import pytest

from collector.fleet import prices, rules
from collector.reports.test_reports import PRICE_BOOK, month
from tokenyield_collector.api.report import REPORT
from tokenyield_collector.attribution.taken import TAKEN
from tokenyield_collector.ledger.latency import LatencyHistogram
from tokenyield_settings.errors import SettingsError


def test_every_figure_and_parameter_of_a_report_is_taken(tmp_path: Path) -> None:
    maker = month().maker(prices(tmp_path, PRICE_BOOK))
    document = json.loads(maker.encode("2026-10", ["pool"], "json"))
    histogram = LatencyHistogram("first_token", 0, (0,) * 8)
    names = {
        *document["total"],
        *document["rows"][0],
        *("kind", "counts", *histogram.document()),
        *(parameter.name for parameter in REPORT.parameters),
    }
    assert names <= set(TAKEN)
    assert "cost_center" not in TAKEN, "the name that most fleets have"


@pytest.mark.parametrize("name", ["tokens", "cost", "day", "bucket", "cost_shared", "period", "margin", "counts"])
def test_a_dimension_of_such_a_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"dimensions: expected .*, found '{name}'; rename it"):
        rules(tmp_path, {"dimensions": [name, "team"]})
