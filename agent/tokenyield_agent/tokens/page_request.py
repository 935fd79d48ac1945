"""Asking one address for its metrics page: HTTP, a token, a CA, and what to change where it is refused.

In: an `EndpointAddress`. Out: the page, or a `ScrapeError` in words. Files with a token or a CA are read for each
request, so that they may be rotated. Redirects are not followed, and no proxy is used. Size is bounded here; time by
whoever drives the steps (http/connection.py), from the lookup of the name to the last byte, whatever the server sends
meanwhile.
"""

import functools
import os
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from tokenyield_agent.http.answer import Answer, BadAnswer
from tokenyield_agent.http.bearer import TokenFileError, token_in
from tokenyield_agent.http.connection import Connection, Steps, request_bytes

if TYPE_CHECKING:
    import ssl

BODY_BYTES_MAX = 8 * 1024 * 1024
"""Forty thousand series: Ray shows so many on one page; a larger page is no inference server's."""
TABLE_BYTES_MAX = 16 * 1024 * 1024
"""Of a network namespace's connections: a hundred thousand."""
WhenIdle = Literal["always", "rarely", "never"]

_SECRET = re.compile(r"(?i)([?&][^=&#]*(?:token|key|secret|password|auth)[^=&#]*=)[^&#]*")
_REFUSALS = {
    400: (
        "bad_request",
        "check its address; llama-server's router expects the model in it: metrics: http://host:port/metrics?model=NAME",
    ),
    401: ("unauthorized", "name a file that holds its token with metrics_token_file"),
    403: (
        "forbidden",
        "name a file that holds a token with more rights with metrics_token_file, or let this host read it",
    ),
    404: (
        "not_found",
        "name the path of its page with metrics, such as /metrics, /v1/metrics or /prometheus/metrics",
    ),
    501: ("turned_off", "turn its metrics on: llama-server's option is --metrics"),
}
"""Status of an answer -> the reason in one word, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAddress:
    """Where a server may show its counters, and how it is asked."""

    url: str
    """http://host:port, with or without path and query."""
    token_file: str | None = None
    ca_file: str | None = None
    when_idle: WhenIdle = "always"
    """How often it is asked while its counters stand still: some servers wake up to answer."""
    network: str | None = None
    """The folder of /proc that shows the connections of the network namespace where it is; None for the agent's own."""
    is_configured: bool = False
    """The settings name it, so that whatever answers there, it is asked again."""

    @property
    def shown(self) -> str:
        """The URL for people, without what may be secret."""
        return _SECRET.sub(r"\1...", self.url)

    def at(self, path: str) -> "EndpointAddress":
        """The same with this path, unless it has one."""
        split = urlsplit(self.url)
        if split.path not in ("", "/"):
            return self
        return replace(self, url=split._replace(path=path, fragment="").geturl())


class ScrapeError(Exception):
    """The request returned no page. `reason`: why, in one word of a few: `refused`, where nothing listens; `foreign`,
    where another program answers."""

    def __init__(self, problem: str, reason: str = "no_answer") -> None:
        super().__init__(problem)
        self.reason = reason


def too_slow(address: EndpointAddress, timeout_s: float) -> ScrapeError:
    return ScrapeError(f"{address.shown} does not end within {timeout_s:g} s", "slow")


def page_steps(address: EndpointAddress, holds: Callable[[int], None] | None = None) -> Steps[bytes]:
    """The page at `address`, step by step. Raises `ScrapeError`. `holds` is given how many bytes are held, and raises
    where that is too much."""
    split, shown = urlsplit(address.url), address.shown
    headers = {
        "Accept": "text/plain",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "tokenyield-agent",
        **_authorization(address),
    }
    connection: Connection | None = None
    try:
        is_https = split.scheme == "https"
        context = _context(address.ca_file, _modified_ns(address.ca_file)) if is_https else None
        port = split.port or (443 if is_https else 80)
        connection = Connection(
            split.hostname or "", port, context=context, accepts=_arrives_in(address.network), holds=holds
        )
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        request = request_bytes("GET", target, split.netloc, headers)
        answer = yield from connection.exchange(request, BODY_BYTES_MAX)
        if answer.status != 200:
            raise _refusal(address, answer)
        return answer.body
    except ConnectionRefusedError as error:
        raise ScrapeError(f"{shown} refuses connections: nothing listens there", "refused") from error
    except BadAnswer as error:
        raise ScrapeError(f"{shown} {error}", "cut" if error.reason == "cut" else "foreign") from error
    except (OSError, ValueError) as error:
        if hasattr(error, "verify_message"):  # an ssl.SSLCertVerificationError
            raise ScrapeError(
                f"{shown}: its certificate is not trusted ({error.verify_message or error}); name its CA with "
                "metrics_ca_file",
                "certificate",
            ) from error
        raise ScrapeError(f"{shown} does not answer: {error or type(error).__name__}") from error
    finally:
        if connection is not None:
            connection.close()


def _arrives_in(network: str | None) -> Callable[[socket.socket], bool] | None:
    """Whether a connection ends in the network namespace where it should, by the namespace's own table: a tenant can
    give its namespace an address that leads to another pod."""
    if network is None:
        return None

    def arrives(connected: socket.socket) -> bool:
        host, port = connected.getsockname()[:2]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        packed = socket.inet_pton(family, host)
        remote = b"%s:%04X" % (_in_host_order(packed), port)
        if family == socket.AF_INET:  # a socket that listens on both sees it mapped
            mapped = b"%s:%04X" % (_in_host_order(b"\0" * 10 + b"\xff\xff" + packed), port)
        else:
            mapped = remote
        return _holds(f"{network}/tcp", remote) or _holds(f"{network}/tcp6", mapped)

    return arrives


def _in_host_order(packed: bytes) -> bytes:
    """An address as /proc/net/tcp shows it: words in the host's byte order, in hexadecimal digits."""
    return b"".join(b"%08X" % word for word in struct.unpack(f"={len(packed) // 4}I", packed))


def _holds(table: str, remote: bytes) -> bool:
    """Whether it shows a connection with that other end, which stands before the state."""
    try:
        with open(table, "rb") as file:
            return re.search(b" " + remote + rb" [0-9A-F]{2} ", file.read(TABLE_BYTES_MAX)) is not None
    except OSError:
        return False


def _refusal(address: EndpointAddress, answer: Answer) -> ScrapeError:
    reason, fix = _REFUSALS.get(answer.status, ("status", ""))
    if answer.status in (401, 403) and address.token_file is not None:
        fix = f"it does not accept the token in {address.token_file}: renew it"
    if 300 <= answer.status < 400:
        reason, fix = "redirected", "redirects are not followed: name the address that it leads to with metrics"
    return ScrapeError(f"{address.shown} answers {answer.status}" + (f"; {fix}" if fix else ""), reason)


def _authorization(address: EndpointAddress) -> dict[str, str]:
    if address.token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token_in(address.token_file, 'metrics_token_file')}"}
    except TokenFileError as error:
        raise ScrapeError(str(error), "settings_file") from error


def _modified_ns(path: str | None) -> int:
    if path is None:
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise ScrapeError(
            f"metrics_ca_file: {path} cannot be read ({error.strerror}); let the agent's user read it",
            "settings_file",
        ) from error


@functools.lru_cache(maxsize=16)
def _context(ca_file: str | None, modified_ns: int) -> "ssl.SSLContext":
    """Made anew when the file changes."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ScrapeError(
            f"metrics_ca_file: expected certificates in {ca_file}, found none ({error}); correct it",
            "settings_file",
        ) from error
