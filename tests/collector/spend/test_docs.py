"""docs/spend.md shows every source, and what vendors' counts mean, as the code has them."""

from pathlib import Path

from tokenyield_collector.spend.meanings import table_rows
from tokenyield_collector.spend.sources import SOURCES, load_source

TEXT = (Path(__file__).parents[3] / "docs" / "spend.md").read_text()


def test_the_page_has_every_source_and_meaning() -> None:
    for name in SOURCES:
        form = load_source(name)
        layers = ", ".join(dict.fromkeys(grain.layer for grain in form.grains.values()))
        assert f"| `{name}` | {form.title}: {form.documents} | {layers} |\n" in TEXT
    for row in table_rows():
        assert f"| {' | '.join(row)} |\n" in TEXT
