"""The threads of a collector."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Executors:
    """One thread for each kind of work, so that none of them waits behind another.

    | name | runs | who waits for it |
    |---|---|---|
    | `writer` | writes to the ledger: commits, folding, roll-ups, retention | agents, the refresh loop, reports |
    | `decoder` | unpacking and decoding of large shipments (api/batches.py) and of outcomes | their senders |
    | `receiver` | unpacking and reading of OTLP requests (api/otlp.py) | their senders |
    | `reader` | the refresh: changed hours into a view; reading changed prices and rules | the refresh loop |
    | `historian` | the past: months to date, hours that were never counted | the refresh loop, for what is new |
    | `queries` | /v1/summary, /v1/fleet, /v1/diagnosis | their callers |
    | `exposer` | the text of /metrics, and the compression of answers | scrapes, and callers of JSON |
    | `reporter` | reports, budgets, rates, one at a time | their callers, of which few may wait (api/report_queue.py) |
    | `puller` | reading what vendors answered (pull/) | the next pull |
    | `importer` | reading files of the watched folder (watch/) | the next file |

    Passwords are checked in a thread of their own (access/auth.py); backups and the journal of enrolments are written
    in those of asyncio.
    """

    def __init__(self) -> None:
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self.decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self.receiver = ThreadPoolExecutor(1, thread_name_prefix="receiver")
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self.historian = ThreadPoolExecutor(1, thread_name_prefix="historian")
        self.queries = ThreadPoolExecutor(1, thread_name_prefix="queries")
        self.exposer = ThreadPoolExecutor(1, thread_name_prefix="exposer")
        self.reporter = ThreadPoolExecutor(1, thread_name_prefix="reporter")
        self.puller = ThreadPoolExecutor(1, thread_name_prefix="puller")
        self.importer = ThreadPoolExecutor(1, thread_name_prefix="importer")

    def close(self, last_write: Callable[[], object]) -> None:
        """After all that was submitted, and `last_write` by the writer; reports that have not begun are dropped.

        The reporter ends first, for it may wait for the writer.
        """
        self.reporter.shutdown(cancel_futures=True)
        self.historian.shutdown(cancel_futures=True)
        self.puller.shutdown(cancel_futures=True)
        self.importer.shutdown(cancel_futures=True)
        self.writer.submit(last_write)
        for executor in (self.decoder, self.receiver, self.writer, self.reader, self.queries, self.exposer):
            executor.shutdown()
