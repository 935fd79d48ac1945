"""Who is enrolled: bootstrap secrets, the nodes that enrolled, and what an operator revoked. Pure.

In: the events of the journal (enrolment_journal.py), in their order. Out: `Enrolments`. Who gets a token is decided in
enrolment_rules.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from tokenyield_collector.access.token_file import scope_of

NODES_MAX = 100_000
FORGET = "tokenyield-collector enrol forget days=90"
SECRET, KUBERNETES = "secret ", "kubernetes"
SECRETS_MAX = 10_000


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
    workloads: str = ""
    """The scope of the workloads that its nodes share (`Grant.scope`); empty: that of its `nodes`."""

    @property
    def scope(self) -> str:
        return self.workloads or scope_of(self.nodes)


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

    def scope_of(self, key: NodeKey) -> str:
        """Of the workloads of a node whose token does not have it. Where its secret is forgotten, that of its own."""
        entry = self.nodes.get(key)
        if entry is None or not entry.how.startswith(SECRET):
            return KUBERNETES if entry is not None and entry.how == KUBERNETES else key[1]
        secret = self.secrets.get(entry.how.removeprefix(SECRET))
        return key[1] if secret is None else secret.scope

    def accepts(self, key: NodeKey, issued_ms: int) -> bool:
        """Whether a node's token that was issued at that time is still one."""
        node = self.nodes.get(key)
        return node is None or not (node.is_revoked or issued_ms < node.valid_from_ms)


class EnrolRefused(Exception):
    """In words. `reason` is what it is counted as."""

    def __init__(self, reason: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status


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
