"""Which hosts are vendors', what is sanctioned, who clients are: the shipped list, and egress.yaml over it. Pure."""

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml

from tokenyield_collector.spend.slices import FIELD_CHARS_MAX
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_collector.spend.vendors import vendor_of

HOSTS_MAX = 10_000
KEYS_MAX = 1_000
SUBJECTS_MAX = 100_000
HOST_CHARS_MAX = 253
_HOSTS_REMEMBERED = 8192
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=FIELD_CHARS_MAX)]
_Host = Annotated[str, msgspec.Meta(min_length=1, max_length=HOST_CHARS_MAX)]


class VendorHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`host` may have `*` for any text."""

    host: _Host
    vendor: _Text
    kind: _Text = "api"
    sanctioned: bool = False


class EgressSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who a client is; empty where it is not known."""

    team: Annotated[str, msgspec.Meta(max_length=FIELD_CHARS_MAX)] = ""
    workload: Annotated[str, msgspec.Meta(max_length=FIELD_CHARS_MAX)] = ""


class EgressFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """egress.yaml. `sanctioned`: vendors that may be used directly. `gateways`, and the keys of `subjects`: an address,
    a network, a pattern of host names or of workloads (namespace/name)."""

    hosts: Annotated[tuple[VendorHost, ...], msgspec.Meta(max_length=HOSTS_MAX)] = ()
    keys: Annotated[dict[_Text, _Text], msgspec.Meta(max_length=KEYS_MAX)] = {}
    sanctioned: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=HOSTS_MAX)] = ()
    gateways: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=SUBJECTS_MAX)] = ()
    subjects: Annotated[dict[_Text, EgressSubject], msgspec.Meta(max_length=SUBJECTS_MAX)] = {}
    team_labels: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=100)] = ("team",)
    """Of pods: labels that name their team, the first that is there."""


class _ShippedList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """hosts.yaml."""

    source: str
    date: str
    hosts: tuple[VendorHost, ...]
    keys: dict[str, str]


class HostList(NamedTuple):
    """`text`: where the shipped part is from."""

    hosts: Mapping[str, VendorHost]
    keys: Mapping[str, str]
    text: str


class EgressRules:
    """What a file says, over the shipped list."""

    def __init__(self, file: EgressFile) -> None:
        shipped = shipped_list()
        self.file = file
        self.text = shipped.text
        self.keys = {**shipped.keys, **file.keys}
        self._hosts = {**shipped.hosts, **{row.host.casefold(): row for row in file.hosts}}
        patterns = sorted((name for name in self._hosts if "*" in name), key=lambda name: (-len(name), name))
        self._patterns = [(re.compile(translate(name)), name) for name in patterns]  # the longest says most
        self._sanctioned = {vendor_of(vendor) for vendor in file.sanctioned}
        self.host_of = lru_cache(_HOSTS_REMEMBERED)(self._host_of)

    def _host_of(self, name: str) -> VendorHost | None:
        """The row of a host's name as logs write it; None where it is no vendor's."""
        if len(name) > HOST_CHARS_MAX + 1:
            return None
        plain = name.rstrip(".").casefold()
        if (row := self._hosts.get(plain)) is not None and "*" not in plain:
            return row
        return next((self._hosts[name] for pattern, name in self._patterns if pattern.match(plain)), None)

    def is_sanctioned(self, vendor: str, host: str = "") -> bool:
        """`host`: of a row of the list."""
        row = self._hosts.get(host.casefold())
        return vendor in self._sanctioned or (row is not None and row.sanctioned)


def egress_rules(raw: Mapping[str, Any] | None) -> EgressRules:
    """Of the content of egress.yaml. Raises `UnusableSpend`."""
    try:
        return EgressRules(msgspec.convert(raw or {}, EgressFile))
    except msgspec.ValidationError as error:
        raise UnusableSpend("egress_file", expected="hosts, keys, sanctioned, gateways, subjects, team_labels",
                            found=str(error), fix="see docs/spend.md") from None  # fmt: skip


@lru_cache(1)
def shipped_list() -> HostList:
    text = resources.files(__package__).joinpath("hosts.yaml").read_text(encoding="utf-8")
    shipped = msgspec.convert({**yaml.safe_load(text)}, _ShippedList, strict=False)
    return HostList({row.host: row for row in shipped.hosts}, shipped.keys, f"hosts: {shipped.source}, {shipped.date}")
