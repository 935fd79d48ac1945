"""What can go wrong when settings are read."""


class SettingsError(Exception):
    """One or more settings cannot be used. `faults` are ready to print, one a line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))
