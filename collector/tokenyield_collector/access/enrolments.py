"""Who is enrolled: bootstrap secrets, the nodes that enrolled, and what an operator revoked. Pure.

In: the events of the journal (enrolment_journal.py), in their order. Out: `Enrolments`, and by `may_enrol` whether a
holder of a secret gets a token for a node.

A bootstrap secret can be in many hands, so it gives names that nobody has: it never takes the name of a node that
another installation has enrolled, or that reported lately. The same installation (its claim) gets a token again.
"""

import fnmatch
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

MS_PER_SECOND = 1000
SEEN_LATELY_S = 24 * 3600
"""A node that reported within this time without having enrolled (by a line of token_file) is not taken over."""
NODES_MAX = 100_000
FORGET = "tokenyield-collector enrol forget days=90"
SECRET, KUBERNETES = "secret ", "kubernetes"
SECRETS_MAX = 10_000
NAME = re.compile(r"[\w.:@/+~-]{1,253}")
"""Of clusters and nodes that enrol: none that is a pattern."""


class SecretAdded(msgspec.Struct, tag="secret", omit_defaults=True):
    """A bootstrap secret, as its SHA-256. `cluster` and `nodes` are patterns as in a shell."""

    at_ms: int
    name: str
    digest: str
    cluster: str
    nodes: tuple[str, ...]
    may: str
    uses: int
    until_ms: int
    replace_after_s: int | None = None
    """It may take the name of a node that has been silent for so long."""
    used: int = 0
    """How often it was used before this event, where older events were forgotten."""


class SecretRevoked(msgspec.Struct, tag="secret_revoked"):
    at_ms: int
    name: str


class NodeEnrolled(msgspec.Struct, tag="enrolled", omit_defaults=True):
    """`claim`: SHA-256 of what only that installation of the agent knows. Tokens issued before `valid_from_ms` have
    ended. `secret`: the name of the one that was used; empty for Kubernetes."""

    at_ms: int
    cluster: str
    node: str
    claim: str
    secret: str = ""
    valid_from_ms: int = 0


class NodeRevoked(msgspec.Struct, tag="revoked"):
    """Its tokens have ended, and it gets none."""

    at_ms: int
    cluster: str
    node: str


class NodeAllowed(msgspec.Struct, tag="allowed"):
    """Its tokens have ended, and whoever enrols next under this name gets one."""

    at_ms: int
    cluster: str
    node: str


Event = SecretAdded | SecretRevoked | NodeEnrolled | NodeRevoked | NodeAllowed
NodeKey = tuple[str, str]
"""Cluster and node."""


@dataclass(slots=True)
class EnrolledNode:
    """What the journal says of one name. `claim` is empty where it is free."""

    at_ms: int
    claim: str = ""
    how: str = ""
    valid_from_ms: int = 0
    is_revoked: bool = False


@dataclass(slots=True)
class Enrolments:
    """The state after some events. `used`: the name of a secret -> how many installations enrolled with it."""

    secrets: dict[str, SecretAdded] = field(default_factory=dict)
    by_digest: dict[str, str] = field(default_factory=dict)
    revoked_secrets: set[str] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)
    nodes: dict[NodeKey, EnrolledNode] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        match event:
            case SecretAdded():
                self.secrets[event.name] = event
                self.by_digest[event.digest] = event.name
                self.used[event.name] = event.used
            case SecretRevoked():
                self.revoked_secrets.add(event.name)
            case NodeEnrolled():
                self._enrol(event)
            case NodeRevoked() | NodeAllowed():
                is_revoked = isinstance(event, NodeRevoked)
                self.nodes[event.cluster, event.node] = EnrolledNode(
                    event.at_ms, valid_from_ms=event.at_ms, is_revoked=is_revoked
                )

    def _enrol(self, event: NodeEnrolled) -> None:
        key = (event.cluster, event.node)
        before = self.nodes.get(key)
        if event.secret:
            self.used[event.secret] = self.used.get(event.secret, 0) + 1
        valid_from_ms = max(event.valid_from_ms, before.valid_from_ms if before else 0)
        how = f"{SECRET}{event.secret}" if event.secret else KUBERNETES
        self.nodes[key] = EnrolledNode(event.at_ms, event.claim, how, valid_from_ms)

    def accepts(self, key: NodeKey, issued_ms: int) -> bool:
        """Whether a node's token that was issued at that time is still one."""
        node = self.nodes.get(key)
        return node is None or not (node.is_revoked or issued_ms < node.valid_from_ms)


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


class EnrolRefused(Exception):
    """In words. `reason` is what it is counted as."""

    def __init__(self, reason: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status


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


def lasting_events(state: Enrolments, before_ms: int) -> list[Event]:
    """Events that make the state without secrets that ended, and without names that were enrolled or freed, before
    then. Revoked nodes stay. Whatever token such a name had before must have ended by then."""
    events: list[Event] = []
    for (cluster, node), entry in state.nodes.items():
        if entry.is_revoked:
            events.append(NodeRevoked(entry.at_ms, cluster, node))
        elif entry.at_ms >= before_ms and not entry.claim:
            events.append(NodeAllowed(entry.at_ms, cluster, node))
        elif entry.at_ms >= before_ms:
            secret = entry.how.removeprefix(SECRET) if entry.how.startswith(SECRET) else ""
            events.append(NodeEnrolled(entry.at_ms, cluster, node, entry.claim, secret, entry.valid_from_ms))
    for added in state.secrets.values():
        if added.until_ms >= before_ms:
            events.append(msgspec.structs.replace(added, used=state.used.get(added.name, 0)))
            events += [SecretRevoked(before_ms, added.name)] * (added.name in state.revoked_secrets)
    return events


def secrets_left(state: Enrolments, now_ms: int) -> Mapping[str, int]:
    """Name of each secret that can still be used -> how often."""
    return {
        secret.name: left
        for secret in state.secrets.values()
        if secret.name not in state.revoked_secrets
        and now_ms < secret.until_ms
        and (left := secret.uses - state.used.get(secret.name, 0)) > 0
    }
