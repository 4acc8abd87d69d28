"""Read a folder's files that a scan doesn't know: each once, hashed as it goes into the batch, in the order of names.

Small and middling files are read several in one pass, into memory that this process shares with another one. That does most of
it, where there is much to read, and this process what is wanted before the other comes to it. Where there can't be another
process, middling files are read in two threads. Large ones are read each alone, in threads. The order in which all reach the
batch is what makes equal folders equal packs.
"""

import contextlib
import enum
import errno
import functools
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dvlite import files, hashing, statkey, tree
from dvlite.errors import DvliteError, MissingError, explain
from dvlite.files import Listed
from dvlite.oid import Oid
from dvlite.statkey import StatKey
from dvlite.stores.base import Batch
from dvlite.tree import EXECUTABLE, FILE, SYMLINK, Entry

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from dvlite.forking import Helper

_THREADED = 1 << 16  # from this size on, reading and hashing in a thread pays
_AT_ONCE = 256  # files that one pass reads
_PASS_BYTES = 1 << 19
_ROOMS = 16  # passes that there is memory for
_AHEAD = 1 << 24  # bytes that are read before they are wanted
_SHARED = 2048  # from so many files, or bytes, on, another process pays
_SHARED_BYTES = 1 << 24
_SHARED_AHEAD = 8  # passes that it is asked for ahead; their names and stats fit into a pipe together
_OTHERS = 16  # what else it is asked for ahead
_TRIES = 3
# A link into a store's folder of large objects.
_STORED = r"/objects/(sha256|blake3)/([0-9a-f]{2})/([0-9a-f]{62})\Z"


class TooMuchError(DvliteError):
    """More would have to be read than was allowed."""


class Unread(NamedTuple):
    """Files of one folder in order: its path, its in-repo path, the files' names, and the stats that were listed of them."""

    path: str
    tracked: str
    names: Sequence[str]
    keys: Sequence[StatKey]

    def where(self, at: int) -> str:
        """Return a file's in-repo path."""
        return f"{self.tracked}/{self.names[at]}" if self.tracked else self.names[at]


class _One(NamedTuple):
    """What a file turned out to be, and its stat when it was read. `data` is None for what the batch has already."""

    entry: Entry
    key: StatKey
    data: bytes | None


class _Some(NamedTuple):
    """The same of several, in order. What lies in the pass's room is good until that is free again."""

    entries: list[Entry]
    keys: Sequence[StatKey]
    data: Sequence[bytes | memoryview | None]


class Task(Protocol):
    """Something that another process is to do, which has a copy of the reader."""

    def do(self, reader: "Reader") -> Any:
        """Do it."""


class _Asked(NamedTuple):
    """Files of one folder to read into a room."""

    folder: str
    names: Sequence[str]
    keys: Sequence[Listed]
    algorithm: str
    room: int

    def do(self, reader: "Reader") -> list[bytes] | None:
        """Read them and return their digests; None where one isn't as it was listed."""
        data = files.read_listed(self.folder, self.names, self.keys, reader.room(self.room))
        if data is None:
            return None
        new = hashing.constructor(self.algorithm)
        return [new(one).digest() for one in data]


class _Kind(enum.IntEnum):
    """How files are read: small and middling ones several at once; from ALONE on, each alone."""

    SMALL = 0
    MIDDLING = 1
    ALONE = 2
    LINK = 3


class _Pass:
    """Some files that are read at once. `result` waits for them; None: nobody has begun."""

    __slots__ = ("is_shared", "kind", "number", "result", "room", "size", "some")

    def __init__(self, kind: _Kind, some: range, size: int) -> None:
        self.kind = kind
        self.some = some
        self.size = size
        self.is_shared = kind <= _Kind.MIDDLING and size <= _PASS_BYTES  # else each file is read for itself
        self.room = -1  # where its bytes lie
        self.number = -1  # what the helper knows it by
        self.result: Callable[[], _Some] | None = None


class Begun:
    """Files that are about to be read, or being read already."""

    __slots__ = ("ahead", "at", "flying", "passes", "stamp", "work")

    def __init__(self, work: Unread, passes: list[_Pass], stamp: int) -> None:
        self.work = work
        self.passes = passes
        self.stamp = stamp  # stats that are older than this can be trusted
        self.flying = 0  # bytes that are read ahead
        self.at = 0  # the pass that is needed next
        self.ahead = 0  # the one to begin with next


class Reader:
    """Reads for one scan, and counts. `objects`: the store's folder of large objects; `limit`: bytes that may be read."""

    def __init__(
        self,
        batch: Batch,
        algorithm: str,
        stack: contextlib.ExitStack,
        *,
        pack_below: int,
        objects: Path | None,
        limit: int | None,
    ) -> None:
        self._batch = batch
        self._algorithm = algorithm
        self._stack = stack
        self._pack_below = pack_below
        self._objects = objects
        self._limit = limit
        self._helper: Helper[Task, Any] | None = None
        self._free = list(range(_ROOMS))
        self._others = 0  # what the helper does beside reading
        self._open: list[Begun] = []  # what is needed first comes last
        self._stamp: int | None = None
        self.files_read = 0
        self.bytes_read = 0

    def begin(self, work: Unread) -> Begun:
        """Have others begin to read files, as far as they have room; what is begun is to be finished."""
        if self._stamp is None:
            self._stamp = statkey.stamp(Path(work.path))
        begun = Begun(work, list(self._passes(work.keys)), self._stamp)
        self._count(work)
        if self._is_much:
            self._get_help()
        is_next = bool(self._open) and _above(self._open[-1].work) == _above(work)
        self._open.insert(len(self._open) - is_next, begun)
        self._start_some()
        return begun

    def _count(self, work: Unread) -> None:
        self.files_read += len(work.names)
        for at, key in enumerate(work.keys):
            self.bytes_read += key.size
            if self._limit is not None and self.bytes_read > self._limit:
                raise TooMuchError(f"'{work.where(at)}' and more have changed: over {self._limit} bytes to read")

    @property
    def _is_much(self) -> bool:
        return self.files_read >= _SHARED or self.bytes_read >= _SHARED_BYTES

    def _get_help(self) -> None:
        """Have another process read, if there can be one: not while this one has threads, so this comes before they are made."""
        from dvlite import forking

        if self._helper is None and forking.processors() > 1:
            with contextlib.suppress(OSError):
                self._rooms  # noqa: B018  (made before, so that both have them)
                self._helper = self._stack.enter_context(forking.Helper(lambda task: task.do(self)))
                self._stack.callback(setattr, self, "_helper", None)  # which knows this reader

    @functools.cached_property
    def _rooms(self) -> memoryview:
        import mmap

        return memoryview(mmap.mmap(-1, _ROOMS * _PASS_BYTES))

    def room(self, number: int) -> memoryview:
        """Return the memory for one pass, which the other process has too."""
        return self._rooms[number * _PASS_BYTES : (number + 1) * _PASS_BYTES]

    def ask(self, task: Task) -> Callable[[], Any] | None:
        """Have the helper do something; return what waits for it, which is to be called. None where there is no room for it."""
        helper = self._helper
        if helper is None or self._others == _OTHERS:
            return None
        number = helper.ask(task)
        self._others += 1

        def wait() -> Any:
            self._others -= 1
            return helper.answer(number)

        return wait

    def finish(self, begun: Begun) -> tuple[list[Entry], list[StatKey]]:
        """Read files into the batch; return their entries and their stats as they are now.

        Raises DvliteError naming the path for what can't be read, or keeps changing.
        """
        entries: list[Entry] = []
        keys: list[StatKey] = []
        for at, one in enumerate(begun.passes):
            begun.at = at
            self._start_some()
            while one.number >= 0 and self._helper and not self._helper.has_done(one.number) and self._do_another():
                pass
            done = one.result() if one.result else self._read_now(begun.work, one)
            begun.flying -= one.size if one.result else 0
            pairs = zip(done.entries, done.data, strict=True)
            self._batch.take_all([(entry.oid, data) for entry, data in pairs if data is not None])
            entries += done.entries
            keys += done.keys
            one.result = None
            if one.room >= 0:
                self._free.append(one.room)
        self._open.remove(begun)
        return entries, keys

    def _do_another(self) -> bool:
        """Read what is needed later, while what is needed now isn't done; False where there is nothing, or no room."""
        for begun in self._open[-1:-3:-1]:
            if begun.ahead < len(begun.passes):
                one = begun.passes[begun.ahead]
                is_first = begun is self._open[-1]
                has_room = len(self._free) > 1 and (is_first or begun.ahead - begun.at < _SHARED_AHEAD // 2)
                if not one.is_shared or not has_room:
                    return False
                one.result = _there(self._read_now(begun.work, one))
                begun.flying += one.size
                begun.ahead += 1
                return True
        return False

    def _passes(self, keys: Sequence[StatKey]) -> Iterator[_Pass]:
        """Yield what is read at once, in order: some small files, some middling ones, or one of another kind."""
        start = size = 0
        kind = _Kind.SMALL
        for at, key in enumerate(keys):
            before, kind = kind, self._kind(key)
            size += key.size
            if at > start and (kind != before or kind >= _Kind.ALONE or at - start == _AT_ONCE or size > _PASS_BYTES):
                yield _Pass(before, range(start, at), self._held(before, size - key.size))
                start, size = at, key.size
        if start < len(keys):
            yield _Pass(kind, range(start, len(keys)), self._held(kind, size))

    def _held(self, kind: _Kind, size: int) -> int:
        """Return how much of the room for what is read ahead a pass takes: what is copied into a file is not held."""
        return min(size, self._pack_below) if kind is _Kind.ALONE else size

    def _kind(self, key: StatKey) -> _Kind:
        if not stat.S_ISREG(key.mode):
            return _Kind.LINK
        if key.size >= self._pack_below:
            return _Kind.ALONE
        return _Kind.SMALL if key.size < _THREADED else _Kind.MIDDLING

    def _start_some(self) -> None:
        """Begin with what is needed next, where others do the work and have room for it.

        Half of the room is for the folder that is needed first: the next one isn't finished before all below the first.
        """
        if self._open:
            self._start_of(self._open[-1], _AHEAD, _SHARED_AHEAD)
            flying = sum([begun.flying for begun in self._open[:-1]])
            for begun in self._open[-2:-1]:
                self._start_of(begun, _AHEAD // 2 - flying + begun.flying, _SHARED_AHEAD // 2)

    def _start_of(self, begun: Begun, room: int, ahead: int) -> None:
        begun.ahead = max(begun.ahead, begun.at)
        while begun.flying < room and begun.ahead < len(begun.passes):
            one = begun.passes[begun.ahead]
            one.result = self._start(begun.work, one, ahead)
            if one.result is None:
                return
            begun.flying += one.size
            begun.ahead += 1

    def _start(self, work: Unread, one: _Pass, ahead: int) -> Callable[[], _Some] | None:
        """Have a pass begun with, or done when it is wanted; None where it is to be asked for again when there is room."""
        helper = self._helper if self._helper and self._helper.is_there else None
        if one.is_shared and (helper or (one.kind is _Kind.MIDDLING and self._is_much)):
            if len(self._free) <= _ROOMS - ahead:
                return None
            one.room = self._free.pop()
            if helper is None:
                return self._pool.submit(self._read_now, work, one).result
            one.number = helper.ask(self._asked(work, one))
            return lambda: self._some(work, one, helper.answer(one.number))
        if one.is_shared or one.kind is _Kind.LINK or self.files_read == 1:
            return lambda: self._read_now(work, one)
        return self._pool.submit(self._read_now, work, one).result

    @functools.cached_property
    def _pool(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        self._get_help()
        return self._stack.enter_context(ThreadPoolExecutor(2))

    def _read_now(self, work: Unread, one: _Pass) -> _Some:
        if not one.is_shared:
            return self._read_each(work, one.some)
        if one.room < 0:
            one.room = self._free.pop()
        return self._some(work, one, self._asked(work, one).do(self))

    def _asked(self, work: Unread, one: _Pass) -> _Asked:
        some = slice(one.some.start, one.some.stop)
        return _Asked(work.path, work.names[some], [(*key,) for key in work.keys[some]], self._algorithm, one.room)

    def _some(self, work: Unread, one: _Pass, digests: list[bytes] | None) -> _Some:
        """Return what files of a pass turned out to be; where one wasn't as it was listed, look at each by itself."""
        if digests is None:
            return self._read_each(work, one.some)
        some = slice(one.some.start, one.some.stop)
        keys, names, algorithm = work.keys[some], work.names[some], self._algorithm
        modes = {mode: mode_of(mode) for mode in {key.mode for key in keys}}
        entries = [
            Entry(modes[key.mode], Oid(algorithm, digest), key.size, 1, name)
            for name, key, digest in zip(names, keys, digests, strict=True)
        ]
        room, ends = self.room(one.room), [0, *itertools.accumulate([key.size for key in keys])]
        return _Some(entries, keys, [room[start:end] for start, end in itertools.pairwise(ends)])

    def _read_each(self, work: Unread, some: range) -> _Some:
        each = [self._read(work, at) for at in some]
        entries = [one.entry._replace(name=work.names[at]) for at, one in zip(some, each, strict=True)]
        return _Some(entries, [one.key for one in each], [one.data for one in each])

    def _read(self, work: Unread, at: int) -> _One:
        where, path, key = work.where(at), f"{work.path}/{work.names[at]}", work.keys[at]
        try:
            if stat.S_ISLNK(key.mode):
                return self._read_link(path)
            for _ in range(_TRIES):
                with contextlib.suppress(files.Moved):
                    return self._read_file(path, key)
                key = statkey.of(os.lstat(path))  # it may have become a large one
        except OSError as exc:
            if exc.errno not in (errno.ELOOP, errno.EINVAL):  # it became a link, or is none any more
                raise explain(exc, where, "can't read" if exc.filename else "can't store") from exc
        raise DvliteError(f"'{where}' keeps changing while it is read", "Add it again when nothing writes to it.")

    def _read_file(self, path: str, key: StatKey) -> _One:
        if key.size >= self._pack_below:
            oid, status = self._batch.put_file(Path(path), self._algorithm)
            data = None
        else:
            data, status = files.read_small(path, self._pack_below)
            oid = hashing.oid_of(self._algorithm, data)
        key = self.key_of(status)
        return _One(_entry(key, oid), key, data)

    def _read_link(self, path: str) -> _One:
        target = os.readlink(path)
        key = self.key_of(os.lstat(path))
        found = is_stored(target)
        if found and self._objects:  # a file whose content lies in the store, perhaps where that was before
            try:
                status = os.stat(self._objects / found[1] / found[2] / found[3])
                oid = Oid(found[1], bytes.fromhex(found[2] + found[3]))
                return _One(_entry(self.key_of(status), oid), key, None)
            except FileNotFoundError as exc:
                raise MissingError(
                    f"'{path}' links to an object that is not in the store", "Run 'dvlite pull' to get it."
                ) from exc
        data = tree.raw(target)
        return _One(_entry(key, hashing.oid_of(self._algorithm, data)), key, data)

    # ---- stats ----

    def key_of(self, status: os.stat_result) -> StatKey:
        """Return a stat's key; without ctime for the store's own objects, which changes when they are linked elsewhere."""
        ctime_ns = status.st_ctime_ns if status.st_nlink == 1 else self.shared_ctime(status)
        return StatKey(status.st_mode, status.st_size, status.st_mtime_ns, ctime_ns, status.st_ino)

    def shared_ctime(self, status: os.stat_result) -> int:
        """Return the ctime to go by of a file with several names: 0 for an object of the store."""
        is_ours = not status.st_mode & 0o222 and status.st_ino in self._object_inodes
        return 0 if is_ours else status.st_ctime_ns

    @functools.cached_property
    def _object_inodes(self) -> set[int]:
        return {path.stat().st_ino for path in self._objects.glob("*/??/*")} if self._objects else set()


def _there(some: _Some) -> Callable[[], _Some]:
    return lambda: some


def _above(work: Unread) -> str:
    return work.path.rpartition("/")[0]


def _entry(key: StatKey, oid: Oid) -> Entry:
    return Entry(mode_of(key.mode), oid, key.size, 1, "")


def mode_of(mode: int) -> str:
    """Return how a tree spells the mode of a file or link."""
    return SYMLINK if stat.S_ISLNK(mode) else EXECUTABLE if mode & 0o100 else FILE


def is_stored(target: str) -> re.Match[str] | None:
    """Tell whether a link leads to a store's large object: its algorithm, and the two parts of its digest."""
    return re.search(_STORED, target)
