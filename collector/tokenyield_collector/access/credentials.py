"""The files that decide who may send requests: the token file, the web config, and who enrolled; read again when they
change."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tokenyield_collector.access.enrolment import Enrolment
from tokenyield_collector.access.token_file import NO_TOKENS, Grant, TokenFile, read_token_file
from tokenyield_collector.config import CollectorSettings
from tokenyield_collector.http.right import Right
from tokenyield_settings.addresses import is_loopback
from tokenyield_settings.loader import SettingsError
from tokenyield_settings.web_config import WebConfigFile, modified_ns

log = logging.getLogger(__name__)

NAMES_SHOWN = 5
_MAKE_ONE = "make one with `tokenyield-collector token`"


class Credentials:
    """Raises `SettingsError` when made: a collector does not start with faults in these files."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._token_path = Path(settings.token_file) if settings.token_file else None
        self._settings = settings
        self._tokens_modified_ns = -1
        self.tokens = self._first_tokens()
        self.web = WebConfigFile(settings.web_config_file)
        self.enrolment = Enrolment(settings) if settings.enrol_dir else None
        self._check(settings)

    def prepare(self) -> None:
        """What a collector that serves makes of its own: the key of tokens that it issues. Raises `SettingsError`."""
        if self.enrolment is not None:
            self.enrolment.prepare()

    @property
    def has_token_file(self) -> bool:
        return self._token_path is not None

    @property
    def are_required(self) -> bool:
        """False where neither file keeps anybody out."""
        return self.has_token_file or self.web.authenticates or self.enrolment is not None

    def grant_of_token(self, token: bytes, now_ms: int) -> Grant | None:
        """Of a line of the token file, or of a node that enrolled; None for a token that is not valid."""
        grant = self.tokens.grant_of_token(token, now_ms)
        if grant is None and self.enrolment is not None:
            grant = self.enrolment.grant_of_token(token)
        return grant

    def warnings(self) -> Iterator[str]:
        """What works, and gives more than it should: what was found, and how to fix it."""
        shared = [
            grant.name for grant in self.tokens.by_digest.values() if Right.WRITE in grant.may and not grant.only_node
        ]
        if shared:
            more = f" and {len(shared) - NAMES_SHOWN} more" if len(shared) > NAMES_SHOWN else ""
            yield (
                f"{self._token_path}: expected tokens that write for one node each, found tokens for several "
                f"({', '.join(shared[:NAMES_SHOWN])}{more}); set enrol_dir and enrol the nodes, then remove these lines"
            )
        if self.enrolment is not None:
            yield from self.enrolment.warnings()
        host, _ = self._settings.address
        if self.are_required and not is_loopback(host) and self.web.context is None:
            yield (
                f"listen: expected https where other hosts send tokens, found none on {self._settings.listen}; name a "
                "web_config_file with tls_server_config, or have a proxy in front do it"
            )

    def reread(self) -> bool:
        """Whether other clients have access from now on.

        Of a token file with faults the sound lines are valid; without its file no token is valid.
        """
        has_changed = self.web.reread()
        if self.enrolment is not None and self.enrolment.reread():
            has_changed = True
        if self._token_path is None or modified_ns(self._token_path) == self._tokens_modified_ns:
            return has_changed
        self._tokens_modified_ns = modified_ns(self._token_path)
        try:
            self.tokens = read_token_file(self._token_path)
        except OSError as error:
            log.error("token_file %s cannot be read (%s); no token is valid", self._token_path, error)
            self.tokens = NO_TOKENS
        for fault in self.tokens.faults:
            log.error("this line gives no access: %s", fault)
        return True

    def _first_tokens(self) -> TokenFile:
        if self._token_path is None:
            return NO_TOKENS
        self._tokens_modified_ns = modified_ns(self._token_path)
        try:
            tokens = read_token_file(self._token_path)
        except OSError as error:
            why = error.strerror or error
            raise SettingsError([f"token_file {self._token_path}: cannot be read ({why})"]) from None
        if tokens.faults:
            raise SettingsError(list(tokens.faults))
        return tokens

    def _check(self, settings: CollectorSettings) -> None:
        host, _ = settings.address
        if not (self.are_required or settings.insecure or is_loopback(host)):
            raise SettingsError([
                f"listen: expected a loopback address without authentication, found {settings.listen}, which other "
                f"hosts can reach; name a token_file ({_MAKE_ONE}), listen on 127.0.0.1, or set insecure: true if "
                "a proxy in front authenticates"
            ])  # fmt: skip
        writers = self._token_path or self.enrolment or self.web.config.requires_certificate
        if self.web.passwords and not writers:
            raise SettingsError([
                f"{settings.web_config_file}: basic_auth_users: users may only read, and no agent could write; name a "
                f"token_file too ({_MAKE_ONE})"
            ])  # fmt: skip
