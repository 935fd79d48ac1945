"""A token in a file of its own, as agents keep it. Nothing of what is in the file is ever in an error."""

from pathlib import Path

TOKEN_BYTES_MAX = 16 * 1024


class TokenFileError(Exception):
    """The file holds no token that can be sent; in words, which name the setting."""


def token_in(path: str, setting: str) -> str:
    """The file's one token. Raises `TokenFileError`."""
    try:
        with Path(path).open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX).strip().decode("ascii")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise TokenFileError(f"{setting}: {path} cannot be read ({reason}); let the agent's user read it") from error
    if not token or not token.isprintable() or " " in token:
        raise TokenFileError(f"{setting}: expected one token in {path}, found something else; write it anew")
    return token
