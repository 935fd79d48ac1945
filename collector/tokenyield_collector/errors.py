"""The collector's errors: what a caller may catch, and what each means.

Faults of settings and of input files are `tokenyield_settings.loader.SettingsError`, which both programs share.
"""


class CollectorError(Exception):
    """The root. The message is for people, and says how to fix it."""

    retry_after_s = 5
    """When an HTTP client may try again, for all but `ParameterError`."""


class LedgerError(CollectorError):
    """The ledger cannot be opened, read or written."""


class UnstorableShipment(LedgerError):
    """The ledger's columns cannot hold what a shipment says, whatever the state of the disk."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open."""


class TooManyWaiting(CollectorError):
    """The collector does as much of this kind as it may at once."""

    retry_after_s = 10


class ParameterError(CollectorError):
    """A parameter of a request cannot be used. HTTP reports it as `field: text`, a command as `--field: text`.

    `field` is the parameter's name, which is the flag's name too, or the name of a column that a report is filtered by.
    """

    def __init__(self, field: str, *, expected: str, found: str, fix: str = "") -> None:
        self.field = field
        self.expected = expected
        self.found = found
        self.fix = fix
        super().__init__(f"{field}: {self.text}")

    @property
    def text(self) -> str:
        """Without the field."""
        return f"expected {self.expected}, found {self.found}" + (f"; {self.fix}" if self.fix else "")
