"""The metadata that FOCUS requires beside its files, as JSON: generator, datasets, schemas with their columns."""

import json
from collections.abc import Sequence
from typing import Any

from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.focus.columns import (
    COST_AND_USAGE,
    DATASETS,
    data_type,
    precision,
)
from tokenyield_collector.reports.formats import PeriodStatement, StatementFormat, TextWriter
from tokenyield_collector.statements.gaps import gaps_of
from tokenyield_collector.targets.spreadsheet import NAMES_IN_CSV
from tokenyield_collector.version import VERSION


def write_metadata(whole: PeriodStatement, out: TextWriter) -> None:
    """Gaps show while lines are made; of a version they are kept."""
    if whole.version is None:
        for _ in whole.statement.lines():
            pass
    write_metadata_of_made(whole, out)


def write_metadata_of_made(whole: PeriodStatement, out: TextWriter) -> None:
    """Of a statement whose lines were made."""
    out.write(json.dumps(metadata(whole), indent=2) + "\n")


def metadata(whole: PeriodStatement) -> dict[str, Any]:
    version, period = whole.focus_version, whole.period
    schema = _schema(version, "", COST_AND_USAGE[version], iso(period.end_ms))
    document: dict[str, Any] = {"DataGenerator": f"tokenyield-collector {VERSION}", "Schema": schema}
    if len(DATASETS[version]) > 1:
        document |= _datasets(whole)
    return document | {
        "BillingPeriod": {"Start": iso(period.start_ms), "End": iso(period.end_ms)},
        "BillingCurrency": whole.statement.policy.prices.currency,
        "PriceBookVersion": whole.statement.policy.prices.fingerprint,
        "StatementVersion": whole.version,
        "TextNeutralization": NAMES_IN_CSV,
        "Gaps": [gap.document() for gap in gaps_of(whole.statement.gaps)],
    }


def _datasets(whole: PeriodStatement) -> dict[str, Any]:
    """Since 1.3 metadata are of several datasets, which have an instance, a schema and a state each."""
    version, at = whole.focus_version, iso(whole.period.end_ms)
    known_to = iso(whole.statement.span.end_ms)
    columns = DATASETS[version]
    recency = {
        "DatasetInstanceComplete": whole.version is not None,
        "DatasetInstanceLastUpdated": known_to,
        "RecencyLastUpdated": known_to,
    }
    return {
        "DataGenerator": {"DataGenerator": "tokenyield-collector"},
        "DatasetInstance": [
            {"DatasetInstanceId": _instance(name), "DatasetInstanceName": name, "FocusDatasetId": name}
            for name in columns
        ],
        "Recency": [{"DatasetInstanceId": _instance(name), **recency} for name in columns],
        "Schema": [
            {
                **_schema(version, name, listed, at),
                "DatasetInstanceId": _instance(name),
                "DataGeneratorVersion": VERSION,
            }
            for name, listed in columns.items()
        ],
    }


def _instance(dataset: str) -> str:
    return f"tokenyield-{dataset}"


def _schema(version: str, dataset: str, columns: Sequence[str], created: str) -> dict[str, Any]:
    listed = [{"ColumnName": name, "DataType": data_type(name), **precision(name)} for name in columns]
    return {
        "SchemaId": "-".join(filter(None, ("tokenyield-focus", version, dataset, "2"))),
        "FocusVersion": version,
        "CreationDate": created,
        "ColumnDefinition": listed,
    }


FORMAT = StatementFormat(name="focus-metadata", media_type="application/json", write=write_metadata)
