"""Which node a Kubernetes ServiceAccount token was projected on, by the API server's word (TokenReview).

In: a token that an agent sent. Out: the node, or `EnrolRefused`. The token must be for our audience, of the service
account that the settings name, and bound to a pod. Its node is in what the API server answers since Kubernetes 1.30;
before, the pod is read, which needs the right to. A token whose pod was deleted is refused by the API server at once.

What costs nothing is judged first (audience, account and time, as the token itself claims them), so that the API
server is asked only about tokens that may be right.
"""

import asyncio
import base64
import binascii
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from tokenyield_collector.access.enrolments import EnrolRefused
from tokenyield_collector.config import KubernetesEnrolment

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1024 * 1024
"""Of a pod; a review has a few hundred."""
REVIEWS_MAX = 16
"""At once; beyond that agents are asked to try again later."""
TOKEN_BYTES_MAX = 8192
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NODE = "authentication.kubernetes.io/node-name"
_POD = "authentication.kubernetes.io/pod-name"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ACCOUNT_USER = "system:serviceaccount:"


class _Claims(msgspec.Struct):
    """What a token claims of itself: nothing of it is believed."""

    sub: str
    exp: int
    aud: list[str] | str = []


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] = []
    error: str = ""


class _Review(msgspec.Struct):
    status: _Status


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct):
    spec: _PodSpec


class TokenReviewer:
    """Of one cluster. Several calls may be under way at once."""

    def __init__(
        self, settings: KubernetesEnrolment, environ: Mapping[str, str] = os.environ, account: Path = ACCOUNT
    ) -> None:
        self.settings = settings
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        own = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._server = (settings.api_server or (own if host else "")).rstrip("/")
        self._ca_file = Path(settings.ca_file or account / "ca.crt")
        self._token_file = Path(settings.token_file or account / "token")
        self._under_way = 0

    def may_be(self, token: bytes, now_s: float) -> bool:
        """Whether the token claims to be one of ours: who asks which cluster's API server, and whether at all."""
        parts = token.split(b".")
        if len(parts) != 3 or len(token) > TOKEN_BYTES_MAX:
            return False
        try:
            claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)), type=_Claims)
        except (binascii.Error, msgspec.DecodeError, ValueError):
            return False
        audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
        return self.settings.audience in audiences and claims.sub == self._user and claims.exp > now_s

    async def node_of(self, token: bytes) -> str:
        """The node. Raises `EnrolRefused`: 401 where the token is not right, 503 where nobody can be asked."""
        if not self._server:
            raise _unavailable("there is no API server here; set api_server in enrol_kubernetes")
        if self._under_way >= REVIEWS_MAX:
            raise _unavailable("too many tokens are being reviewed")
        self._under_way += 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._reviewed(token.decode("ascii"))
        except (OSError, TimeoutError, UnicodeDecodeError, msgspec.DecodeError, ValueError) as error:
            raise _unavailable(f"the API server cannot be used ({type(error).__name__}: {error})"[:300]) from error
        finally:
            self._under_way -= 1

    @property
    def _user(self) -> str:
        return _ACCOUNT_USER + self.settings.service_account.replace("/", ":")

    async def _reviewed(self, token: str) -> str:
        spec = {"token": token, "audiences": [self.settings.audience]}
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        body = await self._ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", msgspec.json.encode(review))
        status = msgspec.json.decode(body, type=_Review).status
        if not status.authenticated:
            raise _wrong("the API server does not accept this ServiceAccount token")
        if self.settings.audience not in status.audiences:
            raise _wrong(f"this ServiceAccount token is not for the audience '{self.settings.audience}'")
        if status.user.username != self._user:
            raise _wrong("this ServiceAccount token is of another account")
        (node, *_), (pod, *_) = (status.user.extra.get(name) or [""] for name in (_NODE, _POD))
        if not node and pod:
            node = await self._node_of_pod(pod)
        if not node:
            raise _wrong("this ServiceAccount token is not bound to a pod on a node; project it into the agent's pod")
        return node

    async def _node_of_pod(self, pod: str) -> str:
        namespace, _, _ = self.settings.service_account.partition("/")
        if not _NAME.fullmatch(pod):
            raise _wrong("this ServiceAccount token is not bound to a pod")
        body = await self._ask("GET", f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{pod}", b"")
        return msgspec.json.decode(body, type=_Pod).spec.node_name

    async def _ask(self, method: str, path: str, body: bytes) -> bytes:
        """Raises OSError."""
        import aiohttp  # its client half: only where a token is reviewed

        context = ssl.create_default_context(cafile=str(self._ca_file))
        own = self._token_file.read_text(encoding="ascii").strip()
        headers: dict[str, Any] = {"Authorization": f"Bearer {own}", "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(
                method, f"{self._server}{path}", data=body or None, ssl=context, allow_redirects=False
            ) as answer,
        ):
            text = b""
            while part := await answer.content.read(ANSWER_BYTES_MAX + 1 - len(text)):
                text += part
            if answer.status not in (200, 201):
                right = "create tokenreviews" if method == "POST" else "get pods"
                hint = f"; allow the collector's service account to {right}" if answer.status in (401, 403) else ""
                raise OSError(f"{path.rpartition('/')[0]} answers {answer.status}{hint}")
            if len(text) > ANSWER_BYTES_MAX:
                raise OSError(f"answers more than {ANSWER_BYTES_MAX >> 20} MiB")
            return text


def _wrong(detail: str) -> EnrolRefused:
    return EnrolRefused("account", 401, detail)


def _unavailable(detail: str) -> EnrolRefused:
    return EnrolRefused("api_server", 503, detail)
