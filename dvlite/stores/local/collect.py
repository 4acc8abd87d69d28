"""What gc does to a local store: look at each file's objects and age, move files to the trash.

It decides nothing: which objects are kept is the caller's business. The caller holds the store's lock alone.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite.errors import CorruptError, FormatError
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.stores import packs
from dvlite.stores.base import loose_name
from dvlite.stores.local import LocalStore, trash
from dvlite.stores.table import list_ids


class Held(NamedTuple):
    """One file of the store: its name in it, size in bytes, time of change, and its objects with their sizes."""

    name: str
    size: int
    mtime_ns: int
    objects: dict[Oid, int]

    @property
    def is_pack(self) -> bool:
        """Whether it holds many objects."""
        return self.name.startswith("packs/")


def held(store: LocalStore) -> Iterator[Held]:
    """Yield all files that hold objects, packs first; a pack that can't be read is left out (fsck is for that)."""
    for id_ in sorted(list_ids(store.root / "packs", ".pack")):
        path = store.pack_path(id_)
        try:
            index = packs.read_index(path)
        except (CorruptError, FormatError, FileNotFoundError):
            continue
        status = path.stat()
        yield Held(
            f"packs/{id_}.pack",
            status.st_size,
            status.st_mtime_ns,
            {oid: place.size for oid, place in index.places.items()},
        )
    for oid, path in loose(store):
        status = path.stat()
        yield Held(loose_name(oid), status.st_size, status.st_mtime_ns, {oid: status.st_size})


def loose(store: LocalStore) -> Iterator[tuple[Oid, Path]]:
    """Yield the objects that have a file of their own, with the file, in order."""
    for algorithm in ALGORITHMS:
        for path in sorted((store.root / "objects" / algorithm).glob("??/*")):
            try:
                digest = bytes.fromhex(path.parent.name + path.name)
            except ValueError:
                continue
            if len(digest) == DIGEST_SIZE:
                yield Oid(algorithm, digest), path


def take_out(store: LocalStore, names: Collection[str]) -> Path | None:
    """Move files to the trash; return the batch."""
    if not names:
        return None
    store.raise_generation()
    with store.seen.leaving(names):
        batch = trash.put(store.root, names)
    store.refresh()
    return batch
