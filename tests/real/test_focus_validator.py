"""The FOCUS project's own validator on a FOCUS file of ours.

`focus-validator` 1.0.0, the newest on PyPI, has rules up to 1.0 and faults of its own: it asks for names of a preview
(InvoiceIssuer, Provider, Publisher, ResourceID, ChargeType), and its list of currencies is looked for in the working folder. It
exits 0 whatever it finds. So what it says is read, and has to be these six and nothing else; tests/focus_rules.py has the rules of 1.2.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from collector.fleet import prices, rules
from collector.reports.test_reports import PRICE_BOOK, month
from real.own_venv import install

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

OWN_FAULTS = {
    "BillingCurrency_IsCurrencyCode",
    "InvoiceIssuer_Required",
    "Provider_Required",
    "Publisher_Required",
    "ResourceID_Required",
    "SkuPriceId_Nullable",
}


def failed(program: Path, file: Path) -> set[str]:
    call = [str(program), "--data-file", str(file), "--validate-version", "1.0"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=200, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^(\w+) failed:", done.stdout, re.MULTILINE))


def test_it_finds_nothing_but_its_own_faults(tmp_path: Path) -> None:
    program = install("focus-validator", Path(os.environ.get("TOKENYIELD_CACHE", "~/.cache/tokenyield")).expanduser())
    policy = rules(tmp_path, {"sharing": {"unallocated": "usage"}})
    maker = month().maker(prices(tmp_path, PRICE_BOOK), policy)
    file = tmp_path / "focus.csv"
    with file.open("w") as out:
        maker.focus("2026-10", out)
    assert failed(program, file) == OWN_FAULTS
    broken = tmp_path / "broken.csv"
    broken.write_text(file.read_text().replace(",Usage-Based,", ",Sometimes,"))
    assert failed(program, broken) > OWN_FAULTS, "it does find faults"
