"""Copy open files, whole, and hash them on the way. It knows no stores; sizes in bytes."""

import _thread
import contextlib
import errno
import fcntl
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from dvlite.files import create, drop_cache, open_regular, read_into, start_writeback, write_all

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


Step = Callable[[memoryview], object]  # what is done with a block


def hash_file(path: Path, *works: Digester) -> bytes:
    """Have some digesters take in a file's content; return what the last one makes of it."""
    fd = open_regular(path)
    try:
        return hash_descriptor(fd, *works)
    finally:
        os.close(fd)


def hash_descriptor(fd: int, *works: Digester) -> bytes:
    """Have some digesters take in an open file's content, from its beginning; return what the last one makes of it."""
    in_turns(fd, [work.update for work in works])
    return works[-1].digest()


def in_turns(fd: int, steps: Sequence[Step]) -> None:
    """Hand an open file's content, block by block from its beginning, to each of some steps, which are done in order.

    With a large file two threads take turns. Each hands on what it has read itself, while that is in the cache of its processor:
    to hash what the other one has read takes half as long again.
    """
    turns = _Turns(fd, steps)
    if os.fstat(fd).st_size < _LARGE:
        turns.go(0, 1)
        return
    try:
        turns.go(0, 2 if turns.begin() else 1)
        turns.wait()
    except BaseException:
        turns.end()
        raise
    if turns.error:
        raise turns.error


class _Turns:
    """Whose turn it is at each step: a gate for each thread, that the other one opens.

    The second thread has none of `threading.Thread`: where a Ctrl-C meets what that does at its start or in `join`, the thread
    may be left behind, at work on descriptors that are another file's by then.
    """

    def __init__(self, fd: int, steps: Sequence[Step]) -> None:
        self._fd = fd
        self._steps = steps
        self._gates = [(threading.Lock(), threading.Lock()) for _ in steps]
        for _, second in self._gates:
            second.acquire()
        self._is_at_end = self._is_given_up = False
        self._is_begun = self._is_ended = False  # the second thread
        self._ending = threading.Lock()
        self._ending.acquire()
        self.error: BaseException | None = None

    def begin(self) -> bool:
        """Start the second thread; False where there is no room for one."""
        try:
            _thread.start_new_thread(self._go_beside, ())
        except RuntimeError:
            return False
        self._is_begun = True
        return True

    def _go_beside(self) -> None:
        """Do every other block, as the second thread."""
        self._is_begun = True
        try:
            if not self._is_given_up:  # looked at in this order, and by `end` in the other
                self.go(1, 2)
        except BaseException as exc:  # raised by the first one
            self.error = exc
            self._give_up()
        finally:
            self._is_ended = True
            self._ending.release()

    def wait(self) -> None:
        """Wait until the second thread, if there is one, is at its end."""
        while self._is_begun and not self._is_ended:
            self._ending.acquire(timeout=1)

    def end(self) -> None:
        """Give up, and wait until nobody is at work any more, however often that is interrupted: an error is raised already."""
        while not self._is_given_up or (self._is_begun and not self._is_ended):
            with contextlib.suppress(BaseException):
                self._give_up()
                self.wait()

    def go(self, number: int, count: int) -> None:
        """Do every `count`th block, from `number` on, until the end of the file."""
        room = memoryview(bytearray(BLOCK))
        at = number * BLOCK
        while True:
            block = room[: read_into(self._fd, room, at)]
            for place, (step, gates) in enumerate(zip(self._steps, self._gates, strict=True)):
                gates[number].acquire()
                if self._is_given_up or (self._is_at_end and not place):
                    return
                if len(block) < BLOCK:  # what comes to the file after this is not of it
                    self._is_at_end = True
                step(block)
                _open(gates[(number + 1) % count])
            if len(block) < BLOCK:
                return
            at += count * BLOCK

    def _give_up(self) -> None:
        """Let nobody wait any more."""
        self._is_given_up = True
        for gate in itertools.chain.from_iterable(self._gates):
            _open(gate)


def _open(gate: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it is open
        gate.release()


def copy_hashed(source: int, target: int, *works: Digester, is_for_good: bool = False) -> bytes:
    """Copy one descriptor's whole content to another, and return the digest of the copy (of the last digester).

    The hash reads the copy, block by block behind the copying, so it is true whatever happens to the source.
    `is_for_good`: the disk begins to write at once, so that a sync has little left to wait for.
    """
    if clone(source, target):
        # Not by way of the source, though that may be in memory and have the same blocks: where a page's write-back
        # failed, memory and disk differ, and the copy has what is on disk.
        return hash_descriptor(target, *works)
    # The kernel copies: two threads that take turns to write and hash need twice as long where memory is new to it.
    follower = Follower(target, *works)
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

    def __init__(self, target: int, *works: Digester) -> None:
        self.copied = 0
        self._error: OSError | None = None
        self._target, self._works = target, works
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
        return self._works[-1].digest()

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
                for work in self._works:
                    work.update(block[:count])
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
