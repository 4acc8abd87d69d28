"""Content to digest: the cryptographic hashes behind oids, and the quick checksum.

`xxh3` is for places where no adversary is in play: fingerprints of stat listings, checksums inside packs, page boundaries.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import blake3
import xxhash

from dvlite import files
from dvlite.files import Digester
from dvlite.oid import Oid

# hashlib's own constructors, not new(): a third of the call's cost for small files.
_HASHERS: dict[str, Callable[..., Digester]] = {"sha256": hashlib.sha256, "blake3": blake3.blake3}


def hasher(algorithm: str) -> Digester:
    """Start a hash of the named algorithm."""
    return _HASHERS[algorithm]()


def digest(algorithm: str, data: bytes | memoryview) -> bytes:
    """Return the raw digest of `data`."""
    return _HASHERS[algorithm](data).digest()


def oid_of(algorithm: str, data: bytes | memoryview) -> Oid:
    """Return the oid of `data`."""
    return Oid(algorithm, _HASHERS[algorithm](data).digest())


def oid_of_file(algorithm: str, path: Path) -> Oid:
    """Return the oid of a regular file's content; OSError where it can't be read."""
    return Oid(algorithm, files.hash_file(path, hasher(algorithm)))


def oid_of_copy(algorithm: str, source: int, target: int, *, is_for_good: bool = False) -> Oid:
    """Copy one descriptor's content to another and return the oid of the copy; `is_for_good`: it will be synced soon."""
    return Oid(algorithm, files.copy_hashed(source, target, hasher(algorithm), is_for_good=is_for_good))


def checksum(data: bytes | memoryview) -> bytes:
    """Return the xxh3-128 of `data`, 16 bytes."""
    return xxhash.xxh3_128_digest(data)


def boundary(name: bytes, level: int) -> int:
    """Return xxh3-64 of a name, seeded with the level: where trees are cut into pages."""
    return xxhash.xxh3_64_intdigest(name, seed=level)
