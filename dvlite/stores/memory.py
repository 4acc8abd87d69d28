"""A store in memory: the tests' double, and the place where `status` keeps the trees of what is not added."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from dvlite import files, hashing, statkey
from dvlite.errors import CorruptError, MissingError
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress
from dvlite.stores import packs
from dvlite.stores.base import Batch, Report, Store, Taken, refuse_other


class MemoryStore(Store):
    """Objects in a dict."""

    name = "memory"

    def __init__(self) -> None:
        self.objects: dict[Oid, bytes] = {}

    def find(self, oids: Collection[Oid]) -> dict[Oid, int]:
        """Look each one up."""
        return {oid: len(self.objects[oid]) for oid in oids if oid in self.objects}

    def read_many(self, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        """Yield in the order asked for."""
        for oid in oids:
            if oid in self.objects:
                data = self.objects[oid]
                if hashing.oid_of(oid.algorithm, data) != oid:
                    raise CorruptError(f"object {oid.short} in memory is corrupt")
                yield oid, data

    def send(
        self,
        oids: Mapping[Oid, int],
        target: Batch,
        report: Report,
        progress: Progress = SILENT,
        jobs: int = 4,
    ) -> None:
        """Send one by one."""
        for oid in oids:
            try:
                data = self.read(oid)
                target.put(data, oid.algorithm)
                report.add({oid: len(data)}, progress)
            except (CorruptError, MissingError) as exc:
                report.fail([oid], exc)

    def batch(self, progress: Progress = SILENT) -> Batch:
        """Collect in a dict of its own."""
        return MemoryBatch(self)

    def oids(self) -> Iterator[Oid]:
        """Yield the dict's keys."""
        yield from list(self.objects)


class MemoryBatch(Batch):
    """Keeps what comes in until it is published."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._objects: dict[Oid, bytes] = {}

    def take(self, oid: Oid, data: bytes, *, is_tree: bool = False) -> None:
        """Keep the bytes."""
        self._objects[oid] = data

    def put_file(
        self, path: Path, algorithm: str, *, oid: Oid | None = None, checksum: bytes = b"", is_given: bool = False
    ) -> Taken:
        """Read the file whole."""
        data, status = files.read_small(str(path))
        refuse_other(hashing.oid_of(algorithm, data), oid)
        return Taken(self.put(data, algorithm), status)

    def put_pack(self, path: Path, *, is_given: bool = False) -> Mapping[Oid, int]:
        """Take the pack apart."""
        index = packs.read_index(path)
        for oid, data in packs.read_objects(path, index.places):
            if hashing.oid_of(oid.algorithm, data) != oid:
                raise CorruptError(f"object {oid.short} in pack '{path.name}' is corrupt")
            self._objects[oid] = data
        return index.sizes

    def unpublished(self) -> set[Oid]:
        """Return what isn't handed over yet."""
        return set(self._objects)

    def publish(self) -> None:
        """Hand over to the store."""
        self._store.objects.update(self._objects)
        self._objects = {}

    def abandon(self) -> None:
        """Drop everything."""
        self._objects.clear()


class Hashing(Batch):
    """Takes in everything and keeps only trees: what a scan needs that stores nothing."""

    def __init__(self) -> None:
        self.trees: dict[Oid, bytes] = {}

    def take(self, oid: Oid, data: bytes, *, is_tree: bool = False) -> None:
        """Keep trees."""
        if is_tree:
            self.trees[oid] = data

    def take_all(self, objects: Iterable[tuple[Oid, bytes | memoryview]]) -> None:
        """Keep nothing."""

    def put_file(
        self, path: Path, algorithm: str, *, oid: Oid | None = None, checksum: bytes = b"", is_given: bool = False
    ) -> Taken:
        """Hash the file where it is."""
        before = path.lstat()
        found = hashing.oid_of_file(algorithm, path)
        after = path.lstat()
        if statkey.of(before) != statkey.of(after):
            raise files.Moved
        refuse_other(found, oid)
        return Taken(found, after)

    def put_pack(self, path: Path, *, is_given: bool = False) -> Mapping[Oid, int]:
        """Hash each object where it is; return those that are what their oids say."""
        index = packs.read_index(path)
        bad = packs.bad_objects(path, index)
        return {oid: size for oid, size in index.sizes.items() if oid not in bad}

    def unpublished(self) -> set[Oid]:
        """Return nothing: nothing is kept."""
        return set()

    def publish(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""
