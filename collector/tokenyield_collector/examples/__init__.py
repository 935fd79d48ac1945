"""The annotated example files: beside the packages in a checkout, in this folder when installed."""

from pathlib import Path

EXAMPLE_FILES = (
    "collector.yaml",
    "prices.yaml",
    "prices-tiers.yaml",
    "attribution.yaml",
    "attribution-axes.yaml",
    "attribution-agents.yaml",
    "outcomes.csv",
)


def example_text(name: str) -> str:
    """The text of one of `EXAMPLE_FILES`."""
    here = Path(__file__).parent
    installed = here / name
    return (installed if installed.exists() else here.parents[1] / name).read_text(encoding="utf-8")
