"""The local store: small objects in packs, large ones as read-only files of their own, in the Git folder.

It may hold the only copy of something, so it is never a cache. Layout: docs/store.md. The rooms: `batch` is how objects come
in, `sending` how they leave; `journal` is what is published but perhaps not on disk yet, and the record of files that were seen
whole; what may be bad goes through `quarantine`.
"""

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dvlite import files, hashing, statkey
from dvlite.errors import CorruptError, FormatError
from dvlite.locks import Lock
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.pack import Place
from dvlite.progress import SILENT, Progress
from dvlite.statkey import StatKey
from dvlite.stores import packs
from dvlite.stores.base import Batch, Report, Store, loose_name
from dvlite.stores.local import quarantine, sending
from dvlite.stores.local.batch import LocalBatch
from dvlite.stores.local.journal import Journal, Seen
from dvlite.stores.local.state import State
from dvlite.stores.table import Table, list_ids

PACK_BELOW = 1 << 20
PACK_SIZE = 1 << 26
_REFRESHES = 100
Packed = dict[Path, dict[Oid, Place]]
_PROOF_S = 600  # so long after it was hashed, a file is hashed anew to be sure of it
_FRESH_NS = 3600 * 10**9  # an hour: what is younger need not be touched each time


class LocalStore(Store):
    """Objects in a folder of this machine. Opening one makes no file; the first batch does.

    `pack_below`: smaller objects go to packs; `pack_size`: where a pack is full; both in bytes, and only for what is written
    from now on. `is_synced`: also batches from the worktree wait for the disk.
    """

    name = "the local store"

    def __init__(
        self, root: Path, *, pack_below: int = PACK_BELOW, pack_size: int = PACK_SIZE, is_synced: bool = False
    ) -> None:
        self.root = root
        self._prefix = f"{root}/"
        self.tmp = root / "tmp"
        self.pack_below = pack_below
        self.pack_size = pack_size
        self.is_synced = is_synced
        self.lock = Lock(root / "lock")
        self.seen = Seen(root / "seen")
        self._generation = State(root)
        self.journal = Journal(root, self.seen)
        self.table = Table(root / "table", lambda id_: packs.read_index(self.pack_path(id_)))
        self._is_recovered = self._is_ready = False
        self._looking = threading.RLock()
        self._proved: dict[str, tuple[StatKey, float]] = {}
        self._is_blind = False  # nothing can be remembered of a store that is only read

    # ---- names ----

    def pack_path(self, id_: str) -> Path:
        """Return where a pack lies."""
        return self.root / "packs" / f"{id_}.pack"

    def loose_path(self, oid: Oid) -> Path:
        """Return where an object lies when it has a file of its own."""
        return self.root / loose_name(oid)

    def state(self) -> str:
        """Return the store's id and generation as one text; empty where there is no store yet.

        The generation is raised before anything leaves the store, so what was seen under the same state is still here. A pack
        that somebody else's hand took away raises it too.
        """
        self._recover()
        return "" if self._is_blind else self._generation.read()

    def create(self) -> None:
        """Make the store's folder and its id, if they aren't there."""
        self._generation.create()

    def raise_generation(self) -> None:
        """Tell everyone who remembers what is here to look again; before anything leaves the store."""
        self._generation.advance()

    def let_go(self, ids: Collection[str]) -> None:
        """Note that packs will go whose objects all lie in others, so that nobody need look again."""
        self._generation.let_go(ids)

    def _recover(self) -> None:
        """Verify what a reboot of this machine may have torn, and notice what is gone, once, before anything trusts it."""
        if not self._is_recovered:
            self._is_recovered = True
            try:
                self._generation.notice_gone()
            except OSError:
                self._is_blind = True
            for name in self.journal.torn_names():
                quarantine.verify(self, name)
            self.journal.forget_earlier_boots()

    def _make_ready(self) -> None:
        self._recover()
        if not self._is_ready:
            self._is_ready = True
            self.refresh()

    def refresh(self) -> None:
        """Look again at which packs there are; one thread at a time, so that none goes by what an older look saw."""
        with self._looking:
            self._refresh()

    def _refresh(self) -> None:
        for _ in range(_REFRESHES):
            live = list_ids(self.root / "packs", ".pack")
            try:
                self.table.refresh(live, may_write=self.tmp.exists())
            except FileNotFoundError:  # another process folded packs meanwhile, and perhaps the next one does
                continue
            except (CorruptError, FormatError):
                self._set_damaged_packs_aside(live)
            return

    def _set_damaged_packs_aside(self, live: Collection[str]) -> None:
        for id_ in live:
            with contextlib.suppress(FileNotFoundError):
                try:
                    packs.read_index(self.pack_path(id_))
                except (CorruptError, FormatError):
                    quarantine.set_aside(self, f"packs/{id_}.pack")
        self.table.refresh(list_ids(self.root / "packs", ".pack"))

    # ---- looking and reading ----

    def place_of(self, oid: Oid) -> tuple[str, Place | None] | None:
        """Return the file (relative to the store) that has an object, and its place in it (None: the whole file)."""
        if found := self.table.find(oid):
            return f"packs/{found.pack}.pack", found.place
        name = loose_name(oid)
        return (name, None) if os.path.isfile(f"{self._prefix}{name}") else None

    def path_of(self, oid: Oid) -> Path | None:
        """Return the file of an object that has one of its own."""
        self._make_ready()
        found = self.place_of(oid)
        return self.root / found[0] if found and found[1] is None else None

    def is_empty(self) -> bool:
        """Tell whether there is nothing to look up."""
        return self.table.holds_nothing() and not (self.root / "objects").exists()

    def find(self, oids: Collection[Oid]) -> dict[Oid, int]:
        """Look up packs by the table and the rest by name."""
        self._make_ready()
        sizes, left = self.table.sizes(oids)
        folders = self._loose_folders(left)
        if not left or folders == set():
            return sizes
        return sizes | {oid: size for oid in left if (size := self._loose_size(oid, folders)) is not None}

    def _loose_folders(self, oids: Collection[Oid]) -> set[tuple[str, str]] | None:
        """Return which folders of loose objects there are, where so much is asked that one look at them pays."""
        if len(oids) < 64:
            return None
        found: set[tuple[str, str]] = set()
        for algorithm in ALGORITHMS:
            with contextlib.suppress(FileNotFoundError):
                found.update((algorithm, name) for name in os.listdir(f"{self._prefix}objects/{algorithm}"))
        return found

    def _loose_size(self, oid: Oid, folders: set[tuple[str, str]] | None) -> int | None:
        if folders is not None and (oid.algorithm, f"{oid.digest[0]:02x}") not in folders:
            return None
        try:
            return os.stat(f"{self._prefix}{loose_name(oid)}").st_size
        except OSError:
            return None

    def read_many(self, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        """Yield pack by pack in file order; CorruptError when an object isn't what its oid says, which sets it aside."""
        by_pack, loose, _ = self.group(oids)
        yield from self.read_packed(by_pack)
        for oid, path in loose.items():
            yield self._checked(oid, path.read_bytes(), path)

    def read_packed(self, by_pack: Packed) -> Iterator[tuple[Oid, bytes]]:
        """Yield what lies in packs, as `group` sorted it; fails as `read_many` does."""
        for path, places in by_pack.items():
            yield from self._read_pack(path, places)

    def read_range(self, oid: Oid, start: int, end: int) -> bytes:
        """Read no more than that of an object that has a file of its own."""
        if path := self.path_of(oid):
            with path.open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        return super().read_range(oid, start, end)

    def _read_pack(self, path: Path, places: Mapping[Oid, Place]) -> Iterator[tuple[Oid, bytes]]:
        try:
            is_proved = self.is_proved(path)
            for oids, data in packs.read_groups(path, places):
                pairs = zip(oids, data, strict=True)
                is_true = is_proved or not hashing.wrong(oids, data)
                yield from pairs if is_true else (self._checked(*pair, path) for pair in pairs)
        except FileNotFoundError:  # folded into another pack meanwhile
            self.refresh()
            for oid in places:
                if found := self.table.find(oid):
                    yield from self._read_pack(self.pack_path(found.pack), {oid: found.place})

    def _checked(self, oid: Oid, data: bytes, path: Path) -> tuple[Oid, bytes]:
        if hashing.digest(oid.algorithm, data) != oid.digest:
            raise self.corrupt(oid, path)
        return oid, data

    def corrupt(self, oid: Oid, path: Path) -> CorruptError:
        """Set a corrupt object's file aside (its good objects stay) and return the error to raise."""
        self.verify(path)
        return CorruptError(
            f"object {oid.short} is corrupt in '{path}' (set aside in '{self.root / 'quarantine'}')",
            "Run 'dvlite pull' to get it from the remote, or 'dvlite add' where you still have the data.",
        )

    def group(self, oids: Collection[Oid]) -> tuple[Packed, dict[Oid, Path], list[Oid]]:
        """Sort oids by where they lie: in packs, in files of their own, or nowhere."""
        self._make_ready()
        by_pack, left = self.table.by_pack(oids)
        return {self.pack_path(id_): places for id_, places in by_pack.items()}, *self._alone(left)

    def share(self, oids: Collection[Oid]) -> tuple[dict[Path, list[Oid]], dict[Oid, Path], list[Oid]]:
        """Sort oids in the same way, without their places in packs: there may be millions."""
        self._make_ready()
        shared, left = self.table.share(oids)
        return {self.pack_path(id_): its for id_, its in shared.items()}, *self._alone(left)

    def _alone(self, oids: Collection[Oid]) -> tuple[dict[Oid, Path], list[Oid]]:
        """Return the files of objects that have one of their own, and those that have none."""
        folders = self._loose_folders(oids)
        loose = {oid: self.loose_path(oid) for oid in oids if self._loose_size(oid, folders) is not None}
        return loose, [oid for oid in oids if oid not in loose]

    def oids(self) -> Iterator[Oid]:
        """Yield packed objects, then loose ones."""
        self._make_ready()
        known: set[Oid] = set()
        for oid in self.table.oids():
            if oid not in known:
                known.add(oid)
                yield oid
        for algorithm in ALGORITHMS:
            for path in sorted((self.root / "objects" / algorithm).glob("??/*")):
                digest = bytes.fromhex(path.parent.name + path.name)
                if len(digest) == DIGEST_SIZE and Oid(algorithm, digest) not in known:
                    yield Oid(algorithm, digest)

    def send(
        self,
        oids: Mapping[Oid, int],
        target: Batch,
        report: Report,
        progress: Progress = SILENT,
        jobs: int = 4,
    ) -> None:
        """Send packs as they are where all of one is wanted, large objects as files, the rest one by one."""
        sending.send(self, oids, target, report, progress, jobs)

    def better_later(self, oids: Mapping[Oid, int]) -> set[Oid]:
        """Look at how many objects each pack has that is sent whole or in pieces."""
        return sending.better_later(self, oids)

    # ---- coming in, and trust ----

    def batch(self, progress: Progress = SILENT) -> Batch:
        """Open a batch that waits for the disk before it publishes."""
        return self.open_batch(is_synced=True)

    def open_batch(self, *, is_synced: bool) -> LocalBatch:
        """Open a batch. Not synced: for bytes that still lie in the worktree; `settle` syncs them later."""
        self._make_ready()
        self.create()
        files.sweep(self.tmp)
        return LocalBatch(self, is_synced=is_synced or self.is_synced)

    def settle(self) -> None:
        """Wait until everything published is on disk; before worktree data is overwritten, and before a push or commit.

        A file that can't be synced is set aside and CorruptError raised: its content must be stored anew.
        """
        self._make_ready()
        for name in self.journal.settle():
            quarantine.set_aside(self, name)
            raise CorruptError(
                f"'{self.root / name}' could not be written to disk",
                "Run 'dvlite add' again while the data is still in the worktree.",
            )

    def secured(self, oids: Collection[Oid]) -> set[Oid]:
        """Return those that are safely stored: on disk, in a file that is as it was when it was hashed, or is hashed now."""
        self.settle()
        shared, loose, _ = self.share(oids)
        safe: set[Oid] = set()
        for path, its in shared.items():
            safe.update(its if self.is_trusted(path) else filter(self.table.find, its))
        safe.update(oid for oid, path in loose.items() if self.is_trusted(path))
        return safe

    def is_trusted(self, path: Path) -> bool:
        """Tell whether a file of the store is whole; one that isn't as it was last seen is read and, if bad, set aside."""
        name = path.relative_to(self.root).as_posix()
        return self.seen.is_as_noted(name, path) or self.seen.confirm(name, path) or quarantine.verify(self, name)

    def verify(self, path: Path) -> bool:
        """Read a file of the store and tell whether it is whole; where not, it is set aside, and its good objects stay."""
        return quarantine.verify(self, path.relative_to(self.root).as_posix())

    def prove(self, path: Path) -> None:
        """Note that this process has just hashed all of a file of the store, and the disk has it."""
        self._proved[str(path)] = statkey.of(path.stat()), time.monotonic()

    def is_proved(self, path: Path) -> bool:
        """Tell whether a file is as it was when this process hashed it a moment ago, so that it need not be hashed again."""
        if not (found := self._proved.get(str(path))) or time.monotonic() - found[1] > _PROOF_S:
            return False
        with contextlib.suppress(OSError):
            return found[0] == statkey.of(path.stat())
        return False

    def unprove(self, path: Path) -> None:
        """Forget that: its bytes need not be in memory any more."""
        self._proved.pop(str(path), None)

    def freshen(self, name: str, now_ns: int) -> bool:
        """Make a file count as young, since something is about to rest on it; False where that is not allowed."""
        path = self.root / name
        try:
            if now_ns - path.stat().st_mtime_ns > _FRESH_NS:
                checksum = self.seen.checksum(name, path)
                os.utime(path)
                self.seen.note(name, path, checksum)
        except OSError:
            return False
        return True

    def checksum_of(self, path: Path) -> bytes:
        """Return the checksum that a large object's file had when it was hashed; empty where that isn't known."""
        return self.seen.checksum(path.relative_to(self.root).as_posix(), path)

    def objects_of(self, name: str) -> set[Oid]:
        """Return the objects that a file of the store has, or had when it was last looked at."""
        self._make_ready()
        if name.startswith("packs/"):
            return set(self.table.of_pack(name[len("packs/") : -len(".pack")]))
        return {quarantine.loose_oid(name)}
