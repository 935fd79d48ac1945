"""What is not known of the present month, and what was found of closed ones, for `check`.

In: the running collector, or its ledger. Out: a line each.
"""

import argparse
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenyield_collector.config import CollectorSettings
    from tokenyield_collector.policy import Policy

SHOWN_MAX = 50
MONTHS_ASKED = 13
"""Of a running collector; of a ledger all that are closed."""


def gap_lines(settings: "CollectorSettings", policy: "Policy") -> list[str]:
    """None where there is no ledger yet."""
    import os

    from tokenyield_collector.errors import LedgerError, LedgerInUse
    from tokenyield_collector.ledger_engine import open_ledger

    try:
        ledger = open_ledger(settings, threads=os.cpu_count() or 1, has_to_exist=True)
    except LedgerInUse:
        return _from_collector(settings)[:SHOWN_MAX]
    except LedgerError:
        return []
    with closing(ledger):
        import time

        from tokenyield_collector.prices.period import month_of
        from tokenyield_collector.reports.maker import ReportMaker
        from tokenyield_collector.reports.version_list import version_lines
        from tokenyield_wire.units import NS_PER_MS

        now_ms, settle_ms = time.time_ns() // NS_PER_MS, settings.live_lag_s * 1000
        maker = ReportMaker(ledger=ledger, policy=policy, now_ms=now_ms, settle_ms=settle_ms)
        try:
            lines = [
                line for month in ledger.versions.periods() for line in version_lines(maker.versions(month), now_ms)
            ]
            gaps = [gap.text for gap in maker.report(month_of(now_ms)).gaps]
            return [*lines, *gaps, *(conflict.text for conflict in ledger.name_conflicts())][:SHOWN_MAX]
        except LedgerError as error:
            return [f"the ledger cannot be read: {error}"]


def _from_collector(settings: "CollectorSettings") -> list[str]:
    import io
    import json
    import time

    from tokenyield_collector.commands.client import request_from_collector
    from tokenyield_collector.errors import ParameterError
    from tokenyield_collector.prices.period import months_before
    from tokenyield_collector.reports.version_list import version_lines
    from tokenyield_wire.units import NS_PER_MS

    def answer(path: str, query: dict[str, str]) -> Any:
        body = io.BytesIO()
        request_from_collector(settings, arguments, path, query, body)
        return json.loads(body.getvalue())

    arguments = argparse.Namespace(collector=None, token_file=None, ca_file=None)
    now_ms = time.time_ns() // NS_PER_MS
    try:
        months = [answer("/v1/report/versions", {"period": month}) for month in months_before(now_ms, MONTHS_ASKED)]
        lines = [line for document in months for line in version_lines(document, now_ms)]
        return [*lines, *(gap["text"] for gap in answer("/v1/summary", {})["gaps_to_date"])]
    except (OSError, ParameterError, ValueError, LookupError) as error:
        return [f"what is not known cannot be shown: {error}"]
