"""Share work with other processes, where threads would only wait for each other: many small files are many short system calls.

The others are forks of this process. They send back what became of their shares, and never outlive it by more than one item.
"""

import contextlib
import errno
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST = 4


def processors() -> int:
    """Return how many processes may share work here; 1 where a fork isn't safe: beside other threads, or not on Linux."""
    is_safe = sys.platform == "linux" and threading.active_count() == 1
    return min(_MOST, len(os.sched_getaffinity(0))) if is_safe else 1


def share(work: Callable[[Item], Result], items: Sequence[Item], take: Callable[[Result], None], count: int) -> None:
    """Call `take` with what `work` makes of each item; `count` processes (this one too) work on neighbouring items each.

    Results can be pickled. An exception of any of them comes out here, when all others have ended.
    """
    shares = [items[at * len(items) // count : (at + 1) * len(items) // count] for at in range(count)]
    results: queue.SimpleQueue[object] = queue.SimpleQueue()
    others = [_start(work, its) for its in shares[1:]]
    threads = [threading.Thread(target=_receive, args=(reader, results)) for _, reader in others]
    try:
        for thread in threads:
            thread.start()
        running = len(others)
        for item in shares[0]:
            take(work(item))
            while not results.empty():
                running -= not _accept(results.get(), take)
        while running:
            running -= not _accept(results.get(), take)
    finally:
        for process, _ in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        for thread in threads:
            thread.join()


def _accept(message: object, take: Callable[..., None]) -> bool:
    """Take a result, or raise what it is; False for the last word of a process."""
    if isinstance(message, BaseException):
        raise message
    if message is None:
        return False
    take(*message)  # type: ignore[misc]
    return True


def _start(work: Callable[[Item], Result], items: Sequence[Item]) -> tuple[int, int]:
    """Return the process that works on the items, and where its results can be read."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        return process, reader
    try:
        os.close(reader)
        _send_results(work, items, writer)
    finally:
        os._exit(0)  # nothing of what this process shares with its parent is to be ended twice


def _send_results(work: Callable[[Item], Result], items: Sequence[Item], writer: int) -> None:
    with open(writer, "wb") as stream:
        try:
            for item in items:
                stream.write(pickle.dumps((work(item),)))
                stream.flush()  # fails when the parent is gone
            last: object = None
        except Exception as exc:
            last = exc
        stream.write(pickle.dumps(last))


def _receive(reader: int, results: "queue.SimpleQueue[object]") -> None:
    with open(reader, "rb") as stream:
        try:
            message: object = ()
            while isinstance(message, tuple):
                message = pickle.load(stream)
                results.put(message)
        except (EOFError, pickle.UnpicklingError):
            results.put(OSError(errno.EIO, "a process that shared the work was ended"))
