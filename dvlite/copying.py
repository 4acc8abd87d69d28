"""Copy open files, whole, and hash them on the way. It knows no stores; sizes in bytes."""

import contextlib
import errno
import fcntl
import itertools
import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from dvlite.files import create, drop_cache, open_regular, start_writeback, write_all

BLOCK = 1 << 20
_LARGE = 1 << 23
_COPY_STEP = 1 << 26
_FICLONE = 0x40049409


class Digester(Protocol):
    """Takes in bytes; hashlib's objects are such."""

    def update(self, data: memoryview, /) -> object:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


def hash_file(path: Path, work: Digester) -> bytes:
    """Return the digest of a file's content, read in blocks."""
    fd = open_regular(path)
    try:
        return hash_descriptor(fd, work)
    finally:
        os.close(fd)


def hash_descriptor(fd: int, work: Digester) -> bytes:
    """Return the digest of an open file's content, from its beginning; of a large file, a block is read while one is hashed."""
    blocks = _blocks_ahead(fd) if os.fstat(fd).st_size >= _LARGE else _blocks(fd)
    with contextlib.closing(blocks):
        for block in blocks:
            work.update(block)
    return work.digest()


def _blocks(fd: int) -> Generator[memoryview, None, None]:
    block = memoryview(bytearray(BLOCK))
    at = 0
    while count := os.preadv(fd, [block], at):
        yield block[:count]
        at += count


def _blocks_ahead(fd: int) -> Generator[memoryview, None, None]:
    """Yield the same, read by another thread; each block is good until the next is asked for."""
    rooms = [bytearray(BLOCK), bytearray(BLOCK)]
    wanted: SimpleQueue[bytearray | None] = SimpleQueue()
    filled: SimpleQueue[memoryview | Exception] = SimpleQueue()
    for room in rooms:
        wanted.put(room)
    thread = threading.Thread(target=_fill, args=(fd, wanted, filled), daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # there is no room for one
            yield from _blocks(fd)
            return
        for room in itertools.cycle(rooms):
            block = filled.get()
            if isinstance(block, Exception):
                raise block
            if not block:
                return
            yield block
            wanted.put(room)
    finally:
        wanted.put(None)
        with contextlib.suppress(RuntimeError):  # it was not started
            thread.join()


def _fill(fd: int, wanted: "SimpleQueue[bytearray | None]", filled: "SimpleQueue[memoryview | Exception]") -> None:
    """Read a file into the room that is handed in, until its end, or until none is wanted any more."""
    at, count = 0, 1
    try:
        while count and (room := wanted.get()):
            count = os.preadv(fd, [room], at)
            at += count
            filled.put(memoryview(room)[:count])
    except Exception as exc:  # raised by who waits for it
        filled.put(exc)


def copy_hashed(source: int, target: int, work: Digester, *, is_for_good: bool = False) -> bytes:
    """Copy one descriptor's whole content to another, and return the digest of the copy.

    The hash reads the copy, block by block behind the copying, so it is true whatever happens to the source.
    `is_for_good`: the disk begins to write at once, so that a sync has little left to wait for.
    """
    if clone(source, target):
        # Not by way of the source, though that may be in memory and have the same blocks: where a page's write-back
        # failed, memory and disk differ, and the copy has what is on disk.
        return hash_descriptor(target, work)
    follower = Follower(target, work)
    try:
        for count in _copy_steps(source, target):
            follower.advance(count)
            if is_for_good:
                start_writeback(target, follower.copied - count, count)
    finally:
        follower.end()
    return follower.digest()


class Follower:
    """Hashes a file, in a thread of its own, behind whoever writes it."""

    def __init__(self, target: int, work: Digester) -> None:
        self.copied = 0
        self._error: OSError | None = None
        self._target, self._work = target, work
        self._is_ended = False
        self._ready = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def advance(self, count: int) -> None:
        """Tell that so many more bytes were written."""
        self.copied += count
        self._ready.release()

    def end(self) -> None:
        """Wait until all that was written is hashed."""
        self._is_ended = True
        self._ready.release()
        self._thread.join()

    def digest(self) -> bytes:
        """Return the digest of all that was written, after the end; OSError where it could not be read."""
        if self._error:
            raise self._error
        return self._work.digest()

    def _run(self) -> None:
        try:
            self._hash()
        except OSError as exc:  # nobody else would hear of it, and the digest would be of a part
            self._error = exc

    def _hash(self) -> None:
        block = memoryview(bytearray(BLOCK))
        at = 0
        while True:
            self._ready.acquire()
            is_last = self._is_ended
            while at < self.copied:
                count = os.preadv(self._target, [block[: min(BLOCK, self.copied - at)]], at)
                if not count:
                    raise OSError(errno.EIO, "short read")
                self._work.update(block[:count])
                at += count
            if is_last:
                return


def _copy_steps(source: int, target: int) -> Iterator[int]:
    if hasattr(os, "copy_file_range"):
        try:
            while count := os.copy_file_range(source, target, _COPY_STEP // 8):
                yield count
            return
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
            if os.lseek(target, 0, os.SEEK_CUR):
                raise
    while data := os.read(source, BLOCK):
        write_all(target, data)
        yield len(data)


def clone(source: int, target: int) -> bool:
    """Make `target` share `source`'s blocks (a reflink); False where the file system can't."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def copy_file(source: Path, target: Path, mode: int) -> os.stat_result:
    """Copy a file to a new name (reflink where it can be had); return the copy's stat."""
    origin = open_regular(source)
    try:
        fd = create(target, mode)
        try:
            copy(origin, fd)
            return os.fstat(fd)
        finally:
            os.close(fd)
    finally:
        os.close(origin)


def copy(source: int, target: int, *, leaves_memory: bool = False) -> None:
    """Copy one descriptor's whole content to another, without a look at it (reflink where it can be had).

    `leaves_memory`: the source is not read again soon. What is on disk of it leaves its memory to the copy.
    """
    if not clone(source, target):
        at = 0
        for count in _copy_steps(source, target):
            if leaves_memory:
                drop_cache(source, at, count)
            at += count


def copy_file_hashed(source: Path, target: Path, work: Digester) -> bytes:
    """Copy a file to a new name, where it will be synced, and return the digest of the copy."""
    origin = open_regular(source)
    try:
        fd = create(target)
        try:
            return copy_hashed(origin, fd, work, is_for_good=True)
        finally:
            os.close(fd)
    finally:
        os.close(origin)
