"""Who gets a token for a node. Pure.

In: who is enrolled, and a candidate with a bootstrap secret or the API server's word. Out: the event of its enrolment,
or `EnrolRefused`.

A bootstrap secret can be in many hands, so it gives names that nobody has: it never takes the name of a node that
another installation has enrolled, or that reported lately. The same installation (its claim) gets a token again.
"""

import fnmatch
import hmac
import re
from dataclasses import dataclass

from tokenyield_collector.access.enrolments import (
    FORGET,
    KUBERNETES,
    NODES_MAX,
    EnrolledNode,
    Enrolments,
    EnrolRefused,
    NodeEnrolled,
    NodeKey,
    SecretAdded,
)
from tokenyield_collector.access.token_file import OWN_NODE, scope_of
from tokenyield_collector.config import KubernetesEnrolment
from tokenyield_wire.units import MS_PER_SECOND

SEEN_LATELY_S = 24 * 3600
"""A node that reported within this time without having enrolled (by a line of token_file) is not taken over."""
NAME = re.compile(r"[\w.:@/+~-]{1,253}")
"""Of clusters and nodes that enrol: none that is a pattern."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Who asks to be enrolled. `claim`: SHA-256 of its claim. `is_known`: it presents a token that may write for this
    node now. `seen_ms`: when the node last reported, None where it never did."""

    cluster: str
    node: str
    claim: str
    is_known: bool = False
    seen_ms: int | None = None

    @property
    def key(self) -> NodeKey:
        return self.cluster, self.node


def by_secret(
    state: Enrolments, digest: str, candidate: Candidate, now_ms: int
) -> tuple[SecretAdded, NodeEnrolled | None]:
    """The secret, and the event of this enrolment: None where the same installation comes again. Raises
    `EnrolRefused`."""
    secret = state.secrets.get(state.by_digest.get(digest, ""))
    if secret is None:
        raise EnrolRefused(
            "unknown_secret", 401, "no such bootstrap secret; make one: tokenyield-collector enrol secret"
        )
    if secret.name in state.revoked_secrets or now_ms >= secret.until_ms:
        word = "was revoked" if secret.name in state.revoked_secrets else "has expired"
        raise EnrolRefused(
            "ended_secret", 403, f"this bootstrap secret {word}; ask the collector's operator for another"
        )
    if not _fits(candidate, secret):
        detail = f"this bootstrap secret is not for cluster '{candidate.cluster}', node '{candidate.node}'"
        raise EnrolRefused("other_node", 403, detail)
    before = state.nodes.get(candidate.key)
    check_revoked(before)
    if before is not None and _is_same(before, candidate):
        return secret, None
    if state.used.get(secret.name, 0) >= secret.uses:
        raise EnrolRefused("used_up", 403, f"this bootstrap secret was used {secret.uses} times, as often as it may be")
    if before is None and len(state.nodes) >= NODES_MAX:
        raise EnrolRefused("too_many", 503, f"{NODES_MAX} nodes are enrolled; on the collector's host: {FORGET}")
    valid_from_ms = _valid_from_ms(before, secret, candidate, now_ms)
    event = NodeEnrolled(now_ms, candidate.cluster, candidate.node, candidate.claim, secret.name, valid_from_ms)
    return secret, event


def by_kubernetes(state: Enrolments, candidate: Candidate, now_ms: int) -> NodeEnrolled | None:
    """The event of an enrolment that the API server vouches for: None unless somebody else has the name, for a
    cluster's nodes come and go. It is that node, whoever had its name. Raises `EnrolRefused`."""
    before = state.nodes.get(candidate.key)
    check_revoked(before)
    if before is None or not before.claim or before.how == KUBERNETES:
        return None
    return NodeEnrolled(now_ms, candidate.cluster, candidate.node, candidate.claim, valid_from_ms=now_ms)


def is_for(entry: KubernetesEnrolment, node: str) -> bool:
    return any(fnmatch.fnmatchcase(node, pattern) for pattern in entry.nodes)


def scope_of_account(entry: KubernetesEnrolment, node: str) -> str:
    """Of the workloads of a node that enrols by this entry. All nodes of a cluster share them unless the entry says
    otherwise: a Deployment's replicas run on any of them."""
    if entry.workloads == OWN_NODE:
        return node
    if entry.workloads:
        return scope_of(entry.workloads.split(","))
    return KUBERNETES if "*" in entry.nodes else scope_of(entry.nodes)


def check_revoked(node: EnrolledNode | None) -> None:
    if node is not None and node.is_revoked:
        detail = "this node was revoked; to enrol it again: tokenyield-collector enrol allow cluster=… node=…"
        raise EnrolRefused("revoked_node", 403, detail)


def _fits(candidate: Candidate, secret: SecretAdded) -> bool:
    return fnmatch.fnmatchcase(candidate.cluster, secret.cluster) and any(
        fnmatch.fnmatchcase(candidate.node, pattern) for pattern in secret.nodes
    )


def _is_same(before: EnrolledNode, candidate: Candidate) -> bool:
    return bool(before.claim) and hmac.compare_digest(before.claim, candidate.claim)


def _valid_from_ms(before: EnrolledNode | None, secret: SecretAdded, candidate: Candidate, now_ms: int) -> int:
    """From when on tokens of this name are valid, now that another installation enrols. Raises `EnrolRefused`."""
    if candidate.is_known:
        return 0
    is_enrolled = before is not None and bool(before.claim)
    seen_ms = max(candidate.seen_ms or 0, before.at_ms if before is not None and is_enrolled else 0)
    if not is_enrolled and (before is not None or now_ms - seen_ms >= SEEN_LATELY_S * MS_PER_SECOND):
        return 0  # a name that is free, or that an operator has freed
    if secret.replace_after_s is not None and now_ms - seen_ms >= secret.replace_after_s * MS_PER_SECOND:
        return now_ms
    raise EnrolRefused(
        "taken",
        409,
        f"cluster '{candidate.cluster}', node '{candidate.node}' is another installation's, "
        f"{'enrolled' if is_enrolled else 'which reports'}; if it was installed anew: tokenyield-collector enrol allow "
        f"cluster={candidate.cluster} node={candidate.node}",
    )
