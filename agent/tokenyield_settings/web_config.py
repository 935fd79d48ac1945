"""The web config file of Prometheus' exporter-toolkit: TLS, client certificates, basic auth, headers, a rate limit.

In: such a file, as written for Prometheus or node_exporter. Out: a `WebConfig`, an `ssl.SSLContext`, and whether a
password is right. Format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
Paths are relative to the file. What Python cannot do is refused,
or where that makes nothing less safe, listed in `remarks`.
"""

import logging
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tokenyield_settings.buckets import Buckets
from tokenyield_settings.errors import SettingsError
from tokenyield_settings.loader import read_yaml
from tokenyield_settings.passwords import Passwords

log = logging.getLogger(__name__)

ClientAuth = Literal[
    "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
]
TlsVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
# Go's names (crypto/tls, cipher suites of TLS 1.2 and before) in OpenSSL's words. Those of TLS 1.3 are always on in Go.
_CIPHERS = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
_BCRYPT = re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)


class TlsServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tls_server_config`. PEM is in the file, or in a file of its own."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: ClientAuth | Literal[""] = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


class HttpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`http_server_config`. HTTP/2 may be allowed and is not served."""

    http2: bool = True
    headers: dict[str, str] = {}


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rate_limit`: one request each `interval`, `burst` at once."""

    interval: str | int | float = 0
    burst: int = 0

    @property
    def interval_s(self) -> float:
        """0: no limit. Raises ValueError."""
        if not isinstance(self.interval, str):
            return self.interval / 1e9  # as Go reads a bare number
        parts = _DURATION.findall(self.interval)
        if "".join(number + unit for number, unit in parts) != self.interval:
            raise ValueError(f"expected a duration, found '{self.interval[:40]}'; write 1s or 100ms")
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)

    def buckets(self) -> Buckets | None:
        """For one key; None where there is no limit."""
        return Buckets(1 / self.interval_s, self.burst, 1) if self.interval_s > 0 else None


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; read it with `read_web_config`."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, str] = {}
    rate_limit: RateLimit = RateLimit()
    folder: str = ""
    """Not of the format: where relative paths begin."""

    @property
    def requests_certificate(self) -> bool:
        """Whether clients are asked for one, and it is verified where they have one."""
        tls = self.tls_server_config
        return tls is not None and tls.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

    @property
    def requires_certificate(self) -> bool:
        """Nobody is allowed without one that the client CA signed."""
        tls = self.tls_server_config
        return tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"

    def files(self) -> list[Path]:
        """The PEM files that it names."""
        tls = self.tls_server_config
        named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        return [Path(self.folder, name) for name in named if name]

    def remarks(self) -> list[str]:
        """Parts of the file that have no effect here."""
        tls = self.tls_server_config
        if tls is None:
            return []
        remarks = []
        if len(tls.curve_preferences) > 1 or any(curve not in _CURVES for curve in tls.curve_preferences):
            remarks.append("curve_preferences: OpenSSL's own are used; one of CurveP256, CurveP384, CurveP521 is kept")
        if tls.client_auth_type == "RequestClientCert":
            remarks.append("client_auth_type: RequestClientCert proves nothing, so no certificate is requested")
        return remarks

    def server_context(self) -> ssl.SSLContext | None:
        """To serve https with; None for http. Raises `SettingsError`."""
        tls = self.tls_server_config
        if tls is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if tls.prefer_server_cipher_suites:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            self._load(context, tls)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise SettingsError([f"tls_server_config: {_named(error)}; check the PEM files and that the key belongs to "
                                 "the certificate"]) from None  # fmt: skip
        return context

    def _load(self, context: ssl.SSLContext, tls: TlsServer) -> None:
        with _AsFile(tls.cert) as cert, _AsFile(tls.key) as key:
            cert_file = cert or str(Path(self.folder, tls.cert_file))
            context.load_cert_chain(cert_file, key or str(Path(self.folder, tls.key_file)), _no_passphrase)
        if ciphers := ":".join(filter(None, (_CIPHERS[name] for name in tls.cipher_suites))):
            context.set_ciphers(ciphers)
        if len(tls.curve_preferences) == 1 and tls.curve_preferences[0] in _CURVES:
            context.set_ecdh_curve(_CURVES[tls.curve_preferences[0]])
        if self.requests_certificate:
            context.verify_mode = ssl.CERT_REQUIRED if self.requires_certificate else ssl.CERT_OPTIONAL
            if tls.client_ca:
                context.load_verify_locations(cadata=tls.client_ca)
            else:
                context.load_verify_locations(str(Path(self.folder, tls.client_ca_file)))

    def faults(self) -> list[str]:
        """What is wrong across fields, each with how to fix it. No secret is repeated."""
        faults = [
            f"basic_auth_users.{user[:40]}: expected a bcrypt hash, found something else; make one with: "
            f"htpasswd -nBC 10 {user[:40]}"
            for user, hashed in self.basic_auth_users.items()
            if not _BCRYPT.fullmatch(hashed)
        ]
        faults += [
            f"http_server_config.headers: expected any of {', '.join(HEADERS)}, found '{name[:60]}'; remove it"
            for name in self.http_server_config.headers
            if name not in HEADERS
        ]
        try:
            if self.rate_limit.interval_s > 0 and self.rate_limit.burst < 1:
                faults.append(
                    f"rate_limit.burst: expected 1 or more, found {self.rate_limit.burst}; else no request is answered"
                )
        except ValueError as error:
            faults.append(f"rate_limit.interval: {error}")
        return faults + (_tls_faults(self.tls_server_config) if self.tls_server_config else [])


def read_web_config(file: str | None) -> WebConfig:
    """The file's content; without one, or with an empty one, nobody is authenticated. Raises `SettingsError`."""
    if not file:
        return WebConfig()
    path = Path(file)
    document = read_yaml(path)
    try:
        config = msgspec.convert(document or {}, WebConfig)
    except msgspec.ValidationError as error:
        raise SettingsError([f"{path}: {error}"]) from None
    config = msgspec.structs.replace(config, folder=str(path.parent))
    faults = config.faults()
    if not faults:
        try:
            config.server_context()
        except SettingsError as error:
            faults = error.faults
    if faults:
        raise SettingsError([f"{path}: {fault}" for fault in faults])
    return config


class WebConfigFile:
    """The file, read again when it or a certificate changes. Raises `SettingsError` when made."""

    def __init__(self, file: str | None) -> None:
        self._file = file
        self.config = read_web_config(file)
        self.context = self.config.server_context()
        self.passwords = Passwords(self.config.basic_auth_users)
        self._stamps = self._changed_at()

    @property
    def authenticates(self) -> bool:
        """Whether anybody is kept out."""
        return bool(self.passwords) or self.config.requires_certificate

    def reread(self) -> bool:
        """Whether the configuration changed. What cannot be used is refused, and the one before it stays."""
        stamps = self._changed_at()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            config = read_web_config(self._file)
            context = config.server_context()
        except SettingsError as error:
            log.error("not taken up, the web config before it stays: %s", "; ".join(error.faults))
            return False
        if config.basic_auth_users != self.config.basic_auth_users:
            self.passwords = Passwords(config.basic_auth_users)
        self.config, self.context = config, context
        self._stamps = self._changed_at()
        return True

    def _changed_at(self) -> tuple[int, ...]:
        return tuple(modified_ns(path) for path in ([Path(self._file)] if self._file else []) + self.config.files())


def modified_ns(path: Path) -> int:
    """-1 for a file that is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def subject_names(certificate: Mapping[str, object] | None) -> list[str]:
    """The Subject Alternative Names of a verified client certificate, as `SSLSocket.getpeercert` gives it."""
    names = (certificate or {}).get("subjectAltName", ())
    return [str(name) for _, name in names]  # type: ignore[attr-defined]


def allowed_by_name(config: WebConfig, certificate: Mapping[str, object] | None) -> bool:
    """Whether `client_allowed_sans`, where it is given, holds a name of the certificate."""
    allowed = config.tls_server_config.client_allowed_sans if config.tls_server_config else ()
    return not allowed or any(name in allowed for name in subject_names(certificate))


def _tls_faults(tls: TlsServer) -> list[str]:
    at, kind = "tls_server_config", tls.client_auth_type
    verifies = kind in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
    faults = [
        f"{at}.{name}: expected {name} or {name}_file, found both; keep one of them"
        for name in ("cert", "key", "client_ca")
        if getattr(tls, name) and getattr(tls, f"{name}_file")
    ]
    faults += [
        f"{at}.{name}_file: expected a file, found none; name one"
        for name in ("cert", "key", *(["client_ca"] if verifies else []))
        if not getattr(tls, name) and not getattr(tls, f"{name}_file")
    ]
    if kind == "RequireAnyClientCert":
        faults.append(
            f"{at}.client_auth_type: expected a type that verifies certificates, found {kind}; "
            "use RequireAndVerifyClientCert"
        )
    if (tls.client_ca or tls.client_ca_file) and not verifies:
        faults.append(
            f"{at}.client_ca_file: expected client_auth_type RequireAndVerifyClientCert beside it, "
            f"found {kind or 'none'}; it has no effect"
        )
    if tls.client_allowed_sans and kind != "RequireAndVerifyClientCert":
        faults.append(
            f"{at}.client_allowed_sans: expected client_auth_type RequireAndVerifyClientCert beside it, "
            f"found {kind or 'none'}; set it"
        )
    faults += [
        f"{at}.cipher_suites: expected Go's names, as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, found '{name[:60]}'; "
        "correct it"
        for name in tls.cipher_suites
        if name not in _CIPHERS
    ]
    if list(_VERSIONS).index(tls.min_version) > list(_VERSIONS).index(tls.max_version):
        faults.append(
            f"{at}.min_version: expected at most max_version {tls.max_version}, found {tls.min_version}; lower it"
        )
    return faults


class _AsFile:
    """PEM text as a file that only this process sees, for OpenSSL reads certificates from files."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._number = -1

    def __enter__(self) -> str | None:
        if not self._text:
            return None
        self._number = os.memfd_create("pem", os.MFD_CLOEXEC)
        os.write(self._number, self._text.encode())
        return f"/proc/self/fd/{self._number}"

    def __exit__(self, *_: object) -> None:
        if self._number >= 0:
            os.close(self._number)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; keep the keys of servers without one")


def _named(error: Exception) -> str:
    """An error of OpenSSL or of a file, with the file's name where there is one."""
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}"
    return f"{getattr(error, 'filename', None) or ''} {getattr(error, 'strerror', None) or error}".strip()
