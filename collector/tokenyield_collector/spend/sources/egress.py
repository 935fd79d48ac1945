"""Egress: logs of DNS servers and proxies, and saved pods, as evidence that a vendor is used.

Evidence is kept as slices, in the table of spend: it is replaced, migrated, backed up and removed as all others are,
with no table of its own on two engines. Its source is in no sum of spend (layers.py): it has neither tokens nor money.
`service` says what `requests` counts (`LOOKUPS` and so on), `product` is the row of the host in the list.

A report is a log: `squid:DIGEST`, of the first line that was understood. So the same file twice changes nothing, one
that grew replaces what it had, and a rotated one adds to it. Of a client only the team and the workload are kept, or a
person as the setting `people` allows; of a host only the row of the list; never a path, a variable's value or the line.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from tokenyield_collector.spend.egress.lines import OTHER, EgressEntry, entry_of, envoy_object
from tokenyield_collector.spend.egress.rules import egress_rules
from tokenyield_collector.spend.egress.subjects import Subjects
from tokenyield_collector.spend.format import (
    FILE_START,
    ReadItem,
    ReadOptions,
    SpendFormat,
    SpendGrain,
    SpendNotice,
    SpendRow,
)
from tokenyield_collector.spend.slices import FIELD_CHARS_MAX, SpendAmounts, SpendFields
from tokenyield_collector.spend.values import UnusableSpend
from tokenyield_collector.spend.vendors import vendor_of
from tokenyield_wire.bounded import fitting_name

LOOKUPS, ATTEMPTS, KEYS = "lookups", "attempts", "key names"
CONNECTIONS, RECEIVED, SENT = "connections", "bytes received", "bytes sent"
_DIGEST_CHARS = 16
_DNS = ("coredns", "dnsmasq")


class EgressReader:
    """Of one import: pods first, so that addresses in logs after them are known."""

    def __init__(self, options: ReadOptions) -> None:
        self._rules = egress_rules(options.mapping)
        self._subjects = Subjects(self._rules)
        self._day_ms = options.day_ms
        self._now_ms = options.now_ms
        self._digest = ""
        self._counts = {"of hosts that are no vendor's": 0, "of sanctioned gateways": 0, "about other things": 0}
        self._pods = 0

    def read(self, document: Any) -> Iterator[ReadItem]:
        if document is FILE_START:
            self._digest = ""
        elif isinstance(document, str):
            entry = entry_of(document, self._now_ms)
            if entry is None:
                raise UnusableSpend("line", expected="one of CoreDNS, dnsmasq, Squid or Envoy", found="another",
                                    fix="see the formats in docs/spend.md")  # fmt: skip
            yield from self._entry(entry, document)
        elif isinstance(document, Mapping) and isinstance(document.get("items"), list):
            for pod in document["items"]:
                yield from self._pod(pod)
        elif isinstance(document, Mapping) and document.get("kind") == "Pod":
            yield from self._pod(document)
        else:
            entry = envoy_object(document) if isinstance(document, Mapping) else None
            if entry is None:
                raise UnusableSpend("document", expected="pods, or an access log of Envoy", found="another",
                                    fix="save kubectl get pods -A -o json")  # fmt: skip
            yield from self._entry(entry, f"{entry.day_ms} {entry.client} {sorted(map(str, document.values()))}")

    def finish(self) -> Iterator[ReadItem]:
        for what, count in self._counts.items():
            if count:
                yield SpendNotice(f"{count:,} lines {what}, not kept")
        if self._pods:
            yield SpendNotice(f"{self._pods:,} pods read")

    def _entry(self, entry: EgressEntry, line: str) -> Iterator[ReadItem]:
        if entry is OTHER:
            self._counts["about other things"] += 1
            return
        if not self._digest:
            self._digest = hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
        row = self._rules.host_of(entry.host)
        if row is None:
            self._counts["of hosts that are no vendor's"] += 1
            return
        client = self._subjects.client(entry.client)
        if client.is_gateway:
            self._counts["of sanctioned gateways"] += 1
            return
        person = entry.user or ("" if client.workload or client.team else entry.client)
        fields = SpendFields(
            vendor_of(row.vendor),
            product=row.host.casefold(),
            team=client.team,
            workload=client.workload,
            person=fitting_name(person, FIELD_CHARS_MAX),
        )
        grain, day_ms = f"{entry.form}:{self._digest}", self._day(entry.day_ms)
        count = LOOKUPS if entry.form in _DNS else CONNECTIONS if entry.is_connected else ATTEMPTS
        for service, amount in ((count, 1), (RECEIVED, entry.received), (SENT, entry.sent)):
            if amount is not None:
                yield SpendRow(grain, day_ms, fields._replace(service=service), SpendAmounts(requests=amount))

    def _pod(self, pod: Any) -> Iterator[ReadItem]:
        self._pods += 1
        for client, variable, vendor in self._subjects.add_pod(pod if isinstance(pod, dict) else {}):
            if not client.is_gateway:
                fields = SpendFields(vendor_of(vendor), KEYS, api_key=variable, team=client.team,
                                     workload=client.workload)  # fmt: skip
                yield SpendRow("pods", self._day(None), fields, SpendAmounts(requests=1))

    def _day(self, day_ms: int | None) -> int:
        if day_ms is None:
            day_ms = self._day_ms
        if day_ms is None:
            raise UnusableSpend("time", expected="a time in the line, or --day", found="none",
                                fix="give --day 2026-11-28, or save with kubectl logs --timestamps")  # fmt: skip
        return day_ms


FORMAT = SpendFormat(
    title="Egress",
    documents="logs of CoreDNS, dnsmasq, Squid and Envoy, saved pods, as evidence of use",
    grains={
        "coredns": SpendGrain("observed", "lookups, of CoreDNS"),
        "dnsmasq": SpendGrain("observed", "lookups, of dnsmasq"),
        "squid": SpendGrain("observed", "connections, of Squid"),
        "envoy": SpendGrain("observed", "connections, of Envoy"),
        "pods": SpendGrain("observed", "names of keys, of pods"),
    },
    reader=EgressReader,
    is_lines=True,
    is_log=True,
)
