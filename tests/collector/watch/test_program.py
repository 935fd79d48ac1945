"""The running collector imports what is put into its folder, shows how it stands, and stops and starts with it."""

import json
import re
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.watch.test_watcher import CARD
from harness import Stack, get, wait_until
from tokenyield_collector.cli import main
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger

NS_PER_DAY = 86_400 * 10**9
YESTERDAY = time.strftime("%Y-%m-%d", time.gmtime((time.time_ns() - NS_PER_DAY) // 10**9))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "spend" / "csv@card"
    folder.mkdir(parents=True)
    (folder / "mapping.yaml").write_text(json.dumps(CARD))
    rules = tmp_path / "egress.yaml"
    rules.write_text("sanctioned: []\n")
    started = Stack(tmp_path, collector={"spend_folder": str(folder.parent), "egress_file": str(rules)})
    yield started
    started.kill_all()


def files(stack: Stack, state: str) -> int | None:
    text = get(f"{stack.url}/metrics").decode()
    found = re.search(rf'^tokenyield_spend_watch_files{{folder="csv@card",state="{state}"}} (\S+)$', text, re.M)
    return int(float(found[1])) if found else None


def test_files_are_imported_and_what_cannot_be_is_shown_everywhere(stack: Stack) -> None:
    folder = stack.folder / "spend" / "csv@card"
    (folder / "bad.csv").write_text(f"day,cost\n{YESTERDAY},much\n")
    (folder / "good.csv").write_text(f"day,cost\n{YESTERDAY},12.50\n")
    stack.start_collector()
    wait_until(lambda: files(stack, "imported") == 1)
    assert files(stack, "failed") == 1
    assert 'tokenyield_spend_watch_failing{folder="csv@card"} 1' in get(f"{stack.url}/metrics").decode()
    (shown,) = json.loads(get(f"{stack.url}/v1/spend/sources"))["folders"]
    assert shown["problems"][0].startswith("bad.csv: 1 of 1 rows cannot be used: bad.csv: line 2: ")
    assert stack.collector.terminate() == 0
    assert "csv@card/bad.csv: not imported: 1 of 1 rows cannot be used" in stack.collector.said()
    assert sorted(file.name for file in folder.iterdir()) == ["bad.csv", "good.csv", "mapping.yaml"]
    ledger = DuckDbLedger(stack.ledger_path)
    try:
        assert [one.cost_micro() for one in ledger.spend(0, 2**42)] == [{"USD": 12_500_000}]
        assert list(ledger.figures.inputs("watch:")) == ["watch:csv@card/good.csv"]
    finally:
        ledger.close()


def test_shadow_use_is_asked_of_the_running_collector(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.start_collector()
    log = stack.folder / "squid.log"
    at_s = (time.time_ns() - NS_PER_DAY) // 10**9
    log.write_text(f"{at_s}.100 8 10.0.0.1 TCP_TUNNEL/200 4711 CONNECT api.openai.com:443 - HIER_DIRECT/- -\n")
    assert main(["import", "egress", str(log), "--collector", stack.url]) == 0
    capsys.readouterr()
    assert main(["shadow", "--period", YESTERDAY, "--json", "--collector", stack.url]) == 0
    (row,) = json.loads(capsys.readouterr().out)["findings"]
    assert (row["level"], row["vendor"], row["count"], row["bytes_received"]) == ("connected", "openai", 1, 4711)
    assert json.loads(get(f"{stack.url}/v1/shadow?period={YESTERDAY}&top=1"))["findings"] == [row]
    (stack.folder / "egress.yaml").write_text("sanctioned: [openai]\n")
    document = json.loads(get(f"{stack.url}/v1/shadow?period={YESTERDAY}"))
    assert (document["findings"], document["sanctioned"]) == ([], 1), "a changed file counts at once"
    (stack.folder / "egress.yaml").write_text("sanction: [openai]\n")
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(f"{stack.url}/v1/shadow?period={YESTERDAY}")
