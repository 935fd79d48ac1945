"""docs/spend.md shows every source, and what vendors' counts mean, as the code has them."""

from pathlib import Path

from tokenyield_collector.spend.meanings import table_rows
from tokenyield_collector.spend.otlp.dialects import table_rows as dialect_rows
from tokenyield_collector.spend.otlp.reading import FIELDS
from tokenyield_collector.spend.sources import SOURCES, load_source

TEXT = (Path(__file__).parents[3] / "docs" / "spend.md").read_text()


def test_the_page_has_every_source_and_meaning() -> None:
    for name in SOURCES:
        form = load_source(name)
        layers = ", ".join(dict.fromkeys(grain.layer for grain in form.grains.values()))
        assert f"| `{name}` | {form.title}: {form.documents} | {layers} |\n" in TEXT
    for row in [*table_rows(), *dialect_rows()]:
        assert f"| {' | '.join(row)} |\n" in TEXT
    for name, attributes in FIELDS.items():
        assert f"| `{name}` | {', '.join(f'`{one}`' for one in attributes)} |\n" in TEXT
