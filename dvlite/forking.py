"""Share work with other processes, where threads would only wait for each other: many small files are many short system calls.

The others are forks of this process. They send back what became of their shares, and never outlive it by more than one item.
`share` is for items that are all known before; a `Helper` is asked for one after the other, while this process does more.
"""

import contextlib
import fcntl
import functools
import itertools
import mmap
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from typing import IO, Generic, NamedTuple, Self, TypeVar

from dvlite.errors import DvliteError

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST = 4
_STOPS = {signal.SIGINT, signal.SIGTERM}


class _Fork(NamedTuple):
    process: int
    reader: int  # where its results come from


class _Message(NamedTuple):
    """What a fork says: some results, or the error that ended it; nothing: all is done."""

    process: int
    results: tuple[object, ...]
    error: BaseException | None


def processors() -> int:
    """Return how many processes may share work here; 1 where a fork isn't safe: beside other threads, or not on Linux."""
    is_safe = sys.platform == "linux" and threading.active_count() == 1
    return min(_MOST, len(os.sched_getaffinity(0))) if is_safe else 1


def share(work: Callable[[Item], Result], items: Sequence[Item], take: Callable[[Result], None], count: int) -> None:
    """Call `take` with what `work` makes of each item; `count` processes (this one too) work on neighbouring items each.

    Results can be pickled. An exception of any of them comes out here, when all others have ended. Where there is no room for
    another process, this one does its share.
    """
    mine, *shares = [items[at * len(items) // count : (at + 1) * len(items) // count] for at in range(count)]
    forks = _Forks()
    try:
        for its in shares:
            if not forks.start(work, its):
                mine = [*mine, *its]
        forks.listen()
        for item in mine:
            take(work(item))
            forks.take(take, is_waiting=False)
        forks.take(take, is_waiting=True)
    finally:
        forks.end()


class _Forks:
    """The other processes, and what they say."""

    def __init__(self) -> None:
        self._forks: list[_Fork] = []
        self._threads: list[threading.Thread] = []
        self._unheard: list[_Fork] = []
        self._messages: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._running: set[int] = set()

    def start(self, work: Callable[[Item], Result], items: Sequence[Item]) -> bool:
        """Start one; False where the system doesn't let us."""
        # A Ctrl-C waits until it is known here; in the fork it would unwind through all of this.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            fork = _start(work, items, [fork.reader for fork in self._forks], mask)
            self._forks.append(fork)
            self._unheard.append(fork)
            self._running.add(fork.process)
        except OSError:
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return True

    def listen(self) -> None:
        """Hear what they say from now on: no thread may be there while a process forks."""
        for fork in list(self._unheard):
            thread = threading.Thread(target=_receive, args=(fork, self._messages))
            with contextlib.suppress(RuntimeError):  # there is no room for one: it is heard when the work here is done
                thread.start()
                self._threads.append(thread)
                self._unheard.remove(fork)

    def take(self, take: Callable[..., None], *, is_waiting: bool) -> None:
        """Take what has come, or all that will come; raises what went wrong in one of them."""
        while is_waiting and self._unheard:
            _receive(self._unheard.pop(), self._messages)
        while self._running if is_waiting else not self._messages.empty():
            message = self._messages.get()
            if message.error:
                raise message.error
            if not message.results:
                self._running.discard(message.process)
            for result in message.results:
                take(result)

    def end(self) -> None:
        """Stop those that are still at work, and wait for all."""
        for fork in self._forks:
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, the kernel has waited already
                if fork.process in self._running and not os.waitpid(fork.process, os.WNOHANG)[0]:
                    os.kill(fork.process, signal.SIGKILL)
                    os.waitpid(fork.process, 0)
                elif fork.process not in self._running:
                    os.waitpid(fork.process, 0)
        for thread in self._threads:
            thread.join()
        for fork in self._unheard:
            os.close(fork.reader)


def _start(
    work: Callable[[Item], Result], items: Sequence[Item], others: Sequence[int], mask: Collection[int]
) -> _Fork:
    """Start a process that works on the items; `others`: what it must not hold open; `mask`: the signals that it may not get."""
    reader, writer = os.pipe()
    try:
        process = _fork(lambda: _send_results(work, items, writer), (reader, *others), mask)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return _Fork(process, reader)


def _fork(run: Callable[[], None], others: Collection[int], mask: Collection[int]) -> int:
    """Fork; the other process runs and ends."""
    process = os.fork()
    if not process:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for one in others:
                os.close(one)
            run()
        finally:
            os._exit(0)  # nothing of what this process shares with its parent is to be ended twice
    return process


def _send_results(work: Callable[[Item], Result], items: Sequence[Item], writer: int) -> None:
    process = os.getpid()
    with os.fdopen(writer, "wb", closefd=False) as stream:
        last = _Message(process, (), None)
        try:
            for item in items:
                stream.write(pickle.dumps(_Message(process, (work(item),), None)))
                stream.flush()  # fails when the parent is gone
        except Exception as exc:
            last = _Message(process, (), exc)
        stream.write(pickle.dumps(last))


def _receive(fork: _Fork, messages: "queue.SimpleQueue[_Message]") -> None:
    with os.fdopen(fork.reader, "rb") as stream:
        try:
            while True:
                message: _Message = pickle.load(stream)
                messages.put(message)
                if not message.results:
                    return
        except Exception:
            said = "a process that shared the work was ended, perhaps for want of memory"
            messages.put(_Message(fork.process, (), DvliteError(said, "Run the same command again.")))


# ---- a helper -------------------------------------------------------------------------------------------------------

_ROOM = 1 << 20  # bytes that a pipe holds, so that neither waits for the other where both write
_COUNT = 8  # bytes of a number


class Helper(Generic[Item, Result]):
    """A fork that does one kind of work, asked for ahead and answered in any order. Use it as a context.

    Raises OSError where there is no room for it. It may be killed at any time: what it doesn't answer, its parent does itself.
    What it is asked for ahead must fit into `_ROOM` bytes together.
    """

    def __init__(self, work: Callable[[Item], Result]) -> None:
        """Start it."""
        self._work = work
        self._asked: dict[int, Item] = {}
        self._answers: dict[int, Result] = {}
        self._done = mmap.mmap(-1, mmap.PAGESIZE)  # how much it has done, in memory that both have
        self._next = self._process = 0
        self._streams: list[IO[bytes]] = []
        # A Ctrl-C waits until the process is known here.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            self._start(mask)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except BaseException:
            self.__exit__()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise

    def _start(self, mask: Collection[int]) -> None:
        pipes = [*os.pipe()]
        try:
            pipes += os.pipe()
            asked, asking, answered, answering = pipes
            for one in (asked, answered):
                fcntl.fcntl(one, fcntl.F_SETPIPE_SZ, _ROOM)
            serve = functools.partial(_serve, self._work, asked, answering, self._done)
            self._process = _fork(serve, (asking, answered), mask)
        except OSError:
            for one in pipes:
                os.close(one)
            raise
        os.close(asked)
        os.close(answering)
        self._streams = [os.fdopen(asking, "wb"), os.fdopen(answered, "rb")]

    @property
    def is_there(self) -> bool:
        """Whether it still works."""
        return self._process != 0

    def has_done(self, number: int) -> bool:
        """Tell whether an answer can be had without waiting for another process."""
        return number < int.from_bytes(self._done[:_COUNT], "little") or not self._process

    def ask(self, item: Item) -> int:
        """Ask for what `work` makes of an item; return the number under which the answer is to be had."""
        number, self._next = self._next, self._next + 1
        self._asked[number] = item
        try:
            pickle.dump(item, self._streams[0])
            self._streams[0].flush()
        except OSError:
            self._end()
        return number

    def answer(self, number: int) -> Result:
        """Wait for an answer; it is given once."""
        while self._process and number not in self._answers:
            try:
                answer = pickle.load(self._streams[1])
            except Exception:  # it was killed, perhaps amid an answer
                self._end()
                break
            self._answers[first := min(self._asked)] = answer
            del self._asked[first]
        if number in self._answers:
            return self._answers.pop(number)
        return self._work(self._asked.pop(number))

    def _end(self) -> None:
        process, self._process = self._process, 0
        with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, the kernel may have waited already
            if process and not os.waitpid(process, os.WNOHANG)[0]:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()


def _serve(work: Callable[[Item], Result], asked: int, answering: int, done: mmap.mmap) -> None:
    with os.fdopen(asked, "rb") as requests, os.fdopen(answering, "wb") as answers, contextlib.suppress(EOFError):
        for number in itertools.count(1):
            pickle.dump(work(pickle.load(requests)), answers)
            answers.flush()  # fails when the parent is gone
            done[:_COUNT] = number.to_bytes(_COUNT, "little")
