"""What gc took out of a store, until its grace period ends: one folder a run, laid out as the store is.

Nothing in it counts as stored. It can be brought back whole, or what holds certain objects; it is emptied when it is old.
"""

import contextlib
import filecmp
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite import files
from dvlite.errors import CorruptError, FormatError
from dvlite.oid import Oid
from dvlite.stores import packs
from dvlite.stores.base import loose_name


class Batch(NamedTuple):
    """What one run of gc took out. `time_ns`: when, by the clock of the store's file system."""

    path: Path
    time_ns: int
    files: int
    size: int


def put(root: Path, names: Collection[str]) -> Path | None:
    """Move files of a store (named relative to it) into a new batch of the trash; one that is gone is left out."""
    if not names:
        return None
    batch = files.temporary(root / "trash")
    for name in names:
        target = batch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(root / name, target)
    files.sync_folders(
        {batch, root / "trash", *((batch / name).parent for name in names), *((root / name).parent for name in names)}
    )
    return batch


def batches(root: Path) -> list[Batch]:
    """Return what lies in the trash, the oldest first."""
    folder = root / "trash"
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        sizes = [one.lstat().st_size for one in path.rglob("*") if one.is_file()]
        found.append(Batch(path, path.stat().st_mtime_ns, len(sizes), sum(sizes)))
    return sorted(found, key=lambda batch: batch.time_ns)


def _names(batch: Path) -> Iterator[str]:
    for folder, _, names in os.walk(batch):
        for name in names:
            yield Path(folder, name).relative_to(batch).as_posix()


def restore(root: Path, oids: Collection[Oid] | None = None) -> list[str]:
    """Move files back to where they were: all, or those that hold some objects. Return their names.

    Where the store has such a file again, the one here goes if both are the same, and stays if they differ: one is damaged.
    """
    back = []
    for batch in batches(root):
        for name in sorted(_names(batch.path)):
            if oids is None or _holds(batch.path / name, name, oids):
                target = root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.rename(batch.path / name, target)
                    back.append(name)
                elif oids is None and filecmp.cmp(batch.path / name, target, shallow=False):
                    (batch.path / name).unlink()
        if oids is None and not any(_names(batch.path)):
            empty([batch])
    files.sync_folders({(root / name).parent for name in back})
    return back


def _holds(path: Path, name: str, oids: Collection[Oid]) -> bool:
    if name.startswith("objects/"):
        return any(loose_name(oid) == name for oid in oids)
    with contextlib.suppress(CorruptError, FormatError, OSError):
        return not packs.read_index(path).places.keys().isdisjoint(oids)
    return False


def empty(found: Collection[Batch]) -> None:
    """Delete batches for good."""
    for batch in found:
        files.remove_folder(batch.path)
