"""Authentication: every request passes it before any handler sees it.

In: a request and the right that its route requires. Out: the `Grant` of its caller, or the problem that it is answered
with. What is valid is decided by the token file (token_file.py) and the web config (tokenyield_settings/web_config.py);
both are read again when they change, so that tokens, passwords and certificates are replaced without a restart.

- Neither of them: everybody on this host may do everything, as long as the collector is called by a loopback name (a
  page elsewhere may point a name of its own at 127.0.0.1, and browsers follow).
- A token, or a client certificate that a `cert:` line names: what its line grants.
- A user of `basic_auth_users`: reading.
- A client certificate where there is no token file: everything, for the client CA signs only what it trusts.
"""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from tokenyield_collector.access.audit import Audit
from tokenyield_collector.access.credentials import Credentials
from tokenyield_collector.access.headers import secure
from tokenyield_collector.access.token_file import Grant
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.http.problem import problem, route_of
from tokenyield_collector.http.right import Right, TeamAnswer
from tokenyield_collector.http.route import Route
from tokenyield_settings.buckets import Buckets
from tokenyield_settings.passwords import is_basic
from tokenyield_settings.web_config import allowed_by_name, subject_names
from tokenyield_wire.units import NS_PER_MS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FAILURES_PER_S = 1.0
FAILURES_BURST = 20
"""Wrong credentials from one address: after as many, only one a second is checked, and passwords not at all."""
EVERYBODY = Grant("everybody")
_HOW_TO_AUTHENTICATE = "send Authorization: Bearer TOKEN with a token from the collector's token_file"
_REASONS = {401: "unauthorized", 403: "forbidden", 429: "too_often"}


class Authenticator:
    """The middleware. Raises `SettingsError` when made."""

    def __init__(
        self,
        settings: CollectorSettings,
        audit: Audit,
        refused: MutableMapping[str, int],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused` counts the refusals by reason."""
        self._insecure = settings.insecure
        self._audit = audit
        self._refused = refused
        self._now_s = now_s
        self.credentials = Credentials(settings)
        self._failures = Buckets(FAILURES_PER_S, FAILURES_BURST)
        self._requests = self.credentials.web.config.rate_limit.buckets()
        self._passwords = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self.context_changed: Callable[[ssl.SSLContext | None], None] = lambda _: None

    def reread(self) -> None:
        """Take up changed files."""
        context = self.credentials.web.context
        if not self.credentials.reread():
            return
        web_file, tokens = self.credentials.web, self.credentials.tokens
        if web_file.context is not context:
            self.context_changed(web_file.context)
        self._requests = web_file.config.rate_limit.buckets()
        self._audit.changed("credentials", tokens=len(tokens.by_digest), certificates=len(tokens.by_certificate),
                            users=len(web_file.config.basic_auth_users))  # fmt: skip

    # --- a request -----------------------------------------------------------------------------------------------

    def middleware(self, routes: Mapping[str, Route]):  # type: ignore[no-untyped-def]
        """`routes`: by their paths; a path that is not named requires `READ`."""

        @web.middleware
        async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = routes.get(route_of(request))
            right = route.right if route is not None else Right.READ
            response = await self._refusal(request, right) or _refusal_to_teams(request, route)
            if response is not None:
                self._refused[_REASONS.get(response.status, "forbidden")] += 1
            else:
                response = await handler(request)
            is_probe = right == Right.OPEN and response.status == 503
            if response.status >= 400 and not is_probe:
                self._log_refusal(request, response)
            return response

        return authenticate

    async def set_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """For `on_response_prepare`."""
        secure(response, self.credentials.web.config.http_server_config.headers, request.secure)

    async def _refusal(self, request: web.Request, right: Right) -> web.StreamResponse | None:
        """None for a request that its handler may answer."""
        if self._requests is not None and right != Right.OPEN and (wait_s := self._requests.wait_s("", self._now_s())):
            return _later("more requests than rate_limit of the web config allows", wait_s)
        if request.method not in ("GET", "HEAD") and is_from_another_site(request):
            return problem(403, "a page of another site may not send this")
        if right == Right.OPEN:
            return None
        config = self.credentials.web.config
        if config.requires_certificate and not allowed_by_name(config, _certificate(request)):
            return problem(403, "client_allowed_sans does not contain a name of this certificate")
        if right == Right.ENROL:
            return None
        if not self.credentials.are_required:
            return self._local_refusal(request)
        if right == Right.PAGE and not self.credentials.web.passwords:
            return None  # the page has no data, and asks for a token itself
        return await self._refusal_by_grant(request, right)

    def _local_refusal(self, request: web.Request) -> web.Response | None:
        """Of a collector without credentials."""
        if not self._insecure and not _has_loopback_name(request):
            return problem(403, "without authentication only the host name localhost is answered; name a token_file, "
                                "or set insecure: true if a proxy in front authenticates")  # fmt: skip
        request["caller"] = EVERYBODY
        return None

    async def _refusal_by_grant(self, request: web.Request, right: Right) -> web.StreamResponse | None:
        header = request.headers.get(hdrs.AUTHORIZATION, "")
        grant = await self._grant(request, header)
        if isinstance(grant, web.StreamResponse):
            return grant
        if grant is None:
            if header and (wait_s := self._failures.wait_s(peer_of(request), self._now_s())):
                return _later("too many wrong credentials from this address", wait_s)
            challenges = 'Bearer realm="tokenyield"'
            if self.credentials.web.passwords:
                challenges += ', Basic realm="tokenyield"'
            return problem(401, _HOW_TO_AUTHENTICATE, headers={"WWW-Authenticate": challenges})
        request["caller"] = grant
        if right != Right.PAGE and right not in grant.may:
            return problem(403, f"{grant.name} may {' and '.join(sorted(grant.may))}, not {right}")
        return None

    async def _grant(self, request: web.Request, header: str) -> Grant | web.StreamResponse | None:
        """None for credentials that are missing or wrong; a problem where they are not checked."""
        tokens, now_ms = self.credentials.tokens, time.time_ns() // NS_PER_MS
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer":
            return self.credentials.grant_of_token(token.strip().encode("utf-8", "replace"), now_ms)
        if self.credentials.web.passwords and is_basic(header):
            return await self._grant_of_password(request, header)
        certificate = _certificate(request)
        if certificate is None:
            return None
        names = subject_names(certificate)
        if not self.credentials.has_token_file:
            return Grant((names or ["certificate"])[0])
        return tokens.grant_of_certificate(names, now_ms)

    async def _grant_of_password(self, request: web.Request, header: str) -> Grant | web.StreamResponse | None:
        passwords = self.credentials.web.passwords
        user = passwords.remembered(header)
        if user is None:
            # The bucket comes before the slow check, for the check is what an attacker would make us do.
            if wait_s := self._failures.wait_s(peer_of(request), self._now_s()):
                return _later("too many wrong credentials from this address", wait_s)
            user = await asyncio.get_running_loop().run_in_executor(self._passwords, passwords.check, header)
        return Grant(user, frozenset({Right.READ})) if user else None

    def _log_refusal(self, request: web.Request, response: web.StreamResponse) -> None:
        caller: Grant | None = request.get("caller")
        self._audit.refused(
            peer=peer_of(request),
            caller=caller.name if caller else "",
            method=request.method,
            route=route_of(request),
            status=response.status,
            why=request.get("why") or response.reason or "",
            now_s=self._now_s(),
        )

    def close(self) -> None:
        self._passwords.shutdown(cancel_futures=True)


def caller_of(request: web.Request) -> Grant:
    """Of a request that passed authentication."""
    grant = request["caller"]
    assert isinstance(grant, Grant)
    return grant


def _refusal_to_teams(request: web.Request, route: Route | None) -> web.Response | None:
    """Of a token that reads what some teams carry alone."""
    caller: Grant | None = request.get("caller")
    if caller is None or caller.teams is None:
        return None
    request["of_teams"] = True
    if route is None or route.to_teams in (TeamAnswer.OWN, TeamAnswer.NO_FIGURES):
        return None
    return problem(403, f"{caller.name} reads what {in_words(caller.teams)} alone, and {route.path} is of the whole "
                        "fleet; ask /v1/report, /v1/explain or /v1/budgets")  # fmt: skip


def in_words(teams: Sequence[str]) -> str:
    """'team ads carries', 'teams ads and search carry'."""
    if len(teams) == 1:
        return f"team {teams[0]} carries"
    return f"teams {', '.join(teams[:-1])} and {teams[-1]} carry"


def peer_of(request: web.BaseRequest) -> str:
    """The address that the connection comes from. Headers that claim another are not trusted."""
    return request.remote or "-"


def _later(detail: str, wait_s: float) -> web.Response:
    return problem(429, detail, headers={"Retry-After": str(int(wait_s) + 1)})


def _certificate(request: web.BaseRequest) -> dict[str, object] | None:
    """Verified by OpenSSL against the client CA, or None."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    return certificate or None


def _has_loopback_name(request: web.BaseRequest) -> bool:
    host = request.headers.get(hdrs.HOST, "")
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_from_another_site(request: web.BaseRequest) -> bool:
    """Browsers report it for what a page sends; programs report nothing."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get(hdrs.HOST, "").lower():
        return True
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
