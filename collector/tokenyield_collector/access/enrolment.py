"""Enrolment: each node gets a token of its own, bound to its cluster and name, for a proof of who it is.

In: a bootstrap secret, a Kubernetes ServiceAccount token, or the node's token before it ends. Out: the node's token, or
`EnrolRefused`. Secrets and who enrolled are in the journal of `enrol_dir`; tokens are signed, and kept nowhere.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenyield_collector.access import node_token
from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
from tokenyield_collector.access.enrolment_rules import (
    NAME,
    Candidate,
    by_kubernetes,
    by_secret,
    check_revoked,
    is_for,
    scope_of_account,
)
from tokenyield_collector.access.enrolments import (
    FORGET,
    KUBERNETES,
    NODES_MAX,
    Enrolments,
    EnrolRefused,
    NodeEnrolled,
    SecretAdded,
)
from tokenyield_collector.access.node_token import KeyFault, NodeToken, make_key, read_keys
from tokenyield_collector.access.token_file import Grant
from tokenyield_collector.access.token_review import TokenReviewer
from tokenyield_collector.config import CollectorSettings, KubernetesEnrolment
from tokenyield_collector.http.right import Right
from tokenyield_settings.loader import SettingsError
from tokenyield_settings.web_config import modified_ns
from tokenyield_wire.units import MS_PER_DAY, NS_PER_MS

log = logging.getLogger(__name__)

SECRET_PREFIX = "tyb_"  # noqa: S105 - what secrets begin with
NODE_PREFIX = node_token.PREFIX


@dataclass(frozen=True, slots=True)
class Issued:
    """A node's token, and how long it is valid. `is_new` where an event was written: another installation, or the
    first of this name."""

    token: str
    expires_in_s: int
    how: str
    is_new: bool


class Enrolment:
    """Of a collector with `enrol_dir`. Raises `SettingsError` when made."""

    def __init__(
        self, settings: CollectorSettings, now_ms: Callable[[], int] = lambda: time.time_ns() // NS_PER_MS
    ) -> None:
        assert settings.enrol_dir is not None
        folder = Path(settings.enrol_dir)
        self.journal = EnrolmentJournal(folder)
        self.reviewers = [TokenReviewer(cluster) for cluster in settings.enrol_kubernetes]
        self._secret_token_ms = settings.enrol_token_days * MS_PER_DAY
        self._account_token_ms = settings.enrol_kubernetes_token_s * 1000
        self._key_path = Path(settings.enrol_key_file or folder / "key")
        self._makes_key = settings.enrol_key_file is None
        self._keys: tuple[bytes, ...] = ()
        self._keys_modified_ns = -1
        self._now_ms = now_ms
        try:
            self.journal.reread()
            if self._key_path.exists() or not self._makes_key:
                self._read_keys()
        except (OSError, KeyFault) as error:
            raise SettingsError([f"enrol_dir: {error}"]) from None

    def prepare(self) -> None:
        """What a collector that serves needs: the folder, and a key. Raises `SettingsError`."""
        try:
            self.journal.prepare()
            if self._makes_key:
                make_key(self._key_path)
            self._read_keys()
        except (OSError, KeyFault) as error:
            raise SettingsError([f"enrol_dir: {error}; let the collector's user write to it"]) from None

    def warnings(self) -> Iterator[str]:
        """What works still: what was found, and how to fix it."""
        if self._key_path.exists() and (mode := self._key_path.stat().st_mode & 0o777) & 0o007:
            yield f"{self._key_path}: expected a key that its owner alone can read, found mode {mode:o}; chmod o= it"
        if (count := len(self.journal.state.nodes)) > NODES_MAX * 0.8:
            yield f"enrol_dir: {count} of {NODES_MAX} nodes are enrolled; forget old ones: {FORGET}"

    def reread(self) -> bool:
        """Take up what others wrote. Whether other tokens are valid from now on."""
        has_changed = False
        try:
            has_changed = self.journal.reread()
        except OSError as error:
            log.error("enrol_dir cannot be read (%s); what was revoked since is not known", error)
        if modified_ns(self._key_path) == self._keys_modified_ns:
            return has_changed
        try:
            self._read_keys()
        except (OSError, KeyFault) as error:
            self._keys_modified_ns = modified_ns(self._key_path)  # once per change of the file
            log.error("the keys of enrolled tokens cannot be read, those before stay: %s", error)
            return has_changed
        return True

    # --- tokens that are presented -------------------------------------------------------------------------------

    def grant_of_token(self, token: bytes) -> Grant | None:
        """None where it is not a node's token that is valid now."""
        granted = self._valid(token)
        return None if granted is None else _grant(granted, self._scope(granted))

    def _scope(self, token: NodeToken) -> str:
        if token.workloads:
            return token.workloads
        if not token.is_renewable:
            return KUBERNETES
        return self.journal.state.scope_of((token.cluster, token.node))

    def _valid(self, token: bytes) -> NodeToken | None:
        granted = node_token.granted(token, self._keys)
        if granted is None or self._now_ms() >= granted.until_ms:
            return None
        return granted if self.journal.state.accepts((granted.cluster, granted.node), granted.issued_ms) else None

    # --- tokens that are issued; all of it blocks, on the journal's lock and disk --------------------------------

    def by_secret(self, secret: bytes, candidate: Candidate) -> Issued:
        check_names(candidate)
        digest, now_ms = hashlib.sha256(secret).hexdigest(), self._now_ms()

        def judge(state: Enrolments) -> tuple[NodeEnrolled | None, tuple[SecretAdded, bool]]:
            known, event = by_secret(state, digest, candidate, now_ms)
            return event, (known, event is not None)

        known, is_new = self.journal.decide(judge)
        until_ms = now_ms + self._secret_token_ms
        token = NodeToken(candidate.cluster, candidate.node, known.may, now_ms, until_ms, True, known.scope)
        return self._issued(token, f"secret {known.name}", is_new=is_new)

    def by_account(self, candidate: Candidate, entry: KubernetesEnrolment) -> Issued:
        """`candidate`: what the API server vouched for."""
        check_names(candidate)
        if not is_for(entry, candidate.node):
            detail = f"no entry of enrol_kubernetes is for cluster '{candidate.cluster}', node '{candidate.node}'"
            raise EnrolRefused("other_node", 403, detail)
        now_ms = self._now_ms()

        def judge(state: Enrolments) -> tuple[NodeEnrolled | None, bool]:
            event = by_kubernetes(state, candidate, now_ms)
            return event, event is not None

        is_new = self.journal.decide(judge)
        until_ms = now_ms + self._account_token_ms
        scope = scope_of_account(entry, candidate.node)
        token = NodeToken(candidate.cluster, candidate.node, entry.may, now_ms, until_ms, False, scope)
        return self._issued(token, "kubernetes", is_new=is_new)

    def renewed(self, presented: bytes, cluster: str, node: str) -> Issued:
        """By the node's own token, which stays valid until its end."""
        before = self._valid(presented)
        if before is None or not before.is_renewable:
            raise EnrolRefused("token", 401, "this token of a node has ended; enrol the node again")
        if (before.cluster, before.node) != (cluster, node):
            detail = f"this token is of cluster '{before.cluster}', node '{before.node}'"
            raise EnrolRefused("other_node", 403, detail)
        check_revoked(self.journal.state.nodes.get((cluster, node)))
        now_ms = self._now_ms()
        token = NodeToken(cluster, node, before.may, now_ms, now_ms + self._secret_token_ms, True, self._scope(before))
        return self._issued(token, "renewal", is_new=False)

    def _issued(self, token: NodeToken, how: str, *, is_new: bool) -> Issued:
        text = node_token.signed(token, self._keys[0])
        return Issued(text, (token.until_ms - token.issued_ms) // 1000, how, is_new)

    def _read_keys(self) -> None:
        modified = modified_ns(self._key_path)
        self._keys, self._keys_modified_ns = read_keys(self._key_path), modified


def check_names(candidate: Candidate) -> None:
    """Raises `EnrolRefused`."""
    for field, name in (("cluster", candidate.cluster), ("node", candidate.node)):
        if not NAME.fullmatch(name):
            detail = f"{field}: expected 1 to 253 letters, digits or ._:@/+~-, found another name; rename it"
            raise EnrolRefused("name", 422, detail)


def _grant(token: NodeToken, scope: str) -> Grant:
    may = frozenset(right for right in (Right.WRITE, Right.GATEWAY) if right in token.may.split(","))
    name = f"node {token.cluster}/{token.node}"
    return Grant(name, may, token.cluster, (token.node,), token.until_ms, scope)
