"""The built-in page in a real Chromium: empty, with a made-up fleet, with 10,000 GPUs, with the collector gone.

No request goes to any other host, axe-core finds no violation, and the page shows what the API returns.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from big_ledger import big_fleet
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness import Stack, free_port, get, wait_until
from tokenyield_collector.demo.month import made_up
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.prices.period import Period
from tokenyield_collector.spend.slices import SpendAmounts, SpendFields, SpendKey, SpendLine, SpendSlice

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

expect.set_options(timeout=120_000)

ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("TOKENYIELD_CACHE", "")) / "web" / "node_modules" / "axe-core" / "axe.min.js"
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
RULES = "budgets: [{name: search, match: {team: search}, monthly: 3000}]\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page, its requests and its errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requested: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None,
        )

    def is_well(self, url: str) -> None:
        assert self.errors == []
        assert {
            urllib.parse.urlsplit(one).netloc for one in self.requested if not one.startswith(("data:", "blob:"))
        } == {urllib.parse.urlsplit(url).netloc}


@pytest.fixture(params=["light", "dark"])
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": 1400, "height": 1000}, color_scheme=request.param, bypass_csp=False
    )
    context.set_default_timeout(120_000)
    yield Watched(context.new_page())
    context.close()


def serving(folder: Path, **settings: Any) -> Stack:
    stack = Stack(folder, collector=settings)
    stack.collector.start(f"{stack.url}/healthz")
    wait_until(lambda: _ready(f"{stack.url}/readyz"), timeout_s=240, what="ready")
    return stack


def _ready(url: str) -> bool:
    try:
        return get(url) == b"ok\n"
    except OSError:
        return False


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The made-up fleet: three weeks by the hour, the last hour by the minute and a little beyond now."""
    folder = tmp_path_factory.mktemp("fleet")
    now_ms = time.time_ns() // 10**6
    hour_ms = now_ms - now_ms % HOUR_MS
    ledger = DuckDbLedger(folder / "ledger.duckdb")
    past = Period(name="past", start_ms=hour_ms - hour_ms % DAY_MS - 20 * DAY_MS, end_ms=hour_ms)
    present = Period(name="present", start_ms=hour_ms, end_ms=now_ms + HOUR_MS)
    for shipment in (*made_up(past), *made_up(present, 60_000)):
        ledger.append([shipment], now_ms)
    key = SpendKey("anthropic", "default", now_ms - now_ms % DAY_MS, "cost_report")
    billed = SpendLine(SpendFields("anthropic", model="claude-sonnet-5"), SpendAmounts(output=9, cost_micro=12_340_000))
    ledger.replace_spend([SpendSlice(key, "billed", (billed,))], now_ms)
    ledger.roll()
    ledger.close()
    rules = folder / "attribution.yaml"
    rules.write_text(RULES)
    stack = serving(folder, prices_file=str(ROOT / "collector" / "prices.yaml"), attribution_file=str(rules),
                    live_window_s=300, live_grid_s=60)  # fmt: skip
    yield stack
    stack.kill_all()


def day(back: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time_ns() / 1e9 - back * DAY_MS / 1000))


PAGES = {
    "#/": "Workloads by waste",
    "#/diagnosis": "starved",
    "#/workloads": "search/llama-70b",
    "#/chargeback": "support",
    "#/chargeback/product": "Chargeback by product",
    "#/nodes": "gpu-1",
    "#/workload/onprem/search%2Fllama-70b": "As its agent knows it",
    "#/node/onprem/gpu-1": "GPUs over the live window",
    "#/chargeback/team/search": "Workloads in",
    "#/report": "Budgets",
    "#/changes": "Rows that moved most",
    "#/forecast": "Back-test",
    "#/forecast/tokens/model": "Each forecast by itself",
    "#/shadow": "What this cannot show",
    "#/sources": "Watched folder",
}


@pytest.mark.parametrize("place", PAGES)
def test_every_page_is_shown_and_can_be_used_by_all(watched: Watched, fleet: Stack, place: str) -> None:
    page = watched.page
    page.goto(f"{fleet.url}/{place}")
    expect(page.locator("main")).to_contain_text(PAGES[place])
    page.wait_for_timeout(300)
    violations = axe(page)
    assert violations == [], json.dumps(violations, indent=1)[:4000]
    watched.is_well(fleet.url)


def test_what_is_bought_stands_beside_the_fleet(browser: Browser, fleet: Stack) -> None:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(fleet.url)
    row = page.get_by_role("region", name="What vendors cost up to now").locator("tbody tr")
    expect(row).to_have_text("anthropic12.34 USD12.34 USD0.0 %9")
    page.get_by_role("link", name="By vendor and model").click()
    expect(page.get_by_role("table", name="Report of").locator("tbody")).to_contain_text("anthropicclaude-sonnet-5")
    page.close()


def test_what_changed_is_what_the_api_says(browser: Browser, fleet: Stack) -> None:
    """The bridge leads from one cost to the other; another comparison is another address; a period that is none says so."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    periods = f"{day(6)}..{day(4)}", f"{day(9)}..{day(7)}"
    page.goto(f"{fleet.url}/#/changes/{'/'.join(periods)}/team")
    bridge = page.locator("ul.bridge li .amount")
    expect(bridge.first).to_be_visible()
    document = json.loads(
        get(f"{fleet.url}/v1/explain?period={periods[0]}&against={periods[1]}&by=team&top=200"), parse_float=Decimal
    )
    expect(page.locator("main")).to_contain_text(document["text"])
    first, *steps, last = map(written, bridge.all_inner_texts())
    shown = document["total"]["shown"]
    assert (first, last) == (shown["cost_from"], shown["cost_to"])
    assert steps == [effect["amount"] for effect in document["effects"]] != []
    assert first + sum(steps) == last
    page.get_by_role("combobox", name="By").select_option("workload")
    expect(page.locator("caption")).to_have_text("Rows that moved most, by workload")
    assert page.url.endswith("/workload")
    page.get_by_label("against").fill("last week")
    page.get_by_label("against").press("Enter")
    expect(page.locator("#banner")).to_contain_text("against: expected")
    page.close()


def test_a_forecast_is_what_the_api_says(browser: Browser, fleet: Stack) -> None:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{fleet.url}/#/forecast/cost/team")
    found = json.loads(get(f"{fleet.url}/v1/forecast?measure=cost&by=team&top=50"))
    figure = page.locator("button.figure", has_text=f"End of {found['month']}").locator(".value")
    assert written(figure.inner_text()) == pytest.approx(
        Decimal(found["total"]["month_end"]["p50"]), abs=Decimal("0.01")
    )
    rows = page.get_by_role("region", name="Each forecast by itself").locator("tbody tr")
    assert {row.locator("td").first.inner_text() for row in rows.all()} == {row["by"]["team"] for row in found["rows"]}
    page.get_by_text("Numbers", exact=True).click()
    expect(page.get_by_role("region", name="By day, numbers").locator("tbody tr")).to_have_count(
        min(60, len(found["history"])) + len(found["path"])
    )
    page.get_by_label("of", exact=True).select_option("energy")
    expect(page.locator("main")).to_contain_text("kWh")
    page.close()


def axe(page: Page) -> list[Any]:
    """axe-core's violations. It is put in by the debugger, since the page's policy lets no foreign script in."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [{"id": one["id"], "nodes": [node["html"][:200] for node in one["nodes"]]} for one in result["violations"]]


def test_a_figure_shows_its_formula_and_its_numbers(watched: Watched, fleet: Stack) -> None:
    page = watched.page
    page.goto(fleet.url)
    page.get_by_role("button", name=re.compile("^Tokens.s per watt [0-9]")).first.wait_for()
    figures = page.locator("button.figure")
    assert figures.count() >= 14
    for i in range(figures.count()):
        figures.nth(i).click()
        dialog = page.locator("dialog#formula")
        expect(dialog).to_be_visible()
        assert dialog.locator(".formula").inner_text()
        assert dialog.locator("tbody tr").count() >= 2
        source = dialog.locator("a").get_attribute("href")
        assert source is not None
        assert json.loads(get(f"{fleet.url}/{source}"))
        if i == 0:
            assert axe(page) == []
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    watched.is_well(fleet.url)


def test_page_report_and_api_agree(watched: Watched, fleet: Stack) -> None:
    page = watched.page
    page.goto(fleet.url)
    cost = page.locator("button.figure", has=page.locator(".label", has_text=re.compile("^Cost$"))).locator(".value")
    expect(cost).to_be_visible()
    days = (time.strftime("%Y-%m-%d", time.gmtime(time.time_ns() / 1e9 - back * 86_400)) for back in (29, 0))
    query = urllib.parse.urlencode({"period": "..".join(days), "by": "team"})
    report = json.loads(get(f"{fleet.url}/v1/report?{query}"))
    assert cost.inner_text() == f"{report['total']['shown']['cost']:,.2f} USD"
    amounts = [bar.inner_text() for bar in page.locator(".waterfall button").all()]
    assert amounts == [f"{row['shown']['cost']:,.2f} USD" for row in report["waterfall"]]
    assert sum(map(written, amounts)) == written(cost.inner_text()), "the card is the sum of the waterfall beside it"
    teams = page.locator("table", has_text="By team,").locator("tbody tr")
    expect(teams).to_have_count(len(report["rows"]))
    shown = {row.locator("td").nth(0).inner_text(): row.locator("td").nth(3).inner_text() for row in teams.all()}
    assert shown == {row["team"]: f"{row['shown']['cost']:,.2f} USD" for row in report["rows"]}
    foot = page.locator("table", has_text="By team,").locator("tfoot td").nth(2)
    assert sum(map(written, shown.values())) == written(foot.inner_text()) == written(cost.inner_text())
    # In Prometheus' text, what is to date of the fleet and what is bought this month have the same sum: the whole ledger
    # lies within the 30 days.
    exposed = get(f"{fleet.url}/metrics").decode().splitlines()
    to_date = sum(
        float(line.rpartition(" ")[2])
        for line in exposed
        if line.startswith(("tokenyield_attributed_cost_to_date{", "tokenyield_bought_month_cost{"))
    )
    assert to_date == pytest.approx(report["total"]["cost"], abs=0.05)


def written(amount: str) -> Decimal:
    return Decimal(amount.removesuffix(" USD").replace(",", ""))


def test_a_diagnosis_shows_what_the_api_returns(watched: Watched, fleet: Stack) -> None:
    page = watched.page
    page.goto(f"{fleet.url}/#/diagnosis")
    page.get_by_label("Time").select_option("21600")
    expect(page.locator("tbody tr").first).to_be_visible()
    page.wait_for_timeout(500)
    diagnoses = json.loads(get(f"{fleet.url}/v1/diagnosis?window_s=21600"))
    findings = [finding for one in diagnoses["workloads"] for finding in one["findings"]]
    assert findings
    shown = [row.locator("td").nth(3).inner_text() for row in page.locator("tbody tr").all()]
    assert sorted(shown) == sorted(finding["text"] for finding in findings)
    assert "before Hopper" in page.locator("main").inner_text(), "what could not be examined is shown"
    page.locator("tbody tr").first.get_by_role("button").click()
    expect(page.locator("dialog#formula")).to_contain_text("cost of the workload per hour")
    if shots := os.environ.get("TOKENYIELD_SCREENSHOTS"):
        page.keyboard.press("Escape")
        page.screenshot(
            path=f"{shots}/diagnosis-{page.evaluate('document.documentElement.dataset.theme')}.png", full_page=True
        )
    watched.is_well(fleet.url)


def test_it_works_by_keyboard_and_remembers_its_theme(watched: Watched, fleet: Stack) -> None:
    page = watched.page
    page.goto(fleet.url)
    frame = page.get_by_role("application")
    frame.wait_for()
    frame.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "End", "ArrowLeft"):
        page.keyboard.press(key)
    status = page.locator(".panel p[role=status]")
    expect(status).to_contain_text("onprem gpu-1")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Node gpu-1")
    before = page.locator("html").get_attribute("data-theme")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") != before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    watched.is_well(fleet.url)


def test_tables_sort_and_files_download(watched: Watched, fleet: Stack) -> None:
    page = watched.page
    page.goto(f"{fleet.url}/#/report")
    head = page.get_by_role("columnheader", name=re.compile("^cost"))
    head.get_by_role("button").click()
    values = page.locator("table", has_text="Report of").locator("tbody tr td:nth-child(3)").all_inner_texts()
    numbers = [float(text.split()[0].replace(",", "")) for text in values]
    assert numbers in (sorted(numbers), sorted(numbers, reverse=True))
    with page.expect_download() as begun:
        page.get_by_role("button", name="CSV").click()
    text = Path(begun.value.path()).read_text()
    assert text.startswith("team,model,cost,")
    assert len(text.splitlines()) == 1 + len(numbers)


def test_an_empty_ledger_shows_what_to_do(watched: Watched, tmp_path: Path) -> None:
    stack = serving(tmp_path)
    try:
        watched.page.goto(stack.url)
        expect(watched.page.locator("main")).to_contain_text("No data yet")
        assert axe(watched.page) == []
        for place in ("#/workloads", "#/report", "#/node/a/b", "#/nowhere"):
            watched.page.goto(f"{stack.url}/{place}")
            expect(watched.page.locator("h1")).to_be_visible()
            watched.page.wait_for_timeout(500)
        watched.is_well(stack.url)
    finally:
        stack.kill_all()


def test_the_demo_from_its_first_minute(watched: Watched, tmp_path: Path) -> None:
    """Before an hour has closed the page shows what the live window knows."""
    port = free_port()
    call = [sys.executable, "-m", "tokenyield_collector.cli", "demo", "--duration", "60", "--port", str(port)]
    with (tmp_path / "demo.out").open("wb") as out:
        demo = subprocess.Popen(call, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _ready(f"{url}/readyz"), what="ready")
        wait_until(lambda: b'"workload":"chat"' in get(f"{url}/v1/summary"), what="the first windows")
        watched.page.goto(url)
        main = watched.page.locator("main")
        expect(main).to_contain_text(re.compile("No hour has closed yet|Workloads by waste"))
        expect(main).to_contain_text("chat")
        watched.page.locator("td button").first.click()
        expect(watched.page.locator("dialog#formula")).to_be_visible()
        assert axe(watched.page) == []
        watched.is_well(url)
    finally:
        demo.terminate()
        demo.wait(20)


def test_a_collector_that_is_gone_and_back(browser: Browser, tmp_path: Path) -> None:
    stack = serving(tmp_path)
    page = browser.new_page()
    try:
        page.goto(stack.url)
        expect(page.locator("main")).to_contain_text("No data yet")
        stack.collector.kill()
        page.goto(f"{stack.url}/#/workloads")
        expect(page.locator("#banner")).to_contain_text("cannot be reached")
        assert axe(page) == []
        stack.start_collector()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("main")).to_contain_text("No data yet")
    finally:
        page.close()
        stack.kill_all()


def test_a_collector_that_needs_a_token(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("open-sesame-and-more\n")
    stack = serving(tmp_path, token_file=str(tmp_path / "tokens"))
    page = browser.new_page()
    try:
        page.goto(stack.url)
        for offered in ("wrong", "open-sesame-and-more"):
            page.get_by_label("Token from the collector's token_file").fill(offered)
            page.get_by_role("button", name="Use it").click()
            page.wait_for_timeout(300)
        expect(page.locator("main")).to_contain_text("No data yet")
        expect(page.locator("dialog#token")).to_be_hidden()
    finally:
        page.close()
        stack.kill_all()


def test_ten_thousand_gpus(browser: Browser, tmp_path: Path) -> None:
    """That it is readable; how fast is measured by bench/page.py."""
    stack = serving(tmp_path, **big_fleet(tmp_path, 10_000))
    try:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(stack.url)
        expect(page.locator("main")).to_contain_text("10000 GPUs, 1250 nodes")
        expect(page.locator("main")).to_contain_text("Waste by team")
        frame = page.get_by_role("application")
        high = frame.locator("canvas").evaluate("canvas => canvas.getBoundingClientRect().height")
        assert 100 < high < 700, "the whole fleet fits on a screen"
        frame.focus()
        page.keyboard.press("End")
        expect(page.locator(".panel p[role=status]")).to_contain_text("node-")
        assert axe(page) == []
    finally:
        stack.kill_all()
