"""Asking one address for its metrics page: HTTP, a token, a CA, and what to change where it is refused.

In: an `EndpointAddress`. Out: the page, or a `ScrapeError` in words. Files with a token or a CA are read for each
request, so that they may be rotated. Redirects are not followed, and no proxy is used. Time and size are bounded.
"""

import functools
import http.client
import os
import re
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

BODY_BYTES_MAX = 16 * 1024 * 1024
"""Ray shows tens of thousands of series on one page; a larger page is no inference server's."""
TOKEN_BYTES_MAX = 16 * 1024
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


def get_page(address: EndpointAddress, timeout_s: float) -> bytes:
    """The page at `address`. Raises `ScrapeError`."""
    split, shown = urlsplit(address.url), address.shown
    deadline_s = time.monotonic() + timeout_s
    headers = {"Accept": "text/plain", "User-Agent": "tokenyield-agent", **_authorization(address)}
    connection: http.client.HTTPConnection | None = None
    try:
        host, port = split.hostname or "", split.port
        if split.scheme == "https":
            context = _context(address.ca_file, _modified_ns(address.ca_file))
            connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as response:
            if response.status != 200:
                raise _refusal(address, response)
            parts, size = [], 0
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise ScrapeError(f"{shown} answers more than {BODY_BYTES_MAX >> 20} MiB", "foreign")
                if time.monotonic() > deadline_s:
                    raise ScrapeError(f"{shown} does not end within {timeout_s:g} s")
            if response.length:
                raise ScrapeError(f"{shown} ends {response.length} bytes early", "cut")
            return b"".join(parts)
    except ConnectionRefusedError as error:
        raise ScrapeError(f"{shown} refuses connections: nothing listens there", "refused") from error
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message or error.reason
        raise ScrapeError(
            f"{shown}: its certificate is not trusted ({reason}); name its CA with metrics_ca_file",
            "certificate",
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ScrapeError(f"{shown} does not answer: {error or type(error).__name__}") from error
    finally:
        if connection is not None:
            connection.close()


def _refusal(address: EndpointAddress, response: http.client.HTTPResponse) -> ScrapeError:
    reason, fix = _REFUSALS.get(response.status, ("status", ""))
    if response.status in (401, 403) and address.token_file is not None:
        fix = f"it does not accept the token in {address.token_file}: renew it"
    if 300 <= response.status < 400:
        reason, fix = "redirected", "redirects are not followed: name the address that it leads to with metrics"
    return ScrapeError(f"{address.shown} answers {response.status}" + (f"; {fix}" if fix else ""), reason)


def _authorization(address: EndpointAddress) -> dict[str, str]:
    path = address.token_file
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX).strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise ScrapeError(
            f"metrics_token_file: {path} cannot be read ({reason}); let the agent's user read it",
            "settings_file",
        ) from error
    if not token or not token.isprintable() or " " in token:
        raise ScrapeError(
            f"metrics_token_file: expected one token in {path}, found something else; write it anew", "settings_file"
        )
    return {"Authorization": f"Bearer {token}"}


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
def _context(ca_file: str | None, modified_ns: int) -> ssl.SSLContext:
    """Made anew when the file changes."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ScrapeError(
            f"metrics_ca_file: expected certificates in {ca_file}, found none ({error}); correct it",
            "settings_file",
        ) from error
