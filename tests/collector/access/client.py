"""A client of the collector for the tests of this folder, and the token file that they use."""

import base64
import http.client
import ssl
import time
from typing import Any

from collector.samples import batch, shipment
from harness import Stack
from tokenyield_collector.access.token_file import token_line
from tokenyield_wire.codec import encode_shipment

READER, DC1, ROTATED = "reader-reader-reader", "dc1-dc1-dc1-dc1-dc1", "dc1-the-next-token"
GPU_7 = "gpu-7-gpu-7-gpu-7-gpu-7"
TOKENS = f"""# who may what
{READER}  name=grafana may=read
{DC1}     name=dc1 may=write,gateway cluster=dc1 nodes=gpu-*
{token_line(ROTATED, ["name=dc1-next", "may=write,gateway", "cluster=dc1", "nodes=gpu-*"])}
{GPU_7}   name=old may=write,gateway until=2026-01-01
cert:*.gpu.example.com  name=certified may=write,gateway cluster=dc1 nodes=self
"""


def call(url: str, path: str, method: str = "GET", body: bytes | None = None, context: ssl.SSLContext | None = None,
          **headers: Any) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    host, port = url.rpartition("/")[2].rsplit(":", 1)
    connection = (
        http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
        if context
        else http.client.HTTPConnection(host, int(port), timeout=20)
    )
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def bearer(token: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, Any]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def now_ms() -> int:
    return time.time_ns() // 1_000_000 // 15_000 * 15_000 - 60_000


def send(
    stack: Stack, token: str, seq: int, cluster: str = "dc1", node: str = "gpu-1", count: int = 1, **more: Any
) -> int:
    batches = [batch(seq + i, now_ms() - i * 15_000) for i in range(count)]
    body = encode_shipment(shipment(*batches, cluster=cluster, node=node, agent_id=node))
    return call(stack.url, "/v1/batches", "POST", body, **bearer(token), **more)[0]
