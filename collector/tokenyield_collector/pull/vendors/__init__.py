"""One file for each vendor that is pulled: its reports, their requests and pages, and how its key is sent. Pure."""

import importlib
from typing import cast

from tokenyield_collector.pull.request import PullVendor

VENDORS = ("anthropic", "openai", "openrouter", "litellm", "cursor", "copilot", "json")
"""Names of `source` in spend.yaml."""


def load_vendor(name: str) -> PullVendor:
    """Of one of `VENDORS`."""
    file = importlib.import_module(f"tokenyield_collector.pull.vendors.{name}")
    return cast(PullVendor, file.VENDOR)
