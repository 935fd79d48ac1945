"""Batches to the collector, in order, until it has given a receipt for each.

In: the spool. Out: acknowledged batches. A batch leaves the spool only on a 2xx answer, or into `rejected/` when the
collector answers that it can never succeed. Everything else is tried again, for ever, with exponential back-off and
full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), or after the time that Retry-After names.
"""

import gzip
import http.client
import logging
import random
import ssl
import threading
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tokenyield_agent.config import Settings
from tokenyield_agent.shipping.spool import Spool, WaitingBatches
from tokenyield_wire.codec import encode_shipment
from tokenyield_wire.window import SCHEMA_VERSION, Shipment

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
RETRY_AFTER_MAX_S = 600.0
ANSWER_BYTES_MAX = 64 * 1024
STATUSES_FOR_GOOD = {400, 413, 415, 422}
"""The collector understood and refused: the same bytes will be refused again."""


class _Receipt(msgspec.Struct):
    missing: list[tuple[int, int]] = []


@dataclass(frozen=True, slots=True)
class CollectorAnswer:
    """What the collector answered: status, the start of its body, and how long to wait before the next request."""

    status: int
    body: bytes
    retry_after_s: float | None


def full_jitter_s(attempt: int, uniform: float) -> float:
    """How long to wait before attempt `attempt` (from 1); `uniform` is a random number in [0, 1)."""
    return float(uniform * min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt - 1, 16)))


def retry_after_s(header: str | None, date_header: str | None) -> float | None:
    """Seconds that a Retry-After header names, in seconds or as a date against the answer's own Date."""
    if not header:
        return None
    if header.strip().isdigit():
        return min(float(header), RETRY_AFTER_MAX_S)
    try:
        wait = (parsedate_to_datetime(header) - parsedate_to_datetime(date_header or "")).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(wait, 0.0), RETRY_AFTER_MAX_S)


class Shipper:
    """A thread that ships. `agent_id` identifies the agent to the collector."""

    def __init__(self, settings: Settings, spool: Spool, agent_id: str) -> None:
        self._settings = settings
        self._spool = spool
        self._agent_id = agent_id
        self._url = urlsplit(settings.collector_url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ship", daemon=True)
        self._problem: str | None = None
        self._batches_max = settings.ship_batches_max
        self.counts = {"requests": 0, "failures": 0, "rejected": 0, "bytes": 0}

    def start(self) -> None:
        """Begin to ship what the spool holds."""
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Ship what is left, for at most `drain_s`; the rest waits in the spool for the next start."""
        self._stop.set()
        self._spool.appended.set()
        self._thread.join(drain_s)

    @property
    def problem(self) -> str | None:
        """Why shipping does not work now, in words for people; None when it works."""
        return self._problem

    def _run(self) -> None:
        attempt = 0
        while True:
            self._spool.appended.clear()
            waiting = self._spool.waiting(batches_max=self._batches_max)
            if waiting is None:
                if self._stop.is_set():
                    return
                self._spool.appended.wait(1.0)
                continue
            wait_s = self._ship(waiting, attempt + 1)
            if wait_s is None:
                attempt = 0
                continue
            attempt += 1
            if self._stop.is_set():
                return  # one try after the stop; the spool keeps the rest
            self._stop.wait(wait_s)

    def _ship(self, waiting: WaitingBatches, attempt: int) -> float | None:
        """Try once. None: go on; a number: wait that many seconds and try again."""
        try:
            answer = self._post(waiting)
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            self._failed(f"{self._settings.collector_url} does not answer: {error}")
            return full_jitter_s(attempt, random.random())  # noqa: S311 - spreads retries, hides nothing
        if 200 <= answer.status < 300:
            if self._problem:
                log.info("the collector takes batches again")
            self._problem = None
            self._batches_max = self._settings.ship_batches_max
            self._spool.acknowledge(waiting)
            if gaps := _missing(answer.body):
                self._spool.send_again(gaps)
            return None
        text = answer.body[:500].decode("utf-8", "replace")
        if answer.status in STATUSES_FOR_GOOD:
            if len(waiting.batches) > 1:  # find the one that is refused; the others are good
                self._batches_max = max(1, len(waiting.batches) // 2)
                return None
            self._set_aside(waiting, answer.status, text)
            return None
        hint = " (check collector_token_file)" if answer.status in (401, 403) else ""
        self._failed(f"{self._settings.collector_url} answered {answer.status}{hint}: {text}")
        return answer.retry_after_s or full_jitter_s(attempt, random.random())  # noqa: S311 - spreads retries, hides nothing

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
        body = gzip.compress(encode_shipment(self._shipment(waiting)), 5)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "User-Agent": "tokenyield-agent"}
        if self._settings.collector_token_file:
            token = Path(self._settings.collector_token_file).read_text(encoding="utf-8").split()
            headers["Authorization"] = f"Bearer {token[0] if token else ''}"
        self.counts["requests"] += 1
        self.counts["bytes"] += len(body)
        connection = self._connect()
        try:
            connection.request("POST", f"{self._url.path.rstrip('/')}/v1/batches", body=body, headers=headers)
            response = connection.getresponse()
            return CollectorAnswer(
                status=response.status,
                body=response.read(ANSWER_BYTES_MAX),
                retry_after_s=retry_after_s(response.getheader("Retry-After"), response.getheader("Date")),
            )
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._settings.collector_timeout_s
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._settings.collector_ca_file)
        if self._settings.collector_client_cert_file:
            context.load_cert_chain(self._settings.collector_client_cert_file, self._settings.collector_client_key_file)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def _missing(body: bytes) -> list[tuple[int, int]]:
    """Ranges of numbers that the ledger lacks, by its receipt."""
    try:
        return msgspec.json.decode(body, type=_Receipt).missing
    except msgspec.DecodeError:
        return []
