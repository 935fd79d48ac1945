"""Which gateways counted requests that another one counted too, so that each request counts once. Pure.

Where one gateway is behind another, both count the same requests, and their callers would each carry a part of them.
The outer one knows who called; to the inner one all of them are the outer gateway. So the outer one's callers carry
the requests, and what the inner one counted is left out: nobody is charged for what another one called, and what only
the inner one was called for stays with the server (decision 0013).

Which of them is the outer one is not reported: it is the one with more callers, then the one that counted fewer tokens
(the inner one may be called by others too), then the first by name.
"""

from collections.abc import Sequence

from tokenyield_collector.ledger.contradictions import DemandDay

SLACK = 0.01
"""Demand may be beyond what was made by this part: gateways count some requests in another hour, and some tokens by
estimates of their own."""
COUNTED_TWICE = 0.5
"""What a gateway adds to the demand beyond what was made: less than this part of its own is no sign of a chain, for
caches, retries and estimates make less; of a gateway that is behind another one it is all."""


def outermost_first(rows: Sequence[DemandDay]) -> list[DemandDay]:
    return sorted(rows, key=lambda row: (-row.callers, row.tokens, row.gateway))


def behind_another(rows: Sequence[DemandDay]) -> list[DemandDay]:
    """Of what gateways counted of one model in one cluster on one day, the part that is not to be counted.

    None where one gateway alone counted more than was made: then nothing shows what another one adds."""
    if len(rows) < 2 or any(beyond_made([row]) for row in rows):
        return []
    counted: list[DemandDay] = []
    left_out: list[DemandDay] = []
    for row in outermost_first(rows):
        more = beyond_made([*counted, row]) - beyond_made(counted)
        is_behind = more > 0 and more >= COUNTED_TWICE * _requested([row])
        (left_out if is_behind else counted).append(row)
    return left_out


def beyond_made(rows: Sequence[DemandDay]) -> int:
    """Tokens of a served model that were requested and that no server made; 0 where that is within the slack."""
    beyond = sum(
        max(0, sum(getattr(row, kind) for row in rows) - getattr(rows[0], f"made_{kind}")) for kind in _compared(rows)
    )
    return beyond if beyond > SLACK * _requested(rows) else 0


def _requested(rows: Sequence[DemandDay]) -> int:
    """In kinds of tokens that servers reported."""
    return sum(getattr(row, kind) for kind in _compared(rows) for row in rows)


def _compared(rows: Sequence[DemandDay]) -> list[str]:
    """`made_…` is the same in all of them."""
    return [kind for kind in ("prompt", "completion") if rows and getattr(rows[0], f"made_{kind}") is not None]
