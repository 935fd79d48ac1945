"""A second opinion on a month: `python -m oracle.recompute WINDOWS.jsonl PRICES.yaml RULES.yaml 2026-10 team,model`.

In: the shipments that agents sent (one JSON object a line), the two files of the policy. Out: rows as CSV. It shares no
code with the product (a test checks that), and computes with 50 digits.
"""

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import localcontext
from pathlib import Path
from typing import Any

import yaml

from oracle.columns import rows_of
from oracle.facts import facts_of
from oracle.people import People
from oracle.statement import Statement
from oracle.terms import Terms

DIGITS = 50


def statement_of(
    shipments: Iterable[Mapping[str, Any]], prices: Mapping[str, Any], rules: Mapping[str, Any], period: str
) -> Statement:
    """To be used with `DIGITS` digits."""
    return Statement(facts_of(shipments), Terms(prices), People(rules), *stretch(period))


def stretch(period: str) -> tuple[int, int]:
    """'2026-10', '2026-10-05' or '2026-10-01..2026-10-15', in UTC, as ms."""
    first, _, last = period.partition("..")
    if len(period) == 7:
        start = datetime.fromisoformat(f"{period}-01").replace(tzinfo=UTC)
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        start = datetime.fromisoformat(first).replace(tzinfo=UTC)
        end = datetime.fromisoformat(last or first).replace(tzinfo=UTC) + timedelta(days=1)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def main(windows: str, prices: str, rules: str, period: str, by: str = "team,model") -> None:
    with localcontext(prec=DIGITS):
        shipments = (json.loads(line) for line in Path(windows).read_text().splitlines())
        statement = statement_of(
            shipments, yaml.safe_load(Path(prices).read_text()), yaml.safe_load(Path(rules).read_text()), period
        )
        out = csv.writer(sys.stdout)
        for number, (values, row) in enumerate(sorted(rows_of(statement, by.split(",")).items())):
            if number == 0:
                out.writerow([*by.split(","), *row])
            out.writerow([*values, *(None if one.value is None else round(one.value, 9) for one in row.values())])


if __name__ == "__main__":
    main(*sys.argv[1:])
