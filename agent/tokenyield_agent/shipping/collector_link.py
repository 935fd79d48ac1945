"""The connection to the collector: TLS as the settings say, kept from one request to the next.

In: requests. Out: answers. One exchange has `collector_timeout_s` for all of it.
"""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tokenyield_agent.config import Settings
from tokenyield_agent.http.answer import Answer
from tokenyield_agent.http.connection import Connection, request_bytes, wait_for

if TYPE_CHECKING:
    import ssl

ANSWER_BYTES_MAX = 64 * 1024
NODE_TOKEN_NAME = "collector_token"  # noqa: S105 - a file's name
"""The file in `state_dir` that has the token of a node that enrolled (enrolment.py)."""


class UnusableSetting(Exception):
    """A file that the settings name cannot be used now; in words, which name the setting. It heals when the file
    does."""


class CollectorLink:
    """To the collector that the settings name; opened when it is needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.collector_url)
        self._connection: Connection | None = None
        self._context: tuple[tuple[int, ...], ssl.SSLContext] | None = None
        self._opened = 0

    @property
    def opened(self) -> int:
        """How often a connection was made."""
        return self._opened + (self._connection.opened if self._connection is not None else 0)

    def post(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Raises `UnusableSetting`, OSError, `BadAnswer`."""
        connection = self._connect()
        target = f"{self._url.path.rstrip('/')}{path}"
        headers = {"Content-Type": "application/json", "User-Agent": "tokenyield-agent", **headers}
        request = request_bytes("POST", target, self._url.netloc, headers, body)
        return wait_for(connection.exchange(request, ANSWER_BYTES_MAX), self._settings.collector_timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> Connection:
        """The connection is kept until a certificate's file changes. Raises `UnusableSetting`."""
        is_https = self._url.scheme == "https"
        files = self._certificate_files() if is_https else ()
        if self._connection is not None and (self._context is None or self._context[0] == files):
            return self._connection
        if self._connection is not None:
            self._opened += self._connection.opened
            self._connection.close()
        self._context = (files, context_of(self._settings)) if is_https else None
        context = self._context[1] if self._context is not None else None
        port = self._url.port or (443 if is_https else 80)
        self._connection = Connection(self._url.hostname or "", port, context=context)
        return self._connection

    def _certificate_files(self) -> tuple[int, ...]:
        """When each was last changed."""
        times = []
        for name in ("collector_ca_file", "collector_client_cert_file", "collector_client_key_file"):
            if path := getattr(self._settings, name):
                try:
                    times.append(os.stat(path).st_mtime_ns)
                except OSError as error:
                    raise UnusableSetting(
                        f"{name}: {path} cannot be read ({error.strerror}); let the agent's user read it"
                    ) from error
        return tuple(times)


def context_of(settings: Settings) -> "ssl.SSLContext":
    """TLS to the collector. Raises `UnusableSetting`."""
    import ssl  # 4 MiB: only for https

    try:
        context = ssl.create_default_context(cafile=settings.collector_ca_file)
    except (OSError, ValueError) as error:
        raise UnusableSetting(
            f"collector_ca_file: expected certificates in {settings.collector_ca_file}, found none ({error}); "
            "correct it"
        ) from error
    if settings.collector_client_cert_file:
        try:
            context.load_cert_chain(settings.collector_client_cert_file, settings.collector_client_key_file)
        except (OSError, ValueError) as error:
            raise UnusableSetting(
                f"collector_client_cert_file: expected a certificate and its key in "
                f"{settings.collector_client_cert_file}, found something else ({error}); correct it"
            ) from error
    return context
