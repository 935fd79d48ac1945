"""Tokens of nodes that enrolled: signed, so that no collector stores them, and each that has the key accepts them.

In: what a token grants, and keys. Out: the token, or what it grants. A token is `tyn_`, what it grants (JSON in
base64url), a dot, and the HMAC-SHA256 of all before the dot (base64url).
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from pathlib import Path

import msgspec

from tokenyield_settings.private_files import write_private

PREFIX = "tyn_"
TOKEN_BYTES_MAX = 2048
"""Cluster and node of 253 characters each, four bytes a character at most, and the rest."""
KEY_BYTES = 32
KEYS_MAX = 8
_DOMAIN = b"tokenyield node token 1\n"
"""What is signed begins with it, so that the key's signatures mean nothing anywhere else."""


class NodeToken(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token grants: to write for one node. `may` as in a line of the token file. Times are Unix ms."""

    cluster: str
    node: str
    may: str
    issued_ms: int
    until_ms: int
    is_renewable: bool
    """Not where Kubernetes proves the node: a new token needs a new proof."""
    workloads: str = ""
    """The scope of the workloads that its node may share (`Grant.scope`); empty in tokens of older collectors."""


class KeyFault(Exception):
    """A file that holds no key that can be used; in words."""


def signed(token: NodeToken, key: bytes) -> str:
    head = PREFIX.encode() + base64.urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=")
    return f"{head.decode()}.{_mac(head, key).decode()}"


def granted(text: bytes, keys: tuple[bytes, ...]) -> NodeToken | None:
    """What was signed with one of `keys`; None for anything else. Every key is tried, and compared in constant time."""
    head, _, mac = text.rpartition(b".")
    if len(text) > TOKEN_BYTES_MAX or not head.startswith(PREFIX.encode()):
        return None
    is_signed = False
    for key in keys:
        is_signed |= hmac.compare_digest(_mac(head, key), mac)
    if not is_signed:
        return None
    packed = head.removeprefix(PREFIX.encode())
    try:
        data = base64.urlsafe_b64decode(packed + b"=" * (-len(packed) % 4))
        return msgspec.json.decode(data, type=NodeToken)
    except (binascii.Error, msgspec.DecodeError):  # signed by a version that wrote something else
        return None


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The file's keys, one a line: the first signs, all are accepted. Raises `KeyFault`, OSError."""
    with path.open("rb") as file:
        lines = file.read(4096).split()
    fix = "write 64 hexadecimal digits on each line, as `openssl rand -hex 32` makes them"
    if not 0 < len(lines) <= KEYS_MAX:
        raise KeyFault(f"{path}: expected 1 to {KEYS_MAX} lines, found {len(lines)}; {fix}")
    if any(not re.fullmatch(rb"[0-9a-fA-F]{64,128}", line) or len(line) % 2 for line in lines):
        raise KeyFault(
            f"{path}: expected a key of 64 to 128 hexadecimal digits on each line, found something else; {fix}"
        )
    return tuple(bytes.fromhex(line.decode()) for line in lines)


def make_key(path: Path) -> None:
    """A new key, unless there is one: whole or not there at all, mode 0600. Raises OSError."""
    write_private(path, f"{secrets.token_hex(KEY_BYTES)}\n".encode(), replaces=False)


def _mac(head: bytes, key: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key, _DOMAIN + head, hashlib.sha256)).rstrip(b"=")
