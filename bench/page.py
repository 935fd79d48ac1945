"""The built-in page in Chromium with 10,000 GPUs: first useful paint, and the longest task after it.

Useful is the first paint with the fleet's figures and the map of every GPU. A new browser context each time, so nothing
is cached; the first run also finds a collector that nobody has asked yet. Needs Chromium (/usr/bin/chromium) and
playwright. Prints JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from big_ledger import big_fleet
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness import Stack, wait_until

MARKS = """
window.longTasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((one) => window.longTasks.push([one.startTime, one.duration])))
  .observe({ type: "longtask", buffered: true });
window.usefulAt = null;
new MutationObserver(() => {
  if (window.usefulAt === null && document.querySelector("button.figure") && document.querySelector(".map canvas"))
    requestAnimationFrame(() => { window.usefulAt ??= performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""


def opened(browser: Any, url: str, screenshot: Path | None) -> tuple[float, float]:
    """Milliseconds to the first useful paint, and of the longest task after it."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.add_init_script(MARKS)
    page.goto(url)
    wait_until(lambda: bool(page.evaluate("window.usefulAt !== null")), what="useful paint")
    page.get_by_text("Waste by team").wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    useful_ms, tasks = page.evaluate("[window.usefulAt, window.longTasks]")
    if screenshot:
        page.set_viewport_size({"width": 1280, "height": 1400})
        page.wait_for_timeout(500)
        page.screenshot(path=screenshot)
    context.close()
    return useful_ms, max((took for at, took in tasks if at > useful_ms), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--screenshot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        stack = Stack(Path(folder), collector={**big_fleet(Path(folder), arguments.gpus), "refresh_interval_s": 5})
        stack.start_collector()
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            runs = [opened(browser, stack.url, arguments.screenshot) for _ in range(arguments.runs)]
        finally:
            browser.close()
            stack.kill_all()
    found = {"gpus": arguments.gpus, "first_run_ms": [round(value) for value in runs[0]]}
    for i, name in enumerate(("first_useful_paint_ms", "longest_task_after_ms")):
        values = [run[i] for run in runs[1:]]
        found[name] = {"median": round(statistics.median(values)), "min": round(min(values)), "max": round(max(values))}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
