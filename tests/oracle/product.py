"""The product's side of a comparison: the one module here that runs it. In: documents. Out: what its formats say.

Shipments go through a real ledger (DuckDB), the policy through its loaders, reports through their encoders; what comes
back is read again as a stranger would: JSON, CSV, Parquet, text, HTML.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import yaml

from tokenyield_collector.attribution.rules import load_rules
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.load import load_prices
from tokenyield_collector.reports.maker import ReportMaker
from tokenyield_wire.window import Shipment

LONG_AFTER_MS = 1_900_000_000_000


@dataclass
class Product:
    """A ledger and a policy."""

    ledger: DuckDbLedger
    policy: Policy
    folder: Path

    def encoded(self, period: str, by: Sequence[str], form: str, **options: Any) -> bytes:
        maker = ReportMaker(ledger=self.ledger, policy=self.policy, now_ms=LONG_AFTER_MS)
        return maker.encode(period, list(by), form, **options)

    def json(self, period: str, by: Sequence[str], **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            self.encoded(period, by, "json", **options), parse_float=Decimal, parse_int=Decimal
        )
        return document

    def csv(self, period: str, by: Sequence[str], form: str = "csv", **options: Any) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.encoded(period, by, form, **options).decode())))

    def parquet(self, period: str, by: Sequence[str]) -> list[dict[str, Any]]:
        file = self.folder / "report.parquet"
        file.write_bytes(self.encoded(period, by, "parquet"))
        with duckdb.connect() as connection:
            found = connection.execute("FROM read_parquet(?)", [str(file)])
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def table(self, period: str, by: Sequence[str]) -> list[list[str]]:
        """The cells of each line of text."""
        return cells_of_text(self.encoded(period, by, "table").decode())

    def html(self, period: str, by: Sequence[str]) -> list[list[str]]:
        """The cells of each row of its tables."""
        reader = _Tables()
        reader.feed(self.encoded(period, by, "html").decode())
        return reader.rows

    def close(self) -> None:
        self.ledger.close()


def product_of(
    shipments: Iterable[Mapping[str, Any]], prices: Mapping[str, Any] | Path, rules: Mapping[str, Any] | Path,
    folder: Path, *, roll_after: Sequence[int] = (), scopes: Sequence[str] = (),
) -> Product:  # fmt: skip
    """`roll_after`: after how many shipments the ledger makes its roll-ups, so that later windows are late ones.
    `scopes`: of the token of each shipment."""
    ledger = DuckDbLedger(":memory:")
    for number, shipment in enumerate(shipments, start=1):
        sent = msgspec.convert(shipment, Shipment)
        ledger.append([sent], sent.batches[-1].end_ms, scopes[number - 1 : number])
        if number in roll_after:
            ledger.roll()
    policy = Policy(
        prices=load_prices(_file(folder / "prices.yaml", prices)), rules=load_rules(_file(folder / "rules.yaml", rules))
    )
    return Product(ledger, policy, folder)


def _file(path: Path, document: Mapping[str, Any] | Path) -> Path:
    if isinstance(document, Path):
        return document
    path.write_text(yaml.safe_dump(dict(document)))
    return path


def cells_of_text(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.strip()]


class _Tables(HTMLParser):
    """Rows of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data.strip()
