"""The file of bearer tokens: what each is called, what it may do, and for which cluster and nodes it may write.

In: lines of `CREDENTIAL name=... may=write cluster=... nodes=... workloads=... until=...`, for reading alone
`CREDENTIAL name=... may=read teams=... until=...`. Out: `Grant`s.
A credential is a token, `sha256:` and its digest, so that the file holds no secret, or `cert:` and a pattern of names
of client certificates. Defaults: `may=read,write,gateway`, any cluster, any node, no end.
"""

import contextlib
import fnmatch
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from tokenyield_collector.http.right import Right
from tokenyield_settings.loader import nearest
from tokenyield_wire.bounded import bounded

TOKEN_CHARS_MIN = 16
TOKEN_BYTES_MAX = 512
FILE_BYTES_MAX = 16 * 2**20
"""A token for each of 100,000 nodes."""
GROUP = "tokenyield-collector"
"""Of the Debian package's user."""
RIGHTS = (Right.READ, Right.WRITE, Right.GATEWAY, Right.OUTCOMES, Right.SPEND, Right.OTLP)
DEFAULT_RIGHTS = (Right.READ, Right.WRITE, Right.GATEWAY)
"""Of a line without `may=`."""
_KEYS = ("name", "may", "cluster", "nodes", "workloads", "teams", "until")
SCOPE_CHARS_MAX = 64
TEAMS_MAX = 100
TEAM_CHARS_MAX = 200
OWN_NODE = "self"
"""`nodes=self`: the node that the certificate names, as `gpu-17` or `gpu-17.dc1.example.com`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one line of the file grants. `nodes` and `cluster` are patterns as in a shell; they limit writing."""

    name: str
    may: frozenset[Right] = frozenset(RIGHTS)
    cluster: str = "*"
    nodes: tuple[str, ...] = ("*",)
    until_ms: int | None = None
    workloads: str = ""
    """Nodes whose tokens have the same word here share workloads; where it is empty, those of the same `nodes`."""
    teams: tuple[str, ...] | None = None
    """It reads what these teams carry alone; None: everything."""

    @property
    def scope(self) -> str:
        """Of the workloads that its nodes may share (decision 0016)."""
        return self.workloads or scope_of(self.nodes)

    @property
    def only_node(self) -> tuple[str, str] | None:
        """(cluster, node), where it may write for no other."""
        if len(self.nodes) != 1 or _is_pattern(self.cluster) or _is_pattern(self.nodes[0]):
            return None
        return self.cluster, self.nodes[0]

    def may_write_for(self, cluster: str, node: str) -> bool:
        return fnmatch.fnmatchcase(cluster, self.cluster) and any(
            fnmatch.fnmatchcase(node, pattern) for pattern in self.nodes
        )


def scope_of(nodes: Iterable[str]) -> str:
    """The same for the same patterns."""
    return bounded(",".join(sorted(nodes)), SCOPE_CHARS_MAX)


def _is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What a file grants. `faults` name lines that grant nothing, never their content."""

    by_digest: dict[bytes, Grant]
    by_certificate: tuple[tuple[str, Grant], ...]
    faults: tuple[str, ...]

    def grant_of_token(self, token: bytes, now_ms: int) -> Grant | None:
        """None where no valid token is this one. By digest, so that the time taken reveals nothing of any token."""
        grant = self.by_digest.get(hashlib.sha256(token).digest())
        return grant if grant is not None and _is_valid(grant, now_ms) else None

    def grant_of_certificate(self, names: Iterable[str], now_ms: int) -> Grant | None:
        """Of the first line that fits a name of the certificate; None where none does."""
        names = list(names)
        for pattern, grant in self.by_certificate:
            for name in names:
                if fnmatch.fnmatchcase(name, pattern) and _is_valid(grant, now_ms):
                    return _with_own_node(grant, name)
        return None


NO_TOKENS = TokenFile({}, (), ())


def read_token_file(path: Path) -> TokenFile:
    """Raises OSError."""
    with path.open("rb") as file:
        text = file.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        raise OSError(f"more than {FILE_BYTES_MAX} bytes")
    return parse_token_file(text.decode("utf-8", "replace"), str(path))


def parse_token_file(text: str, path: str) -> TokenFile:
    by_digest: dict[bytes, Grant] = {}
    by_certificate: list[tuple[str, Grant]] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        credential, *pairs = line.split()
        try:
            grant = _grant(pairs, number)
            if credential.startswith("cert:"):
                by_certificate.append((credential.removeprefix("cert:"), grant))
            elif OWN_NODE in grant.nodes:
                raise ValueError("nodes=self is only for lines that begin with cert:, whose certificate names the node")
            elif (digest := _digest(credential)) in by_digest:
                raise ValueError("expected a token of its own, found that of an earlier line")
            else:
                by_digest[digest] = grant
        except ValueError as error:
            faults.append(f"{path}:{number}: {error}")
    return TokenFile(by_digest, tuple(by_certificate), tuple(faults))


def new_token() -> str:
    return f"ty_{secrets.token_urlsafe(32)}"


def token_line(token: str, pairs: Iterable[str]) -> str:
    """The line that accepts `token`. Raises ValueError."""
    pairs = list(pairs)
    _grant(pairs, 1)
    return " ".join([f"sha256:{hashlib.sha256(token.encode()).hexdigest()}", *pairs])


def add_line(path: Path, line: str) -> None:
    """Adds a line at the end. A new file may be read by its owner and the collector's group. Raises OSError."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    with open(descriptor, "ab+") as file:
        if is_new and os.geteuid() == 0:
            with contextlib.suppress(LookupError):
                shutil.chown(path, group=GROUP)
        file.seek(0, os.SEEK_END)
        if size := file.tell():
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


def _digest(credential: str) -> bytes:
    if credential.startswith("sha256:"):
        digits = credential.removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise ValueError("sha256: expected 64 hexadecimal digits after it")
        return bytes.fromhex(digits)
    if len(credential) < TOKEN_CHARS_MIN:
        raise ValueError(f"a token of {len(credential)} characters can be guessed; make one of at least "
                         f"{TOKEN_CHARS_MIN} with: tokenyield-collector token")  # fmt: skip
    return hashlib.sha256(credential.encode()).digest()


def _grant(pairs: Iterable[str], number: int) -> Grant:
    """Raises ValueError, which repeats nothing of the line but names of keys."""
    given: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not value:
            raise ValueError("expected words of the form key=value after the token, such as name=dc1 may=write")
        if key not in _KEYS:
            raise ValueError(f"unknown key{nearest(key, _KEYS)}")
        given[key] = value
    names = given.get("may", ",".join(DEFAULT_RIGHTS)).split(",")
    if not set(names) <= set(RIGHTS):
        raise ValueError(f"may: expected {', '.join(RIGHTS)}, or several of them, such as read,write")
    may = frozenset(Right(name) for name in names)
    if "teams" in given and may != {Right.READ}:
        raise ValueError("teams= limits reading and would not limit anything else; write may=read")
    limits = [key for key in ("cluster", "nodes", "workloads") if key in given]
    if Right.GATEWAY in may and Right.WRITE not in may:
        raise ValueError("may: gateway goes with write; write may=write,gateway")
    if limits and not may <= {Right.WRITE, Right.GATEWAY}:
        raise ValueError(f"{limits[0]}= limits writing and would not limit reading; add may=write")
    return Grant(
        name=given.get("name", f"line {number}"),
        may=may,
        cluster=given.get("cluster", "*"),
        nodes=tuple(given.get("nodes", "*").split(",")),
        until_ms=_end_of_day_ms(given["until"]) if "until" in given else None,
        workloads=scope_of(given["workloads"].split(",")) if "workloads" in given else "",
        teams=_teams(given["teams"]) if "teams" in given else None,
    )


def _teams(text: str) -> tuple[str, ...]:
    """Names as they are, no patterns; what a line cannot have in a name is written as in a URL."""
    teams = tuple(dict.fromkeys(unquote(name, errors="strict") for name in text.split(",")))
    if len(teams) > TEAMS_MAX or not all(0 < len(name) <= TEAM_CHARS_MAX for name in teams):
        raise ValueError(f"teams: expected 1 to {TEAMS_MAX} names of at most {TEAM_CHARS_MAX} characters, separated by "
                         "commas; a space is %20, a comma %2C")  # fmt: skip
    return teams


def _end_of_day_ms(text: str) -> int:
    try:
        last = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("until: expected the last day on which it is valid (UTC), as 2026-12-31") from None
    return int((last + timedelta(days=1)).timestamp() * 1000)


def _is_valid(grant: Grant, now_ms: int) -> bool:
    return grant.until_ms is None or now_ms < grant.until_ms


def _with_own_node(grant: Grant, name: str) -> Grant:
    """With `self` replaced by the node that `name` is: a host name, or its first label."""
    if OWN_NODE not in grant.nodes:
        return grant
    own = {re.sub(r"([*?\[])", r"[\1]", node) for node in (name, name.partition(".")[0])}
    nodes = (*(node for node in grant.nodes if node != OWN_NODE), *sorted(own))
    return replace(grant, name=f"{grant.name} {name}", nodes=nodes, workloads=grant.scope)
