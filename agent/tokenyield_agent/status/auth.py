"""Who may read the agent's metrics: the web config's passwords, names of client certificates and rate limit.

In: the header Authorization and the certificate of a request. Out: a refusal, or None. Checking a password that was not
right before costs 70 ms of a core on purpose; that is done for one request at a time, and rarely for those who guess.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_settings.addresses import is_loopback
from tokenyield_settings.buckets import Buckets
from tokenyield_settings.errors import SettingsError

if TYPE_CHECKING:
    import ssl

    from tokenyield_settings.web_config import WebConfigFile

GUESSES_PER_S, GUESSES_BURST = 1.0, 5


@dataclass(frozen=True)
class StatusRefusal:
    """The answer to a request that may not read."""

    status: int
    text: str
    header: tuple[str, str] | None = None


class StatusAuthenticator:
    """Without a web config everybody may read."""

    def __init__(self, settings: Settings, host: str) -> None:
        """`host` is the address that is listened on. Raises `SetUpError`."""
        self._lock = threading.Lock()
        self._web = _web_config(settings.web_config_file)
        self._guesses = Buckets(GUESSES_PER_S, GUESSES_BURST, 1)
        self._requests = self._web.config.rate_limit.buckets() if self._web else None
        if self._web and not (self._web.authenticates or settings.insecure or is_loopback(host)):
            raise SetUpError(
                f"web_config_file: expected basic_auth_users, for other hosts can reach {settings.status_listen}, "
                f"found none in {settings.web_config_file}; add some, or set insecure: true"
            )

    @property
    def context(self) -> "ssl.SSLContext | None":
        """For the next connection's TLS."""
        if self._web is None:
            return None
        with self._lock:
            if self._web.reread():
                self._requests = self._web.config.rate_limit.buckets()
            return self._web.context

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the web config adds to every answer."""
        return self._web.config.http_server_config.headers if self._web else {}

    def refusal(self, authorization: str, certificate: Mapping[str, object] | None) -> StatusRefusal | None:
        """None where the request may read. `certificate` is the client's, as `SSLSocket.getpeercert` gives it."""
        if self._web is None:
            return None
        from tokenyield_settings.web_config import allowed_by_name

        with self._lock:
            if self._requests is not None and (wait_s := self._requests.wait_s("", time.monotonic())):
                return _later("more requests than rate_limit of web_config_file allows", wait_s)
            if self._web.config.requires_certificate and not allowed_by_name(self._web.config, certificate):
                return StatusRefusal(403, "this certificate has no name of client_allowed_sans in web_config_file")
            passwords = self._web.passwords
            if not passwords or passwords.remembered(authorization):
                return None
            if not authorization:
                return _UNAUTHENTICATED
            if wait_s := self._guesses.wait_s("", time.monotonic()):
                return _later("too many wrong passwords", wait_s)
            return None if passwords.check(authorization) else _UNAUTHENTICATED


_UNAUTHENTICATED = StatusRefusal(
    401, "Missing or invalid user and password", ("WWW-Authenticate", 'Basic realm="tokenyield"')
)


def _web_config(file: str | None) -> "WebConfigFile | None":
    if not file:
        return None
    from tokenyield_settings.web_config import WebConfigFile

    try:
        return WebConfigFile(file)
    except SettingsError as error:
        raise SetUpError("; ".join(error.faults)) from None


def _later(text: str, wait_s: float) -> StatusRefusal:
    return StatusRefusal(429, text, ("Retry-After", str(int(wait_s) + 1)))
