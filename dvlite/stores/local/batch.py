"""How objects come into the local store: into `tmp/` first, then into place, contents before trees."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dvlite import copying, files, hashing, statkey
from dvlite.errors import UsageError
from dvlite.hashing import Content
from dvlite.oid import Oid, Oids
from dvlite.stores import packs
from dvlite.stores.base import Batch, Taken, loose_name, refuse_other
from dvlite.stores.local import tombs
from dvlite.stores.local.journal import mark
from dvlite.stores.local.repack import drop, rewrite
from dvlite.stores.table import list_ids

if TYPE_CHECKING:
    from dvlite.stores.local import LocalStore

_FOLD_COUNT = 4  # so many packs of one size class (a power of two) become one


class LocalBatch(Batch):
    """A batch of the local store. `is_synced` tells whether publishing waits for the disk, or leaves that to `settle`."""

    def __init__(self, store: LocalStore, *, is_synced: bool) -> None:
        self._store = store
        self._is_synced = is_synced
        self._lock = threading.RLock()
        self._blobs = packs.PackWriter(store.tmp, store.pack_size)
        self._trees = packs.PackWriter(store.tmp, store.pack_size)
        self._taken = Oids()
        self._published = Oids()
        self._trusted: set[str] = set()
        self._is_fresh = store.is_empty()
        self._now_ns = statkey.stamp(store.tmp)
        self._purged = tombs.oids(store.root)
        self._tree_places: dict[Oid, tuple[Path, int, int]] = {}  # file, size, offset
        self._checksums: dict[str, bytes] = {}
        self._unread: set[str] = set()
        # Unfinished file -> final name, contents and trees apart.
        self._contents: dict[Path, str] = {}
        self._tree_packs: dict[Path, str] = {}

    def take(self, oid: Oid, data: bytes, *, is_tree: bool = False) -> None:
        """Append to a pack, unless the object is known."""
        if not is_tree:
            self.take_all([(oid, data)])
            return
        self._refuse_purged(oid)
        with self._lock:
            if oid not in self._taken:
                if not self._is_known(oid):
                    path, offset = self._trees.end()
                    self._tree_places[oid] = path, len(data), offset
                    if full := self._trees.add(oid, data):
                        self._note(full, is_tree=True)
                self._taken.add(oid)

    def take_all(self, objects: Iterable[tuple[Oid, bytes | memoryview]]) -> None:
        """Append to a pack, each unless it is known."""
        taken, is_known, add, purged = self._taken, self._is_known, self._blobs.add, self._purged
        with self._lock:
            try:
                for oid, data in objects:
                    if oid in purged:
                        self._refuse_purged(oid)
                    if oid not in taken:
                        if not is_known(oid) and (full := add(oid, data)):
                            self._note(full, is_tree=False)
                        taken.add(oid)
            finally:
                self._blobs.let_go()

    def _refuse_purged(self, oid: Oid) -> None:
        if oid in self._purged:
            raise UsageError(
                f"object {oid.short} was purged: its content must not come back",
                f"If it may: dvlite purge --lift {oid}",
            )

    def _note(self, written: packs.Written, *, is_tree: bool) -> None:
        (self._tree_packs if is_tree else self._contents)[written.path] = f"packs/{written.id}.pack"

    def _is_known(self, oid: Oid) -> bool:
        """Tell whether the store has an object, in a file that can be trusted."""
        if self._is_fresh:  # nothing was in the store when the batch was opened
            return False
        found = self._store.place_of(oid)
        if found is None:
            return False
        name = found[0]
        if name in self._trusted:
            return True
        if not self._store.is_trusted(self._store.root / name):
            return self._store.place_of(oid) is not None and self._is_known(oid)
        if not self._store.freshen(name, self._now_ns):
            return False
        self._trusted.add(name)
        return True

    def has(self, oid: Oid) -> bool:
        """Tell whether an object is in the store or in this batch."""
        with self._lock:
            return oid in self._taken or self._is_known(oid)

    def tree(self, oid: Oid) -> bytes | None:
        """Return a tree that this batch took in and the store doesn't have, before it is published."""
        if found := self._tree_places.get(oid):
            with self._lock, contextlib.suppress(FileNotFoundError):
                return self._trees.read(*found)
        return None

    def put_file(
        self, path: Path, algorithm: str, *, oid: Oid | None = None, checksum: bytes = b"", is_given: bool = False
    ) -> Taken:
        """Copy into a file of its own, hashing the copy; or take the file itself."""
        unfinished = files.temporary(self._store.tmp)
        try:
            if is_given:
                os.rename(path, unfinished)
                unfinished.chmod(0o444)
                known = Content(oid, checksum) if oid and checksum else hashing.content_of_file(algorithm, unfinished)
                content, status, is_read = known, unfinished.stat(), True
            else:
                content, status, is_read = self._copy(path, unfinished, algorithm)
            refuse_other(content.oid, oid)
            self._refuse_purged(content.oid)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        taken = Taken(content.oid, status)
        with self._lock:
            is_new = taken.oid not in self._taken and not self._is_known(taken.oid)
            self._taken.add(taken.oid)
        if is_new:
            final = loose_name(taken.oid)
            self._checksums[final] = content.checksum
            if not is_read:
                self._unread.add(final)
            if self._settle_file(unfinished, final):
                with self._lock:
                    self._published.add(taken.oid)
        else:
            unfinished.unlink()
        return taken

    def _settle_file(self, unfinished: Path, final: str) -> bool:
        """Publish a whole file at once where it is synced anyway, so that an interrupted transfer keeps it; tell whether."""
        if self._is_synced:
            files.sync(unfinished)
            path = self._move(unfinished, final)
            files.sync(path.parent)
            with self._lock:
                self._store.prove(path)
                self._store.seen.note(final, path, self._checksums.get(final, b""))
        else:
            with self._lock:
                self._contents[unfinished] = final
        return self._is_synced

    def _copy(self, path: Path, unfinished: Path, algorithm: str) -> tuple[Content, os.stat_result, bool]:
        """Copy a file; return what the copy holds, the file's stat, and whether the copy itself was read."""
        source = files.open_regular(path)
        target = files.create(unfinished, 0o600)
        try:
            before = os.fstat(source)
            # Where the copy shares the file's blocks, it doesn't share its pages in memory: the file is sooner read. Its stat
            # tells whether it moved, if it is not too young for that. But memory and disk differ where a write-back failed, and
            # the copy has what is on disk: it is read before anything is destroyed that rests on it.
            is_told = not self._is_synced and before.st_ctime_ns < self._now_ns
            is_read = not (is_told and copying.clone(source, target))
            content = (
                hashing.content_of_copy(algorithm, source, target, is_for_good=True)
                if is_read
                else hashing.content_of_open_file(algorithm, source)
            )
            after = os.fstat(source)
            if statkey.of(before) != statkey.of(after) or os.fstat(target).st_size != after.st_size:
                raise files.Moved
            os.fchmod(target, 0o444)
            return content, after, is_read
        finally:
            os.close(target)
            os.close(source)

    def put_pack(self, path: Path, *, is_given: bool = False) -> Mapping[Oid, int]:
        """Take in a pack file as it is, when all of it is true."""
        unfinished = files.temporary(self._store.tmp)
        if is_given:
            os.rename(path, unfinished)
        else:
            copying.copy_file(path, unfinished, 0o444)
        try:
            index = packs.verified(unfinished)
        except BaseException:
            unfinished.unlink()
            raise
        unfinished.chmod(0o444)
        if not self._settle_file(unfinished, f"packs/{index.id}.pack"):
            with self._lock:
                self._taken.update(index.sizes)
        return index.sizes

    def unpublished(self) -> set[Oid]:
        """Return what is not visible yet."""
        return {oid for oid in self._taken if oid not in self._published}

    def publish(self) -> None:
        """Rename everything into place; what the worktree doesn't hold any more is on disk first."""
        try:
            for writer, is_tree in ((self._blobs, False), (self._trees, True)):
                if written := writer.finish():
                    self._note(written, is_tree=is_tree)
            pending = self._contents | self._tree_packs
            if self._is_synced:
                for path in pending:
                    files.sync(path)
            elif pending:
                self._store.journal.write(pending, self._checksums, self._unread)
            finals = {name: self._move(path, name) for path, name in pending.items()}
        except BaseException:
            self.abandon()
            raise
        if self._is_synced and finals:
            files.sync_folders({final.parent for final in finals.values()})
            self._store.seen.note_many({name: mark(final.stat()) for name, final in finals.items()})
        self._published = self._taken
        if finals or self._is_synced:
            self._store.refresh()
            self._fold()

    def _move(self, path: Path, name: str) -> Path:
        final = self._store.root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, final)
        return final

    def abandon(self) -> None:
        """Remove what lies in `tmp/`."""
        self._blobs.abandon()
        self._trees.abandon()
        for path in [*self._contents, *self._tree_packs]:
            path.unlink(missing_ok=True)

    def _fold(self) -> None:
        """Put small packs of one size class together, so that many adds leave few packs."""
        classes: dict[int, list[tuple[int, str]]] = {}
        for id_ in list_ids(self._store.root / "packs", ".pack"):
            with contextlib.suppress(FileNotFoundError):
                size = self._store.pack_path(id_).stat().st_size
                classes.setdefault(size.bit_length(), []).append((size, id_))
        for found in classes.values():
            total = sum(size for size, _ in found)
            if len(found) >= _FOLD_COUNT and total <= self._store.pack_size:
                names = sorted(f"packs/{id_}.pack" for _, id_ in found)
                with contextlib.suppress(FileNotFoundError):  # another process folded: this can wait
                    drop(self._store, rewrite(self._store, dict.fromkeys(names)))
                self._store.refresh()
                return
