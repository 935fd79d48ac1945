"""A token that is limited to teams: what these carry, exactly, and nothing of others, on every route.

Two collectors whose ledgers, rules and price books differ in all that is not team ads': what a token of ads gets from
both is the same to the byte, so nothing of others is in it, in whatever form.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from collector.fleet import Fleet, Gpu, Held, Server, close_months, prices, rules
from tokenyield_collector.access.token_file import parse_token_file
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.http.right import Right, TeamAnswer
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.outcomes import OutcomeSlice, SliceKey
from tokenyield_collector.policy import load_policy
from tokenyield_collector.prices.period import parse_period
from tokenyield_collector.server import Collector, application

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")

ADS, ALL = "a-token-of-team-ads", "a-token-for-everything"
TOKENS = f"{ADS} name=ads-lead may=read teams=ads\n{ALL} name=finance may=read\n"
MONTH = parse_period("2026-10")
BOOK = """
pools:
  - {{name: h100, match: {{gpu: "*H100*"}}, rented: {{per_gpu_hour: 4}}}}
  - {{name: l4, match: {{gpu: "*L4*"}}, rented: {{per_gpu_hour: {l4}}}}}
"""
ASKED = (
    *(f"/v1/report?period=2026-10&format={form}&by={by}" for form in ("json", "csv", "table", "html") for by in ("team,model", "workload,node,pool", "day")),
    "/v1/report?period=2026-10&top=1&by=workload",
    "/v1/report?period=2026-10&by=team&version=1",
    "/v1/report?period=2026-10&by=team&team=search",
    "/v1/report?period=2026-10&by=team&workload=chat",
    "/v1/report?period=2026-10&format=focus",
    "/v1/report?period=2026-10&format=focus-invoice-detail",
    "/v1/report?period=2026-10&by=team&version=7",
    "/v1/report/diff?period=2026-10&from=1&to=1&by=team,workload",
    "/v1/explain?period=2026-10-06&against=2026-10-05&by=workload&top=1",
    "/v1/explain?period=2026-10-06&against=2026-10-05&team=search",
    "/v1/budgets?month=2026-10",
    "/v1/forecast?by=team,model",
    "/v1/forecast?measure=tokens&team=search",
)  # fmt: skip
"""What every route that answers such a token is asked for, and what it refuses."""


def others_of(number: int) -> dict[str, Any]:
    """All that is not of ads: names, figures, prices, budgets."""
    return {"team": f"search{number}" if number else "search", "workload": f"chat{number}" if number else "chat"}


def filled(folder: Path, number: int) -> CollectorSettings:
    """Ads has a GPU of its own pool; others, by `number`, have theirs, work that no rule explains, and outcomes."""
    other = others_of(number)
    folder.mkdir()
    ledger = folder / "ledger.duckdb"
    fleet = Fleet(ledger)
    for day in ("2026-10-05", "2026-10-06"):
        rank = Held(workload="rank", active_min=20 if day.endswith("5") else 40, idle_min=20)
        chat = Held(workload=other["workload"], active_min=10 + number, idle_min=1)
        fleet.hour(
            f"{day}T10:00",
            [Gpu(held=[rank])],
            [Server(key="rank", model="bge", labels={"team": "ads"}, completion=1000)],
            node="n-ads",
        )
        fleet.hour(
            f"{day}T10:00",
            [
                Gpu(uuid="GPU-9", model="NVIDIA L4", held=[chat]),
                *(Gpu(uuid=f"GPU-1{i}", model="L4") for i in range(number)),
            ],
            [Server(key=other["workload"], model=f"m{number}", labels={"team": other["team"]}, completion=77 + number)],
            node=f"n-other-{number}",
        )
    key = SliceKey(source="tickets", day_ms=parse_period("2026-10-05").start_ms, name="solved")
    counts = ((json.dumps({"team": "ads"}), 5), (json.dumps({"team": other["team"]}), 100 + number))
    fleet.ledger.replace_outcomes([OutcomeSlice(key, counts)], 1)
    (folder / "tokens").write_text(TOKENS)
    prices(folder, BOOK.format(l4=1 + number))
    budgets = [
        {"name": "of ads", "match": {"team": "ads"}, "monthly": 100},
        {"name": f"of all {number}", "monthly": 1000 + number},
        {"name": f"of {other['team']}", "match": {"team": other["team"]}, "monthly": 10 + number},
        {"name": f"by pattern {number}", "match": {"team": "*"}, "monthly": 5 + number},
    ]
    of_ads = rules(folder, {"dimensions": ["team"], "budgets": budgets})
    close_months(fleet.maker(prices(folder, BOOK.format(l4=1 + number)), of_ads, now="2026-11-20"))
    fleet.ledger.close()
    return CollectorSettings(
        ledger_path=str(ledger),
        prices_file=str(folder / "prices.yaml"),
        attribution_file=str(folder / "attribution.yaml"),
        token_file=str(folder / "tokens"),
    )


Get = Callable[..., Awaitable[tuple[int, str]]]


def with_collector(settings: CollectorSettings, play: Callable[[Collector, Any, Get], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        collector = Collector(settings, DuckDbLedger(settings.ledger_path), load_policy(settings))
        app = application(collector)
        try:
            async with TestClient(TestServer(app)) as client:

                async def get(
                    path: str, token: str = ADS, method: str = "GET", body: bytes | None = None, **headers: str
                ) -> tuple[int, str]:
                    headers = {name.replace("_", "-"): value for name, value in headers.items()}
                    headers["Authorization"] = f"Bearer {token}"
                    async with client.request(method, path, headers=headers, data=body) as answer:
                        return answer.status, await answer.text()

                return await play(collector, app, get)
        finally:
            collector.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[CollectorSettings]:
    folder = tmp_path_factory.mktemp("teams")
    return [filled(folder / str(number), number) for number in (0, 3)]


def test_every_route_states_what_a_limited_token_gets_and_keeps_to_it(twins: list[CollectorSettings]) -> None:
    """Of the application itself: a route that is added without a statement fails here, and is refused."""

    async def play(collector: Collector, app: Any, get: Get) -> list[tuple[str, str, TeamAnswer | None, int]]:
        from tokenyield_collector.api.registry import every_route

        stated = {route.path.replace(":.+", ""): route for route in every_route()}
        seen = []
        for one in app.router.routes():
            if one.method == "HEAD":
                continue
            path = one.resource.canonical
            route = stated[path]
            assert route.method == one.method
            status, _ = await get(path.replace("{name}", "app.css"), ADS, one.method)
            seen.append((one.method, path, route.right, route.to_teams, status))
        return seen  # type: ignore[return-value]

    seen: Any = with_collector(twins[0], play)
    assert len(seen) > 20, "of all files of api/"
    for method, path, right, to_teams, status in seen:
        match right, to_teams:
            case (Right.OPEN, _):
                assert status in (200, 503), path
            case (Right.READ, TeamAnswer.OWN):
                assert status in (200, 400), (path, status)  # 400: the period is missing
            case (Right.READ, TeamAnswer.REFUSED) | (Right.WRITE | Right.OUTCOMES | Right.SPEND | Right.OTLP, None):
                assert status == 403, (path, status)
            case (Right.PAGE, TeamAnswer.NO_FIGURES):
                assert status == 200, path
            case (Right.ENROL, None):
                assert status in (400, 401, 404), (path, status)
            case _:
                pytest.fail(f"{method} {path}: state `to_teams`: what a token that is limited to teams gets")


def test_nothing_of_others_is_in_any_answer(twins: list[CollectorSettings]) -> None:
    async def play(collector: Collector, app: Any, get: Get) -> dict[str, tuple[int, str]]:
        refused = [one.resource.canonical for one in app.router.routes() if one.method == "GET"]
        answers = {path: await get(path) for path in (*ASKED, *refused) if "{" not in path and path != "/v1/context"}
        context = json.loads((await get("/v1/context"))[1])
        assert context["teams"] == ["ads"]
        book = context["price_book"]  # which prices these are, not what they are
        return {path: (status, text.replace(book, "BOOK")) for path, (status, text) in answers.items()}

    first, second = (with_collector(settings, play) for settings in twins)
    assert first == second
    for path, (status, text) in first.items():
        assert "n-other" not in text, path
        assert status in (200, 400, 403, 503), (path, status)
    answered = [path for path in ASKED if first[path][0] == 200]
    assert {"report", "diff", "explain", "budgets", "forecast"} == {
        path.split("?")[0].split("/")[-1] for path in answered
    }


def test_its_figures_are_those_of_the_whole_report(twins: list[CollectorSettings]) -> None:
    async def play(collector: Collector, app: Any, get: Get) -> None:
        def read(text: str) -> Any:
            return json.loads(text, parse_float=Decimal)

        path = "/v1/report?period=2026-10&by=team,model"
        own, whole = read((await get(path))[1]), read((await get(path, ALL))[1])
        assert [row["team"] for row in own["rows"]] == ["ads"]
        assert len(whole["rows"]) > 2
        (of_whole,) = (row for row in whole["rows"] if row["team"] == "ads")
        assert own["rows"] == [of_whole]
        assert own["total"]["cost"] == of_whole["cost"] > 0
        assert sum(step["cost"] for step in own["waterfall"]) == of_whole["cost"]
        assert own["total"]["outcomes_solved"] == 5
        assert (own["gaps"], own["references"], own["latency"]) == ([], [], None)
        assert own["notes"][0] == "only what is carried by ads"
        filtered = read((await get(f"{path}&team=ads", ALL))[1])
        assert filtered["rows"] == own["rows"]

        explain = "/v1/explain?period=2026-10-06&against=2026-10-05&by=workload"
        own, filtered = read((await get(explain))[1]), read((await get(f"{explain}&team=ads", ALL))[1])
        assert [row["by"]["workload"] for row in own["rows"]] == ["rank"]
        assert (own["total"], own["rows"]) == (filtered["total"], filtered["rows"])
        budgets = read((await get("/v1/budgets?month=2026-10"))[1])["budgets"]
        assert [one["name"] for one in budgets] == ["of ads"]
        of_all = read((await get("/v1/budgets?month=2026-10", ALL))[1])["budgets"]
        assert budgets[0] in of_all

    with_collector(twins[0], play)


def test_what_is_of_others_is_refused_with_the_reason(twins: list[CollectorSettings]) -> None:
    async def play(collector: Collector, app: Any, get: Get) -> None:
        status, text = await get("/metrics")
        assert status == 403
        assert "ads-lead reads what team ads carries alone, and /metrics is of the whole fleet" in text
        for name in ("search", "nobody", "(unallocated)", "*"):
            status, text = await get(f"/v1/report?period=2026-10&by=team&team={name}")
            assert status == 400
            assert json.loads(text)["errors"][0]["expected"] == "a team that this token may read: ads"
        status, text = await get("/v1/report?period=2026-10&format=focus")
        assert (status, "of the whole fleet" in text) == (400, True)
        status, text = await get("/v1/report?period=2026-10&by=hour")
        assert status == 200

    with_collector(twins[0], play)


def test_a_period_whose_rules_know_no_teams_is_refused(tmp_path: Path, twins: list[CollectorSettings]) -> None:
    by_product = tmp_path / "attribution.yaml"
    by_product.write_text("dimensions: [product]\n")
    settings = CollectorSettings(
        ledger_path=str(tmp_path / "ledger.duckdb"), attribution_file=str(by_product), token_file=twins[0].token_file
    )

    async def play(collector: Collector, app: Any, get: Get) -> None:
        status, text = await get("/v1/report?period=2026-11&by=product")
        assert (status, json.loads(text)["errors"][0]["found"]) == (400, "the dimensions product")

    with_collector(settings, play)


@pytest.mark.parametrize(
    ("words", "teams"),
    [
        ("may=read teams=ads", ("ads",)),
        ("may=read teams=ads,search,ads", ("ads", "search")),
        ("may=read teams=data%20science,a%2Cb", ("data science", "a,b")),
        ("may=read", None),
    ],
)
def test_teams_of_a_line(words: str, teams: tuple[str, ...] | None) -> None:
    (grant,) = parse_token_file(f"a-token-of-16-characters {words}", "tokens").by_digest.values()
    assert grant.teams == teams


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("teams=ads", "teams= limits reading and would not limit anything else; write may=read"),
        ("may=read,write teams=ads", "write may=read"),
        ("may=spend teams=ads", "write may=read"),
        ("may=read teams=,ads", "teams: expected 1 to 100 names"),
        ("may=read teams=" + ",".join(f"t{i}" for i in range(101)), "teams: expected 1 to 100 names"),
        ("may=read cluster=dc1 teams=ads", "cluster= limits writing and would not limit reading"),
    ],
)
def test_a_line_whose_teams_cannot_be_used_gives_no_access(words: str, fault: str) -> None:
    tokens = parse_token_file(f"a-token-of-16-characters {words}", "tokens")
    assert not tokens.by_digest
    assert fault in tokens.faults[0]


def test_a_certificate_is_limited_too() -> None:
    tokens = parse_token_file("cert:ads.example.com name=ads may=read teams=ads", "tokens")
    grant = tokens.grant_of_certificate(["ads.example.com"], 0)
    assert grant is not None
    assert grant.teams == ("ads",)
