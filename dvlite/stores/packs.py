"""Pack files on a local disk: writing one object after the other, reading the index, reading and verifying objects in bulk."""

import contextlib
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvlite import files, hashing, pack
from dvlite.errors import CorruptError, DvliteError
from dvlite.oid import Oid
from dvlite.pack import PackIndex, Place

if TYPE_CHECKING:
    from dvlite.forking import Helper

_BUFFER = 1 << 18  # written while it is still in the processor's cache
_WORTH = 1 << 16  # sooner written than copied
_KEPT = 1 << 22
_READ_STEP = 1 << 22
_READ_GAP = 1 << 16
_SMALL = 1 << 15


class Written(NamedTuple):
    """A finished pack that has no final name yet. `objects` are oids and sizes, in file order.

    `data` is all of it, where it is small and there is no file.
    """

    path: Path
    id: str
    size: int
    tail: bytes
    objects: list[tuple[Oid, int]]
    data: bytes = b""


class PackWriter:
    """Writes packs into a folder, a new one when one is full. Not for several threads.

    `keeps_small`: a pack of fewer than `_KEPT` bytes is handed over as bytes, and no file is made for it.
    """

    def __init__(self, folder: Path, limit: int, *, keeps_small: bool = False) -> None:
        self._folder = folder
        self._limit = limit
        self._keeps_small = keeps_small
        self._buffer = _KEPT if keeps_small else _BUFFER
        self._fd = -1
        self._path: Path | None = None
        self._error: OSError | None = None
        self._parts: list[bytes | memoryview] = []
        self._pending = 0
        self._objects: list[tuple[Oid, int]] = []
        self._size = 0

    def end(self) -> tuple[Path, int]:
        """Return where the next object will lie: the file and the offset in it."""
        return self._begin(), self._size

    def read(self, path: Path, size: int, offset: int) -> bytes:
        """Return bytes of a pack that was written here and has no final name yet."""
        if path != self._path:
            with path.open("rb") as file:
                return files.read_at(file.fileno(), size, offset)
        self._flush()
        return files.read_at(self._fd, size, offset)

    def _begin(self) -> Path:
        if self._path is None:
            self._path = files.temporary(self._folder)
            self._parts, self._pending, self._size = [pack.MAGIC], len(pack.MAGIC), len(pack.MAGIC)
        return self._path

    def add(self, oid: Oid, data: bytes | memoryview) -> Written | None:
        """Append an object; return the pack that is full by it, if any. After an error no more is taken.

        A view must be good until `let_go`.
        """
        if self._error:
            raise self._error
        self._begin()
        self._parts.append(data)
        self._objects.append((oid, len(data)))
        self._pending += len(data)
        self._size += len(data)
        if self._pending >= self._buffer:
            self._flush()
        is_full = self._size >= self._limit or len(self._objects) == pack.MAX_OBJECTS
        return self.finish() if is_full else None

    def let_go(self) -> None:
        """Keep no views of what others may change."""
        if self._pending >= _WORTH:
            self._flush()
        elif self._parts:
            self._parts = [b"".join(self._parts)]

    def _flush(self) -> None:
        if self._fd < 0:
            self._fd = files.create(self._begin(), 0o600)
        try:
            files.write_parts(self._fd, self._parts)
        except OSError as exc:
            self._error = exc  # a part may be written: nothing may follow it
            raise
        self._parts, self._pending = [], 0

    def finish(self) -> Written | None:
        """Close the pack in hand, if any, and return it."""
        if self._error:
            raise self._error
        if self._path is None:
            return None
        id_, tail = pack.encode_index(self._objects)
        self._parts.append(tail)
        data = b""
        if self._keeps_small and self._fd < 0:
            data = b"".join(self._parts)
        else:
            self._flush()
            os.fchmod(self._fd, 0o444)
            files.write_back(self._fd)
        done = Written(self._path, id_, self._size + len(tail), tail, self._objects, data)
        self._fd, self._path, self._objects, self._parts = -1, None, [], []
        return done

    def abandon(self) -> None:
        """Remove the pack in hand."""
        if self._fd >= 0 and self._path:
            os.close(self._fd)
            self._path.unlink(missing_ok=True)
        self._fd, self._path, self._objects, self._parts = -1, None, [], []


def read_tail(path: Path) -> bytes:
    """Return a pack file's tail; CorruptError names the file."""
    fd = files.open_regular(path)
    try:
        size = os.fstat(fd).st_size
        start = max(0, size - pack.FOOTER_SIZE)
        at, end = pack.tail_range(files.read_at(fd, pack.FOOTER_SIZE, start), size)
        return files.read_at(fd, end - at, at)
    except CorruptError as exc:
        raise CorruptError(f"'{path}': {exc.message}", exc.hint) from exc
    finally:
        os.close(fd)


def read_index(path: Path) -> PackIndex:
    """Return a pack file's index, checked against the file's size."""
    index = pack.decode_index(read_tail(path))
    if index.size != path.stat().st_size:
        raise CorruptError(f"'{path}' has another size than its index says")
    return index


def count(path: Path) -> int:
    """Return how many objects a pack file has."""
    return pack.identify(read_tail(path))[2]


def has_head(path: Path) -> bool:
    """Tell whether a file begins as a pack does; nothing else vouches for these bytes."""
    fd = files.open_regular(path)
    try:
        return files.read_at(fd, len(pack.MAGIC), 0) == pack.MAGIC
    finally:
        os.close(fd)


def read_objects(path: Path, places: Mapping[Oid, Place]) -> Iterator[tuple[Oid, bytes]]:
    """Yield objects of a pack in file order, unverified, in few large reads; what is cut off comes short."""
    for oids, data in read_groups(path, places):
        yield from zip(oids, data, strict=True)


def read_groups(path: Path, places: Mapping[Oid, Place]) -> Iterator[tuple[list[Oid], list[bytes]]]:
    """Yield the same, all that one read brings at once."""
    fd = files.open_regular(path)
    try:
        for group in coalesce(places, gap=_READ_GAP, step=_READ_STEP):
            data, start = _read_group(fd, group)
            yield [oid for oid, _ in group], [data[at - start : at - start + size] for _, (at, size) in group]
    finally:
        os.close(fd)


def _read_group(fd: int, group: list[tuple[Oid, Place]]) -> tuple[bytes, int]:
    """Return what lies from the first to the last of some places, and where that starts."""
    (_, (start, _)), (_, (last, size)) = group[0], group[-1]
    return files.read_at(fd, last + size - start, start), start


def coalesce(places: Mapping[Oid, Place], *, gap: int, step: int) -> Iterator[list[tuple[Oid, Place]]]:
    """Group places that lie close together, in order: at most `gap` bytes between, `step` bytes a group."""
    group: list[tuple[Oid, Place]] = []
    start = end = 0
    for one in sorted(places.items(), key=itemgetter(1)):
        at, size = one[1]
        if group and (at - end > gap or at + size - start > step):
            yield group
            group = []
        if not group:
            start = at
        group.append(one)
        end = at + size
    if group:
        yield group


# ---- verifying ------------------------------------------------------------------------------------------------------


# Hashing what is small is many short steps: threads that do it at once only wait for each other, and keep those waiting that
# copy and send. So one does it at a time, and one more for each helper.
class _Workers:
    """Who has time to verify a pack: this process (None), and helpers."""

    def __init__(self) -> None:
        self._idle: list[Helper[tuple[Path, str], bool] | None] = [None]
        self._changed = threading.Condition()

    def take(self) -> "Helper[tuple[Path, str], bool] | None":
        """Wait for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle)
            return self._idle.pop()

    def give(self, worker: "Helper[tuple[Path, str], bool] | None") -> None:
        """Give one back, or a new one."""
        with self._changed:
            self._idle.append(worker)
            self._changed.notify_all()

    def dismiss(self, worker: "Helper[tuple[Path, str], bool]") -> None:
        """Wait until one is idle, and let it go."""
        with self._changed:
            self._changed.wait_for(lambda: worker in self._idle)
            self._idle.remove(worker)


_workers = _Workers()
_turns = threading.BoundedSemaphore((os.cpu_count() or 1) + 1)  # what waits for a worker needs no index in memory yet


@contextlib.contextmanager
def helped() -> Iterator[None]:
    """Have another process verify packs too for the length of the block, where there can be one."""
    from dvlite import forking

    with contextlib.ExitStack() as stack:
        if forking.processors() > 1:
            with contextlib.suppress(OSError):
                helper = stack.enter_context(forking.Helper(_is_true))
                _workers.give(helper)
                stack.callback(_workers.dismiss, helper)
        yield


def verified(path: Path) -> PackIndex:
    """Return a pack file's index; CorruptError where an object isn't what its oid says. As many at once as can go on."""
    with _turns:
        index = read_index(path)
        if bad := bad_objects(path, index):
            raise CorruptError(f"pack {index.id[:12]} has {len(bad)} corrupt objects")
        return index


def _is_true(asked: tuple[Path, str]) -> bool:
    """Tell whether a pack of an id holds what its index says; that one was decoded before."""
    path, id_ = asked
    try:
        tail = read_tail(path)
        return pack.identify(tail)[0] == id_ and _holds(path, pack.in_order(tail))
    except (OSError, DvliteError):
        return False


def _holds(path: Path, its: pack.InOrder) -> bool:
    buffer = bytearray(_READ_STEP)
    fd = files.open_regular(path)
    try:
        at = 0
        while at < len(its.digests):
            start = its.ends[at]
            stop = max(at + 1, bisect_right(its.ends, start + _READ_STEP) - 1)
            ends = [end - start for end in its.ends[at : stop + 1]]
            if ends[-1] > len(buffer):
                buffer = bytearray(ends[-1])
            data = memoryview(buffer)[: files.read_into(fd, memoryview(buffer)[: ends[-1]], start)]
            pieces = map(data.__getitem__, map(slice, ends, ends[1:]))
            if hashing.digests(its.algorithms[at:stop], pieces) != its.digests[at:stop]:
                return False
            at = stop
    finally:
        os.close(fd)
    return True


def bad_objects(path: Path, index: PackIndex) -> set[Oid]:
    """Return the objects of a pack that are not what their oids say; CorruptError where it doesn't even begin as one."""
    if not has_head(path):
        raise CorruptError(f"'{path}' does not begin as a pack does")
    is_small = index.size < _SMALL * len(index)
    bad = _bad_of_small(path, index) if is_small else _bad_objects(path, index.places)
    if not bad:
        pack.remember(index)
    return bad


def _bad_of_small(path: Path, index: PackIndex) -> set[Oid]:
    asked = path, index.id
    worker = _workers.take()
    try:
        is_true = worker.answer(worker.ask(asked)) if worker else _is_true(asked)
        return set() if is_true else _bad_objects(path, index.places)
    finally:
        _workers.give(worker)


def _bad_objects(path: Path, places: Mapping[Oid, Place]) -> set[Oid]:
    bad: set[Oid] = set()
    fd = files.open_regular(path)
    try:
        for group in coalesce(places, gap=0, step=_READ_STEP):
            data, start = _read_group(fd, group)
            view = memoryview(data)
            bad.update(
                hashing.wrong(
                    [oid for oid, _ in group], [view[at - start : at - start + size] for _, (at, size) in group]
                )
            )
    finally:
        os.close(fd)
    return bad
