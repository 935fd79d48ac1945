"""Serves the agent's own /metrics, /healthz and /readyz.

In: a function that gives the agent's present `Status`. Out: HTTP answers, on loopback unless configured otherwise.
auth.py decides who may read /metrics, and with which TLS; /healthz and /readyz need no password, for the kubelet has
none.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from itertools import chain
from socketserver import BaseRequestHandler, StreamRequestHandler, ThreadingTCPServer
from typing import Any

from tokenyield_agent.config import Settings
from tokenyield_agent.errors import SetUpError
from tokenyield_agent.status.auth import StatusAuthenticator, StatusRefusal
from tokenyield_agent.status.exposition import metrics_page
from tokenyield_agent.status.metrics import AgentExposition
from tokenyield_agent.status.own_process import own_process
from tokenyield_agent.status.request import StatusAnswer, StatusRequest, read_request
from tokenyield_agent.status.snapshot import Status
from tokenyield_agent.supervision import Supervisor
from tokenyield_agent.workloads.procfs import Procfs
from tokenyield_settings.visible import visible

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 16
NO_HANDLE_PAUSE_S = 0.2
FOREVER_S = 3600.0
SLOW_S = 10.0
"""Older connections make room when all are taken."""


class StatusServer:
    """Serves the status in a thread of its own."""

    def __init__(self, settings: Settings, status: Callable[[], Status], supervisor: Supervisor | None = None) -> None:
        """Raises `SetUpError`."""
        address = settings.status_address
        assert address is not None
        exposition, procfs = AgentExposition(status), Procfs()
        authenticator = StatusAuthenticator(settings, address[0])

        class Handler(StreamRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def handle(self) -> None:
                request = read_request(self.rfile)
                if request is None:
                    return
                answer = request if isinstance(request, StatusAnswer) else self._answer_to(request)
                head = answer._replace(headers=[*authenticator.headers.items(), *answer.headers]).head()
                is_head = isinstance(request, StatusRequest) and request.method == "HEAD"
                self.wfile.write(head if is_head else head + answer.body)

            def _answer_to(self, request: StatusRequest) -> StatusAnswer:
                if request.path == "/metrics":
                    return self._metrics(request)
                if request.path not in ("/healthz", "/readyz"):
                    return StatusAnswer(404, b"try /metrics, /healthz or /readyz\n")
                present = status()
                is_health = request.path == "/healthz"
                reasons = list(present.unhealthy() if is_health else present.not_ready())
                notes = list(present.notes()) if is_health else []
                if notes and self._refusal(request) is not None:  # they name workloads
                    notes = []
                text = "".join(f"{visible(line)}\n" for line in [*(reasons or ["ok"]), *notes])
                return StatusAnswer(503 if reasons else 200, text.encode())

            def _refusal(self, request: StatusRequest) -> StatusRefusal | None:
                getpeercert = getattr(self.connection, "getpeercert", None)  # of an SSLSocket
                certificate = getpeercert() if getpeercert else None
                return authenticator.refusal(request.headers.get("authorization", ""), certificate)

            def _metrics(self, request: StatusRequest) -> StatusAnswer:
                if refusal := self._refusal(request):
                    headers = [refusal.header] if refusal.header else []
                    return StatusAnswer(refusal.status, f"{refusal.text}\n".encode(), headers=headers)
                accept = request.headers.get("accept", "")
                text, content_type = metrics_page(chain(exposition.collect(), own_process(procfs)), accept)
                return StatusAnswer(200, text.encode(), content_type)

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
        self._supervisor.start("status", self._server.serve_until_shut_down)

    def stop(self) -> None:
        """Close the port; requests under way are dropped."""
        self._server.wake()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    """With few connections at once, whose TLS handshake is made in their own thread."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(
        self, address: tuple[str, int], handler: type[BaseRequestHandler], authenticator: StatusAuthenticator
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._authenticator = authenticator
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def serve_until_shut_down(self) -> None:
        """It sleeps until somebody connects, or `wake`: to look twice a second took a tenth of what the agent takes."""
        self.serve_forever(poll_interval=FOREVER_S)

    def wake(self) -> None:
        """Before `shutdown`: nobody can connect any more, which is an event for whoever waits for a connection."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

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
