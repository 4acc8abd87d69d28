"""The contract of a store, and of the batch by which objects come in.

Every store passes the one conformance suite (tests/stores/conformance.py). A store knows oids and bytes; it knows no paths
of a repository, no pointers, and nothing of what a tree says.

Invariants:
- What a batch takes in, it hashes itself: an object is true to its oid, wherever it came from.
- Small objects are not visible before their batch is published; whole packs and large files, each complete in itself, may be.
- An abandoned batch leaves nothing that is incomplete.
- What is read is verified, or says that it isn't.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from os import stat_result
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from dvlite import hashing
from dvlite.errors import CorruptError, DvliteError, MissingError
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress


def loose_name(oid: Oid) -> str:
    """Return the name, below a store's root, of an object that has a file of its own."""
    digits = oid.digest.hex()
    return f"objects/{oid.algorithm}/{digits[:2]}/{digits[2:]}"


class Taken(NamedTuple):
    """A file that a batch took in: its oid, and its stat after it was read."""

    oid: Oid
    status: stat_result


def refuse_other(found: Oid, wanted: Oid | None) -> None:
    """Raise CorruptError where content isn't what it must be."""
    if wanted and found != wanted:
        raise CorruptError(f"object {wanted.short} is corrupt")


class Batch(ABC):
    """Objects on their way into a store. Use as a context: leaving it publishes, an exception abandons.

    All methods may be called from several threads at once, and again with the same content: they are idempotent.
    `tells`: it tells of its bytes itself, as they go.
    """

    tells = False

    def put(self, data: bytes, algorithm: str, *, is_tree: bool = False) -> Oid:
        """Take in a small object; trees are kept together, so that they can be fetched alone."""
        oid = hashing.oid_of(algorithm, data)
        self.take(oid, data, is_tree=is_tree)
        return oid

    @abstractmethod
    def take(self, oid: Oid, data: bytes, *, is_tree: bool = False) -> None:
        """Take in bytes that the caller has just hashed to this oid itself (in another thread, or as a tree)."""

    def take_all(self, objects: Iterable[tuple[Oid, bytes | memoryview]]) -> None:
        """Take in several that are no trees; views are good until this returns."""
        for oid, data in objects:
            self.take(oid, bytes(data))

    @abstractmethod
    def put_file(
        self, path: Path, algorithm: str, *, oid: Oid | None = None, checksum: bytes = b"", is_given: bool = False
    ) -> Taken:
        """Take in a file's content, of any size. `oid`: what it must be; `is_given`: the batch may keep the file itself.

        `checksum`: the quick checksum taken when it was hashed as `oid`, enough to know it again. A file that is given with it
        was hashed by its giver since it was written, and is not read again.
        Raises files.Moved when the file changed while it was read, CorruptError when it isn't what it must be.
        """

    @abstractmethod
    def put_pack(self, path: Path, *, is_given: bool = False) -> Mapping[Oid, int]:
        """Take in a whole pack file, each object verified; return what is in it, with sizes. CorruptError names what is wrong."""

    @abstractmethod
    def unpublished(self) -> set[Oid]:
        """Return what was taken in and is not visible (yet): after a publish that failed, what did not arrive."""

    @abstractmethod
    def publish(self) -> None:
        """Make everything visible, contents before trees."""

    @abstractmethod
    def abandon(self) -> None:
        """Forget everything that isn't visible yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.publish()  # one that fails abandons by itself
        else:
            self.abandon()


class Report:
    """What a transfer did. `failed` says for each object why it did not arrive. Filled from several threads.

    `wanted`: what was asked for, with sizes; where those are right, they are not kept twice.
    """

    __slots__ = ("copied", "failed", "lock", "wanted")

    def __init__(self, wanted: Mapping[Oid, int] | None = None) -> None:
        self.wanted = wanted or {}
        self.copied: dict[Oid, int] = {}
        self.failed: dict[Oid, DvliteError] = {}
        self.lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the objects that arrived."""
        return sum(self.copied.values())

    def add(self, objects: Mapping[Oid, int], progress: Progress = SILENT, *, told: int = 0) -> None:
        """Note that objects arrived; so many of their bytes were told of already."""
        told_of = self.wanted.get
        with self.lock:
            for oid, size in objects.items():
                asked = told_of(oid)
                self.copied[oid] = asked if asked == size else size
        progress.advance(files=len(objects), size=sum(objects.values()) - told)

    def fail(self, oids: Collection[Oid], error: DvliteError) -> None:
        """Note that objects did not arrive."""
        with self.lock:
            for oid in oids:
                self.failed[oid] = error


class Store(ABC):
    """Keeps immutable objects by oid."""

    name: str

    @abstractmethod
    def find(self, oids: Collection[Oid]) -> dict[Oid, int]:
        """Return those that are present, with their sizes in bytes. Never from memory of an earlier look."""

    @abstractmethod
    def read_many(self, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        """Yield small objects, verified, in the order that suits the store; what isn't present is left out."""

    @abstractmethod
    def send(
        self,
        oids: Mapping[Oid, int],
        target: Batch,
        report: Report,
        progress: Progress = SILENT,
        jobs: int = 4,
    ) -> None:
        """Hand objects (with their sizes) to a batch of another store, in the shape that costs least, `jobs` at a time.

        What can't be read or isn't present goes to the report and doesn't stop the rest.
        """

    def better_later(self, oids: Mapping[Oid, int]) -> set[Oid]:
        """Return those that are sent for less once more is asked for, if more will be: of packs that would now go in pieces."""
        return set()

    @abstractmethod
    def batch(self, progress: Progress = SILENT) -> Batch:
        """Open a batch; everything in it is on disk for good once it is published.

        `progress` is told of bytes by a batch that sends them far (`tells`).
        """

    @abstractmethod
    def oids(self) -> Iterator[Oid]:
        """Yield every object that is present, once."""

    def read_range(self, oid: Oid, start: int, end: int) -> bytes:
        """Return bytes of an object from `start` to before `end`; of one with a file of its own they are not verified."""
        return self.read(oid)[start:end]

    def read(self, oid: Oid) -> bytes:
        """Return one small object, verified; MissingError where it isn't present."""
        for _, data in self.read_many([oid]):
            return data
        raise MissingError(f"object {oid.short} is not in {self.name}", "Run 'dvlite fetch' to get it from the remote.")
