"""Without a price book a report still counts: no sum may be narrowed, however few tables have rows."""

from collector.fleet import Fleet, Server
from tokenyield_collector.prices.book import PriceBook


def test_big_counts_are_read_whole_where_nothing_has_a_price() -> None:
    fleet = Fleet()
    servers = [
        Server(key="a", model="qwen", prompt_cached=247_204_281, requests=17_053_885),
        Server(key="b", prompt_cached=12),
        Server(key="d", model="qwen", completion=256, prompt_computed=4_194_304, prompt_cached=100_000_000),
    ]
    fleet.hour("2026-10-05T20:00", [], servers)
    report = fleet.maker(PriceBook()).report("2026-10-05", ["model"])
    assert {row.by["model"]: row.figures["requests"] for row in report.rows} == {"llama": None, "qwen": 17_053_885}
