"""Scan a tracked path into a tree: stat everything, read what the index doesn't know, put it into a batch."""

import contextlib
import os
import stat
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing, pointer, rows, statkey, tree
from dvlite.errors import DvliteError, UsageError, explain, quote
from dvlite.index import Index
from dvlite.oid import ALGORITHMS, Oid
from dvlite.progress import SILENT, Progress
from dvlite.rows import Row
from dvlite.statkey import StatKey
from dvlite.stores.base import Batch
from dvlite.tree import SYMLINK, TREE, Entry
from dvlite.worktree import ignore as ignores
from dvlite.worktree.made import Made
from dvlite.worktree.reading import Begun, Reader, Unread, is_stored, mode_of

_SHARED = 16_384  # from so many files on, other processes look too
_CHUNK = 16  # folders


class Memory(NamedTuple):
    """What a scan goes by: what was `seen` before, the store's state, and what this process made itself.

    `is_storing`: the batch is the store's, so an object that isn't there is read again. `has` looks an object up in the store.
    `objects` is the folder of the store's loose objects, to know links into it. `limit`: bytes that may be read.
    """

    seen: Index
    state: str
    has: Callable[[Oid], bool]
    made: Made
    is_storing: bool = False
    objects: Path | None = None
    limit: int | None = None


class Scan:
    """What was found at a tracked path. `entry` is None where there is nothing; `*_read` count what had to be read.

    `rows` are those that are new, `seen` those that were there before; one of these without entries has those of the index.
    """

    __slots__ = ("bytes_read", "entry", "files_read", "gone", "rows", "seen", "unstored")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.files_read = 0
        self.bytes_read = 0
        self.unstored = 0  # files that are known, but whose objects have left the store since
        self.rows: dict[str, Row] = {}
        self.seen: dict[str, Row] = {}
        self.gone: set[str] = set()


class _Resolving(NamedTuple):
    """A folder's files, where some are still being read: `unread` by position; `was`: what was known of them, packed oids."""

    listed: "_Listing"
    entries: list[Entry]
    stats: list[bytes]
    unread: list[int]
    was: list[bytes] | None
    begun: Begun | None


class _Open(NamedTuple):
    """A folder that was listed, and what is being read in it (None: nothing moved); or its new row, where all of it is ours."""

    path: str
    tracked: str
    rules: ignores.Ignore
    depth: int
    subs: list[str]
    row: Row | None
    begun: _Resolving | Row | None


class _Quiet(NamedTuple):
    """A folder that was seen to be as its row says: its subfolders, and how many files and bytes it has itself."""

    subs: list[str]
    files: int
    size: int


class _Listing(NamedTuple):
    """What lies in a folder: its files in order of their names, their stats as the index keeps them, and its subfolders."""

    names: list[str]
    stats: bytes
    subs: list[str]


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


class _Look(NamedTuple):
    """A folder to list."""

    path: str

    def do(self, reader: Reader) -> tuple[StatKey, _Listing] | None:
        """List it; return its stat before that, too. None where that fails."""
        with contextlib.suppress(OSError):
            return statkey.of(os.lstat(self.path)), _list_here(self.path, reader)
        return None


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
        self._progress = progress
        self._reader = Reader(
            batch, algorithm, stack, pack_below=pack_below, objects=memory.objects, limit=memory.limit
        )
        self._rows: dict[str, Row] = {}
        self._seen: dict[str, _Quiet | _Listing] = {}  # by other processes
        self._asked: dict[str, Callable[[], tuple[StatKey, _Listing] | None]] = {}  # folders that another process lists
        self._result = Scan()

    def run(self, tracked: str) -> Scan:
        result, path = self._result, self._root / tracked
        self._rows = result.seen = self._memory.seen.rows(tracked)
        result.gone = set(self._rows)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return result
        except OSError as exc:
            raise explain(exc, tracked, "can't read") from exc
        if stat.S_ISDIR(status.st_mode):
            if (row := self._rows.get(tracked)) and row.files >= _SHARED:
                self._look_with_others()
            result.entry = self._finish(self._begin(str(path), tracked, ignores.rules_for(self._root, tracked), 0))
        else:
            result.entry = self._file(path, tracked, status)
        result.files_read, result.bytes_read = self._reader.files_read, self._reader.bytes_read
        return result

    def _file(self, path: Path, tracked: str, status: os.stat_result) -> Entry:
        if stat.S_ISLNK(status.st_mode) and not is_stored(os.readlink(path)):
            raise UsageError(f"'{tracked}' is a symbolic link", "Add the file or folder that it leads to.")
        listed = _Listing([""], rows.pack_stats([self._reader.key_of(status)]), [])
        row = self._rows.get(tracked)
        self._result.gone.discard(tracked)
        entries, new = self._resolved(self._resolve(str(path), tracked, listed, row))
        entry = entries[0]._replace(name="")
        new = new._replace(oid=entry.oid, size=entry.size, files=1)
        before = [key for key, _ in self._memory.seen.entries(tracked, row).values()] if row else []
        if not row or (row.oid, row.state) != (new.oid, new.state) or rows.pack_stats(before) != new.stats:
            self._result.rows[tracked] = new
        self._result.seen[tracked] = new
        return entry

    def _look_with_others(self) -> None:
        """Have other processes list folders too, and see whether they are as their rows say."""
        from dvlite import forking

        known = sorted(path for path, row in self._rows.items() if row.fingerprint and self._is_current(row))
        if (count := forking.processors()) > 1 and len(known) > 1:
            chunks = [known[at : at + _CHUNK] for at in range(0, len(known), _CHUNK)]
            forking.share(self._look_at, chunks, self._seen.update, count)

    def _look_at(self, folders: list[str]) -> dict[str, _Quiet | _Listing]:
        found: dict[str, _Quiet | _Listing] = {}
        for tracked in folders:
            with contextlib.suppress(DvliteError):  # to be said in its turn
                listed, rules = self._list(f"{self._root}/{tracked}", tracked, ignores.Ignore())
                if not rules.specs:
                    is_quiet = self._rows[tracked].fingerprint == _mark(listed)
                    quiet = _Quiet(listed.subs, len(listed.names), rows.total_size(listed.stats))
                    found[tracked] = quiet if is_quiet else listed
        return found

    def _begin(self, path: str, tracked: str, rules: ignores.Ignore, depth: int) -> _Open:
        """List a folder, and begin to read what isn't known in it."""
        if depth > tree.MAX_DEPTH:
            raise UsageError(f"'{tracked}' lies more than {tree.MAX_DEPTH} folders deep")
        row = self._rows.get(tracked)
        self._result.gone.discard(tracked)
        seen = self._seen.pop(tracked, None)
        if isinstance(seen, _Quiet) and not rules.specs:
            self._progress.advance(files=seen.files, size=seen.size)
            return _Open(path, tracked, rules, depth, seen.subs, row, None)
        if made := self._made(tracked, rules):
            self._progress.advance(files=len(made.oids) // rows.OID_SIZE, size=rows.total_size(made.stats))
            return _Open(path, tracked, rules, depth, sorted(self._memory.made.whole[tracked].subs), row, made)
        if isinstance(seen, _Listing) and not rules.specs:
            listed, within = seen, rules
        else:
            listed, within = self._list(path, tracked, rules)
        self._progress.advance(files=len(listed.names), size=rows.total_size(listed.stats))
        is_same = row and row.fingerprint == _mark(listed) and self._is_current(row)
        begun = None if is_same else self._resolve(path, tracked, listed, row)
        return _Open(path, tracked, within, depth, listed.subs, row, begun)

    def _finish(self, folder: _Open) -> Entry:
        """Finish with a folder, and all below it."""
        path, tracked, rules, _, _, row, begun = folder
        entries, new = self._resolved(begun) if isinstance(begun, _Resolving) else ([], None)
        below = list(self._below(folder))
        sub_sum = hashing.checksum(tree.encode(tree.Page(0, below)))
        if isinstance(begun, Row):
            self._result.rows[tracked] = begun._replace(subs=sub_sum)
            return Entry(TREE, begun.oid, begun.size, begun.files, "")
        if not begun and row and row.subs == sub_sum:
            return Entry(TREE, row.oid, row.size, row.files, "")
        if new is None:
            listed, _ = self._list(path, tracked, rules)
            entries, new = self._resolved(self._resolve(path, tracked, listed, row))
        built = tree.build(self._algorithm, [*entries, *below])
        for oid, data in built.objects:
            self._batch.take(oid, data, is_tree=True)
        if new.state and not self._memory.is_storing and not all(self._memory.has(oid) for oid, _ in built.objects):
            new = new._replace(state="")
        new = new._replace(subs=sub_sum, oid=built.oid, size=built.size, files=built.files)
        if not row or not new.fingerprint or row[:6] != new[:6]:
            self._result.rows[tracked] = new
        return Entry(TREE, built.oid, built.size, built.files, "")

    def _below(self, folder: _Open) -> Iterator[Entry]:
        """Yield the entries of subfolders; one is begun while the one before is finished."""
        path, tracked, rules, depth, subs, *_ = folder
        before: _Open | None = None
        for name, after in zip_longest(subs, subs[1:]):
            one = self._begin(f"{path}/{name}", f"{tracked}/{name}", rules, depth + 1)
            if after:
                self._ask(f"{path}/{after}", f"{tracked}/{after}")
            if before:
                yield self._named(before)
            before = one
        if before:
            yield self._named(before)

    def _named(self, folder: _Open) -> Entry:
        return self._finish(folder)._replace(name=folder.tracked.rpartition("/")[2])

    def _is_current(self, row: Row) -> bool:
        return bool(row.state) and row.state == self._memory.state and row.oid.algorithm == self._algorithm

    def _made(self, tracked: str, rules: ignores.Ignore) -> Row | None:
        """Return the row of a folder that this process has just made, where nothing in it can be left out."""
        whole = self._memory.made.whole.get(tracked)
        if whole is None or rules.specs or whole.entry.oid.algorithm != self._algorithm:
            return None
        entry, subs, listing = whole
        its = self._memory.made.joined(tracked)
        names = [*rows.unpack_names(its), *subs]
        if ignores.FILE in names or not ignores.BUILT_IN.isdisjoint(names) or not all(map(self._memory.has, listing)):
            return None
        mark = rows.fingerprint(its.names, its.stats, sorted(subs))
        state = self._memory.state  # all of it was read from the store a moment ago
        return Row(mark, b"", entry.oid, entry.size, entry.files, state, its.stats, its.names, its.oids)

    def _list(self, path: str, tracked: str, rules: ignores.Ignore) -> tuple[_Listing, ignores.Ignore]:
        try:
            listed = self._ahead(path, tracked) or _list_here(path, self._reader)
        except OSError as exc:
            is_within = isinstance(exc.filename, str) and exc.filename != path
            where = f"{tracked}/{exc.filename}" if is_within else tracked
            raise explain(exc, where, "can't read") from exc
        if ignores.FILE in listed.names or ignores.FILE in listed.subs:
            rules = rules.within(tracked, Path(path, ignores.FILE))
        if rules.specs:
            listed = _wanted(listed, tracked, rules)
        for name in listed.subs:
            _refuse_name(name, tracked)
        return listed, rules

    def _ask(self, path: str, tracked: str) -> None:
        """Have a folder listed by another process, which is needed next."""
        if (
            tracked not in self._seen
            and tracked not in self._memory.made.whole
            and (asked := self._reader.ask(_Look(path)))
        ):
            self._asked[tracked] = asked

    def _ahead(self, path: str, tracked: str) -> _Listing | None:
        """Return what was asked for of a folder, if no name came or went since."""
        asked = self._asked.pop(tracked, None)
        if asked and (answer := asked()) and answer[0] == statkey.of(os.lstat(path)):
            return answer[1]
        return None

    # ---- files ----

    def _resolve(self, path: str, tracked: str, listed: _Listing, row: Row | None) -> _Resolving:
        """Look up the files of a folder (or one tracked file) in what is known, and begin to read the rest."""
        known = self._known(tracked, row)
        keys, stats = rows.unpack_stats(listed.stats), rows.each_stat(listed.stats)
        entries: list[Entry] = [_UNREAD] * len(stats)
        unread: list[int] = []
        number = ALGORITHMS.index(self._algorithm)
        modes = {mode: mode_of(mode) for mode in {key.mode for key in keys}}
        hits = known | self._memory.made.of(tracked)
        for position, (inner, key) in enumerate(zip(listed.names, keys, strict=True)):
            mode, hit = modes[key.mode], hits.get(inner)
            if hit and hit[0] == stats[position] and hit[1][0] == number and mode != SYMLINK:
                entries[position] = Entry(mode, Oid(self._algorithm, hit[1][1:]), key.size, 1, inner)
            else:
                unread.append(position)
        is_seen = row is None or self._is_current(row)
        was = [known[name][1] if (name := listed.names[one]) in known else b"" for one in unread] if is_seen else None
        begun = self._begin_reading(path, tracked, listed.names, keys, unread) if unread else None
        return _Resolving(listed, entries, stats, unread, was, begun)

    def _begin_reading(
        self, path: str, tracked: str, names: Sequence[str], keys: Sequence[StatKey], unread: Sequence[int]
    ) -> Begun:
        names = [names[position] for position in unread]
        if not names[0]:  # one tracked file
            (path, _, name), tracked = path.rpartition("/"), tracked.rpartition("/")[0]
            names = [name]
        work = Unread(path, tracked, names, [keys[position] for position in unread])
        _refuse_special(work)
        _refuse_names(work)
        return self._reader.begin(work)

    def _resolved(self, work: _Resolving) -> tuple[list[Entry], Row]:
        """Return the entries of a folder's files and its row, when all is read."""
        listed, entries, stats, unread, was, begun = work
        if begun:
            stamp = begun.stamp
            read, after = self._reader.finish(begun)
            for position, entry, old, key in zip(unread, read, begun.work.keys, after, strict=True):
                entries[position] = entry
                is_old = key.mtime_ns < stamp > key.ctime_ns
                if old is not key or not is_old:
                    stats[position] = rows.pack_stats([key if is_old else key._replace(ctime_ns=-1)])
        is_seen = was is not None and b"".join(was) == rows.pack_oids([entries[position].oid for position in unread])
        return entries, self._row(listed, b"".join(stats), entries, is_seen)

    def _row(self, listed: _Listing, stats: bytes, entries: list[Entry], is_seen: bool) -> Row:
        names = rows.pack_names(listed.names)
        is_open = stats != listed.stats  # an entry is young, or moved since it was listed
        mark = b"" if is_open or not all(listed.names) else _mark(listed)
        state = self._memory.state if self._memory.is_storing or is_seen else ""
        oids = rows.pack_oids([entry.oid for entry in entries])
        return Row(mark, b"", Oid(self._algorithm, b""), 0, 0, state, stats, names, oids)

    def _known(self, tracked: str, row: Row | None) -> rows.Packed:
        if row is None:
            return {}
        known = self._memory.seen.packed(tracked, row)
        if not self._is_current(row):
            stored = {name: value for name, value in known.items() if self._memory.has(rows.unpack_oid(value[1]))}
            if self._memory.is_storing:
                return stored
            if row.state:
                self._result.unstored += len(known) - len(stored)
        return known


def _list_here(path: str, reader: Reader) -> _Listing:
    """List a folder. One call a file, and little else: this is what a no-op costs."""
    fd = files.open_folder(path)
    try:
        names = sorted(name for name in os.listdir(fd) if name not in ignores.BUILT_IN)
        return _stat(fd, names, reader)
    finally:
        os.close(fd)


def _stat(fd: int, names: list[str], reader: Reader) -> _Listing:
    stat_of, shared = os.stat, reader.shared_ctime
    found, subs, stats = [], [], array("Q")
    put = stats.extend
    for name in names:
        status = stat_of(name, dir_fd=fd, follow_symlinks=False)
        mode = status.st_mode
        if mode & 0o170000 == stat.S_IFDIR:
            subs.append(name)
            continue
        found.append(name)
        ctime_ns = status.st_ctime_ns if status.st_nlink == 1 else shared(status)
        try:
            put((mode, status.st_size, status.st_mtime_ns, ctime_ns, status.st_ino))
        except OverflowError:  # a time before 1970
            del stats[5 * len(found) - 5 :]
            stats.frombytes(rows.pack_stats([reader.key_of(status)]))
    return _Listing(found, stats.tobytes(), subs)


def _mark(listed: _Listing) -> bytes:
    return rows.fingerprint(rows.pack_names(listed.names), listed.stats, listed.subs)


def _wanted(listed: _Listing, tracked: str, rules: ignores.Ignore) -> _Listing:
    """Return what the rules don't leave out of a listing."""
    kept = [
        (name, stats)
        for name, stats in zip(listed.names, rows.each_stat(listed.stats), strict=True)
        if not rules.has(f"{tracked}/{name}")
    ]
    subs = [name for name in listed.subs if not rules.has(f"{tracked}/{name}", is_folder=True)]
    return _Listing([name for name, _ in kept], b"".join([stats for _, stats in kept]), subs)


def _refuse_special(work: Unread) -> None:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    for at, key in enumerate(work.keys):
        if not (stat.S_ISREG(key.mode) or stat.S_ISLNK(key.mode)):
            kind = kinds.get(stat.S_IFMT(key.mode), "not a file")
            raise UsageError(f"'{work.where(at)}' is {kind}", "Move it elsewhere, or name it in a .dvliteignore file.")


def _refuse_names(work: Unread) -> None:
    with contextlib.suppress(DvliteError):
        tree.check_names(work.names)
        if not any(name.endswith(pointer.SUFFIX) for name in work.names):
            return
    for name in work.names:
        _refuse_name(name, work.tracked)


def _refuse_name(name: str, folder: str) -> None:
    try:
        tree.check_name(name)
    except DvliteError as exc:
        where = f"'{folder}' has '{name}' in it: it" if folder else f"'{name}'"
        raise UsageError(f"{where} can't be tracked", "Move it elsewhere.") from exc
    if name.endswith(pointer.SUFFIX):
        hint = f"One of the two must go: 'git rm -- {quote(folder + pointer.SUFFIX)}', or the '{name}' in it."
        raise UsageError(f"'{folder}' has the pointer '{name}' in it", hint)
