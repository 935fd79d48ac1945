"""Files that are broken, large, packed or of another source: what is wrong is named, and what is right is kept."""

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collector.spend.test_samples import SAMPLES, lines_of
from tokenyield_collector.cli import main
from tokenyield_collector.ingest import spend_files
from tokenyield_collector.ingest.spend_import import SpendImport, read_spend_files
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.spend.people import people_filter
from tokenyield_collector.spend.sources import SOURCES

LOG = json.loads((SAMPLES / "litellm_spend_logs.json").read_text())[0]


def read(source: str, *files: Path, **options: Any) -> SpendImport:
    return read_spend_files(source, files, people=people_filter("name", {}), **options)


def written(folder: Path, text: str | bytes, name: str = "file") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_a_packed_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(json.dumps([LOG | {"request_id": f"{i}"} for i in range(500)]).encode()))
    packed[10:40] = b"\xff" * 30  # no kind of block that there is
    imported = read("litellm", written(tmp_path, bytes(packed)))
    assert "expected a whole gzip file, found" in imported.refusals[-1][1]


def test_a_bad_row_costs_only_itself_and_is_named(tmp_path: Path) -> None:
    rows = [
        LOG,
        LOG | {"request_id": "2", "total_tokens": 7},
        LOG | {"request_id": "3", "spend": "much"},
        LOG | {"request_id": "4", "startTime": "yesterday"},
        LOG | {"request_id": "5", "prompt_tokens": -1},
        LOG | {"request_id": "6", "custom_llm_provider": None},
        LOG | {"request_id": "7", "prompt_tokens": 5},
        "text",
        LOG | {"request_id": "8"},
    ]
    imported = read("litellm", written(tmp_path, json.dumps(rows)))
    assert (imported.rows, imported.refused) == (2, 7)
    assert sum(line.amounts.cost_micro or 0 for line in lines_of(imported)) == 2 * 12_300
    whys = [why for _, why in imported.refusals]
    for i, (field, expected) in enumerate(
        [
            ("total_tokens", "the sum of its parts, 1500, found 7"),
            ("spend", "an amount of money, found 'much'"),
            ("startTime", "a day such as 2026-10-05, found yesterday"),
            ("prompt_tokens", "a whole number from 0"),
            ("vendor", "who is paid, found nothing"),
            ("prompt_tokens", "at least the tokens that were read from"),
            ("row", "an object, found str"),
        ]
    ):
        assert whys[i].startswith(f"row[{i + 1}].{field}: expected {expected}") or (
            whys[i].startswith(f"line 1: row[{i + 1}].{field}: expected {expected}")
        )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "text",
    [
        '{"data": 3}', "[1, 2]", "{", "", "\n\n", "a,b\n1,2\n", "a,a\n1,2\n", '{"data":[{"results":[null]}]}', "{}",
        '{"data":[{"group":3,"usage":{}}]}', "\xff\xfe", '"', '{"payload":{"type":"token_count"},"type":"event_msg"}',
        '{"type":"assistant","message":{"usage":{"input_tokens":1.5}}}', "[[[[]]]]", '{"data":[{"start_time":1e400}]}',
    ],
)  # fmt: skip
def test_nothing_that_a_file_says_ends_an_import(source: str, text: str, tmp_path: Path) -> None:
    mapping = {"vendor": "x", "columns": {"day": "a", "cost": "b"}} if source == "csv" else None
    imported = read(source, written(tmp_path, text.encode("latin-1")), mapping=mapping)
    assert imported.slices == []


@pytest.mark.parametrize("pack", ["plain", "gzip", "lines", "csv", "parquet"])
def test_one_content_in_every_container(pack: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    row = {name: value for name, value in LOG.items() if not isinstance(value, dict | list)}
    row["metadata"] = json.dumps(LOG["metadata"])
    match pack:
        case "plain":
            file.write_text(json.dumps([LOG], indent=1))
        case "gzip":
            file.write_bytes(gzip.compress(json.dumps([LOG]).encode()))
        case "lines":
            file.write_text("\ufeff" + json.dumps(LOG) + "\n\n" + json.dumps(LOG | {"request_id": "2"}) + "\n")
        case "csv":
            names = ",".join(row)
            cells = ",".join(
                '"' + str("" if value is None else value).replace('"', '""') + '"' for value in row.values()
            )
            file.write_text(f"{names}\n{cells}\n")
        case "parquet":
            rows = written(tmp_path, json.dumps([row]), "r.json")
            with duckdb.connect() as connection:
                connection.read_json(str(rows)).write_parquet(str(file))
    (line,) = lines_of(read("litellm", file))
    times = 2 if pack == "lines" else 1
    assert (line.amounts.tokens, line.amounts.cost_micro) == (1500 * times, 12_300 * times)
    assert line.amounts.cache_read == 900 * times


def test_bounds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_files, "LINE_BYTES_MAX", 4000)
    monkeypatch.setattr(spend_files, "DOCUMENT_BYTES_MAX", 5000)
    text = "\n".join(
        [json.dumps(LOG), json.dumps(LOG | {"call_type": "x" * 9000}), json.dumps(LOG | {"request_id": "3"})]
    )
    lines = read("litellm", written(tmp_path, text))
    assert (lines.rows, lines.refused) == (2, 1)
    assert "line 2: line: expected at most 4000 bytes" in lines.refusals[0][1]
    whole = read("litellm", written(tmp_path, json.dumps([LOG] * 9, indent=1)))
    assert whole.refusals[0][1].startswith("file: expected a JSON document of at most 5000 bytes")


def test_a_request_and_a_file_that_came_twice_count_once(tmp_path: Path) -> None:
    one = written(tmp_path, json.dumps([LOG, LOG]), "one")
    imported = read("litellm", one, written(tmp_path, json.dumps([LOG, LOG]), "two"))
    assert [line.amounts.requests for line in lines_of(imported)] == [1]
    assert {notice for _, notice in imported.notices} == {
        "the same as a file before it, and read once", "1 requests came more than once, and count once",
    }  # fmt: skip


def test_a_cut_gzip_file_is_a_refusal(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join(json.dumps(LOG | {"request_id": f"{i:032}"}) for i in range(2000)).encode())
    imported = read("litellm", written(tmp_path, packed[: len(packed) // 2]))
    assert imported.rows > 0
    assert "expected a whole gzip file" in imported.refusals[-1][1]


FOCUS = "BilledCost,BillingCurrency,ChargePeriodStart,ServiceCategory,ServiceName,ProviderName,BillingAccountId\n"


def test_focus_takes_ai_services_and_counts_the_rest(tmp_path: Path) -> None:
    rows = "1.5,USD,2026-11-24T00:00:00Z,AI and Machine Learning,Bedrock,Amazon Web Services,1\n" \
           "9,USD,2026-11-24T00:00:00Z,Compute,EC2,Amazon Web Services,1\n" \
           "-0.25,USD,2026-11-24T00:00:00Z,AI and Machine Learning,Bedrock,Amazon Web Services,1\n"  # fmt: skip
    imported = read("focus", written(tmp_path, FOCUS + rows))
    (line,) = lines_of(imported)
    assert (line.fields.vendor, line.fields.product, line.amounts.cost_micro) == ("aws", "Bedrock", 1_250_000)
    assert imported.notices[0][1] == "1 rows of other services than 'AI and Machine Learning' left out"


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        (None, "mapping: expected a mapping, found none; give --mapping FILE"),
        ({"columns": {"day": "a"}, "vendor": "x"}, "mapping.columns: expected day, and cost or a count"),
        ({"columns": {"day": "a", "cost": "b"}}, "mapping: expected vendor, or columns.vendor with vendors"),
        (
            {"columns": {"day": "a", "cost": "b", "colour": "c"}, "vendor": "x"},
            "mapping.columns.colour: expected one of",
        ),
        ({"colums": {}, "vendor": "x"}, "mapping.colums: expected one of"),
        (
            {"columns": {"day": "a", "cost": "b"}, "vendor": "x", "layer": "paid"},
            "mapping.layer: expected one of billed",
        ),
    ],
)
def test_a_mapping_that_cannot_be_used_is_a_fault(mapping: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why.replace(".", r"\.").replace("(", r"\(")):
        read("csv", written(tmp_path, "a,b\n2026-11-24,1\n"), mapping=mapping)


def test_a_mapping_reads_foreign_days_and_commas(tmp_path: Path) -> None:
    mapping = {"vendor": "Mistral", "columns": {"day": "Tag", "cost": "Betrag"}, "currency": "EUR", "decimal": ",",
               "day_format": "%d.%m.%Y", "service": "seats"}  # fmt: skip
    imported = read("csv", written(tmp_path, 'Tag,Betrag\n24.11.2026,"1.234,50"\n2026-11-24,"1"\n'), mapping=mapping)
    (line,) = lines_of(imported)
    assert (line.fields.vendor, line.fields.currency, line.amounts.cost_micro) == ("mistral", "EUR", 1_234_500_000)
    assert imported.refusals[0][1].startswith("line 3: day: expected a day as %d.%m.%Y, found 2026-11-24")


def test_the_command_says_what_was_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, ledger = str(SAMPLES / "openai_costs.json"), ["--ledger", str(tmp_path / "ledger.duckdb")]
    assert main(["import", "openai", file, "--dry-run", *ledger]) == 0
    shown = capsys.readouterr()
    assert "billed: openai, account default, 2026-11-24: 0.180000 USD (openai costs)" in shown.out
    assert "1 slices (source, account, day, report): 1 new, 0 replaced, 0 unchanged" in shown.out
    assert "dry run: nothing was changed" in shown.err
    assert not (tmp_path / "ledger.duckdb").exists()
    other = str(written(tmp_path, "{}"))
    assert main(["import", "openai", other, file, "--dry-run", "--account", "org-1", *ledger]) == 1
    shown = capsys.readouterr()
    assert "billed: openai, account org-1" in shown.out
    assert "document: expected an answer of organization/costs" in shown.err
    assert main(["import", "csv", file, "--dry-run", *ledger]) == 2
    assert "--mapping: expected one that can be used, found mapping: expected a mapping" in capsys.readouterr().err
    assert main(["import", "openai", str(tmp_path / "none"), "--dry-run", *ledger]) == 1


def test_an_import_that_is_too_large_leaves_whole_days_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger.duckdb"
    command = ["import", "litellm", "--ledger", str(ledger)]
    assert main([*command, str(written(tmp_path, json.dumps(LOG)))]) == 0
    rows = [{**LOG, "request_id": f"r{i}", "end_user": f"user {i}"} for i in range(5)]
    many = written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "many")
    monkeypatch.setitem(read_spend_files.__kwdefaults__ or {}, "lines_max", 3)
    capsys.readouterr()
    assert main([*command, str(many)]) == 1
    shown = capsys.readouterr()
    assert "nothing was changed: more lines than an import holds" in shown.err
    assert "replaced" not in shown.out
    kept = DuckDbLedger(ledger)
    ((line,),) = [one.lines for one in kept.spend(0, 2**62)]
    kept.close()
    assert line.fields.workload == LOG["end_user"]


def test_the_same_file_twice_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledger.duckdb"
    document = json.loads((SAMPLES / "openai_costs.json").read_text())
    file = written(tmp_path, json.dumps(document))
    command = ["import", "openai", str(file), "--ledger", str(ledger)]
    assert main([*command]) == 0
    assert "1 new, 0 replaced, 0 unchanged" in capsys.readouterr().out
    assert main([*command]) == 0
    assert "0 new, 0 replaced, 1 unchanged" in capsys.readouterr().out
    document["data"][0]["results"][0]["amount"]["value"] = 0.05
    file.write_text(json.dumps(document))
    assert main([*command, "--dry-run"]) == main([*command]) == 0
    shown = capsys.readouterr().out
    assert shown.count("0 new, 1 replaced, 0 unchanged") == 2, "the dry run changed nothing"
    change = "replaced: openai costs, account default, 2026-11-24: 0.180000 USD -> 0.170000 USD"
    assert shown.count(change) == 2
    kept = DuckDbLedger(ledger)
    (one,) = kept.spend(0, 2**62)
    kept.close()
    assert one.cost_micro() == {"USD": 170_000}


def test_a_ledger_that_is_not_there_is_not_made_by_accident(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(SAMPLES / "openai_costs.json")
    assert main(["import", "openai", file, "--set", f"ledger_path={tmp_path}/none.duckdb"]) == 1
    assert f"there is no ledger at {tmp_path}/none.duckdb" in capsys.readouterr().err
