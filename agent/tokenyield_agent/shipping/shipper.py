"""Batches to the collector, in order, until it has given a receipt for each.

In: the spool. Out: acknowledged batches. A batch leaves the spool only on a receipt that was read and understood: the
collector's own, with the numbers of this shipment (what a proxy answers with 200 is none). Or into `rejected/`, when
the collector itself answers that this batch can never be taken. Everything else is tried again, for ever, with
exponential back-off and full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), or after the time
that Retry-After names and a random part of it more.
"""

import gzip
import logging
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tokenyield_agent.config import Settings
from tokenyield_agent.host.clock import HostClock
from tokenyield_agent.http.answer import BadAnswer
from tokenyield_agent.http.bearer import TokenFileError, token_in
from tokenyield_agent.shipping.collector_link import NODE_TOKEN_NAME, CollectorLink, UnusableSetting
from tokenyield_agent.shipping.spool import Spool, WaitingBatches
from tokenyield_agent.supervision import Supervised, Supervisor
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import SCHEMA_VERSION, Shipment

if TYPE_CHECKING:
    from tokenyield_agent.shipping.enrolment import NodeTokenSource

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
RETRY_AFTER_MAX_S = 600.0
RETRY_AFTER_SPREAD = 0.5
"""By so much of it, at random, it is exceeded: all agents of a fleet read the same."""
SLICE_S = 10.0
"""Waits are made of parts of this length, after which the thread shows that it moves."""
SILENT_S_MAX = 300.0
STATUSES_FOR_GOOD = {400, 413, 415, 422}
"""The collector understood and refused: the same bytes will be refused again."""


class _Receipt(msgspec.Struct):
    accepted: int
    duplicates: int
    epoch: str
    first_seq: int
    last_seq: int
    missing: list[tuple[int, int]] = []


class _FieldFault(msgspec.Struct):
    field: str


class _Problem(msgspec.Struct):
    """What the collector answers with where it refuses (RFC 9457)."""

    status: int
    title: str
    detail: str
    errors: list[_FieldFault] = []


@dataclass(frozen=True, slots=True)
class CollectorAnswer:
    """What the collector answered: status, its body, and how long to wait before the next request."""

    status: int
    body: bytes
    retry_after_s: float | None


def full_jitter_s(attempt: int, uniform: float) -> float:
    """How long to wait before attempt `attempt` (from 1); `uniform` is a random number in [0, 1)."""
    return float(uniform * min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt - 1, 16)))


def spread_s(retry_after_s: float, uniform: float) -> float:
    """How long to wait where the collector names a time; `uniform` as above."""
    return retry_after_s * (1 + RETRY_AFTER_SPREAD * uniform)


def retry_after_s(header: str | None, date_header: str | None) -> float | None:
    """Seconds that a Retry-After header names, in seconds or as a date against the answer's own Date."""
    if not header:
        return None
    if header.strip().isdecimal():
        return min(float(header[:20]), RETRY_AFTER_MAX_S)
    from email.utils import parsedate_to_datetime  # only for a server that names a date

    try:
        wait = (parsedate_to_datetime(header) - parsedate_to_datetime(date_header or "")).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(wait, 0.0), RETRY_AFTER_MAX_S)


class Shipper:
    """A thread that ships. `agent_id` identifies the agent to the collector."""

    def __init__(self, settings: Settings, spool: Spool, agent_id: str, supervisor: Supervisor | None = None) -> None:
        self._settings = settings
        self._spool = spool
        self._agent_id = agent_id
        self._link = CollectorLink(settings)
        self._node_token: NodeTokenSource | None = None
        self._stop = threading.Event()
        self._supervisor = supervisor or Supervisor()
        self._thread: Supervised | None = None
        self._ended = threading.Event()
        self._attempt = 0
        self._problem: str | None = None
        self._batches_max = settings.ship_batches_max
        self.counts = {"requests": 0, "failures": 0, "rejected": 0, "bytes": 0, "connections": 0}

    def start(self) -> None:
        """Begin to ship what the spool holds."""
        self._thread = self._supervisor.start("ship", self._run, silent_s_max=SILENT_S_MAX + self._timeout_s)

    def stop(self, drain_s: float) -> None:
        """Ship what is left, for at most `drain_s`; the rest waits in the spool for the next start."""
        self._stop.set()
        self._spool.appended.set()
        self._ended.wait(drain_s)

    @property
    def problem(self) -> str | None:
        """Why shipping does not work now, in words for people; None when it works."""
        return self._problem

    @property
    def _timeout_s(self) -> float:
        return self._settings.collector_timeout_s

    def _run(self) -> None:
        self._ship_all()
        self._ended.set()
        self._link.close()

    def _ship_all(self) -> None:
        while True:
            self._beat()
            self._spool.appended.clear()
            waiting = self._spool.waiting(batches_max=self._batches_max)
            if waiting is None:
                if self._stop.is_set():
                    return
                self._spool.appended.wait(SLICE_S)
                continue
            wait_s = self._ship(waiting, self._attempt + 1)
            if wait_s is None:
                self._attempt = 0
                continue
            self._attempt += 1
            if self._stop.is_set():
                return  # one try after the stop; the spool keeps the rest
            self._wait(wait_s)

    def _beat(self) -> None:
        if self._thread is not None:
            self._thread.beat()

    def _wait(self, seconds: float) -> None:
        while seconds > 0 and not self._stop.is_set():
            self._stop.wait(min(seconds, SLICE_S))
            seconds -= SLICE_S
            self._beat()

    def _ship(self, waiting: WaitingBatches, attempt: int) -> float | None:
        """Try once. None: go on; a number: wait that many seconds and try again."""
        try:
            answer = self._post(waiting)
        except UnusableSetting as error:
            self._failed(str(error))
            return full_jitter_s(attempt, random.random())  # noqa: S311 - spreads retries, hides nothing
        except BadAnswer as error:
            self._failed(f"{self._settings.collector_url} {error}; expected the collector, perhaps a proxy answers")
            return full_jitter_s(attempt, random.random())  # noqa: S311
        except OSError as error:
            self._failed(f"{self._settings.collector_url} does not answer: {error or type(error).__name__}")
            return full_jitter_s(attempt, random.random())  # noqa: S311
        if 200 <= answer.status < 300 and (receipt := _receipt_of(answer.body, waiting)) is not None:
            if self._problem:
                log.info("the collector takes batches again")
            self._problem = None
            self._batches_max = self._settings.ship_batches_max
            self._spool.acknowledge(waiting)
            if receipt.missing:
                self._spool.send_again(receipt.missing)
            return None
        text = answer.body[:500].decode("utf-8", "replace")
        if answer.status in STATUSES_FOR_GOOD:
            if len(waiting.batches) > 1:  # find the one that is refused; the others are good
                self._batches_max = max(1, len(waiting.batches) // 2)
                return None
            if _refuses_the_batch(answer):
                self._set_aside(waiting, answer.status, text)
                return None
        self._failed(f"{self._settings.collector_url} answered {answer.status}{_hint(answer.status)}: {text}")
        if answer.retry_after_s:
            return spread_s(answer.retry_after_s, random.random())  # noqa: S311
        return full_jitter_s(attempt, random.random())  # noqa: S311

    def _failed(self, problem: str) -> None:
        self.counts["failures"] += 1
        if self._problem is None:  # once per change of state
            log.warning("batches are kept in the spool: %s", problem)
        self._problem = problem

    def _set_aside(self, waiting: WaitingBatches, status: int, text: str) -> None:
        self.counts["rejected"] += len(waiting.batches)
        name = f"{waiting.epoch}-{waiting.batches[0].seq}.json"
        data = encode_shipment(self._shipment(waiting))
        self._spool.aside.keep(name, data, f"the collector refused it for good with {status}: {text}")
        self._spool.acknowledge(waiting, refused=True)

    def _shipment(self, waiting: WaitingBatches) -> Shipment:
        return Shipment(
            schema=SCHEMA_VERSION,
            agent_id=self._agent_id,
            epoch=waiting.epoch,
            cluster=self._settings.cluster,
            node=self._settings.node_name,
            batches=waiting.batches,
            labels=self._settings.node_labels,
        )

    def _post(self, waiting: WaitingBatches) -> CollectorAnswer:
        """Raises UnusableSetting, OSError, BadAnswer."""
        body = gzip.compress(encode_shipment(self._shipment(waiting)), 5)
        headers = {"Content-Encoding": "gzip", **self._authorization()}
        self.counts["requests"] += 1
        self.counts["bytes"] += len(body)
        try:
            answer = self._link.post("/v1/batches", headers, body)
        finally:
            self.counts["connections"] = self._link.opened
        if answer.status == 401 and self._node_token is not None:
            self._node_token.refused()
        wait_s = retry_after_s(answer.headers.get("retry-after"), answer.headers.get("date"))
        return CollectorAnswer(answer.status, answer.body, wait_s)

    def _authorization(self) -> dict[str, str]:
        if self._settings.collector_token_file:
            try:
                token = token_in(self._settings.collector_token_file, "collector_token_file")
            except TokenFileError as error:
                raise UnusableSetting(str(error)) from error
        elif self._settings.enrol_token_file or Path(self._settings.state_dir, NODE_TOKEN_NAME).exists():
            token = self._enrolled_token()
        else:
            return {}
        return {"Authorization": f"Bearer {token}"}

    def _enrolled_token(self) -> str:
        if self._node_token is None:
            from tokenyield_agent.shipping.enrolment import NodeTokenSource  # only where the node has enrolled

            self._node_token = NodeTokenSource(self._settings, self._link, HostClock().wall_ns)
        return self._node_token.token()


def _receipt_of(body: bytes, waiting: WaitingBatches) -> _Receipt | None:
    """The collector's receipt for these batches; None for anything else."""
    try:
        receipt = msgspec.json.decode(body, type=_Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    numbers = (receipt.epoch, receipt.first_seq, receipt.last_seq, receipt.accepted + receipt.duplicates)
    own = (waiting.epoch, waiting.batches[0].seq, waiting.batches[-1].seq, len(waiting.batches))
    return receipt if numbers == own and min(receipt.accepted, receipt.duplicates) >= 0 else None


def _refuses_the_batch(answer: CollectorAnswer) -> bool:
    """Whether the collector itself says that this batch can never be taken: not what it says of the head of every
    shipment (its schema, its labels), and not what another program says."""
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if problem.status != answer.status:
        return False
    of_content = answer.status in (400, 413, 422) and not problem.errors
    return of_content or any(fault.field.startswith("batches[") for fault in problem.errors)


def _hint(status: int) -> str:
    if 200 <= status < 300:
        return ", which is no receipt for this shipment (is it the collector? a proxy may answer in its place)"
    if 300 <= status < 400:
        return ", and redirects are not followed (name the address that it leads to with collector_url)"
    return " (check collector_token_file, or enrol this node)" if status in (401, 403) else ""
