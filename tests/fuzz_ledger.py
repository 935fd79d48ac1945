"""What lying nodes send, through the collector to commit, refresh, reports, /metrics and verify, beside an honest node.

    PYTHONPATH=agent:collector:tests python -m fuzz_ledger --seconds 3600 --engine duckdb|clickhouse|chdb

An example is a seed: two nodes that lie and two that do not send some shipments at once to the collector's
application (real routes, committer, ledger; hostile_shipments.py says what they lie), in the hours up to now. Then:
* a refusal is 4xx, and names a field where the body was the reason;
* the refresh, and what it shows, raise nothing; reports answer, in some of the formats;
* so it is after windows that no node can have measured were written past the checks (impossible_lies.py), in the
  examples of odd seeds;
* every fact of the honest nodes, and every figure of one, is the same as in a ledger that has their shipments alone, to
  the unit and to the cent;
* `verify` finds nothing but windows that no node can have measured, all of the nodes that lied, and each that was
  written past the checks; and nothing at all once these are moved aside;
* what was decoded and encoded again is the same.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp.test_utils import TestClient, TestServer

from collector import samples
from figures import Rows, difference_of_figures, facts_of_nodes, figures_of_nodes
from hostile_shipments import LyingNode, encoded
from impossible_lies import impossible_shipments
from kept_lies import KeptLie, document
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.ledger.base import Ledger
from tokenyield_collector.ledger.duckdb.ledger import DuckDbLedger
from tokenyield_collector.ledger.verify import quarantine, verify
from tokenyield_collector.policy import load_policy
from tokenyield_collector.reports.formats import MEDIA_TYPES
from tokenyield_collector.server import Collector, application
from tokenyield_wire.codec import Refused, decode_shipment, encode_shipment
from tokenyield_wire.window import Batch, Shipment

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
HONEST, LIARS, READER = "n1", ("liar-1", "liar-2"), "token-of-a-reader"
NEIGHBOUR = "n2"
"""Honest too, in the pool of the liars: what a pool lost is loaded on its users, and where it has none, on those of all."""
HOUR_MS = samples.HOUR_MS
PRICES = """
pools:
  - {name: honest, match: {node: n1}, rented: {per_gpu_hour: 4}}
  - {name: rest, rented: {per_gpu_hour: 2}}
token_prices: [{name: standard, per_million: 3}]
"""
PAGES = ("/metrics", "/v1/summary", "/v1/fleet", "/v1/diagnosis", "/healthz", "/readyz")
BY = ("cluster,node", "workload,model", "pool", "node,workload,model")


class Example(NamedTuple):
    """What happened: answers by their status, findings of `verify` before the quarantine, and how many windows were
    written past the checks, all of which it moved aside."""

    statuses: Counter[int]
    findings: list[str]
    impossible: int


def ledger(seed: int, kept: Sequence[KeptLie] = (), open_whole: Callable[[], Ledger] | None = None) -> Example:
    """One example; `kept` are sent before what the seed chooses, into what `open_whole` opens, by default a DuckDB file.
    Raises AssertionError, or whatever the collector raises."""
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix=f"ledger-{seed}-") as folder:
        return asyncio.run(_Play(seed, Path(folder), kept, open_whole).play())


class _Play:
    def __init__(
        self, seed: int, folder: Path, kept: Sequence[KeptLie], open_whole: Callable[[], Ledger] | None
    ) -> None:
        self._kept = kept
        self._open_whole = open_whole or self._open_file
        self._seed = seed
        self._chosen = random.Random(seed)
        self._folder = folder
        self._said = f"seed {seed}"
        tokens, prices = folder / "tokens", folder / "prices.yaml"
        tokens.write_text("".join([f"{_token(node)} may=write,gateway cluster=c nodes={node}\n" for node in (HONEST, NEIGHBOUR, *LIARS)])
                          + f"{READER} may=read\n")  # fmt: skip
        tokens.chmod(0o600)
        prices.write_text(PRICES)
        self._settings = CollectorSettings(
            ledger_path=str(folder / "ledger.duckdb"), token_file=str(tokens), prices_file=str(prices), commit_interval_ms=5,
            live_lag_s=0, live_grid_s=1, ledger_memory="200MB",
        )  # fmt: skip
        self._now_ms = time.time_ns() // 1_000_000
        self._liars = [LyingNode(self._chosen, "c", node, ["GPU-0", "GPU-1"], ["chat"]) for node in LIARS]
        self._seq = 0
        self._honest: list[Shipment] = []
        self._impossible: list[Shipment] = []
        self._statuses: Counter[int] = Counter()

    def _open_file(self) -> Ledger:
        return DuckDbLedger(self._settings.ledger_path, memory_limit="200MB")

    async def play(self) -> Example:
        policy = load_policy(self._settings)
        with closing(self._open_whole()) as whole:
            collector = Collector(self._settings, whole, policy)
            client = TestClient(TestServer(application(collector), host="127.0.0.1"))
            await client.start_server()
            commits = asyncio.create_task(collector.committer.run())
            try:
                await self._send_honest(client)  # who was first has its GPUs
                await self._send_kept(client)
                for _ in range(self._chosen.randrange(1, 4)):
                    await self._round(client)
                    await self._refresh(collector)
                await self._read(client)
                if self._seed % 2:
                    await asyncio.get_running_loop().run_in_executor(
                        collector.executors.writer, self._write_past_the_checks, whole
                    )
                    await self._refresh(collector)
                    await self._read(client)
            finally:
                commits.cancel()
                await client.close()
                collector.executors.close(lambda: None)
                collector.authenticator.close()
            findings = self._check(whole)
        return Example(self._statuses, findings, len(self._impossible))

    async def _refresh(self, collector: Collector) -> None:
        for name, step in (("refresh", collector._refresh_view), ("to date", collector._bring_to_date),
                           ("count", collector._count)):  # fmt: skip
            await collector._steps.attempt(name, step)
        assert collector.problem is None, f"{self._said}: {collector.problem}"

    # --- what is sent ------------------------------------------------------------------------------------------------

    def _hours(self) -> list[int]:
        this_ms = self._now_ms // HOUR_MS * HOUR_MS
        return [this_ms - back * HOUR_MS for back in (3, 2, 2, 1)]

    async def _send_honest(self, client: TestClient[Any, Any]) -> None:
        """From an hour before the first lie: who claims a GPU in its true node's first hour or before may get it (decision
        0015)."""
        windows = []
        for start_ms in sorted({self._hours()[0] - HOUR_MS, *self._hours()}):
            self._seq += 1
            windows.append(samples.batch(self._seq, start_ms + self._seq * 15_000, completion=100 + self._seq))
        of_neighbour = [_of_neighbour(window) for window in windows]
        for node, own in ((HONEST, windows), (NEIGHBOUR, of_neighbour)):
            sent = samples.shipment(*own, node=node, agent_id=node)
            self._honest.append(sent)
            assert await self._post(client, node, encode_shipment(sent)) == 200, self._said

    async def _send_kept(self, client: TestClient[Any, Any]) -> None:
        for i, lie in enumerate(self._kept, 1):
            body = encoded(document(lie, i, LIARS[0], self._hours()[0]))
            status = await self._post(client, LIARS[0], body, lie.field)
            assert status == lie.status, f"{lie.name}: {status}"

    async def _round(self, client: TestClient[Any, Any]) -> None:
        """At once, so that they come into one commit."""
        calls = [self._send_honest(client)]
        for liar in self._liars:
            for _ in range(self._chosen.choice([1, 4, 12])):
                body = encoded(liar.document(self._hours()))
                _decoded_is_the_same(body)
                calls.append(self._lie(client, liar.node, body))
        self._chosen.shuffle(calls)
        await asyncio.gather(*calls)

    def _write_past_the_checks(self, whole: Ledger) -> None:
        """As the commits of an older collector."""
        for sent in impossible_shipments(self._chosen, self._chosen.choice(LIARS), self._hours()):
            assert whole.append([sent], self._now_ms, [sent.node]) == [(1, 0)], self._said
            self._impossible.append(sent)

    async def _lie(self, client: TestClient[Any, Any], node: str, body: bytes) -> None:
        status = await self._post(client, node, body)
        assert status in (200, 400, 403, 413, 422, 425), f"{self._said}: {status}"

    async def _post(self, client: TestClient[Any, Any], node: str, body: bytes, field: str = "") -> int:
        """The status; a refusal for what is in the body names a field, this one."""
        headers = {"Authorization": f"Bearer {_token(node)}"}
        async with client.post("/v1/batches", data=body, headers=headers) as answer:
            problem = msgspec.json.decode(await answer.read())
            self._statuses[answer.status] += 1
            if answer.status == 422:
                named = str(problem["detail"]).partition(":")
                assert named[1], f"{self._said}: no field is named: {problem}"
                assert field in named[0], f"{self._said}: expected {field} to be named: {problem}"
            return answer.status

    # --- what is read ------------------------------------------------------------------------------------------------

    async def _read(self, client: TestClient[Any, Any]) -> None:
        headers = {"Authorization": f"Bearer {READER}"}
        paths = list(PAGES)
        for day in self._days():
            by = self._chosen.choice(BY)
            forms = self._chosen.sample(sorted(MEDIA_TYPES), 4)
            paths += [f"/v1/report?period={day}&by={'' if 'focus' in form else by}&format={form}" for form in forms]
        for path in paths:
            async with client.get(path, headers=headers) as answer:
                body = await answer.read()
                assert answer.status in (200, 400), f"{self._said}: {path}: {answer.status} {body[:500]!r}"
                assert answer.status == 200 or "focus" in path, f"{self._said}: {path}: {body[:500]!r}"

    def _check(self, whole: Ledger) -> list[str]:
        whole.fold()
        with closing(DuckDbLedger(":memory:", memory_limit="200MB")) as alone:
            alone.append(self._honest, self._now_ms)
            alone.fold()
            facts, figures = facts_of_nodes(alone, {HONEST, NEIGHBOUR}), self._figures(alone)
            self._compare(whole, facts, figures)
            findings = list(verify(whole))
            for finding in findings:
                if self._impossible:  # then sums of the liars' hours differ too
                    assert any(f"c/{node}" in finding for node in LIARS), f"{self._said}: {finding}"
                    continue
                assert finding.startswith(tuple(f"c/{node}: " for node in LIARS)), f"{self._said}: {finding}"
                assert "cannot be" in finding or " times" in finding, f"{self._said}: {finding}"
            if any("cannot be" in finding for finding in findings) or self._impossible:
                moved = {(one.node, one.start_ms) for one in quarantine(whole, self._now_ms)}
                written = {(sent.node, sent.batches[0].start_ms) for sent in self._impossible}
                assert written <= moved, f"{self._said}: not moved aside: {written - moved}"
                left = [finding for finding in verify(whole) if " times" not in finding]
                assert not left, f"{self._said}: {left}"
                self._compare(whole, facts, figures)
        return findings

    def _compare(self, whole: Ledger, facts: Rows, figures: Rows) -> None:
        for name, rows in facts_of_nodes(whole, {HONEST, NEIGHBOUR}).items():
            assert rows == facts[name], f"{self._said}: {name} of the honest nodes differ"
        difference = difference_of_figures(self._figures(whole), figures)
        assert not difference, f"{self._said}: {difference} (with liars, and alone)"

    def _figures(self, one: Ledger) -> Rows:
        at_ms = (self._hours()[0] - HOUR_MS, self._now_ms)
        return figures_of_nodes(one, {HONEST}, at_ms, self._now_ms, load_policy(self._settings))

    def _days(self) -> list[str]:
        return sorted(
            {
                time.strftime("%Y-%m-%d", time.gmtime(at_ms / 1000))
                for at_ms in (self._hours()[0] - HOUR_MS, self._now_ms)
            }
        )


def _token(node: str) -> str:
    return f"token-of-the-node-{node}"


def _of_neighbour(window: Batch) -> Batch:
    """The same with a GPU and a workload of its own, and no demand, which is the gateway's to say."""
    (gpu, *_), (share, *_), (workload,) = window.gpus, window.shares, window.workloads
    return msgspec.structs.replace(
        window,
        gpus=(msgspec.structs.replace(gpu, uuid=f"GPU-{NEIGHBOUR}"),),
        shares=(msgspec.structs.replace(share, gpu_uuid=f"GPU-{NEIGHBOUR}", workload="batch"),),
        workloads=(msgspec.structs.replace(workload, key="batch"),),
        demand=(),
    )


def _decoded_is_the_same(body: bytes) -> None:
    try:
        decoded = decode_shipment(body)
    except Refused:
        return
    assert decode_shipment(encode_shipment(decoded)) == decoded


@contextmanager
def _engine(name: str) -> Iterator[Callable[[], Callable[[], Ledger] | None]]:
    """What gives a new place for each example."""
    if name == "duckdb":
        yield lambda: None
        return
    from real.clickhouse_server import new_places

    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="ledgers-") as folder, new_places(name, Path(folder)) as place:
        yield place


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--engine", choices=("duckdb", "clickhouse", "chdb"), default="duckdb")
    options = parser.parse_args(arguments)
    logging.disable()
    end_s, seed, failed = time.monotonic() + options.seconds, options.first_seed, []
    statuses: Counter[int] = Counter()
    impossible = 0
    with _engine(options.engine) as new_place:
        while time.monotonic() < end_s:
            try:
                example = ledger(seed, open_whole=new_place())
                statuses += example.statuses
                impossible += bool(example.findings)
            except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what matters
                failed.append(seed)
                print(f"seed {seed}: {type(error).__name__}: {error}"[:2000], flush=True)
            seed += 1
            if seed % 10 == 0:
                print(
                    f"{seed - options.first_seed} examples, answers {dict(statuses)}, {len(failed)} failed", flush=True
                )
    print(
        f"{seed - options.first_seed} examples, answers {dict(statuses)}, {impossible} with findings, failed {failed}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
