"""Content to digest: the cryptographic hashes behind oids, and the quick checksum.

`xxh3` is for places where no adversary is in play: fingerprints of stat listings, checksums inside packs, page boundaries.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from dvlite import copying
from dvlite.copying import Digester
from dvlite.oid import Oid

_HASHERS: dict[str, Callable[..., Digester]] = {}


def constructor(algorithm: str) -> Callable[..., Digester]:
    """Return what starts a hash, with some bytes or none; for those who hash much that is small."""
    return _HASHERS.get(algorithm) or _load(algorithm)


def _load(algorithm: str) -> Callable[..., Digester]:
    """Return a constructor; each library needs 2 ms to load, and a command with nothing to do needs none."""
    if algorithm == "sha256":
        import hashlib

        _HASHERS[algorithm] = hashlib.sha256  # not new(): a third of the call's cost for small files
    else:
        import blake3

        _HASHERS[algorithm] = blake3.blake3
    return _HASHERS[algorithm]


def hasher(algorithm: str) -> Digester:
    """Start a hash of the named algorithm."""
    return constructor(algorithm)()


def digest(algorithm: str, data: bytes | memoryview) -> bytes:
    """Return the raw digest of `data`."""
    return (_HASHERS.get(algorithm) or _load(algorithm))(data).digest()


def oid_of(algorithm: str, data: bytes | memoryview) -> Oid:
    """Return the oid of `data`."""
    return Oid(algorithm, digest(algorithm, data))


def wrong(oids: Sequence[Oid], data: Sequence[bytes | memoryview]) -> list[Oid]:
    """Return those oids that are not of the bytes beside them."""
    found = digests([oid[0] for oid in oids], data)
    if found == [oid[1] for oid in oids]:
        return []
    return [oid for oid, one in zip(oids, found, strict=True) if oid[1] != one]


def digests(algorithms: Sequence[str], data: Iterable[bytes | memoryview]) -> list[bytes]:
    """Return the raw digests of many, each by the algorithm beside it."""
    if len(names := set(algorithms)) == 1:
        new = constructor(names.pop())
        return [new(one).digest() for one in data]
    return [digest(name, one) for name, one in zip(algorithms, data, strict=True)]


def oid_of_file(algorithm: str, path: Path) -> Oid:
    """Return the oid of a regular file's content; OSError where it can't be read."""
    return Oid(algorithm, copying.hash_file(path, hasher(algorithm)))


def oid_of_open_file(algorithm: str, fd: int) -> Oid:
    """Return the oid of an open file's content, wherever its position is."""
    return Oid(algorithm, copying.hash_descriptor(fd, hasher(algorithm)))


class Content(NamedTuple):
    """What a file holds: its oid, and the quick checksum by which rot is found later without hashing it again."""

    oid: Oid
    checksum: bytes


class ContentHash:
    """Both in one pass."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash = hasher(algorithm)
        self._checksum = checksummer()

    def update(self, data: memoryview) -> None:
        """Take in the next bytes."""
        self._hash.update(data)
        self._checksum.update(data)

    def digest(self) -> bytes:
        """Return the raw digest of what came in so far."""
        return self._hash.digest()

    @property
    def parts(self) -> tuple[Digester, Digester]:
        """Those that do the work, each of which may take in bytes while the other takes in others."""
        return self._checksum, self._hash

    def content(self) -> Content:
        """Return what came in so far."""
        return Content(Oid(self._algorithm, self.digest()), self._checksum.digest())


def content_of_file(algorithm: str, path: Path) -> Content:
    """Return what a regular file holds; OSError where it can't be read."""
    work = ContentHash(algorithm)
    copying.hash_file(path, *work.parts)
    return work.content()


def content_of_open_file(algorithm: str, fd: int) -> Content:
    """Return what an open file holds, wherever its position is."""
    work = ContentHash(algorithm)
    copying.hash_descriptor(fd, *work.parts)
    return work.content()


def content_of_copy(algorithm: str, source: int, target: int, *, is_for_good: bool = False) -> Content:
    """Copy one descriptor's content to another and return what the copy holds; `is_for_good`: it will be synced soon."""
    work = ContentHash(algorithm)
    copying.copy_hashed(source, target, *work.parts, is_for_good=is_for_good)
    return work.content()


def checksum_of_file(path: Path) -> bytes:
    """Return the checksum of a regular file's content; OSError where it can't be read."""
    return copying.hash_file(path, checksummer())


def checksum_of_copy(source: int, target: int) -> bytes:
    """Copy one descriptor's content to another and return the checksum of the copy."""
    return copying.copy_hashed(source, target, checksummer())


def checksummer() -> Digester:
    """Start an xxh3-128."""
    return xxhash.xxh3_128()


def checksum(data: bytes | memoryview) -> bytes:
    """Return the xxh3-128 of `data`, 16 bytes."""
    return xxhash.xxh3_128_digest(data)


def boundary(name: bytes, level: int) -> int:
    """Return xxh3-64 of a name, seeded with the level: where trees are cut into pages."""
    return xxhash.xxh3_64_intdigest(name, seed=level)
