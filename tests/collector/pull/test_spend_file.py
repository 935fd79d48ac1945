"""spend.yaml: every fault at once, by entry and field; changed accounts are taken up while the collector runs."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from collector.pull.conftest import Pulling, ago
from collector.pull.rows import anthropic_cost
from tokenyield_collector.cli import main
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.pull.spend_file import load_accounts
from tokenyield_settings.loader import SettingsError

MAPPING = {"vendor": "x", "columns": {"day": "d", "cost": "c"}}


def faults_of(folder: Path, *entries: Any) -> list[str]:
    file = folder / "spend.yaml"
    file.write_text(json.dumps({"accounts": list(entries)}))
    with pytest.raises(SettingsError) as error:
        load_accounts(file)
    return [fault.removeprefix(f"{file}: ") for fault in error.value.faults]


def entry(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "source": "anthropic", "key_file": "/key", **fields}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"source": "antropic"}, "source: expected one of anthropic, openai, openrouter, litellm, cursor, copilot, json, "
                                 "found 'antropic', did you mean 'anthropic'?"),
        ({"name": "a b"}, "name: expected up to 63 letters"),
        ({"key_file": ""}, "key_file: expected the path"),
        ({"base_url": "http://api.anthropic.com"}, "base_url: expected https://, for a key is sent there"),
        ({"base_url": "https://user:word@host"}, "base_url: expected https://HOST without"),
        ({"base_url": "ftp://host"}, "base_url: expected https://HOST"),
        ({"base_url": "https://[x"}, "base_url: expected https://HOST"),
        ({"source": "litellm"}, "base_url: expected https://HOST"),
        ({"every": "1s"}, "every: expected a time from 15m to 7d, such as 6h, found '1s'"),
        ({"every": "8d"}, "every: expected"),
        ({"currency": "EUR"}, "currency: expected none"),
        ({"source": "cursor", "currency": "euro"}, "currency: expected a code"),
        ({"reports": ["costs"]}, "reports: expected some of analytics_cost"),
        ({"organization": "acme"}, "organization: expected organization or enterprise with source copilot, and only"),
        ({"source": "copilot"}, "organization: expected organization or enterprise"),
        ({"json": {"path": "/x", "mapping": MAPPING}}, "json: expected path and mapping with source json, and only"),
        ({"source": "json", "base_url": "http://host"}, "json: expected path and mapping"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(fields: dict[str, Any], fault: str, tmp_path: Path) -> None:
    (found,) = faults_of(tmp_path, entry(**fields))
    name = fields.get("name", "main")
    assert found.startswith(f"accounts[0] ({name}).{fault}")


def test_all_faults_at_once(tmp_path: Path) -> None:
    json_source = entry(name="j", source="json", base_url="https://h")
    assert faults_of(
        tmp_path,
        entry(keyfile="sk-1"),
        3,
        {"name": "x"},
        json_source | {"json": {"path": "x", "days_at_once": 99, "mapping": {"columns": {}}, "key_header": "a:b"}},
    ) == [
        "accounts[0] (main): unknown field 'keyfile', did you mean 'key_file'?",
        "accounts[1]: Expected `object`, got `int`",
        "accounts[2] (x): Object missing required field `source`",
        "accounts[3] (j).json.path: expected a path such as /v1/costs, found 'x'; correct it",
        "accounts[3] (j).json.days_at_once: expected 1 to 31, found 99; correct it",
        "accounts[3] (j).json.key_header: expected the name of a header, found 'a:b'; correct it",
        "accounts[3] (j).json.mapping.columns: expected day, and cost or a count, each with a column, found nothing; "
        "correct it, or leave the row out",
    ]
    for document in ("accounts: 3", "[]", "accounts: []\nmore: 1", ""):
        (tmp_path / "spend.yaml").write_text(document)
        with pytest.raises(SettingsError, match="expected a mapping with `accounts`"):
            load_accounts(tmp_path / "spend.yaml")


def test_two_entries_never_replace_what_the_other_wrote(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, entry(reports=["messages"]), entry(name="b"), entry(name="c", reports=["messages"]))
    assert "found anthropic, account 'default', messages 2 times" in fault
    assert any("'main' 2 times" in fault for fault in faults_of(tmp_path, entry(), entry(account="b")))
    jsons = [entry(name=name, source="json", base_url="http://litellm:4000", json={"path": "/x", "mapping": MAPPING})
             for name in "ab"]  # fmt: skip
    (tmp_path / "spend.yaml").write_text(json.dumps({"accounts": jsons}))
    assert [account.slice_account for account in load_accounts(tmp_path / "spend.yaml")] == ["a", "b"]


def test_check_names_faults_and_keys_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spend.yaml"
    file.write_text(json.dumps({"accounts": [entry(key_file=str(tmp_path / "none"))]}))
    flags = ["--set", f"spend_file={file}", "--set", f"ledger_path={tmp_path}/ledger.duckdb"]
    assert main(["check", *flags]) == 0
    assert f"main: {tmp_path}/none: cannot be read (No such file or directory); check key_file" in (
        capsys.readouterr().err
    )
    file.write_text(json.dumps({"accounts": [entry(source="x")]}))
    assert main(["check", *flags]) == 2
    assert f"{file}: accounts[0] (main).source: expected one of" in capsys.readouterr().err


def test_changed_accounts_are_taken_up_and_faulty_ones_refused(tmp_path: Path, pulling: Pulling) -> None:
    """`run` with a clock that the test moves: it goes on from one state to the next."""
    pulling.account("anthropic", reports=["analytics_cost"])
    file = tmp_path / "spend.yaml"
    pulling.settings = CollectorSettings(spend_file=str(file))
    pulling.restart()
    pulling.vendors.rows["analytics/cost", ago(1)] = [anthropic_cost("100")]

    async def until(state: Any) -> None:
        while not state():
            await asyncio.sleep(0.01)

    def names() -> list[str]:
        return [state.name for state in pulling.puller.states if state.success_at_ms is not None]

    async def changed() -> None:
        running = asyncio.create_task(pulling.puller.run())
        await until(lambda: names() == ["main"])
        assert not running.done()
        before = file.read_text()
        file.write_text(before.replace("anthropic", "nobody"))
        os.utime(file, ns=(1, 1))
        asked = pulling.vendors.asked.total()
        await until(lambda: pulling.vendors.asked.total() > asked)  # the one before goes on
        assert names() == ["main"]
        file.write_text(before.replace('"main"', '"other"'))
        os.utime(file, ns=(2, 2))
        await until(lambda: names() == ["other"])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(changed())
    assert [one.key.account for one in pulling.slices] == ["default"]
