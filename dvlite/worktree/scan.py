"""Scan a tracked path into a tree: stat everything, read what the index doesn't know, put it into a batch.

Each file is read once; what is hashed is what the batch takes in. Small files are read one after the other (their cost is
the system calls), larger ones in two threads beside it. Order is that of names, so that equal folders make equal packs.
"""

import contextlib
import functools
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from dvlite import files, hashing, index, pointer, tree
from dvlite.errors import DvliteError, MissingError, UsageError, explain, quote
from dvlite.files import StatKey
from dvlite.index import Index, Row
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress
from dvlite.stores.base import Batch
from dvlite.tree import EXECUTABLE, FILE, SYMLINK, TREE, Entry
from dvlite.worktree import ignore as ignores

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_THREADED = 1 << 16  # from this size on, reading and hashing in a thread pays
_AHEAD = 16
_TRIES = 3


class Written(NamedTuple):
    """What was written at a path by this process itself, and so needs no reading: see materialise."""

    size: int
    mtime_ns: int
    inode: int
    oid: Oid


class Memory(NamedTuple):
    """What a scan goes by: what was `seen` before, the store's state, and what this process wrote itself.

    `is_storing`: the batch is the store's, so an object that isn't there is read again. `has` looks an object up in the store.
    `objects` is the folder of the store's loose objects, to know links into it. `limit`: bytes that may be read.
    """

    seen: Index
    state: str
    has: Callable[[Oid], bool]
    is_storing: bool = False
    written: Mapping[str, Written] = MappingProxyType({})
    objects: Path | None = None
    limit: int | None = None


class Scan:
    """What was found at a tracked path. `entry` is None where there is nothing; `*_read` count what had to be read."""

    __slots__ = ("bytes_read", "entry", "files_read", "gone", "rows", "unstored")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.files_read = 0
        self.bytes_read = 0
        self.unstored = 0  # files that are known, but whose objects have left the store since
        self.rows: dict[str, Row] = {}
        self.gone: set[str] = set()


class _Found(NamedTuple):
    name: str
    key: StatKey


class TooMuchError(DvliteError):
    """More would have to be read than was allowed."""


class _Read(NamedTuple):
    entry: Entry
    data: bytes | None  # None: the batch has it already
    key: StatKey


def scan(
    root: Path,
    tracked: str,
    batch: Batch,
    memory: Memory,
    *,
    algorithm: str,
    pack_below: int,
    progress: Progress = SILENT,
) -> Scan:
    """Scan one tracked path (in-repo) below `root`, whatever is there: a file, a folder, or nothing.

    Raises DvliteError naming the path for what can't be read, keeps changing, or can't be tracked.
    """
    with contextlib.ExitStack() as stack:
        return _Scanner(root, batch, memory, algorithm, pack_below, progress, stack).run(tracked)


# A link into a store's folder of large objects.
_STORED = re.compile(r"/objects/(sha256|blake3)/([0-9a-f]{2})/([0-9a-f]{62})$")
_UNREAD = Entry("", Oid("", b""), 0, 0, "")


class _Scanner:
    def __init__(
        self,
        root: Path,
        batch: Batch,
        memory: Memory,
        algorithm: str,
        pack_below: int,
        progress: Progress,
        stack: contextlib.ExitStack,
    ) -> None:
        self._root = root
        self._batch = batch
        self._memory = memory
        self._algorithm = algorithm
        self._pack_below = pack_below
        self._progress = progress
        self._stack = stack
        self._rows: dict[str, Row] = {}
        self._stamp: int | None = None
        self._result = Scan()

    def run(self, tracked: str) -> Scan:
        result, path = self._result, self._root / tracked
        self._rows = self._memory.seen.rows(tracked)
        result.gone = set(self._rows)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return result
        except OSError as exc:
            raise explain(exc, tracked, "can't read") from exc
        if stat.S_ISDIR(status.st_mode):
            result.entry = self._folder(str(path), tracked, ignores.rules_for(self._root, tracked), 0)
        else:
            result.entry = self._file(path, tracked, status)
        return result

    def _file(self, path: Path, tracked: str, status: os.stat_result) -> Entry:
        _refuse_special(status.st_mode, tracked)
        if stat.S_ISLNK(status.st_mode) and not _STORED.search(os.readlink(path)):
            raise UsageError(f"'{tracked}' is a symbolic link", "Add the file or folder that it leads to.")
        listed = [_Found("", self._key_of(status))]
        row = self._rows.get(tracked)
        self._result.gone.discard(tracked)
        entries, new = self._resolve(str(path.parent), tracked, [listed[0]], row, name=path.name)
        entry = entries[0]
        new = new._replace(oid=entry.oid, size=entry.size, files=1)
        before = [key for key, _ in self._memory.seen.entries(tracked, row).values()] if row else []
        if not row or (row.oid, row.state) != (new.oid, new.state) or index.pack_stats(before) != new.stats:
            self._result.rows[tracked] = new
        return entry

    def _folder(self, path: str, tracked: str, rules: ignores.Ignore, depth: int) -> Entry:
        if depth > tree.MAX_DEPTH:
            raise UsageError(f"'{tracked}' lies more than {tree.MAX_DEPTH} folders deep")
        listed, subs, rules = self._list(path, tracked, rules)
        row = self._rows.get(tracked)
        self._result.gone.discard(tracked)
        self._progress.advance(files=len(listed), size=sum(found.key.size for found in listed))
        mark = index.fingerprint(
            index.pack_names([found.name for found in listed]), index.pack_stats([found.key for found in listed]), subs
        )
        is_same = bool(row and row.fingerprint == mark and self._is_current(row))
        entries, new = ([], None) if is_same else self._resolve(path, tracked, listed, row, mark=mark, subs=subs)
        below = [self._folder(f"{path}/{name}", f"{tracked}/{name}", rules, depth + 1) for name in subs]
        below = [entry._replace(name=name) for entry, name in zip(below, subs, strict=True)]
        sub_sum = hashing.checksum(tree.encode(tree.Page(0, below)))
        if is_same and row and row.subs == sub_sum:
            return Entry(TREE, row.oid, row.size, row.files, "")
        if new is None:
            entries, new = self._resolve(path, tracked, listed, row, mark=mark, subs=subs)
        folder = tree.build(self._algorithm, [*entries, *below])
        for oid, data in folder.objects:
            self._batch.take(oid, data, is_tree=True)
        if new.state and not self._memory.is_storing and not all(self._memory.has(oid) for oid, _ in folder.objects):
            new = new._replace(state="")
        new = new._replace(subs=sub_sum, oid=folder.oid, size=folder.size, files=folder.files)
        if not row or not new.fingerprint or row[:6] != new[:6]:
            self._result.rows[tracked] = new
        return Entry(TREE, folder.oid, folder.size, folder.files, "")

    def _is_current(self, row: Row) -> bool:
        return bool(row.state) and row.state == self._memory.state and row.oid.algorithm == self._algorithm

    def _list(self, path: str, tracked: str, rules: ignores.Ignore) -> tuple[list[_Found], list[str], ignores.Ignore]:
        listed, subs = [], []
        built_in = ignores.BUILT_IN
        try:
            with os.scandir(path) as found:
                for item in found:
                    if item.name in built_in:
                        continue
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        subs.append(item.name)
                    else:
                        listed.append(_Found(item.name, self._key_of(status)))
        except OSError as exc:
            raise explain(exc, exc.filename or tracked, "can't read") from exc
        if any(found.name == ignores.FILE for found in listed):
            rules = rules.within(tracked, Path(path, ignores.FILE))
        if rules.specs:
            listed = [found for found in listed if not rules.has(f"{tracked}/{found.name}")]
            subs = [name for name in subs if not rules.has(f"{tracked}/{name}", is_folder=True)]
        for name in subs:
            _refuse_name(name, tracked)
        listed.sort()
        subs.sort()
        return listed, subs, rules

    # ---- files ----

    def _resolve(
        self,
        path: str,
        tracked: str,
        listed: list[_Found],
        row: Row | None,
        *,
        mark: bytes = b"",
        subs: list[str] | None = None,
        name: str = "",
    ) -> tuple[list[Entry], Row]:
        """Return the entries of a folder's files (or of one tracked file) and its row, reading what isn't known."""
        known = self._known(tracked, row)
        keys = [found.key for found in listed]
        entries: list[Entry] = [_UNREAD] * len(listed)
        waiting: deque[tuple[int, Callable[[], _Read]]] = deque()
        is_seen = row is None or self._is_current(row)

        def finish() -> None:
            position, read = waiting.popleft()
            entry, data, key = read()
            if data is not None:
                self._batch.take(entry.oid, data)
            is_old = max(key.mtime_ns, key.ctime_ns) < (self._stamp or 0)
            keys[position] = key if is_old else key._replace(ctime_ns=-1)
            entries[position] = entry._replace(name=listed[position].name)

        for position, found in enumerate(listed):
            where = f"{tracked}/{found.name}" if found.name else tracked
            oid = self._oid_known(where, found, known)
            if oid and not stat.S_ISLNK(found.key.mode):
                entries[position] = _entry(found.name, found.key, oid)
                continue
            _refuse_special(found.key.mode, where)
            _refuse_name(found.name or name, tracked)
            is_seen = is_seen and oid is not None
            waiting.append((position, self._start(f"{path}/{found.name or name}", where, found.key)))
            if len(waiting) > _AHEAD:
                finish()
        while waiting:
            finish()
        return entries, self._row(listed, keys, entries, mark, subs or [], is_seen)

    def _row(
        self,
        listed: list[_Found],
        keys: list[StatKey],
        entries: list[Entry],
        mark: bytes,
        subs: list[str],
        is_seen: bool,
    ) -> Row:
        names = index.pack_names([found.name for found in listed])
        stats = index.pack_stats(keys)
        if index.fingerprint(names, stats, subs) != mark:  # an entry is young, or moved since it was listed
            mark = b""
        state = self._memory.state if self._memory.is_storing or is_seen else ""
        oids = index.pack_oids([entry.oid for entry in entries])
        return Row(mark, b"", Oid(self._algorithm, b""), 0, 0, state, stats, names, oids)

    def _known(self, tracked: str, row: Row | None) -> dict[str, tuple[StatKey, Oid]]:
        if row is None:
            return {}
        known = self._memory.seen.entries(tracked, row)
        if not self._is_current(row):
            stored = {name: value for name, value in known.items() if self._memory.has(value[1])}
            if self._memory.is_storing:
                return stored
            if row.state:
                self._result.unstored += len(known) - len(stored)
        return known

    def _oid_known(self, where: str, found: _Found, known: dict[str, tuple[StatKey, Oid]]) -> Oid | None:
        hit = known.get(found.name)
        if hit and hit[0] == found.key and hit[1].algorithm == self._algorithm:
            return hit[1]
        wrote = self._memory.written.get(where)
        if wrote and wrote[:3] == (found.key.size, found.key.mtime_ns, found.key.inode):
            return wrote.oid
        return None

    def _start(self, path: str, where: str, key: StatKey) -> Callable[[], _Read]:
        """Begin to read a file, in a thread where that pays; return what waits for the result."""
        if self._stamp is None:
            self._stamp = files.stamp(Path(path).parent)
        self._result.files_read += 1
        self._result.bytes_read += key.size
        if self._memory.limit is not None and self._result.bytes_read > self._memory.limit:
            raise TooMuchError(f"'{where}' and more have changed: over {self._memory.limit} bytes to read")
        if key.size < _THREADED or stat.S_ISLNK(key.mode):
            return lambda: self._read(path, where, key)
        return self._pool.submit(self._read, path, where, key).result

    @functools.cached_property
    def _pool(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        return self._stack.enter_context(ThreadPoolExecutor(2))

    def _read(self, path: str, where: str, key: StatKey) -> _Read:
        try:
            if stat.S_ISLNK(key.mode):
                return self._read_link(path)
            for _ in range(_TRIES):
                try:
                    return self._read_file(path, key)
                except files.Moved:
                    continue
        except OSError as exc:
            raise explain(exc, where, "can't read" if exc.filename else "can't store") from exc
        raise DvliteError(f"'{where}' keeps changing while it is read", "Add it again when nothing writes to it.")

    def _read_file(self, path: str, key: StatKey) -> _Read:
        if key.size >= self._pack_below:
            oid, status = self._batch.put_file(Path(path), self._algorithm)
            data = None
        else:
            data, status = files.read_small(path)
            oid = hashing.oid_of(self._algorithm, data)
        key = self._key_of(status)
        return _Read(_entry("", key, oid), data, key)

    def _read_link(self, path: str) -> _Read:
        target = os.readlink(path)
        key = self._key_of(os.lstat(path))
        found = _STORED.search(target)
        if found and self._memory.objects:  # a file whose content lies in the store, perhaps where that was before
            try:
                status = os.stat(self._memory.objects / found[1] / found[2] / found[3])
                oid = Oid(found[1], bytes.fromhex(found[2] + found[3]))
                return _Read(_entry("", self._key_of(status), oid), None, key)
            except FileNotFoundError as exc:
                raise MissingError(
                    f"'{path}' links to an object that is not in the store", "Run 'dvlite pull' to get it."
                ) from exc
        data = tree.raw(target)
        return _Read(_entry("", key, hashing.oid_of(self._algorithm, data)), data, key)

    def _key_of(self, status: os.stat_result) -> StatKey:
        """Return a stat's key; without ctime for the store's own objects, which changes when they are linked elsewhere."""
        mode = status.st_mode
        is_ours = status.st_nlink > 1 and not mode & 0o222 and status.st_ino in self._object_inodes
        return StatKey(mode, status.st_size, status.st_mtime_ns, 0 if is_ours else status.st_ctime_ns, status.st_ino)

    @functools.cached_property
    def _object_inodes(self) -> set[int]:
        folder = self._memory.objects
        return {path.stat().st_ino for path in folder.glob("*/??/*")} if folder else set()


def _entry(name: str, key: StatKey, oid: Oid) -> Entry:
    if stat.S_ISLNK(key.mode):
        return Entry(SYMLINK, oid, key.size, 1, name)
    return Entry(EXECUTABLE if key.mode & 0o100 else FILE, oid, key.size, 1, name)


def _refuse_special(mode: int, where: str) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        kind = kinds.get(stat.S_IFMT(mode), "not a file")
        raise UsageError(f"'{where}' is {kind}", "Move it elsewhere, or name it in a .dvliteignore file.")


def _refuse_name(name: str, folder: str) -> None:
    try:
        tree.check_name(name)
    except DvliteError as exc:
        raise UsageError(f"'{folder}' has '{name}' in it: it can't be tracked", "Move it elsewhere.") from exc
    if name.endswith(pointer.SUFFIX):
        hint = f"One of the two must go: 'git rm -- {quote(folder + pointer.SUFFIX)}', or the '{name}' in it."
        raise UsageError(f"'{folder}' has the pointer '{name}' in it", hint)
