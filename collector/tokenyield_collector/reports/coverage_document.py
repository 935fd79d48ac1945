"""What a coverage is as JSON. Pure."""

from tokenyield_collector.http.schemas import CoverageDocument, CoveredDocument
from tokenyield_collector.policy import Policy
from tokenyield_collector.prices.money import decimal
from tokenyield_collector.reports.coverage import Coverage, Covered, shown_identity


def coverage_document(
    found: Coverage, policy: Policy, *, period: str, start: str, end: str, top: int
) -> CoverageDocument:
    has_revenue = bool(policy.prices.token_prices)
    return {
        "period": period,
        "start": start,
        "end": end,
        "currency": policy.prices.currency,
        "dimensions": [
            {
                "dimension": one.dimension,
                "cost": _money(one.cost),
                "tokens": _tokens(one.tokens),
                "revenue": _money(one.revenue) if has_revenue else None,
            }
            for one in found.dimensions
        ],
        "unattributed": [
            {
                "who": shown_identity(one),
                "missing": list(one.missing),
                "cluster": one.cluster,
                "workload": one.workload,
                "model": one.model,
                "labels": dict(one.labels),
                "caller": dict(one.caller),
                "cost": decimal(one.cost),
                "tokens": one.tokens,
                "revenue": decimal(one.revenue) if has_revenue else None,
                "rule": one.rule,
                "hint": one.hint,
            }
            for one in found.unattributed[:top]
        ],
        "unattributed_not_shown": max(0, len(found.unattributed) - top),
    }


def _money(covered: Covered) -> CoveredDocument:
    attributed, unattributed, nobody = map(decimal, covered)
    return {
        "attributed": attributed, "unattributed": unattributed, "nobody": nobody, "percent": covered.percent
    }  # fmt: skip


def _tokens(covered: Covered) -> CoveredDocument:
    attributed, unattributed, nobody = covered
    return {
        "attributed": attributed, "unattributed": unattributed, "nobody": nobody, "percent": covered.percent
    }  # fmt: skip
