"""FOCUS 1.4's Billing Period and Invoice Detail datasets of a statement, as CSV.

A closed period's version is an invoice; a line of it is what one account is charged for one service in one category of
charges. `InvoiceDetailId` names that line in Cost and Usage too, so that both sum to the same. An open period has no
invoice yet. A later version replaces the one before, which `ReferenceInvoiceId` names.
"""

from collections.abc import Iterable, Sequence

from tokenyield_collector.prices.money import scaled
from tokenyield_collector.prices.period import iso
from tokenyield_collector.reports.focus.columns import BILLING_PERIOD, CURRENCY_DECIMALS, INVOICE_DETAIL, plain
from tokenyield_collector.reports.focus.rows import Row
from tokenyield_collector.reports.formats import PeriodStatement, TextWriter
from tokenyield_collector.targets.spreadsheet import csv_line, json_field

PAYMENT_TERMS = "Internal chargeback"


def invoice_detail_id(row: Row) -> str:
    """Of a row of Cost and Usage; empty while there is no invoice."""
    return f"{row['SubAccountId']}/{row['ServiceName']}/{row['ChargeCategory']}" if row["InvoiceId"] else ""


def write_billing_period(whole: PeriodStatement, out: TextWriter) -> None:
    period = whole.period
    row = {
        "BillingPeriodCreated": iso(period.start_ms),
        "BillingPeriodEnd": iso(period.end_ms),
        "BillingPeriodLastUpdated": iso(whole.issued_ms if whole.version is not None else whole.statement.span.end_ms),
        "BillingPeriodStart": iso(period.start_ms),
        "BillingPeriodStatus": "Open" if whole.version is None else "Closed",
        "InvoiceIssuerName": whole.statement.policy.rules.focus.provider,
    }
    _write(out, BILLING_PERIOD, [row])


def _write(out: TextWriter, columns: Sequence[str], rows: Iterable[Row]) -> None:
    out.write(csv_line(columns))
    for row in rows:
        out.write(csv_line(row[name] for name in columns))


class InvoiceLines:
    """The lines of an invoice, summed from rows of Cost and Usage. As many as accounts have services."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._grains: dict[str, Row] = {}

    def add(self, row: Row) -> None:
        line = row["InvoiceDetailId"]
        if not line:
            return
        self._steps[line] = self._steps.get(line, 0) + sum(row["x_nano"].values())
        if line not in self._grains:
            self._grains[line] = {name: row[name] for name in ("SubAccountId", "ServiceName", "ChargeCategory")}

    def write(self, whole: PeriodStatement, out: TextWriter) -> None:
        common = self._common(whole)
        _write(
            out, INVOICE_DETAIL, (common | self._detail(line, grain) for line, grain in sorted(self._grains.items()))
        )

    def _detail(self, line: str, grain: Row) -> Row:
        about = {"SubAccountId": grain["SubAccountId"], "ServiceName": grain["ServiceName"]}
        return {
            "BilledCost": plain(scaled(self._steps[line], CURRENCY_DECIMALS)),
            "ChargeCategory": grain["ChargeCategory"],
            "InvoiceDetailDescription": f"{grain['ServiceName']} of {grain['SubAccountId']}",
            "InvoiceDetailGrain": json_field(about),
            "InvoiceDetailId": line,
        }

    def _common(self, whole: PeriodStatement) -> Row:
        policy, period = whole.statement.policy, whole.period
        issued = iso(whole.issued_ms or period.end_ms)
        return {
            "BillingAccountId": policy.rules.focus.billing_account_id,
            "BillingCurrency": policy.prices.currency,
            "BillingPeriodEnd": iso(period.end_ms),
            "BillingPeriodStart": iso(period.start_ms),
            "InvoiceDetailCreated": issued,
            "InvoiceDetailLastUpdated": issued,
            "InvoiceId": whole.invoice_id,
            "InvoiceIssueDate": issued,
            "InvoiceIssueStatus": "Issued",
            "InvoiceIssuerName": policy.rules.focus.provider,
            "PaymentDueDate": "",
            "PaymentTerms": PAYMENT_TERMS,
            "ReferenceInvoiceId": whole.replaced_invoice_id,
        }
