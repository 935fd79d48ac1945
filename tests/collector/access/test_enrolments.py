"""Who gets a token for a bootstrap secret, and who does not; the journal; tokens of nodes."""

import hashlib
import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.samples import NOON_MS
from tokenyield_collector.access.enrolment import Enrolment
from tokenyield_collector.access.enrolment_journal import EnrolmentJournal
from tokenyield_collector.access.enrolment_rules import (
    SEEN_LATELY_S,
    Candidate,
    by_kubernetes,
    by_secret,
    is_for,
    scope_of_account,
)
from tokenyield_collector.access.enrolments import (
    Enrolments,
    EnrolRefused,
    Event,
    NodeAllowed,
    NodeEnrolled,
    NodeRevoked,
    SecretAdded,
    SecretRevoked,
)
from tokenyield_collector.access.node_token import KeyFault, NodeToken, granted, make_key, read_keys, signed
from tokenyield_collector.config import CollectorSettings, KubernetesEnrolment, load_settings

DIGEST = hashlib.sha256(b"tyb_secret").hexdigest()
DAY_MS = 86_400_000
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TOKEN = NodeToken("dc1", "gpu-1", "write", NOON_MS, NOON_MS + DAY_MS, True)


def secret(**more: object) -> SecretAdded:
    given = {"at_ms": NOON_MS, "name": "s", "digest": DIGEST, "cluster": "dc1", "nodes": ("gpu-*",), "may": "write",
             "uses": 2, "until_ms": NOON_MS + DAY_MS, **more}  # fmt: skip
    return msgspec.convert({"type": "secret", **given}, SecretAdded)


def candidate(node: str = "gpu-1", claim: str = "mine", **more: object) -> Candidate:
    return Candidate(**{"cluster": "dc1", "node": node, "claim": claim, **more})  # type: ignore[arg-type]


def state_of(*events: Event) -> Enrolments:
    state = Enrolments()
    for event in events:
        state.apply(event)
    return state


def enrolled(node: str = "gpu-1", claim: str = "mine", at_ms: int = NOON_MS, by: str = "s") -> NodeEnrolled:
    return NodeEnrolled(at_ms, "dc1", node, claim, by)


LATELY = SEEN_LATELY_S * 1000


@pytest.mark.parametrize(
    ("events", "who", "reason"),
    [
        ([], candidate(), "unknown_secret"),
        ([secret(until_ms=NOON_MS)], candidate(), "ended_secret"),
        ([secret(), SecretRevoked(NOON_MS, "s")], candidate(), "ended_secret"),
        ([secret()], candidate(node="cpu-1"), "other_node"),
        ([secret()], candidate(cluster="dc2"), "other_node"),
        ([secret(uses=1), enrolled("gpu-2", "other")], candidate(), "used_up"),
        ([secret(), NodeRevoked(NOON_MS, "dc1", "gpu-1")], candidate(), "revoked_node"),
        # A stranger with the secret, while the name is another installation's.
        ([secret(), enrolled()], candidate(claim="a stranger's"), "taken"),
        ([secret(), enrolled(by="")], candidate(claim="a stranger's"), "taken"),
        ([secret()], candidate(seen_ms=NOON_MS - LATELY + 1), "taken"),
        ([secret(replace_after_s=3600), enrolled()], candidate(claim="new", seen_ms=NOON_MS - 3_599_000), "taken"),
        ([secret(replace_after_s=3600), enrolled(at_ms=NOON_MS - 3_599_000)], candidate(claim="new"), "taken"),
    ],
)
def test_who_is_refused(events: list[Event], who: Candidate, reason: str) -> None:
    with pytest.raises(EnrolRefused) as refused:
        by_secret(state_of(*events), DIGEST, who, NOON_MS)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("events", "who", "ends_others"),
    [
        ([secret()], candidate(), False),
        ([secret()], candidate(seen_ms=NOON_MS - LATELY), False),
        ([secret()], candidate(seen_ms=NOON_MS, is_known=True), False),
        ([secret(), enrolled()], candidate(claim="new", is_known=True), False),
        ([secret(), enrolled(), NodeAllowed(NOON_MS, "dc1", "gpu-1")], candidate(claim="new", seen_ms=NOON_MS), False),
        ([secret(replace_after_s=3600), enrolled(at_ms=0)], candidate(claim="new", seen_ms=NOON_MS - 3_600_000), True),
    ],
)
def test_who_is_enrolled(events: list[Event], who: Candidate, ends_others: bool) -> None:
    state = state_of(*events)
    _, event = by_secret(state, DIGEST, who, NOON_MS)
    assert event is not None
    state.apply(event)
    assert state.nodes["dc1", "gpu-1"].claim == who.claim
    assert state.accepts(("dc1", "gpu-1"), NOON_MS)
    allowed = any(isinstance(one, NodeAllowed) for one in events)
    assert state.accepts(("dc1", "gpu-1"), NOON_MS - 1) != (ends_others or allowed)


def test_the_same_installation_comes_again_without_a_use() -> None:
    """Its first answer was lost, or its token ended."""
    state = state_of(secret(uses=1), enrolled())
    assert by_secret(state, DIGEST, candidate(seen_ms=NOON_MS), NOON_MS)[1] is None
    assert state.used == {"s": 1}


def test_kubernetes_proves_the_node_whoever_had_its_name() -> None:
    state = state_of(secret(), enrolled(at_ms=NOON_MS - 1))
    event = by_kubernetes(state, candidate(claim="pod"), NOON_MS)
    assert event is not None
    state.apply(event)
    assert not state.accepts(("dc1", "gpu-1"), NOON_MS - 1)
    assert by_kubernetes(state, candidate(claim="next pod"), NOON_MS) is None
    assert by_kubernetes(state, candidate(node="gpu-2"), NOON_MS) is None, "nodes of a cluster come and go"
    state.apply(NodeRevoked(NOON_MS, "dc1", "gpu-1"))
    with pytest.raises(EnrolRefused, match="enrol allow"):
        by_kubernetes(state, candidate(claim="pod"), NOON_MS)


def test_a_revoked_node_s_tokens_end_until_it_is_allowed_and_enrols() -> None:
    state = state_of(secret(), enrolled(), NodeRevoked(NOON_MS + 1, "dc1", "gpu-1"))
    assert not state.accepts(("dc1", "gpu-1"), NOON_MS + 2)
    state.apply(NodeAllowed(NOON_MS + 3, "dc1", "gpu-1"))
    assert not state.accepts(("dc1", "gpu-1"), NOON_MS)
    assert by_secret(state, DIGEST, candidate(claim="new"), NOON_MS + 4)[1] is not None


def _recorded(event: Event, _: Enrolments) -> tuple[Event, None]:
    return event, None


# --- the journal --------------------------------------------------------------------------------------------------


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal, other = EnrolmentJournal(tmp_path / "enrol"), EnrolmentJournal(tmp_path / "enrol")
    events: list[Event] = [secret(replace_after_s=5), enrolled(), NodeRevoked(1, "dc1", "gpu-9"),
                           NodeAllowed(2, "dc1", "gpu-9"), SecretRevoked(3, "s")]  # fmt: skip
    for event in events:
        journal.decide(partial(_recorded, event))
    assert other.reread()
    assert other.state == journal.state == state_of(*events)
    assert not other.reread()
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_torn_line_was_never_written(tmp_path: Path) -> None:
    journal = EnrolmentJournal(tmp_path)
    journal.decide(lambda _: (secret(), None))
    with journal.path.open("ab") as file:
        file.write(b'{"type":"enrolled","at_ms":1,"clus')
    again = EnrolmentJournal(tmp_path)
    again.decide(lambda _: (enrolled(), None))
    assert EnrolmentJournal(tmp_path).decide(lambda state: (None, state)) == state_of(secret(), enrolled())
    assert not again.faults


def test_nothing_is_enrolled_before_a_line_that_cannot_be_read_is_repaired(tmp_path: Path) -> None:
    journal = EnrolmentJournal(tmp_path)
    journal.decide(lambda _: (secret(), None))
    with journal.path.open("ab") as file:
        file.write(b"what is this\n")
    with pytest.raises(EnrolRefused, match="cannot be read"):
        journal.decide(lambda _: (enrolled(), None))
    assert journal.faults[0].startswith(f"{journal.path}:2: expected an event")
    journal.path.write_bytes(journal.path.read_bytes().replace(b"what is this\n", b""))
    journal.decide(lambda _: (enrolled(), None))
    assert not journal.faults


def test_a_secret_is_not_used_more_often_than_it_may_be_by_however_many(tmp_path: Path) -> None:
    """Several programs share the folder."""
    EnrolmentJournal(tmp_path).decide(lambda _: (secret(uses=5), None))
    outcomes: list[str] = []

    def enrol(i: int) -> None:
        who = candidate(node=f"gpu-{i}", claim=f"claim {i}")
        try:
            EnrolmentJournal(tmp_path).decide(lambda state: (by_secret(state, DIGEST, who, NOON_MS)[1], None))
            outcomes.append("enrolled")
        except EnrolRefused as refused:
            outcomes.append(refused.reason)

    threads = [threading.Thread(target=enrol, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["enrolled"] * 5 + ["used_up"] * 7


def test_what_is_forgotten_brings_no_token_and_no_use_back(tmp_path: Path) -> None:
    """The file is written anew while another program has it open."""
    journal, other = EnrolmentJournal(tmp_path), EnrolmentJournal(tmp_path)
    day = NOON_MS + DAY_MS
    events: list[Event] = [
        secret(name="old", digest="0" * 64, until_ms=day - 1),
        secret(uses=3, until_ms=day + 1),
        secret(name="ended", digest="1" * 64, until_ms=day + 1),
        SecretRevoked(NOON_MS, "ended"),
        enrolled("gpu-1"),
        enrolled("gpu-2", at_ms=day),
        enrolled("gpu-3", at_ms=day, by=""),
        NodeRevoked(NOON_MS, "dc1", "gpu-4"),
        NodeAllowed(NOON_MS, "dc1", "gpu-5"),
        NodeAllowed(day, "dc1", "gpu-6"),
    ]
    for event in events:
        journal.decide(partial(_recorded, event))
    other.reread()
    assert journal.forget(day) == 2
    other.decide(partial(_recorded, enrolled("gpu-7", "new", day)))
    journal.reread()
    assert journal.state == other.state
    state = journal.state
    assert sorted(node for _, node in state.nodes) == ["gpu-2", "gpu-3", "gpu-4", "gpu-6", "gpu-7"]
    assert set(state.secrets) == {"s", "ended"}
    assert (state.used["s"], state.revoked_secrets) == (3, {"ended"})
    assert not state.accepts(("dc1", "gpu-4"), day)
    assert not state.accepts(("dc1", "gpu-6"), day - 1)
    with pytest.raises(EnrolRefused, match="used 3 times"):
        by_secret(state, DIGEST, candidate(node="gpu-8"), NOON_MS)
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_journal_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    (tmp_path / "enrolments").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        EnrolmentJournal(tmp_path).decide(lambda _: (secret(), None))


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_grants_what_was_signed() -> None:
    text = signed(TOKEN, KEY).encode()
    assert granted(text, (KEY,)) == TOKEN
    assert granted(text, (OTHER_KEY, KEY)) == TOKEN
    assert granted(text, (OTHER_KEY,)) is None
    assert granted(text, ()) is None


@given(st.data())
def test_no_changed_token_grants_anything(data: st.DataObject) -> None:
    text = bytearray(signed(TOKEN, KEY).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    changed = granted(bytes(text), (KEY,))
    # Of the last character of base64 some bits say nothing: it is the text that is compared, so even these matter.
    assert changed is None


@given(st.binary(max_size=200))
def test_no_bytes_grant_anything(text: bytes) -> None:
    assert granted(b"tyn_" + text, (KEY,)) is None
    assert granted(text, (KEY,)) is None


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (key,) = read_keys(tmp_path / "key")
    make_key(tmp_path / "key")
    assert read_keys(tmp_path / "key") == (key,)
    assert len(key) == 32
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("text", ["", "abc", "ab" * 31, "zz" * 32, "\n".join(["ab" * 32] * 9)])
def test_a_file_without_a_key_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(KeyFault, match="openssl rand -hex 32"):
        read_keys(tmp_path / "key")


@pytest.mark.parametrize(
    ("of_secret", "scope"), [({}, "gpu-*"), ({"workloads": "fleet"}, "fleet"), ({"nodes": ("b", "a")}, "a,b")]
)
def test_a_node_s_scope_is_its_secret_s(of_secret: dict[str, object], scope: str) -> None:
    """Of tokens that older collectors signed it is found by the journal, as long as it knows the secret."""
    state = state_of(secret(**of_secret), enrolled())
    assert state.scope_of(("dc1", "gpu-1")) == scope
    assert state.scope_of(("dc1", "gpu-2")) == "gpu-2"
    assert state_of(enrolled()).scope_of(("dc1", "gpu-1")) == "gpu-1"
    assert state_of(enrolled(by="")).scope_of(("dc1", "gpu-1")) == "kubernetes"


def test_a_scope_is_signed_into_the_token_and_stays_at_its_renewal(tmp_path: Path) -> None:
    enrolment = Enrolment(CollectorSettings(enrol_dir=str(tmp_path)))
    enrolment.prepare()
    enrolment.journal.decide(lambda _: (secret(workloads="fleet", until_ms=2**60), None))
    issued = enrolment.by_secret(b"tyb_secret", candidate())
    assert scope_of(enrolment, issued.token) == "fleet"
    enrolment.journal.decide(lambda _: (SecretRevoked(NOON_MS, "s"), None))
    assert scope_of(enrolment, enrolment.renewed(issued.token.encode(), "dc1", "gpu-1").token) == "fleet"
    entry = KubernetesEnrolment(cluster="dc1", service_account="n/a")
    assert scope_of(enrolment, enrolment.by_account(candidate("gpu-2"), entry).token) == "kubernetes"


@pytest.mark.parametrize(
    ("entry", "scope"),
    [
        ({}, "kubernetes"),
        ({"nodes": ("gpu-*", "*")}, "kubernetes"),
        ({"nodes": ("gpu-*", "a")}, "a,gpu-*"),
        ({"workloads": "b,a"}, "a,b"),
        ({"nodes": ("gpu-*",), "workloads": "kubernetes"}, "kubernetes"),
        ({"workloads": "self"}, "gpu-1"),
    ],
)
def test_the_scope_of_a_node_of_kubernetes_is_its_entry_s(entry: dict[str, Any], scope: str) -> None:
    assert scope_of_account(KubernetesEnrolment(cluster="dc1", service_account="n/a", **entry), "gpu-1") == scope


def test_the_entries_of_the_documentation_give_the_scopes_that_it_names(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
    example = page.partition("```yaml\nenrol_kubernetes:")[2].partition("```")[0]
    (tmp_path / "collector.yaml").write_text(f"enrol_dir: {tmp_path}\nenrol_kubernetes:{example}")
    entries = load_settings(tmp_path / "collector.yaml", {}, []).enrol_kubernetes

    def scope(node: str, account: str = "tokenyield/tokenyield-agent") -> str | None:
        fitting = (entry for entry in entries if entry.service_account == account and is_for(entry, node))
        return next((scope_of_account(entry, node) for entry in fitting), None)

    assert [scope(node) for node in ("team-a-1", "lone-1", "gpu-1", "x")] == [
        "team-a-*",
        "lone-1",
        "gpu-*",
        "kubernetes",
    ]
    assert (scope("team-b-1", "team-b/agent"), scope("gpu-1", "team-b/agent")) == ("team-b", None)


def test_a_token_of_an_older_collector_has_the_scope_of_its_secret(tmp_path: Path) -> None:
    enrolment = Enrolment(CollectorSettings(enrol_dir=str(tmp_path)))
    enrolment.prepare()
    enrolment.journal.decide(lambda _: (secret(), None))
    enrolment.journal.decide(lambda _: (enrolled(), None))
    (key,) = read_keys(tmp_path / "key")
    old = signed(msgspec.structs.replace(TOKEN, until_ms=2**60), key)
    assert scope_of(enrolment, old) == "gpu-*"
    assert scope_of(enrolment, enrolment.renewed(old.encode(), "dc1", "gpu-1").token) == "gpu-*"


def scope_of(enrolment: Enrolment, token: str) -> str:
    grant = enrolment.grant_of_token(token.encode())
    assert grant is not None
    return grant.scope
