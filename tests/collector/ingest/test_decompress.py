"""A body is decompressed within its bound, and only from encodings that are known."""

import gzip

import pytest
import zstandard

from tokenyield_collector.ingest.decompress import BodyTooLarge, UnknownEncoding, decompress


def test_a_bomb_is_not_unpacked() -> None:
    for encoding, bomb in (("gzip", gzip.compress(b"0" * 10_000_000)), ("zstd", zstandard.compress(b"0" * 10_000_000))):
        with pytest.raises(BodyTooLarge):
            decompress(bomb, encoding, 1000)
    with pytest.raises(UnknownEncoding):
        decompress(b"", "br", 10)
