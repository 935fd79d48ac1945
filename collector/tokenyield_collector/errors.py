"""The collector's errors: what a caller may catch, and what each means.

Faults of settings and of input files are `tokenyield_settings.loader.SettingsError`, which both programs share.
"""


class CollectorError(Exception):
    """The root. The message is for people, and says how to fix it."""


class LedgerError(CollectorError):
    """The ledger cannot be opened, read or written."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open."""


class ReportError(CollectorError):
    """The requested report cannot be made."""
