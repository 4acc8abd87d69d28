"""Files of a local store that may be bad: each is read anew; what is good in it stays, the rest goes to `quarantine/`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dvlite import files, hashing
from dvlite.errors import CorruptError, FormatError
from dvlite.oid import Oid
from dvlite.stores import packs

if TYPE_CHECKING:
    from dvlite.stores.local import LocalStore


def verify(store: LocalStore, name: str) -> bool:
    """Read a file of the store and tell whether it is whole; where not, its good objects stay, and it is set aside.

    One that is gone meanwhile isn't whole: its objects may lie in another.
    """
    path = store.root / name
    try:
        if name.startswith("packs/"):
            checksum, is_whole = b"", not packs.bad_objects(path, packs.read_index(path))
        else:
            oid = loose_oid(name)
            content = hashing.content_of_file(oid.algorithm, path)
            checksum, is_whole = content.checksum, content.oid == oid
    except (CorruptError, FormatError, OSError):
        is_whole = False
    if is_whole:
        with contextlib.suppress(OSError):
            files.sync(path)
            store.seen.note(name, path, checksum)
        return True
    if path.exists():
        if name.startswith("packs/") and _salvage(store, path):
            return True
        set_aside(store, name)
    store.refresh()  # one that is gone was folded into another by somebody else
    return False


def loose_oid(name: str) -> Oid:
    """Return the oid that names a file of its own in the store."""
    _, algorithm, head, rest = name.split("/")
    return Oid(algorithm, bytes.fromhex(head + rest))


def _salvage(store: LocalStore, path: Path) -> bool:
    """Write what is good in a bad pack into a new one; tell whether that is all of it, and stands in its place."""
    try:
        places = packs.read_index(path).places
    except (CorruptError, FormatError, OSError):
        return False
    store.create()
    writer = packs.PackWriter(store.tmp, 1 << 62)
    for oid, data in packs.read_objects(path, places):
        if hashing.digest(oid.algorithm, data) == oid.digest:
            writer.add(oid, data)
    written = writer.finish()
    if written is None:
        return False
    files.sync(written.path)
    os.rename(written.path, final := store.pack_path(written.id))
    files.sync(final.parent)
    store.seen.note(f"packs/{written.id}.pack", final)
    return final == path


def set_aside(store: LocalStore, name: str) -> None:
    """Move a file of the store to quarantine, after all who remember what is here were told to look again."""
    store.create()
    store.raise_generation()
    aside = store.root / "quarantine" / f"{files.token(4)}-{name.replace('/', '-')}"
    aside.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(store.root / name, aside)
    store.table.drop(name.removeprefix("packs/").removesuffix(".pack"))
