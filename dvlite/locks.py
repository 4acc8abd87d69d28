"""Kernel locks on files, freed by the kernel when their process ends and so never broken; their holders are named for messages.

Whoever waits says for whom. On Linux the kernel itself tells who holds a lock of this machine; the file beside it (`.holder`)
tells of other machines. Where a file system has no such locks (some network ones), POSIX record locks are tried; where there are
none either, only a caller that must be alone is refused.
"""

import contextlib
import errno
import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dvlite.errors import LockedError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_SAY_AFTER_S = 0.5


def _ignore(_: str) -> None:
    """Say nothing."""


class Lock:
    """A kernel lock on a file: shared or exclusive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def hold(
        self,
        *,
        is_exclusive: bool,
        label: str,
        wait_s: float = 30,
        must: bool = False,
        waiting: Callable[[str], None] = _ignore,
    ) -> Iterator[Callable[[], None]]:
        """Hold the lock for the length of the block; LockedError when it can't be had in `wait_s` seconds.

        Yields a function that writes down who holds it, to be called before the first change: who changes nothing writes nothing.
        `must`: refuse to go on where the file system has no locks. `waiting` is told once for whom it is waited.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(fd, fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH, wait_s, must, waiting)
            yield functools.cache(lambda: self._write_holder(label))
        finally:
            os.close(fd)

    @property
    def _holder(self) -> Path:
        return self.path.with_suffix(".holder")

    def _write_holder(self, label: str) -> None:
        """Name the holder; only for messages, so a full or read-only disk is no reason to fail."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):
            self._holder.write_text(f"{label} (process {os.getpid()} on {os.uname().nodename}, since {since})\n")

    def _acquire(self, fd: int, kind: int, wait_s: float, must: bool, waiting: Callable[[str], None]) -> None:
        start = time.monotonic()
        is_told = False
        while not _take(fd, kind, must, self.path):
            waited = time.monotonic() - start
            if waited > wait_s:
                raise LockedError(
                    f"'{self.path}' is locked by {self.holders()}", "Wait for it to end, then run the command again."
                )
            if waited > _SAY_AFTER_S and not is_told:
                is_told = True
                waiting(f"waiting for {self.holders()}")
            time.sleep(0.05)

    def holders(self) -> str:
        """Return who holds the lock, as far as can be told."""
        if found := [_describe(process) for process in _processes(self.path)]:
            return ", ".join(found)
        with contextlib.suppress(OSError):
            return self._holder.read_text().strip()
        return "another process"


def _take(fd: int, kind: int, must: bool, path: Path) -> bool:
    for call in (fcntl.flock, fcntl.lockf):
        try:
            call(fd, kind | fcntl.LOCK_NB)
            return True
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if exc.errno not in _NO_LOCKS:
                raise
    if must:
        raise LockedError(
            f"the file system of '{path}' has no locks",
            "Run this on the machine that has the disk, when nothing else works there.",
        )
    return True


def _processes(path: Path) -> list[int]:
    """Return the processes of this machine that hold a lock on a file, by what Linux tells."""
    try:
        status = path.stat()
        lines = Path("/proc/locks").read_text().split("\n")
    except OSError:
        return []
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    rows = [line.split() for line in lines]
    return [
        int(row[4])
        for row in rows
        if len(row) > 5 and row[1] in ("FLOCK", "POSIX") and row[5] == place and int(row[4]) > 0
    ]


def _describe(process: int) -> str:
    words = []
    since = ""
    with contextlib.suppress(OSError, ValueError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        since = (
            f", since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(Path(f'/proc/{process}').stat().st_mtime))}"
        )
    names = [
        position
        for position, word in enumerate(words)
        if word.endswith("dvlite") or word.endswith("dvlite/__main__.py")
    ]
    command = " ".join(["dvlite", *words[names[0] + 1 : names[0] + 3]]) if names else (words or ["a process"])[0]
    return f"{command} (process {process} on {os.uname().nodename}{since})"


def try_lock(fd: int) -> bool:
    """Lock a descriptor's file for as long as it is open; False where another has it, or there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
