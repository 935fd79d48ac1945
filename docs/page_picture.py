"""Draw docs/page.png, the collector's page over the made-up fleet: `python docs/page_picture.py` (needs chromium)."""

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests")]

from harness import Stack, wait_until
from tokenyield_collector.demo.month import made_up
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.prices.period import Period
from tokenyield_wire.units import MS_PER_DAY, MS_PER_HOUR

OUT = HERE / "page.png"
DAYS = 20


def fill(path: Path, now_ms: int) -> None:
    """Twenty days by the hour, and the last hour by the minute."""
    hour_ms = now_ms - now_ms % MS_PER_HOUR
    past = Period(name="past", start_ms=hour_ms - hour_ms % MS_PER_DAY - DAYS * MS_PER_DAY, end_ms=hour_ms)
    present = Period(name="present", start_ms=hour_ms, end_ms=now_ms + MS_PER_HOUR)
    ledger = DuckDbLedger(path)
    for shipment in (*made_up(past), *made_up(present, 60_000)):
        ledger.append([shipment], now_ms)
    ledger.roll()
    ledger.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        prices = HERE.parent / "collector" / "prices.yaml"
        stack = Stack(Path(folder), collector={"prices_file": str(prices), "live_window_s": 300, "live_grid_s": 60})
        fill(stack.ledger_path, time.time_ns() // 10**6)
        stack.start_collector()
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            page = browser.new_context(viewport={"width": 1280, "height": 1120}).new_page()
            page.goto(stack.url)
            page.get_by_label("Time").select_option("30d")
            wait_until(lambda: page.locator("canvas").count() > 0, what="the chart is drawn")
            page.wait_for_timeout(1500)
            page.screenshot(path=OUT)
        finally:
            browser.close()
            stack.kill_all()


if __name__ == "__main__":
    main()
