"""What this node sends to its collector to be known: whether it is there, valid, and safe from others."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.http.bearer import TokenFileError, token_in
from tokenyield_agent.shipping.collector_link import NODE_TOKEN_NAME
from tokenyield_agent.shipping.enrolment import NS_PER_S, EnrolledToken, stored_in
from tokenyield_settings.addresses import is_loopback

DAY_S = 86_400
_ENROL = "enrol this node: tokenyield-agent enrol, with a secret of `tokenyield-collector enrol secret`"


def findings_of_credential(settings: Settings, now_ns: int) -> Iterator[DoctorFinding]:
    """Of `collector_token_file`, `enrol_token_file`, or the token that this node enrolled for."""
    is_local = is_loopback(urlsplit(settings.collector_url).hostname or "")
    named = next((name for name in ("collector_token_file", "enrol_token_file") if getattr(settings, name)), "")
    if named:
        yield from _file_findings(named, getattr(settings, named))
    has_own = False
    if named != "collector_token_file":
        try:
            stored = stored_in(Path(settings.state_dir))
        except OSError as error:
            path = Path(settings.state_dir, NODE_TOKEN_NAME)
            yield _fault(f"{path} cannot be read ({error.strerror}): run doctor as root or as the agent")
            return
        has_own = stored is not None
        if stored is not None:
            yield _of_enrolled(stored, settings, now_ns // NS_PER_S)
        elif named:
            yield DoctorFinding("ok", "token", f"it enrols with {named} at its first shipment")
        elif not is_local:
            yield DoctorFinding("note", "token", f"none: the collector takes batches only where it is open; {_ENROL}")
    if not is_local and (named or has_own) and settings.collector_url.startswith("http:"):
        fix = "give the collector a certificate (tls_server_config), and write https:// in collector_url"
        yield DoctorFinding("note", "token", f"it crosses the network unencrypted to {settings.collector_url}: {fix}")


def _file_findings(name: str, path: str) -> Iterator[DoctorFinding]:
    try:
        token_in(path, name)
        mode = os.stat(path).st_mode & 0o777
    except (TokenFileError, OSError) as error:
        yield _fault(str(error))
        return
    if mode & 0o007:
        yield _fault(f"{name}: any user of this host can read {path} (mode {mode:o}): chmod o= {path}")
    else:
        yield DoctorFinding("ok", "token", f"{name}: {path} can be used")


def _of_enrolled(stored: EnrolledToken, settings: Settings, now_s: int) -> DoctorFinding:
    who = f"cluster {stored.cluster}, node {stored.node}"
    by_itself = bool(settings.enrol_token_file)
    if (stored.cluster, stored.node) != (settings.cluster, settings.node_name):
        text = f"it is of {who}, and this is cluster {settings.cluster}, node {settings.node_name}"
        return DoctorFinding("note", "token", f"{text}: it enrols again") if by_itself else _fault(f"{text}: {_ENROL}")
    left_s = stored.issued_s + stored.expires_in_s - now_s
    if left_s <= 0:
        text = f"that of {who} has ended"
        return DoctorFinding("note", "token", f"{text}: it enrols again") if by_itself else _fault(f"{text}: {_ENROL}")
    left = f"{left_s // DAY_S} days" if left_s >= 2 * DAY_S else f"{left_s // 60} minutes"
    return DoctorFinding("ok", "token", f"enrolled as {who}, valid for {left} and renewed before")


def _fault(text: str) -> DoctorFinding:
    return DoctorFinding("fault", "token", text)
