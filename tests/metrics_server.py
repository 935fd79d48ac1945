"""An HTTP server for tests that answers what a test gives it, and keeps what it was asked."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class MetricsServer:
    """`status`, `body` and `headers` of every answer to a path that is there; what was asked."""

    url: str = ""
    path: str = "/metrics"
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    says_length: int | None = None
    """Another length than the body has."""
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


@contextmanager
def serving(body: bytes = b"", *, certificate: Path | None = None, **answer: Any) -> Iterator[MetricsServer]:
    """On a port of 127.0.0.1; with `certificate` (and its key beside it) over TLS."""
    server = MetricsServer(body=body, **answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.path, dict(self.headers)))
            is_there = self.path.partition("?")[0] == server.path
            body = server.body if is_there else b"nothing here"
            self.send_response(server.status if is_there else 404)
            length = server.says_length if server.says_length is not None else len(body)
            for name, value in {"Content-Length": str(length), **server.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        http.socket = context.wrap_socket(http.socket, server_side=True)
    server.url = f"{'https' if certificate else 'http'}://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
