"""Zstandard (RFC 8878) around what a codec wrote, where it pays. Needs the extra `millpond[zstd]`.

Owns the bound on what is unpacked: a few bytes may claim to be gigabytes.
"""

import importlib.util
from functools import lru_cache

from millpond.codecs import missing

LEVEL = 3
"""zstd's own default: some 300 MB/s, and most of what higher levels gain."""


@lru_cache(maxsize=1)
def has_zstd() -> bool:
    """Looked up once: a search of the module path costs 20 µs, and it is asked for every task."""
    return importlib.util.find_spec("zstandard") is not None


def compress(body: bytes) -> bytes:
    """`CodecMissing` without the extra."""
    if not has_zstd():
        raise missing("zstd")
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL).compress(body)


def decompress(body: bytes, most: int) -> bytes:
    """ValueError when it is not zstd, or would be larger than `most` bytes; `CodecMissing` without the extra."""
    if not has_zstd():
        raise missing("zstd")
    import zstandard

    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= most:
            raise ValueError(f"zstd: {size:,} bytes once unpacked, at most {most:,} may be")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=most)
    except zstandard.ZstdError as error:
        raise ValueError(f"not zstd: {error}") from error
