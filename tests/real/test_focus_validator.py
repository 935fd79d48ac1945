"""The FOCUS project's own validators on FOCUS files of ours; tests/focus_rules.py has all rules of 1.2 and 1.4.

`focus-validator` 1.0.0, the newest on PyPI, has rules up to 1.0 and faults of its own: it asks for names of a preview
(InvoiceIssuer, Provider, Publisher, ResourceID, ChargeType), and its list of currencies is looked for in the working folder. It
exits 0 whatever it finds. So what it says is read, and has to be these six and nothing else.

2.0.1 has the rules of 1.2. It is a tag of github.com/finopsfoundation/focus_validator and not on PyPI: install that tag into
an environment of its own, on Python 3.12 with pyarrow below 22 (newer ones need another NumPy than it), and name its program in
TOKENYIELD_FOCUS_VALIDATOR: "env -C CLONE VENV/bin/focus-validator", for it reads a list of currencies from the folder that it
runs in. Some of its rules are wrong (docs/money.md says how); others fail with them.
"""

import os
import re
import shlex
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
OWN_FAULTS_2 = {
    "InvoiceId-C-004-C",  # of a closed month
    "InvoiceId-C-005-C",  # of one that is not
    *(f"CapacityReservationStatus-C-00{number}-C" for number in (0, 2, 3)),
    *(f"CommitmentDiscountStatus-C-00{number}-C" for number in (0, 2, 3, 4)),
    "CommitmentDiscountStatus-C-005-M",
    # Of a file in which nothing but whole tokens was consumed.
    "ConsumedQuantity-C-000-C",
    "ConsumedQuantity-C-001-M",
}
NOT_OURS = "AVAILABILITY_ZONE_SUPPORTED"
NEWEST = shlex.split(os.environ.get("TOKENYIELD_FOCUS_VALIDATOR", ""))
RESERVED = """
exchange_rates: {EUR: [{rate: 1.1}]}
facilities: {a: {pue: 1.3, per_kwh: 0.08}}
pools: [{name: res, match: {gpu: "*H100*"}, rented: {kind: reserved, count: 3, per_gpu_hour: 2.5, currency: EUR}}]
"""


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


@pytest.mark.skipif(not NEWEST, reason="TOKENYIELD_FOCUS_VALIDATOR names no program")
@pytest.mark.parametrize("book", [PRICE_BOOK, RESERVED])
def test_the_newest_finds_nothing_but_its_own_faults(book: str, tmp_path: Path) -> None:
    file = tmp_path / "focus.csv"
    with file.open("w") as out:
        month().maker(prices(tmp_path, book)).focus("2026-10", out)
    found = failed_of_1_2(file)
    assert found <= OWN_FAULTS_2
    broken = tmp_path / "broken.csv"
    broken.write_text(file.read_text().replace(",Usage-Based,", ",Sometimes,"))
    assert failed_of_1_2(broken) > found, "it does find faults"


def failed_of_1_2(file: Path) -> set[str]:
    shown = subprocess.run(
        [*NEWEST, "--validate-version", "1.2", "--block-download", "--show-applicability-criteria"],
        capture_output=True, text=True, timeout=200, check=True,
    ).stdout  # fmt: skip
    criteria = sorted(set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*_SUPPORTED\b", shown)) - {NOT_OURS})
    assert len(criteria) > 10, shown
    call = [*NEWEST, "--data-file", str(file), "--validate-version", "1.2", "--block-download"]
    done = subprocess.run(
        [*call, "--applicability-criteria", ",".join(criteria)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    ids = re.findall(r"^\W*([A-Za-z]+-[A-Z]-\d+-[A-Z]): (PASS|FAIL)", done.stdout, re.MULTILINE)
    assert len(ids) > 100, done.stderr
    return {name for name, result in ids if result == "FAIL"}
