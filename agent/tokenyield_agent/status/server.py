"""Serves the agent's own /metrics, /healthz and /readyz.

In: a function that gives the agent's present `Status`. Out: HTTP answers, on loopback unless configured otherwise.
auth.py decides who may read /metrics, and with which TLS; /healthz and /readyz need no password, for the kubelet has
none.
"""

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.status.auth import StatusAuthenticator, StatusRefusal
from tokenyield_agent.status.metrics import AgentExposition
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.supervision import Supervisor
from tokenyield_settings.visible import visible

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
PLAIN = "text/plain; charset=utf-8"
NO_HANDLE_PAUSE_S = 0.2
SLOW_S = 10.0
"""Older connections make room when all are taken."""


class StatusServer:
    """Serves the status in a thread of its own."""

    def __init__(self, settings: Settings, status: Callable[[], Status], supervisor: Supervisor | None = None) -> None:
        """Raises `SetUpError`."""
        address = settings.status_address
        assert address is not None
        registry = CollectorRegistry()
        registry.register(AgentExposition(status))
        ProcessCollector(registry=registry)
        authenticator = StatusAuthenticator(settings, address[0])

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_S
            server_version = sys_version = "tokenyield"

            def version_string(self) -> str:
                return "tokenyield"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._show()
                elif path in ("/healthz", "/readyz"):
                    present = status()
                    reasons = list(present.unhealthy() if path == "/healthz" else present.not_ready())
                    notes = list(present.notes()) if path == "/healthz" else []
                    if notes and self._refusal() is not None:  # they name workloads
                        notes = []
                    text = "".join(f"{visible(line)}\n" for line in [*(reasons or ["ok"]), *notes])
                    self._answer(503 if reasons else 200, text.encode(), PLAIN)
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n", PLAIN)

            def _refusal(self) -> StatusRefusal | None:
                certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
                return authenticator.refusal(self.headers.get("Authorization", ""), certificate)

            def _show(self) -> None:
                if refusal := self._refusal():
                    self._answer(refusal.status, f"{refusal.text}\n".encode(), PLAIN, refusal.header)
                else:
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)

            def _answer(self, code: int, body: bytes, content_type: str, header: tuple[str, str] | None = None) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
                for name, value in [*authenticator.headers.items(), *([header] if header else [])]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass  # a request line is the client's text

        try:
            self._server = _Server(address, Handler, authenticator)
        except OSError as error:
            raise SetUpError(
                f"status_listen: cannot listen on {address[0]}:{address[1]} ({error}); choose a free port, or stop "
                "the program that uses it"
            ) from error
        self.port = self._server.server_address[1]
        self._supervisor = supervisor or Supervisor()

    def start(self) -> None:
        """Answer from now on."""
        self._supervisor.start("status", self._server.serve_forever)

    def stop(self) -> None:
        """Close the port; requests under way are dropped."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """With few connections at once, whose TLS handshake is made in their own thread."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], authenticator: StatusAuthenticator
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._authenticator = authenticator
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                slowest, since_s = min(self._open.items(), key=lambda item: item[1])
                if time.monotonic() - since_s > SLOW_S:
                    _hang_up(slowest)
                self.shutdown_request(request)
                return
            self._open[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the host has no thread left
            with self._lock:
                self._open.pop(request, None)
            raise

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # no file handle left: it would be tried again at once, for ever
            time.sleep(NO_HANDLE_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request for the status failed", exc_info=True)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(REQUEST_TIMEOUT_S)
            context = self._authenticator.context
            if context is None:
                super().finish_request(request, client_address)
                return
            with context.wrap_socket(request.dup(), server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:  # the client went away, or does not use TLS
            pass
        finally:
            with self._lock:
                self._open.pop(request, None)


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
