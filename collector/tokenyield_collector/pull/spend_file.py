"""`spend.yaml` read into accounts to pull, with every fault at once: file, entry, field, and how to fix it."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tokenyield_collector.pull.account import EVERY_S_MAX, EVERY_S_MIN, PullAccount
from tokenyield_collector.pull.request import DAYS_AT_ONCE, PullVendor, VendorReport
from tokenyield_collector.pull.vendors import VENDORS, load_vendor
from tokenyield_collector.pull.vendors.json import report_of
from tokenyield_collector.spend.format import ReadOptions
from tokenyield_collector.spend.sources import load_source
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_settings.loader import SettingsError, nearest, read_yaml

ACCOUNTS_MAX = 100
_PLAIN = ("litellm", "json")
"""Sources that may stand in one's own network, without TLS."""
_FIELDS = {field.encode_name for field in msgspec.structs.fields(PullAccount)}


def load_accounts(file: Path) -> list[PullAccount]:
    """Raises `SettingsError` with every fault."""
    raw = read_yaml(file)
    entries = raw.get("accounts") if isinstance(raw, dict) else None
    if not isinstance(entries, list) or len(entries) > ACCOUNTS_MAX or set(raw) - {"accounts"}:
        raise SettingsError([f"{file}: expected a mapping with `accounts`, a list of at most {ACCOUNTS_MAX}, and "
                             "nothing else, found other; see docs/spend.md"])  # fmt: skip
    faults: list[str] = []
    accounts: list[PullAccount] = []
    for i, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"accounts[{i}]" + (f" ({name})" if isinstance(name, str) else "")
        try:
            account = msgspec.convert(_known(entry), PullAccount)
        except (msgspec.ValidationError, ValueError) as error:
            faults.append(f"{where}: {error}")
            continue
        faults += [f"{where}.{fault}" for fault in account_faults(account)]
        accounts.append(account)
    faults += _repeated(accounts)
    if faults:
        raise SettingsError([f"{file}: {fault}" for fault in faults])
    return accounts


def reports_of(account: PullAccount) -> dict[str, VendorReport]:
    """What is pulled of an account, by name."""
    if account.source == "json":
        return {"json": report_of(account)}
    vendor = load_vendor(account.source)
    return {name: vendor.reports[name] for name in account.reports or vendor.default}


def base_url_of(account: PullAccount) -> str:
    return (account.base_url or load_vendor(account.source).base_url).rstrip("/")


def account_faults(account: PullAccount) -> Iterator[str]:
    """`field: expected ..., found ...; fix`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", account.name):
        yield f"name: expected up to 63 letters, digits, '.', '_' and '-', found '{account.name[:80]}'; rename it"
    if account.source not in VENDORS:
        close = nearest(account.source, VENDORS)
        yield f"source: expected one of {', '.join(VENDORS)}, found '{account.source}'{close}"
        return
    vendor = load_vendor(account.source)
    if not account.key_file:
        yield "key_file: expected the path of a file with the key, found none; write the key into a file"
    yield from _url_faults(account, vendor)
    if account.every_s is None or not EVERY_S_MIN <= account.every_s <= EVERY_S_MAX:
        yield f"every: expected a time from 15m to 7d, such as 6h, found '{account.every}'; correct it"
    if account.currency and vendor.names_currency:
        yield f"currency: expected none, for reports of {account.source} name it, found '{account.currency}'; remove it"
    elif account.currency and not re.fullmatch("[A-Z]{3}", account.currency):
        yield f"currency: expected a code such as USD, found '{account.currency}'; correct it"
    for name in account.reports:
        if name not in vendor.reports:
            yield f"reports: expected some of {', '.join(vendor.reports) or 'none'}, found '{name}'; correct it"
    if (account.source == "copilot") != bool(account.organization or account.enterprise):
        yield ("organization: expected organization or enterprise with source copilot, and only there, found "
               f"'{account.organization or account.enterprise}'; correct it")  # fmt: skip
    yield from _json_faults(account)


def _json_faults(account: PullAccount) -> Iterator[str]:
    if (account.source == "json") != (account.json is not None):
        yield "json: expected path and mapping with source json, and only there; see docs/spend.md"
    if account.json is None:
        return
    own = account.json
    if not own.path.startswith("/"):
        yield f"json.path: expected a path such as /v1/costs, found '{own.path[:80]}'; correct it"
    if not 1 <= own.days_at_once <= DAYS_AT_ONCE:
        yield f"json.days_at_once: expected 1 to {DAYS_AT_ONCE}, found {own.days_at_once}; correct it"
    if not re.fullmatch("[A-Za-z0-9-]{1,60}", own.key_header):
        yield f"json.key_header: expected the name of a header, found '{own.key_header[:60]}'; correct it"
    try:
        load_source("csv").reader(ReadOptions(mapping=own.mapping))
    except UnusableSpend as error:
        yield f"json.{error}"


def _url_faults(account: PullAccount, vendor: PullVendor) -> Iterator[str]:
    url = account.base_url or vendor.base_url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        yield f"base_url: expected https://HOST without a query, a user or a password, found '{url[:200]}'; correct it"
    elif parts.scheme == "http" and account.source not in _PLAIN and not _is_loopback(host):
        yield f"base_url: expected https://, for a key is sent there, found '{url[:200]}'; correct it"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _known(entry: Any) -> Any:
    for name in entry if isinstance(entry, dict) else ():
        if name not in _FIELDS:
            raise ValueError(f"unknown field '{name}'{nearest(str(name), _FIELDS)}")
    return entry


def _repeated(accounts: list[PullAccount]) -> Iterator[str]:
    for name, count in Counter(account.name for account in accounts).items():
        if count > 1:
            yield f"accounts: expected each name once, found '{name}' {count} times; rename one"
    places = Counter(
        (account.source, account.slice_account, report)
        for account in accounts
        if account.source in VENDORS
        for report in account.reports or load_vendor(account.source).default
    )
    for (source, slices, report), count in places.items():
        if count > 1:
            yield (f"accounts: expected each source, account and report once, for one replaces what another wrote, "
                   f"found {source}, account '{slices}', {report} {count} times; give them an `account`")  # fmt: skip
