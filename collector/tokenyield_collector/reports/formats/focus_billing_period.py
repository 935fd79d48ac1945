"""FOCUS's Billing Period dataset, since version 1.4: the period, and whether it is closed."""

from tokenyield_collector.reports.focus.invoice import write_billing_period
from tokenyield_collector.reports.formats import StatementFormat

FORMAT = StatementFormat(name="focus-billing-period", media_type="text/csv", write=write_billing_period)
