"""Serves the agent's own /metrics, /healthz and /readyz.

In: a function that gives the agent's present `Status`. Out: HTTP answers, on loopback unless configured otherwise.
"""

import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tokenyield_agent.errors import SetUpError
from tokenyield_agent.metrics import Exposition
from tokenyield_agent.status import Status

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0


class StatusServer:
    """Serves the status in a thread of its own."""

    def __init__(self, address: tuple[str, int], status: Callable[[], Status]) -> None:
        """Raises `SetUpError`."""
        registry = CollectorRegistry()
        registry.register(Exposition(status))
        ProcessCollector(registry=registry)

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)
                elif path in ("/healthz", "/readyz"):
                    present = status()
                    reasons = list(present.unhealthy() if path == "/healthz" else present.not_ready())
                    text = "".join(f"{reason}\n" for reason in reasons) or "ok\n"
                    self._answer(503 if reasons else 200, text.encode(), "text/plain; charset=utf-8")
                else:
                    self._answer(404, b"try /metrics, /healthz or /readyz\n", "text/plain; charset=utf-8")

            def _answer(self, code: int, body: bytes, content_type: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug(format, *args)

        try:
            self._server = ThreadingHTTPServer(address, Handler)
        except OSError as error:
            raise SetUpError(
                f"status_listen: cannot listen on {address[0]}:{address[1]} ({error}); choose a free port or stop "
                "the program that holds it"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
