"""This node's own token: enrolled for, kept, renewed, and what happens where that is not possible. The whole way is in
tests/test_enrolment_way.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from tokenyield_agent.config import Settings
from tokenyield_agent.http.answer import Answer, BadAnswer
from tokenyield_agent.shipping.collector_link import CollectorLink, UnusableSetting
from tokenyield_agent.shipping.enrolment import TRY_AGAIN_S, EnrolledToken, NodeTokenSource, claim_in, store, stored_in

LIFE_S = 30_000


class Collector(CollectorLink):
    """Gives the answers that a test sets, and remembers the requests. `proofs`: the bearer tokens."""

    def __init__(self) -> None:
        self.proofs: list[str] = []
        self.claims: list[str] = []
        self.status = 200
        self.changes: dict[str, Any] = {}

    def post(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert path == "/v1/enrol"
        asked = json.loads(body)
        self.proofs.append(headers["Authorization"].removeprefix("Bearer "))
        self.claims.append(asked["claim"])
        document = {"token": f"tyn_{len(self.proofs)}", "cluster": asked["cluster"], "node": asked["node"],
                    "expires_in_s": LIFE_S, "detail": "because", **self.changes}  # fmt: skip
        return Answer(self.status, body=json.dumps(document).encode())


class Clock:
    now_s = 1_000_000

    def __call__(self) -> int:
        return self.now_s * 1_000_000_000


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def source(folder: Path, collector: Collector, clock: Clock, proof: str = "", **more: Any) -> NodeTokenSource:
    if proof:
        (folder / "proof").write_text(f"{proof}\n")
        more["enrol_token_file"] = str(folder / "proof")
    return NodeTokenSource(Settings(state_dir=str(folder), cluster="dc1", node="gpu-1", **more), collector, clock)


def test_a_proof_is_exchanged_once_and_the_token_is_kept(tmp_path: Path, collector: Collector, clock: Clock) -> None:
    tokens = source(tmp_path, collector, clock, "tyb_secret")
    assert [tokens.token(), tokens.token()] == ["tyn_1", "tyn_1"]
    assert source(tmp_path, collector, clock, "tyb_secret").token() == "tyn_1"  # after a restart
    assert collector.proofs == ["tyb_secret"]
    for name in ("collector_token", "enrol_claim"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collector_token", "enrol_claim", "proof"]


@pytest.mark.parametrize(
    ("proof", "renewed_by"), [("", "tyn_0"), ("tyb_secret", "tyn_0"), ("pod.token.x", "pod.token.x")]
)
def test_a_token_is_renewed_before_its_end(proof: str, renewed_by: str, tmp_path: Path, collector: Collector,
                                           clock: Clock) -> None:  # fmt: skip
    store(tmp_path, EnrolledToken("tyn_0", "dc1", "gpu-1", clock.now_s, LIFE_S))
    tokens = source(tmp_path, collector, clock, proof)
    clock.now_s += LIFE_S // 2
    assert tokens.token() == "tyn_0"
    clock.now_s += LIFE_S // 5
    assert tokens.token() == "tyn_1"
    assert collector.proofs == [renewed_by]


def test_a_renewal_that_fails_is_tried_again_and_the_token_sent_meanwhile(
    tmp_path: Path, collector: Collector, clock: Clock
) -> None:
    store(tmp_path, EnrolledToken("tyn_0", "dc1", "gpu-1", clock.now_s, LIFE_S))
    tokens = source(tmp_path, collector, clock)
    clock.now_s += LIFE_S * 7 // 10
    collector.status = 503
    assert [tokens.token(), tokens.token()] == ["tyn_0", "tyn_0"]
    assert len(collector.proofs) == 1
    clock.now_s += TRY_AGAIN_S
    collector.status = 200
    assert tokens.token() == "tyn_2"


def test_a_token_that_ended_is_enrolled_for_anew(tmp_path: Path, collector: Collector, clock: Clock) -> None:
    store(tmp_path, EnrolledToken("tyn_0", "dc1", "gpu-1", clock.now_s, LIFE_S))
    clock.now_s += LIFE_S
    with pytest.raises(UnusableSetting, match="tokenyield-agent enrol"):
        source(tmp_path, collector, clock).token()
    assert source(tmp_path, collector, clock, "tyb_secret").token() == "tyn_1"


def test_a_refused_token_is_enrolled_for_anew_and_sent_where_that_fails(
    tmp_path: Path, collector: Collector, clock: Clock
) -> None:
    """The collector may have lost its key, and find it again."""
    store(tmp_path, EnrolledToken("tyn_0", "dc1", "gpu-1", clock.now_s, LIFE_S))
    tokens = source(tmp_path, collector, clock, "tyb_secret")
    assert tokens.token() == "tyn_0"
    tokens.refused()
    collector.status = 403
    assert tokens.token() == "tyn_0"
    collector.status = 200
    assert tokens.token() == "tyn_2"
    assert tokens.token() == "tyn_2"
    assert collector.proofs == ["tyb_secret"] * 2


def test_a_node_that_was_renamed_enrols_under_its_name(tmp_path: Path, collector: Collector, clock: Clock) -> None:
    store(tmp_path, EnrolledToken("tyn_0", "dc1", "gpu-9", clock.now_s, LIFE_S))
    assert source(tmp_path, collector, clock, "tyb_secret").token() == "tyn_1"
    stored = stored_in(tmp_path)
    assert stored is not None
    assert stored.node == "gpu-1"


@pytest.mark.parametrize("changes", [{"node": "gpu-2"}, {"token": "a b"}, {"token": "x\r\nHost: y"}, {"token": 5}])
def test_what_is_no_token_of_this_node_is_not_kept(changes: dict[str, Any], tmp_path: Path, collector: Collector,
                                                    clock: Clock) -> None:  # fmt: skip
    collector.changes = changes
    with pytest.raises(BadAnswer, match="is it the collector"):
        source(tmp_path, collector, clock, "tyb_secret").token()
    assert stored_in(tmp_path) is None


def test_the_collector_s_reason_is_reported_and_no_secret(tmp_path: Path, collector: Collector, clock: Clock) -> None:
    collector.status = 409
    with pytest.raises(UnusableSetting, match=r"does not enrol this node \(409\): because") as error:
        source(tmp_path, collector, clock, "tyb_secret").token()
    assert "tyb_secret" not in str(error.value)


def test_a_claim_is_made_once(tmp_path: Path) -> None:
    claim = claim_in(tmp_path)
    assert claim_in(tmp_path) == claim
    assert len(claim) == 64
    (tmp_path / "enrol_claim").write_text("torn")
    assert claim_in(tmp_path) not in (claim, "torn")
