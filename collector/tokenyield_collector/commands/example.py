"""The annotated example files: beside the packages in a checkout, inside the package when installed."""

from pathlib import Path

NAMES = ("collector.yaml", "prices.yaml", "attribution.yaml")


def example(name: str) -> str:
    """The text of one of `NAMES`."""
    here = Path(__file__).parents[1]
    installed = here / "examples" / name
    return (installed if installed.exists() else here.parent / name).read_text(encoding="utf-8")
