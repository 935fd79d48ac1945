"""Whether a password is a user's: `basic_auth_users` of a web config, hashed with bcrypt.

In: users with their hashes, the Authorization header. Out: the user's name, or None. bcrypt is slow on purpose (70 ms
at a cost of 10), so a pair that was once right is remembered, as a digest with a key of this process.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

REMEMBERED_MAX = 1000
HEADER_CHARS_MAX = 1024
PASSWORD_BYTES_MAX = 72
"""What bcrypt looks at; longer passwords would be cut silently."""
_HASH_OF_NOBODY = "$2b$10$C6UzMDM.H6dfI/f/IKcEeO7ZQbNYm1S5v8hGkVr0m9jv8M1k4n1nS"


class Passwords:
    """`check` is slow: it belongs in a thread."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = dict(users)
        self._key = os.urandom(32)
        self._right: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._users)

    def remembered(self, header: str) -> str | None:
        """The user of a header that was right before. Quick."""
        user, password = _credentials(header)
        return user if user and self._digest(user, password) in self._right else None

    def check(self, header: str) -> str | None:
        """The user whose password the header holds, else None. Takes as long for a user that does not exist."""
        import bcrypt

        user, password = _credentials(header)
        hashed = self._users.get(user, _HASH_OF_NOBODY)
        is_right = bool(user) and len(password) <= PASSWORD_BYTES_MAX and bcrypt.checkpw(password, hashed.encode())
        if not is_right or user not in self._users:
            return None
        if len(self._right) >= REMEMBERED_MAX:
            self._right.clear()
        self._right.add(self._digest(user, password))
        return user

    def _digest(self, user: str, password: bytes) -> bytes:
        hashed = self._users.get(user, "").encode()
        return hmac.digest(self._key, b"\0".join((user.encode(), hashed, hashlib.sha256(password).digest())), "sha256")


def is_basic(header: str) -> bool:
    """Whether an Authorization header is of basic auth."""
    return header[:6].lower() == "basic "


def _credentials(header: str) -> tuple[str, bytes]:
    """User and password; empty ones where the header holds none."""
    if not is_basic(header) or len(header) > HEADER_CHARS_MAX:
        return "", b""
    try:
        user, separator, password = base64.b64decode(header[6:].strip(), validate=True).partition(b":")
        return (user.decode(), password) if separator else ("", b"")
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
