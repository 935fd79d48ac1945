"""Decompression of a body, within a bound. Pure.

In: bytes and their Content-Encoding. Out: the bytes that were compressed, or one of the errors below.
"""

import zlib

import zstandard


class BodyTooLarge(ValueError):
    """The decompressed body is above its bound."""


class UnknownEncoding(ValueError):
    """The Content-Encoding is not zstd, gzip or identity."""


def decompress(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Never holds more than `bytes_max` and one.

    Raises `BodyTooLarge`, `UnknownEncoding`, or ValueError for a broken stream.
    """
    if encoding in ("", "identity"):
        plain = body
    elif encoding == "gzip":
        plain = _gunzip(body, bytes_max)
    elif encoding == "zstd":
        try:
            with zstandard.ZstdDecompressor().stream_reader(body) as reader:
                plain = reader.read(bytes_max + 1)
        except zstandard.ZstdError as error:
            raise ValueError(f"the zstd stream is broken: {error}") from error
    else:
        raise UnknownEncoding(f"Content-Encoding: expected zstd, gzip or identity, found '{encoding[:40]}'")
    if len(plain) > bytes_max:
        raise BodyTooLarge(f"body: expected at most {bytes_max} bytes after decompression, found more; send less")
    return plain


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise ValueError(f"the gzip stream is broken: {error}") from error
    if not unpacker.eof and len(plain) <= bytes_max:
        raise ValueError("the gzip stream ends too early")
    return plain
