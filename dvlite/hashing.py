"""Content to digest: the cryptographic hashes behind oids, and the quick checksum.

`xxh3` is for places where no adversary is in play: fingerprints of stat listings, checksums inside packs, page boundaries.
"""

import hashlib
from collections.abc import Callable
from typing import Protocol

import blake3
import xxhash

from dvlite.oid import Oid


class Hasher(Protocol):
    """What hashlib's objects have in common."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


# hashlib's own constructors, not new(): a third of the call's cost for small files.
_HASHERS: dict[str, Callable[..., Hasher]] = {"sha256": hashlib.sha256, "blake3": blake3.blake3}


def hasher(algorithm: str) -> Hasher:
    """Start a hash of the named algorithm."""
    return _HASHERS[algorithm]()


def digest(algorithm: str, data: bytes | memoryview) -> bytes:
    """Return the raw digest of `data`."""
    return _HASHERS[algorithm](data).digest()


def oid_of(algorithm: str, data: bytes | memoryview) -> Oid:
    """Return the oid of `data`."""
    return Oid(algorithm, _HASHERS[algorithm](data).digest())


def checksum(data: bytes | memoryview) -> bytes:
    """Return the xxh3-128 of `data`, 16 bytes."""
    return xxhash.xxh3_128_digest(data)


def boundary(name: bytes, level: int) -> int:
    """Return xxh3-64 of a name, seeded with the level: where trees are cut into pages."""
    return xxhash.xxh3_64_intdigest(name, seed=level)
