"""A stand-in for a Kubernetes API server: TokenReview and pods, over TLS, as kube-apiserver 1.27 to 1.34 answers.

The shapes are those of k8s.io/api/authentication/v1. What a real one says is seen by `make test-kube`.
"""

import base64
import json
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ACCOUNT = "tokenyield/tokenyield-agent"
USER = "system:serviceaccount:tokenyield:tokenyield-agent"


def jwt(*, sub: str = USER, aud: Any = ("tokenyield-collector",), exp: int = 2**33, unique: str = "") -> str:
    """Signed by nobody: only the API server says which is right."""
    parts = [{"alg": "RS256"}, {"sub": sub, "aud": aud, "exp": exp, "jti": unique}]
    packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*packed, "c2ln"])


@dataclass
class ApiServer:
    """`reviews`: token -> its status. `pods`: name -> node."""

    folder: Path
    certificates: Path
    reviews: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 201

    def __post_init__(self) -> None:
        state = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                state.asked.append(self.path)
                assert self.headers["Authorization"] == "Bearer own-own-own"
                assert body["spec"]["audiences"] == ["tokenyield-collector"]
                self._answer(state.status, {"status": state.reviews.get(body["spec"]["token"], {"error": "no"})})

            def do_GET(self) -> None:
                state.asked.append(self.path)
                node = state.pods.get(self.path.rpartition("/")[2])
                self._answer(200 if node else 404, {"spec": {"nodeName": node}})

            def _answer(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates / "server.crt", self.certificates / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        (self.folder / "own-token").write_text("own-own-own\n")
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def settings(self, cluster: str = "dc1") -> dict[str, str]:
        """Of `enrol_kubernetes`."""
        return {
            "cluster": cluster,
            "service_account": ACCOUNT,
            "api_server": f"https://127.0.0.1:{self._server.server_address[1]}",
            "ca_file": str(self.certificates / "ca.crt"),
            "token_file": str(self.folder / "own-token"),
        }

    def accept(self, token: str, node: str = "", pod: str = "", **more: Any) -> str:
        extra = {"authentication.kubernetes.io/node-name": [node]} if node else {}
        extra |= {"authentication.kubernetes.io/pod-name": [pod]} if pod else {}
        self.reviews[token] = {
            "authenticated": True,
            "user": {"username": USER, "extra": extra},
            "audiences": ["tokenyield-collector"],
            **more,
        }
        return token

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
