"""Kernel locks on files, freed by the kernel when their process ends and so never broken; the holder is named for messages."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dvlite.errors import LockedError


class Lock:
    """A kernel lock on a file: shared or exclusive, freed by the kernel when its process ends.

    The holder's name stands in a file beside it and is for messages only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def hold(self, *, is_exclusive: bool, label: str, wait_s: float = 30) -> Iterator[Callable[[], None]]:
        """Hold the lock for the length of the block; LockedError when it can't be had in `wait_s` seconds.

        Yields a function that writes down who holds it, to be called before the first change: who changes nothing writes nothing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(fd, fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH, wait_s)
            yield lambda: self._write_holder(label)
        finally:
            os.close(fd)

    @property
    def _holder(self) -> Path:
        return self.path.with_suffix(".holder")

    def _write_holder(self, label: str) -> None:
        self._holder.write_text(f"{label}, process {os.getpid()} on {os.uname().nodename}\n")

    def _acquire(self, fd: int, kind: int, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
                return
            except BlockingIOError as exc:
                if time.monotonic() > end:
                    holder = ""
                    with contextlib.suppress(OSError):
                        holder = self._holder.read_text().strip()
                    raise LockedError(
                        f"'{self.path}' is locked by {holder or 'another process'}",
                        "Wait for it to end, then run the command again.",
                    ) from exc
                time.sleep(0.05)
