"""This node's own token: exchanged for a proof of which node it is, kept in `state_dir`, and renewed before its end.

In: a link to the collector, and the proof: a bootstrap secret, a Kubernetes ServiceAccount token, or the token itself
while it is valid. Out: the token to ship with. Both files are 0600: the token, and the claim, by which the collector
knows this installation when it enrols again.
"""

import logging
import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from tokenyield_agent.config import Settings
from tokenyield_agent.http.answer import BadAnswer
from tokenyield_agent.http.bearer import TokenFileError, token_in
from tokenyield_agent.shipping.collector_link import NODE_TOKEN_NAME, CollectorLink, UnusableSetting
from tokenyield_settings.private_files import write_private

log = logging.getLogger(__name__)

CLAIM_NAME = "enrol_claim"
FILE_BYTES_MAX = 16 * 1024
NS_PER_S = 1_000_000_000
RENEWED_AT = 2 / 3
"""Of its life; a part of the nodes somewhat earlier, so that a fleet that was installed in an hour does not come in one
second again."""
RENEWED_EARLIER = 0.1
TRY_AGAIN_S = 300
"""Between two tries to renew a token that is still valid."""
USER = "tokenyield-agent"
"""Of the Debian package."""


class EnrolledToken(msgspec.Struct, frozen=True):
    """The file `collector_token`. `issued_s` is Unix time by this host's clock."""

    token: str
    cluster: str
    node: str
    issued_s: int
    expires_in_s: int


class _Enrolled(msgspec.Struct):
    token: str
    cluster: str
    node: str
    expires_in_s: int


class _Problem(msgspec.Struct):
    detail: str = ""


class NodeTokenSource:
    """The token of this node, for every shipment."""

    def __init__(self, settings: Settings, link: CollectorLink, now_ns: Callable[[], int]) -> None:
        self._settings = settings
        self._link = link
        self._now_ns = now_ns
        self._folder = Path(settings.state_dir)
        self._refused = ""
        self._sent = ""
        self._next_try_s = 0
        self._early = random.random() * RENEWED_EARLIER  # noqa: S311 - spreads requests, hides nothing

    def token(self) -> str:
        """Enrols or renews first where that is needed. Raises `UnusableSetting`, OSError, `BadAnswer`."""
        self._sent = self._current(self._stored(), self._now_ns() // NS_PER_S)
        return self._sent

    def refused(self) -> None:
        """The collector did not accept the token: another is enrolled for, where that is possible."""
        if self._settings.enrol_token_file:
            self._refused = self._sent

    def _current(self, stored: EnrolledToken | None, now_s: int) -> str:
        if stored is None or now_s >= stored.issued_s + stored.expires_in_s:
            return self._enrolled(now_s).token
        is_refused = stored.token == self._refused
        due_s = stored.issued_s + stored.expires_in_s * (RENEWED_AT - self._early)
        if is_refused or (now_s >= due_s and now_s >= self._next_try_s):
            self._next_try_s = now_s + TRY_AGAIN_S
            try:
                return (self._enrolled(now_s) if is_refused else self._renewed(stored, now_s)).token
            except (UnusableSetting, OSError, BadAnswer) as error:
                # The token is sent still: it may be accepted again, as after a collector's mistake.
                log.warning("this node's token is not renewed yet: %s", error)
        return stored.token

    def _stored(self) -> EnrolledToken | None:
        stored = stored_in(self._folder)
        if stored is not None and (stored.cluster, stored.node) != (self._settings.cluster, self._settings.node_name):
            return None  # it was renamed
        return stored

    def _enrolled(self, now_s: int) -> EnrolledToken:
        if not self._settings.enrol_token_file:
            raise UnusableSetting(
                "this node has no token that is valid: enrol it anew with `tokenyield-agent enrol`, as root"
            )
        return self._kept(exchange(self._settings, self._link, proof_in(self._settings), now_s))

    def _renewed(self, stored: EnrolledToken, now_s: int) -> EnrolledToken:
        proof = proof_in(self._settings) if self._settings.enrol_token_file else stored.token
        if proof.startswith("tyb_"):
            proof = stored.token
        return self._kept(exchange(self._settings, self._link, proof, now_s))

    def _kept(self, token: EnrolledToken) -> EnrolledToken:
        store(self._folder, token)
        log.info("this node has a token of its own for %d s", token.expires_in_s)
        return token


def proof_in(settings: Settings) -> str:
    """What `enrol_token_file` has. Raises `UnusableSetting`."""
    assert settings.enrol_token_file
    try:
        return token_in(settings.enrol_token_file, "enrol_token_file")
    except TokenFileError as error:
        raise UnusableSetting(str(error)) from error


def exchange(settings: Settings, link: CollectorLink, proof: str, now_s: int, current: str = "") -> EnrolledToken:
    """This node's token. `current`: one that may write for it now. Raises `UnusableSetting`, OSError, `BadAnswer`."""
    asked = {"cluster": settings.cluster, "node": settings.node_name, "claim": claim_in(Path(settings.state_dir))}
    if current:
        asked["current"] = current
    answer = link.post("/v1/enrol", {"Authorization": f"Bearer {proof}"}, msgspec.json.encode(asked))
    if answer.status != 200:
        raise UnusableSetting(
            f"{settings.collector_url} does not enrol this node ({answer.status}): {_detail(answer.body)}"
        )
    try:
        given = msgspec.json.decode(answer.body, type=_Enrolled)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer("answers with no token; is it the collector?") from error
    if (given.cluster, given.node) != (settings.cluster, settings.node_name) or not _is_sendable(given.token):
        raise BadAnswer("answers with the token of another node; is it the collector?")
    return EnrolledToken(given.token, given.cluster, given.node, now_s, given.expires_in_s)


def stored_in(folder: Path) -> EnrolledToken | None:
    """None where there is none that can be read. Raises OSError where there is one, and it may not be read."""
    try:
        with (folder / NODE_TOKEN_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=EnrolledToken)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def store(folder: Path, token: EnrolledToken) -> None:
    """Keep it: whole or as before, durable. Raises OSError."""
    write_private(folder / NODE_TOKEN_NAME, msgspec.json.encode(token) + b"\n")


def claim_in(folder: Path) -> str:
    """What this installation is known by, made when it is first needed. Raises OSError."""
    path = folder / CLAIM_NAME
    try:
        with path.open("rb") as file:
            claim = file.read(FILE_BYTES_MAX).decode("ascii", "replace").strip()
        if len(claim) >= 32 and claim.isalnum():
            return claim
    except FileNotFoundError:
        pass
    claim = os.urandom(32).hex()
    write_private(folder / CLAIM_NAME, f"{claim}\n".encode())
    return claim


def _detail(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).detail[:500]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode("utf-8", "replace")


def _is_sendable(token: str) -> bool:
    return 0 < len(token) <= FILE_BYTES_MAX // 2 and token.isascii() and token.isprintable() and " " not in token
