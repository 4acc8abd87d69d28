"""How objects come onto a remote: packed in a local scratch folder, uploaded in parallel, each pack before its index."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dvlite import hashing
from dvlite.oid import Oid, Oids
from dvlite.progress import SILENT, Progress
from dvlite.stores import packs
from dvlite.stores.base import Batch, Taken, loose_name, refuse_other
from dvlite.stores.remote.drivers.base import Listed
from dvlite.stores.remote.listing import Listing

if TYPE_CHECKING:
    from concurrent.futures import Future

    from dvlite.stores.remote import RemoteStore

_MANY_UNCOVERED = 32


class RemoteBatch(Batch):
    """A batch of a remote store. A pack is visible once its index is uploaded; there is nothing to take back."""

    tells = True

    def __init__(self, store: RemoteStore, progress: Progress = SILENT) -> None:
        self._store = store
        self._progress = progress
        self._lock = threading.Lock()
        self._writer = packs.PackWriter(store.tmp, store.pack_size, keeps_small=True)
        self._taken = Oids()
        self._waiting: set[Oid] = set()  # what is packed here and not uploaded yet
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(store.bucket.jobs)
        self._uploads: list[Future[None]] = []

    def take(self, oid: Oid, data: bytes, *, is_tree: bool = False) -> None:
        """Append to the pack in hand; a full one is uploaded meanwhile."""
        with self._lock:
            if oid not in self._taken:
                self._taken.add(oid)
                self._waiting.add(oid)
                if full := self._writer.add(oid, data):
                    self._uploads.append(self._pool.submit(self._upload_written, full))

    def put_file(
        self, path: Path, algorithm: str, *, oid: Oid | None = None, checksum: bytes = b"", is_given: bool = False
    ) -> Taken:
        """Upload a file under its oid."""

        def found(digest: bytes) -> Oid:
            return oid if oid and digest == checksum else Oid(algorithm, digest)

        def name_of(digest: bytes) -> str:
            refuse_other(found(digest), oid)
            return loose_name(found(digest))

        new_work = hashing.checksummer if oid and checksum else lambda: hashing.hasher(algorithm)
        expected = loose_name(oid) if oid else ""
        sent = found(self._store.bucket.put_hashed(path, new_work, name_of, self._tell, expected=expected))
        self._note([sent])
        taken = Taken(sent, path.stat())
        with self._lock:
            if self._store.listing is not None:
                self._store.listing.add({loose_name(sent): Listed(taken.status.st_size, 0)})
        return taken

    def _tell(self, size: int) -> None:
        self._progress.advance(size=size)

    def _note(self, oids: Collection[Oid]) -> None:
        with self._lock:
            self._taken.update(oids)
            self._waiting.difference_update(oids)

    def put_pack(self, path: Path, *, is_given: bool = False) -> Mapping[Oid, int]:
        """Verify a pack, then upload it as it is."""
        index = packs.verified(path)
        self._store.upload_pack(path, index.id, packs.read_tail(path), self._progress)
        return index.sizes

    def unpublished(self) -> set[Oid]:
        """Return what did not arrive (yet)."""
        with self._lock:
            return set(self._waiting)

    def _upload_written(self, written: packs.Written) -> None:
        try:
            content = written.data or written.path
            self._store.upload_pack(content, written.id, written.tail, self._progress)
            self._note([oid for oid, _ in written.objects])
        finally:
            written.path.unlink(missing_ok=True)

    def publish(self) -> None:
        """Upload the pack in hand and wait for all; then merge the indexes, if they have become many."""
        if written := self._writer.finish():
            self._uploads.append(self._pool.submit(self._upload_written, written))
        self._pool.shutdown(wait=True)
        errors = [error for upload in self._uploads if (error := upload.exception())]
        if errors:
            raise errors[0]
        self._store.indexes.merge(self._store.listing or Listing(), at_least=_MANY_UNCOVERED + 1)

    def abandon(self) -> None:
        """Stop; what is half uploaded has no index and does not count."""
        self._writer.abandon()
        self._pool.shutdown(wait=True, cancel_futures=True)
