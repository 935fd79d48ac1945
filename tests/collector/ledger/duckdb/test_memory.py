"""What a DuckDB ledger reads and holds for figures of which there are many, and what it gives back."""

import base64
import random
from pathlib import Path

import pytest

from harness import wait_until
from tokenyield_collector.ledger.duckdb.file import DuckDbFile
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.kept import SETTLED_PREFIX, KeptFigure

MIB = 1 << 20


def rss() -> int:
    """Bytes that this process has in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def content(seed: int) -> str:
    """As long as that of a day of 10,000 GPUs, and as hard to compress."""
    return base64.b64encode(random.Random(seed).randbytes(MIB // 5)).decode()


def bytes_held(ledger: DuckDbLedger) -> int:
    ((held,),) = ledger._file.rows("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()")
    return int(held)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of 100 days and one sum."""
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDbLedger(path)
    days = [KeptFigure(f"{SETTLED_PREFIX}{day}", "", content(day)) for day in range(100)]
    ledger.figures.keep([*days, KeptFigure("sum", "", content(1000))])
    ledger._file.checkpoint()
    ledger.close()
    return path


@pytest.mark.parametrize("name", [f"{SETTLED_PREFIX}50", "sum"])
def test_one_figure_is_read_without_the_others(path: Path, name: str) -> None:
    ledger = DuckDbLedger(path)
    before = bytes_held(ledger)
    assert ledger.figures.contents([name]) == {name: content(50 if name != "sum" else 1000)}
    assert bytes_held(ledger) - before < 4 * MIB, "all of them are 27 MB"
    ledger.close()


def test_a_checkpoint_writes_no_settled_figure_again(path: Path) -> None:
    def blocks() -> set[int]:
        listed = ledger._file.rows(
            "SELECT block_id, additional_block_ids FROM pragma_storage_info('settled_figures') WHERE persistent"
        )
        return {block for first, others in listed for block in (first, *(others or ()))}

    ledger = DuckDbLedger(path)
    before = blocks()
    for number in range(3):
        ledger.figures.keep([KeptFigure("sum", "", content(2000 + number))])
        ledger._file.checkpoint()
    assert before
    assert blocks() == before
    ledger.close()


def test_a_copy_stores_figures_as_the_ledger_does(path: Path, tmp_path: Path) -> None:
    ledger = DuckDbLedger(path)
    ledger.copy_to(tmp_path / "copy.duckdb")
    ledger.close()
    copy = DuckDbLedger(tmp_path / "copy.duckdb")
    for table in ("settled_figures", "changing_figures"):
        stored = f"pragma_storage_info('{table}') WHERE column_name = 'content' AND segment_type = 'VARCHAR'"
        assert copy._file.rows(f"SELECT DISTINCT compression FROM {stored}") == [("Uncompressed",)]
    copy.close()


def test_what_was_freed_goes_back_to_the_system(tmp_path: Path) -> None:
    file = DuckDbFile(tmp_path / "ledger.duckdb", memory_limit="300MB", threads=1)
    file.connection.execute("CREATE TABLE packed (text VARCHAR USING COMPRESSION zstd)")
    file.connection.execute("INSERT INTO packed SELECT repeat(md5(range::VARCHAR), 9000) FROM range(400)")
    file.checkpoint()
    before = rss()
    file.rows("SELECT max(text[5]) FROM packed")  # 115 MB in memory for a moment
    file.connection.execute("DROP TABLE packed")
    wait_until(lambda: rss() < before + 40 * MIB, what="what was freed is given back")
    file.close()
