"""The object id: the name of immutable bytes, with the algorithm in it.

An oid's text is `<algorithm>:<lowercase hex>` and nothing else. Object identity is always a cryptographic hash; the quick
checksums of packs and of the index are never oids. Format: docs/oid.md.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dvlite.errors import FormatError

# Position is the algorithm's number in binary formats (packs): append, never reorder.
ALGORITHMS = ("sha256", "blake3")
DIGEST_SIZE = 32
DEFAULT_ALGORITHM = "sha256"


class Oid(NamedTuple):
    """An object's id. A tuple, because a large add makes a million of them."""

    algorithm: str
    digest: bytes

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest.hex()}"

    @property
    def hex(self) -> str:
        """The digest in lowercase hex."""
        return self.digest.hex()

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.digest.hex()[:12]


def make_many(algorithms: Iterable[str], digests: Iterable[bytes]) -> Iterator[Oid]:
    """Make oids of algorithms and digests, with no call of Python's for each."""
    return map(functools.partial(tuple.__new__, Oid), zip(algorithms, digests, strict=False))


class Oids:
    """A set of oids that holds their digests alone: a third of the memory, where there are a million."""

    def __init__(self) -> None:
        self._digests: dict[str, set[bytes]] = {name: set() for name in ALGORITHMS}

    def add(self, one: Oid) -> None:
        """Add one."""
        self._digests[one.algorithm].add(one.digest)

    def update(self, oids: Iterable[Oid]) -> None:
        """Add several."""
        for algorithm, digest in oids:
            self._digests[algorithm].add(digest)

    def __contains__(self, one: Oid) -> bool:
        return one.digest in self._digests[one.algorithm]

    def __iter__(self) -> Iterator[Oid]:
        return (Oid(algorithm, digest) for algorithm, digests in self._digests.items() for digest in digests)


def parse(text: str) -> Oid:
    """Read an oid; anything but its one valid spelling raises FormatError."""
    algorithm, _, digits = text.partition(":")
    if algorithm not in ALGORITHMS:
        raise FormatError(f"unknown hash algorithm in oid '{text[:80]}'", f"Known are: {', '.join(ALGORITHMS)}.")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_SIZE or digest.hex() != digits:
        raise FormatError(
            f"malformed oid '{text[:80]}'",
            f"An oid is {algorithm}: and {2 * DIGEST_SIZE} lowercase hex digits.",
        )
    return Oid(algorithm, digest)


def is_algorithm(name: str) -> bool:
    """Tell whether `name` is a known algorithm."""
    return name in ALGORITHMS
