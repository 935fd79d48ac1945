"""The door: every request passes it before any handler sees it.

In: a request and the right that its route wants. Out: the `Grant` of who asks, or the problem that it is answered with.
Who gets in is decided by the token file (token_file.py) and the web config (tokenyield_settings/web_config.py); both
are read again when they change, so that tokens, passwords and certificates are replaced without a restart.

- Neither of them: everybody on this host may do everything, as long as the collector is called by a loopback name (a
  page elsewhere may point a name of its own at 127.0.0.1, and browsers follow).
- A token, or a client certificate that a `cert:` line names: what its line gives.
- A user of `basic_auth_users`: reading.
- A client certificate where no token file is: everything, for the client CA signed whom it trusts.
"""

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import hdrs, web

from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.headers import secure
from tokenyield_collector.access.token_file import NO_TOKENS, Grant, read_token_file
from tokenyield_collector.config import Settings
from tokenyield_collector.errors import CollectorError
from tokenyield_collector.http.problem import problem, problem_of
from tokenyield_settings.addresses import is_loopback
from tokenyield_settings.buckets import Buckets
from tokenyield_settings.loader import SettingsError
from tokenyield_settings.passwords import is_basic
from tokenyield_settings.web_config import (
    WebConfigFile,
    allowed_by_name,
    modified_ns,
    subject_names,
)
from tokenyield_wire.units import NS_PER_MS

log = logging.getLogger(__name__)

FAILURES_PER_S = 1.0
FAILURES_BURST = 20
"""Wrong credentials from one address: after as many, only one a second is looked at, and passwords not at all."""
HOW_TO_ENTER = "send Authorization: Bearer TOKEN with a token from the collector's token_file"
_REASONS = {401: "unauthorized", 403: "forbidden", 429: "too_often"}
OPEN, PAGE, READ, WRITE = "open", "page", "read", "write"
"""What a route wants: nothing; nothing but what browsers are asked for; or a right."""


EVERYBODY = Grant("everybody")


class Keys:
    """What decides who gets in. Raises `SettingsError` when made: a start is refused rather than begun with faults."""

    def __init__(self, settings: Settings) -> None:
        self._token_file = Path(settings.token_file) if settings.token_file else None
        self.tokens = NO_TOKENS
        self.web = WebConfigFile(settings.web_config_file)
        self._tokens_read_at = -1
        if self._token_file is not None:
            self._tokens_read_at = modified_ns(self._token_file)
            try:
                self.tokens = read_token_file(self._token_file)
            except OSError as error:
                why = error.strerror or error
                raise SettingsError([f"token_file {self._token_file}: cannot be read ({why})"]) from None
            if self.tokens.faults:
                raise SettingsError(list(self.tokens.faults))
        host, _ = settings.address
        if not (self.are_wanted or settings.insecure or is_loopback(host)):
            raise SettingsError([
                f"listen: {settings.listen} can be reached from other hosts and nothing asks who comes; name a "
                "token_file (make one with `tokenyield-collector token`), listen on 127.0.0.1, or set insecure: true "
                "if something in front authenticates"
            ])  # fmt: skip
        if self.web.passwords and not (self._token_file or self.web.config.wants_certificate):
            raise SettingsError([
                f"{settings.web_config_file}: basic_auth_users may read, and no agent could write: name a token_file "
                "too (make one with `tokenyield-collector token`)"
            ])  # fmt: skip

    @property
    def has_token_file(self) -> bool:
        return self._token_file is not None

    @property
    def are_wanted(self) -> bool:
        return self.has_token_file or self.web.asks

    def reread(self) -> bool:
        """True if others may get in from now on. Of a token file that is unsound in part the sound lines hold; one that
        is gone lets nobody in."""
        changed = self.web.reread()
        if self._token_file is None or modified_ns(self._token_file) == self._tokens_read_at:
            return changed
        self._tokens_read_at = modified_ns(self._token_file)
        try:
            self.tokens = read_token_file(self._token_file)
        except OSError as error:
            log.error("token_file %s cannot be read (%s); no token is let in", self._token_file, error)
            self.tokens = NO_TOKENS
        for fault in self.tokens.faults:
            log.error("this line lets nobody in: %s", fault)
        return True


class Door:
    """The middleware. Raises `SettingsError` when made."""

    def __init__(
        self,
        settings: Settings,
        audit: Audit,
        refused: MutableMapping[str, int],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._insecure = settings.insecure
        self._audit = audit
        self._refused = refused
        self._now_s = now_s
        self.keys = Keys(settings)
        self._failures = Buckets(FAILURES_PER_S, FAILURES_BURST)
        self._requests = self.keys.web.config.rate_limit.buckets()
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self.context_changed: Callable[[ssl.SSLContext | None], None] = lambda _: None

    def reread(self) -> None:
        """Take up changed files."""
        context = self.keys.web.context
        if not self.keys.reread():
            return
        if self.keys.web.context is not context:
            self.context_changed(self.keys.web.context)
        self._requests = self.keys.web.config.rate_limit.buckets()
        tokens, users = self.keys.tokens, self.keys.web.config.basic_auth_users
        self._audit.changed("who gets in", tokens=len(tokens.by_digest), certificates=len(tokens.by_certificate),
                            users=len(users))  # fmt: skip

    # --- a request -----------------------------------------------------------------------------------------------

    def middleware(self, rights: dict[str, str]):  # type: ignore[no-untyped-def]
        """`rights`: route -> what it wants; a route that is not named wants `read`."""

        @web.middleware
        async def pass_door(request: web.Request, handler):  # type: ignore[no-untyped-def]
            route = request.match_info.route.resource.canonical if request.match_info.route.resource else ""
            right = rights.get(route, READ)
            response = await self._refusal(request, right)
            if response is not None:
                self._refused[_REASONS.get(response.status, "forbidden")] += 1
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    if error.status < 400:
                        raise
                    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
                    response = problem(error.status, f"{request.method} {request.path[:200]}", headers=headers)
                except CollectorError as error:
                    response = problem_of(error)
                except Exception:
                    log.exception("%s failed in a way that was not foreseen", route)
                    response = problem(500, "the collector's log says more")
            if response.status >= 400 and not (right == OPEN and response.status == 503):  # a probe's "not yet"
                self._write_down(request, route, response)
            return response

        return pass_door

    async def set_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """For `on_response_prepare`."""
        secure(response, self.keys.web.config.http_server_config.headers, request.secure)

    async def _refusal(self, request: web.Request, right: str) -> web.StreamResponse | None:
        keys = self.keys
        if self._requests is not None and right != OPEN and (wait := self._requests.wait_s("", self._now_s())):
            return _later(429, "more requests than rate_limit of the web config allows", wait)
        if _is_from_another_page(request):
            return problem(403, "a page of another site may not send this")
        if right == OPEN:
            return None
        if keys.web.config.wants_certificate and not allowed_by_name(keys.web.config, _certificate(request)):
            return problem(403, "client_allowed_sans does not hold a name of this certificate")
        if not keys.are_wanted:
            if not self._insecure and not _called_by_loopback_name(request):
                return problem(403, "without authentication it answers to the name localhost only; name a token_file, "
                                    "or set insecure: true if something in front authenticates")  # fmt: skip
            request["caller"] = EVERYBODY
            return None
        if right == PAGE and not keys.web.passwords:
            return None  # the page holds no data, and asks for a token itself
        return await self._entered(request, right, keys)

    async def _entered(self, request: web.Request, right: str, keys: Keys) -> web.StreamResponse | None:
        header = request.headers.get(hdrs.AUTHORIZATION, "")
        grant = await self._grant(request, header, keys)
        if isinstance(grant, web.StreamResponse):
            return grant
        if grant is None:
            if header and (wait := self._failures.wait_s(peer_of(request), self._now_s())):
                return _later(429, "too many wrong credentials from this address", wait)
            challenges = 'Bearer realm="tokenyield"' + (', Basic realm="tokenyield"' if keys.web.passwords else "")
            return problem(401, HOW_TO_ENTER, headers={"WWW-Authenticate": challenges})
        request["caller"] = grant
        if right != PAGE and right not in grant.may:
            return problem(403, f"{grant.name} may {' and '.join(sorted(grant.may))}, not {right}")
        return None

    async def _grant(self, request: web.Request, header: str, keys: Keys) -> Grant | web.StreamResponse | None:
        now_ms = time.time_ns() // NS_PER_MS
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            return keys.tokens.grant_of_token(given.strip().encode("utf-8", "replace"), now_ms)
        if keys.web.passwords and is_basic(header):
            user = keys.web.passwords.known(header)
            if user is None:
                # The bucket is asked before the slow look, for the look is what an attacker would have us do.
                if wait := self._failures.wait_s(peer_of(request), self._now_s()):
                    return _later(429, "too many wrong credentials from this address", wait)
                user = await asyncio.get_running_loop().run_in_executor(self._slow, keys.web.passwords.fits, header)
            return Grant(user, frozenset({READ})) if user else None
        certificate = _certificate(request)
        if certificate is not None:
            if not keys.has_token_file:
                return Grant((subject_names(certificate) or ["certificate"])[0])
            return keys.tokens.grant_of_certificate(subject_names(certificate), now_ms)
        return None

    def _write_down(self, request: web.Request, route: str, response: web.StreamResponse) -> None:
        caller: Grant | None = request.get("caller")
        self._audit.refused(
            peer=peer_of(request),
            caller=caller.name if caller else "",
            method=request.method,
            route=route,
            status=response.status,
            why=response.reason or "",
            now_s=self._now_s(),
        )

    def close(self) -> None:
        self._slow.shutdown(cancel_futures=True)


def caller_of(request: web.Request) -> Grant:
    """Who passed the door."""
    grant = request["caller"]
    assert isinstance(grant, Grant)
    return grant


def peer_of(request: web.BaseRequest) -> str:
    """The address that the connection comes from. Headers that claim another are not believed."""
    return request.remote or "-"


def _later(status: int, detail: str, wait_s: float) -> web.Response:
    return problem(status, detail, headers={"Retry-After": str(int(wait_s) + 1)})


def _certificate(request: web.BaseRequest) -> dict[str, object] | None:
    """Verified by OpenSSL against the client CA, or None."""
    found = request.transport.get_extra_info("peercert") if request.transport else None
    return found or None


def _called_by_loopback_name(request: web.BaseRequest) -> bool:
    host = request.headers.get(hdrs.HOST, "")
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_from_another_page(request: web.BaseRequest) -> bool:
    """Browsers say so of what a page sends, and programs say nothing."""
    return request.method not in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Site", "none") not in (
        "none",
        "same-origin",
    )
