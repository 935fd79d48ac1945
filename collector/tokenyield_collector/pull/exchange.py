"""One exchange with a vendor: a deadline for the whole of it, a bound on every byte, and no redirects.

In: a request. Out: the bytes of its answer, and from them documents with exact decimals; or a `PullFault` that says
what is wrong and whether it is worth trying again. Nothing of a key or an answer's text is in a fault.
"""

import email.utils
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from tokenyield_collector.pull.request import VendorRequest
from tokenyield_collector.pull.state import Reason
from tokenyield_collector.version import VERSION

TIMEOUT_S = 120.0
ANSWER_BYTES_MAX = 64 * 2**20
LINES_MAX = 1_000_000
RETRY_AFTER_S_MAX = 3600.0
_CHUNK_BYTES = 64 * 1024
_KEY_STATUS = (401, 403)
_BUSY_STATUS = (408, 425, 429, 500, 502, 503, 504, 529)
_json = msgspec.json.Decoder(float_hook=Decimal)


class PullFault(Exception):
    """`retry_after_s`: worth asking again, and not before; None: not worth it."""

    def __init__(self, reason: Reason, problem: str, *, may_retry: bool = False, after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.reason = reason
        self.may_retry = may_retry
        self.after_s = after_s


class RawAnswer(NamedTuple):
    """The whole body of an answer with 2xx."""

    body: bytes
    is_lines: bool


async def exchange(base_url: str, request: VendorRequest, headers: Mapping[str, str], now_s: float) -> RawAnswer:
    """`now_s` since 1970, for a Retry-After that is a date. Raises `PullFault`."""
    try:
        return await _exchange(base_url, request, headers, now_s)
    except TimeoutError:
        raise PullFault("unavailable", f"no whole answer within {TIMEOUT_S:g} s", may_retry=True) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PullFault("unavailable", f"no answer ({type(error).__name__})", may_retry=True) from None


async def _exchange(base_url: str, request: VendorRequest, headers: Mapping[str, str], now_s: float) -> RawAnswer:
    url = _url(base_url, request)
    sent = {
        "User-Agent": f"tokenyield-collector/{VERSION}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    sent |= headers if request.has_key else {}
    body = None if request.body is None else msgspec.json.encode(request.body)
    if body is not None:
        sent["Content-Type"] = "application/json"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), auto_decompress=False) as session,
        session.request(
            "GET" if body is None else "POST", url, headers=sent, data=body, allow_redirects=False
        ) as response,
    ):
        if fault := _status_fault(response.status, response.headers.get("Retry-After", ""), now_s):
            raise fault
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PullFault("answer", "expected an answer that is not compressed, found another")
        whole = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            whole += chunk
            if len(whole) > ANSWER_BYTES_MAX:
                raise PullFault("answer", f"expected at most {ANSWER_BYTES_MAX} bytes in an answer, found more")
        return RawAnswer(bytes(whole), request.is_lines)


def _url(base_url: str, request: VendorRequest) -> URL:
    """A link to elsewhere has to be https; only the vendor's own address may be another, as spend.yaml says."""
    if request.path.startswith("/"):
        return URL(base_url + request.path).update_query(request.query)
    if not request.path.startswith("https://") and _origin(request.path) != _origin(base_url):
        raise PullFault("answer", "expected links with https://, found another")
    return URL(request.path, encoded=True)


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _status_fault(status: int, retry_after: str, now_s: float) -> PullFault | None:
    if 200 <= status < 300:
        return None
    if status in _KEY_STATUS:
        return PullFault("key", f"the key is refused (HTTP {status}); check key_file, and what the key may read")
    if status in _BUSY_STATUS:
        reason: Reason = "rate" if status == 429 else "unavailable"
        return PullFault(reason, f"HTTP {status}", may_retry=True, after_s=_seconds(retry_after, now_s))
    if 300 <= status < 400:
        return PullFault("answer", f"expected no redirect, found HTTP {status}; correct base_url")
    return PullFault("answer", f"HTTP {status}; check base_url, reports, and what the account has")


def _seconds(retry_after: str, now_s: float) -> float:
    """Of a header that has seconds or a date; 0 where it has neither."""
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def decoded(answer: RawAnswer) -> list[Any]:
    """One document, or one a line; none where the vendor has none. Raises `PullFault`."""
    body = answer.body
    if not body.strip():
        return []
    try:
        if not answer.is_lines:
            return [_json.decode(body)]
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) > LINES_MAX:
            raise PullFault("answer", f"expected at most {LINES_MAX} lines, found {len(lines)}")
        return [_json.decode(line) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "HTML (a page to log in?)" if b"<html" in body[:2000].lower() else "what is no JSON"
        raise PullFault("answer", f"expected JSON, found {what}; check base_url") from None
