"""Lines of logs that show who looked up or reached a host: CoreDNS, dnsmasq, Squid, Envoy. Pure.

In: one line, or one JSON object of Envoy. Out: an entry; `OTHER` for a line of such a program about something else;
None for any other line. Of an address only its host's name is read, never its path; bytes are None where a log has
none.

* CoreDNS (plugin log, common or combined), with a time before it only by `kubectl logs --timestamps` or of the
  container's runtime: `[INFO] 10.0.0.1:41234 - 4711 "A IN api.openai.com. udp 48 false 512" NOERROR qr,rd 96 0.0021s`
* dnsmasq (log-queries, extra too): `Nov 28 06:00:01 dnsmasq[812]: query[A] api.openai.com from 10.0.0.1`
* Squid (logformat squid): `1795500000.123 812 10.0.0.1 TCP_TUNNEL/200 48211 CONNECT api.openai.com:443 ada HIER_...`
* Envoy (default format, and Istio's): `[2026-11-28T06:00:01.000Z] "CONNECT - HTTP/1.1" 200 - 517 4830 ...`
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tokenyield_collector.spend.values import UnusableSpend, day_ms, day_of_unix
from tokenyield_wire.units import MS_PER_DAY
from tokenyield_wire.window import COUNT_MAX

CLIENT_CHARS_MAX = 255


class EgressEntry(NamedTuple):
    """`day_ms` is None where the line has no time, `user` what a proxy authenticated. Received and sent are bytes, as
    the client sees them."""

    form: str
    day_ms: int | None
    client: str
    host: str
    user: str = ""
    is_connected: bool = False
    received: int | None = None
    sent: int | None = None


OTHER = EgressEntry("", None, "", "")
_PREFIX = re.compile(
    r"(?:\[pod/[^\]\s]{1,300}\] )?(?:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) )?"
    r"(?:std(?:out|err) [FP] )?"
)
"""What `kubectl logs` and container runtimes write before a line, and rsyslog its time."""
_COREDNS = re.compile(
    r"(?:\[[A-Z]{4,7}\] )?(\S{2,60}):\d{1,5} - \d{1,5} "
    r'"\S{1,20} \S{1,20} (\S{1,255}) \S{1,10} \d{1,6} (?:true|false) \d{1,6}" \S{1,20} \S{1,60} \d{1,6} [\d.]{1,20}s'
)
_COREDNS_OTHER = re.compile(r"\[(?:INFO|WARNING|ERROR|DEBUG|NOTICE)\] [A-Za-z]|CoreDNS-\d|linux/|\S{0,255}:\d{1,5}$")
_DNSMASQ = re.compile(
    r"(?:([A-Z][a-z]{2}) {1,2}(\d{1,2}) \d\d:\d\d:\d\d )?(?:\S{1,255} )?dnsmasq(?:-dhcp|-tftp)?\[\d{1,10}\]: "
    r"(?:\d{1,10} \S{1,60} )?(?:query\[[^\]\s]{1,20}\] (\S{1,255}) from (\S{1,60}))?"
)
_SQUID = re.compile(
    r"(\d{9,10})\.\d{3} +-?\d{1,15} (\S{1,255}) ([A-Z_]{1,60})/(\d{3}) (\d{1,19}) (\S{1,40}) (\S+) (\S{1,255}) \S"
)
_ENVOY = re.compile(r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)\] (\".*)")
_ENVOY_PART = re.compile(r'"([^"]*)"|(\S+)')
_ENVOY_LAYOUTS = {12: (3, 7, 10, None, None), 21: (6, 10, 13, 18, 19)}
"""Parts of a line -> where the bytes that came in, X-Forwarded-For, the authority, the client's address and the name of
TLS are; bytes that went out are beside those that came in."""
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, start=1)}
_Parser = Callable[[str, int | None, int], EgressEntry | None]


def entry_of(line: str, now_ms: int) -> EgressEntry | None:
    """`now_ms`: for times without a year, which are of the year before it. Raises `UnusableSpend` without the line's
    content."""
    prefix = _PREFIX.match(line)
    assert prefix is not None
    own_day = _day(prefix[1]) if prefix[1] else None
    rest = line[prefix.end() :]
    for parse in _PARSERS:
        entry = parse(rest, own_day, now_ms)
        if entry is not None:
            return entry
    return None


def _coredns(line: str, own_day: int | None, _: int) -> EgressEntry | None:
    if match := _COREDNS.match(line):
        return EgressEntry("coredns", own_day, match[1].strip("[]"), match[2])
    return OTHER if _COREDNS_OTHER.match(line) else None


def _dnsmasq(line: str, own_day: int | None, now_ms: int) -> EgressEntry | None:
    match = _DNSMASQ.match(line)
    if match is None:
        return None
    if match[3] is None:
        return OTHER
    day = own_day if own_day is not None or match[1] is None else _day_of_year(match[1], int(match[2]), now_ms)
    return EgressEntry("dnsmasq", day, match[4], match[3])


def _squid(line: str, _: int | None, __: int) -> EgressEntry | None:
    match = _SQUID.match(line)
    if match is None:
        return None
    host = _host(match[7])
    if not host:
        return OTHER
    is_connected = "DENIED" not in match[3] and 200 <= int(match[4]) < 500
    user = "" if match[8] == "-" else match[8]
    received = _bytes(match[5]) if is_connected else None
    return EgressEntry("squid", day_of_unix(int(match[1]), "time"), match[2], host, user, is_connected, received)


def _envoy(line: str, _: int | None, __: int) -> EgressEntry | None:
    match = _ENVOY.match(line)
    if match is None:
        return None
    parts = [quoted or plain for quoted, plain in _ENVOY_PART.findall(match[2])]
    layout = _ENVOY_LAYOUTS.get(len(parts))
    if layout is None or not (parts[1].isdecimal() and parts[layout[0]].isdecimal()):
        return None
    at, forwarded, authority, peer, tls = layout
    client = parts[peer] if peer is not None else parts[forwarded].rpartition(",")[2].strip()
    host = parts[authority] if parts[authority] != "-" or tls is None else parts[tls]
    return _reached(_day(match[1]), client, host, int(parts[1][:3]), parts[at], parts[at + 1])


def envoy_object(row: Mapping[str, Any]) -> EgressEntry | None:
    """An access log of Envoy in JSON, by the names that Istio and Envoy's documentation give its fields; None for any
    other object."""
    host = _first(row, "authority", ":authority", "requested_server_name", "host")
    start = row.get("start_time")
    if not host or not isinstance(start, str):
        return None
    client = _first(row, "downstream_remote_address", "downstream_direct_remote_address")
    client = client or _first(row, "x_forwarded_for").rpartition(",")[2].strip()
    code = str(row.get("response_code", 0))
    return _reached(_day(start), client, host, int(code[:3]) if code.isascii() and code.isdecimal() else 0,
                    str(row.get("bytes_received")), str(row.get("bytes_sent")))  # fmt: skip


_PARSERS: tuple[_Parser, ...] = (_coredns, _squid, _envoy, _dnsmasq)


def _reached(day: int, client: str, host: str, code: int, came: str, went: str) -> EgressEntry:
    """Envoy counts bytes as it sees them: those that came are the client's. Code 0 is of TCP, or of no answer."""
    sent, received = _bytes(came), _bytes(went)
    is_connected = 200 <= code < 500 or (code == 0 and bool(received))
    amounts = (received, sent) if is_connected else (None, None)
    return EgressEntry("envoy", day, _address(client), _host(host), "", is_connected, *amounts)


def _first(row: Mapping[str, Any], *names: str) -> str:
    values = (row.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value not in ("", "-")), "")


def _host(url: str) -> str:
    """`https://api.openai.com:443/v1/...` -> `api.openai.com`; nothing where there is none. Never more of it."""
    scheme, separator, rest = url.partition("://")
    host = (rest if separator else scheme).partition("/")[0].rpartition("@")[2].partition("?")[0]
    name, colon, port = host.rpartition(":")
    plain = name if colon and port.isdecimal() else host
    return plain if plain not in ("", "-") and ":" not in plain else ""


def _address(peer: str) -> str:
    """`10.0.0.1:4711`, `[::1]:4711` -> the address."""
    host, colon, port = peer.rpartition(":")
    return (host if colon and port.isdecimal() and (":" not in host or host.endswith("]")) else peer).strip("[]")


def _bytes(text: str) -> int | None:
    return min(int(text), COUNT_MAX) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _day(time: str) -> int:
    try:
        return day_ms(time, "time")
    except UnusableSpend:
        raise UnusableSpend("time", expected="a time such as 2026-11-28T06:00:01Z", found="another") from None


def _day_of_year(month: str, day: int, now_ms: int) -> int:
    """Of the newest year in which it is not after tomorrow."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    for year in range(now.year, now.year - 5, -1):  # until there is a February 29
        try:
            start = datetime(year, _MONTHS[month], day, tzinfo=UTC)
        except (KeyError, ValueError):
            continue
        start_ms = int(start.timestamp()) * 1000
        if start_ms <= now_ms + MS_PER_DAY:
            return start_ms
    raise UnusableSpend("time", expected="a day such as Nov 28", found="another")
