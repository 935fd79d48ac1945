"""`POST /v1/enrol`: a node's own token, for a proof of which node it is.

In: who asks, and as the bearer token a bootstrap secret, a Kubernetes ServiceAccount token, or the node's token before
it ends. Out: 200 with the token, or a problem. Whoever reaches the port may ask: what is not right costs little, and is
slowed down by address.
"""

import asyncio
import hashlib
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import hdrs, web

from tokenyield_collector.access.auth import peer_of
from tokenyield_collector.access.enrolment import NODE_PREFIX, SECRET_PREFIX, Enrolment, Issued
from tokenyield_collector.access.enrolment_rules import Candidate, is_for
from tokenyield_collector.access.enrolments import EnrolRefused
from tokenyield_collector.api.services import Services
from tokenyield_collector.http.problem import problem
from tokenyield_collector.http.right import Right
from tokenyield_collector.http.route import JSON, BoundRoute, Route
from tokenyield_collector.http.schemas import EnrolledDocument, EnrolRequest
from tokenyield_settings.buckets import Buckets
from tokenyield_wire.units import MS_PER_SECOND, NS_PER_MS

BODY_BYTES_MAX = 16 * 1024
REQUESTS_PER_S, REQUESTS_BURST = 10.0, 200
"""Of one address, behind which may be many nodes."""
WRONG_PER_S, WRONG_BURST = 1.0, 20
"""Proofs of one address that are wrong; beyond it no API server is asked for it. A right secret is still taken."""
UNDER_WAY_MAX, UNDER_WAY_OF_ADDRESS_MAX = 200, 40
"""Requests for enrolment at once, of all addresses and of one."""
BODY_WAIT_S = 5.0
CLAIM_CHARS = (32, 256)
ENROL = Route(
    path="/v1/enrol",
    method="POST",
    right=Right.ENROL,
    summary="Give a node its own token, for a bootstrap secret, a ServiceAccount token, or its token before it ends.",
    answers={JSON: EnrolledDocument},
    refusals=(400, 404, 408, 409, 413, 422, 503),
    body=EnrolRequest,
)
ROUTES = (ENROL,)


class _Request(msgspec.Struct):
    cluster: str
    node: str
    claim: str
    current: str = ""


def routes(services: Services) -> list[BoundRoute]:
    return [(ENROL, EnrolApi(services).handle)]


class EnrolApi:
    """The handler. The journal is written in a thread of asyncio's."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._requests = Buckets(REQUESTS_PER_S, REQUESTS_BURST)
        self._wrong = Buckets(WRONG_PER_S, WRONG_BURST)
        self._under_way: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        stats, peer = self._services.ingest, peer_of(request)
        self._under_way[peer] += 1
        try:
            if self._under_way[peer] > UNDER_WAY_OF_ADDRESS_MAX or self._under_way.total() > UNDER_WAY_MAX:
                raise EnrolRefused("overloaded", 503, "too many nodes enrol at once; send later")
            issued, asked = await self._enrolled(request, peer)
        except EnrolRefused as refusal:
            stats.enrol_refused[refusal.reason] += 1
            if refusal.status == 401:
                self._wrong.wait_s(peer, time.monotonic())
            request["why"] = f"{refusal.reason}: {refusal}"
            return problem(refusal.status, str(refusal), headers=_headers(refusal.status))
        finally:
            self._under_way[peer] -= 1
            if not self._under_way[peer]:
                del self._under_way[peer]
        kind = issued.how.partition(" ")[0]
        stats.enrolled[kind] += 1
        if issued.is_new:
            self._services.audit.enrolled(peer=peer, cluster=asked.cluster, node=asked.node, how=issued.how)
        document = EnrolledDocument(
            token=issued.token, cluster=asked.cluster, node=asked.node, expires_in_s=issued.expires_in_s
        )
        return web.Response(
            body=msgspec.json.encode(document) + b"\n", content_type=JSON, headers={"Cache-Control": "no-store"}
        )

    async def _enrolled(self, request: web.Request, peer: str) -> tuple[Issued, _Request]:
        enrolment = self._services.credentials.enrolment
        if enrolment is None:
            raise EnrolRefused("off", 404, "this collector enrols no nodes: enrol_dir is not set")
        if self._requests.wait_s(peer, time.monotonic()):
            raise EnrolRefused("too_often", 429, "too many requests for enrolment from this address")
        scheme, _, proof = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not proof.strip():
            raise EnrolRefused(
                "no_proof", 401, "send Authorization: Bearer with a bootstrap secret, or with the node's proof"
            )
        asked = await self._body(request)
        token = proof.strip().encode("utf-8", "replace")
        if token.startswith(NODE_PREFIX.encode()):
            return await asyncio.to_thread(enrolment.renewed, token, asked.cluster, asked.node), asked
        if token.startswith(SECRET_PREFIX.encode()):
            candidate = self._candidate(asked)
            return await asyncio.to_thread(self._by_secret, enrolment, token, candidate), asked
        return await self._by_account(enrolment, token, asked, peer), asked

    def _by_secret(self, enrolment: Enrolment, secret: bytes, candidate: Candidate) -> Issued:
        seen_ms = self._services.committer.last_seen.get(candidate.key)
        if self._services.ledger.is_shared:
            others_ms = self._services.ledger.last_seen().get(candidate.key)
            seen_ms = max(filter(None, (seen_ms, others_ms)), default=None)
        return enrolment.by_secret(secret, replace(candidate, seen_ms=seen_ms))

    async def _by_account(self, enrolment: Enrolment, token: bytes, asked: _Request, peer: str) -> Issued:
        now_s = time.time_ns() // NS_PER_MS // MS_PER_SECOND
        # By the cluster: charts that are installed alike have accounts of one name in every cluster.
        of_cluster = (one for one in enrolment.reviewers if one.settings.cluster == asked.cluster)
        reviewers = [one for one in of_cluster if one.may_be(token, now_s)]
        if not reviewers:
            detail = "this is no bootstrap secret, and no ServiceAccount token of this cluster for this collector"
            raise EnrolRefused("unknown_proof", 401, detail)
        if self._wrong.would_wait_s(peer, time.monotonic()):
            raise EnrolRefused("too_often", 429, "too many wrong proofs from this address")
        reviewer = next((one for one in reviewers if is_for(one.settings, asked.node)), reviewers[0])
        node = await reviewer.node_of(token)
        if node != asked.node:
            raise EnrolRefused("other_node", 403, f"this ServiceAccount token is of node '{node}'")
        return await asyncio.to_thread(enrolment.by_account, self._candidate(asked), reviewer.settings)

    def _candidate(self, asked: _Request) -> Candidate:
        claim = hashlib.sha256(asked.claim.encode("utf-8", "replace")).hexdigest()
        is_known = bool(asked.current) and self._may_write(asked)
        return Candidate(cluster=asked.cluster, node=asked.node, claim=claim, is_known=is_known)

    def _may_write(self, asked: _Request) -> bool:
        current, now_ms = asked.current.encode("utf-8", "replace"), time.time_ns() // NS_PER_MS
        grant = self._services.credentials.grant_of_token(current, now_ms)
        return grant is not None and Right.WRITE in grant.may and grant.may_write_for(asked.cluster, asked.node)

    async def _body(self, request: web.Request) -> _Request:
        if request.content_length is None or request.content_length > BODY_BYTES_MAX:
            raise EnrolRefused(
                "body", 413, f"body: expected at most {BODY_BYTES_MAX} bytes, with their length, found others"
            )
        try:
            async with asyncio.timeout(BODY_WAIT_S):
                body = await request.read()
        except TimeoutError:
            raise EnrolRefused("body", 408, "the body did not arrive in time") from None
        except ConnectionError:
            raise EnrolRefused("body", 400, "the connection broke off within the body") from None
        try:
            asked = msgspec.json.decode(body, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EnrolRefused(
                "body", 400, f"body: expected JSON as described, found something else ({error})"[:300]
            ) from None
        if not CLAIM_CHARS[0] <= len(asked.claim) <= CLAIM_CHARS[1]:
            raise EnrolRefused(
                "body",
                422,
                f"claim: expected {CLAIM_CHARS[0]} to {CLAIM_CHARS[1]} characters, found {len(asked.claim)}",
            )
        return asked


def _headers(status: int) -> dict[str, Any]:
    if status == 401:
        return {"WWW-Authenticate": 'Bearer realm="tokenyield"'}
    return {"Retry-After": "10"} if status in (429, 503) else {}
