"""A large download in parts: several at once, and going on where an earlier try (of any process) stopped.

The parts lie in one file, and beside it a note of those that are complete. Neither is believed: the file is hashed behind
the parts as they come, or whoever takes it verifies it against its oid.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from dvlite import files, hashing
from dvlite.copying import Digester, Follower
from dvlite.errors import explain
from dvlite.files import start_writeback
from dvlite.locks import try_lock
from dvlite.progress import Progress

_PART = 1 << 24
_FINE = 1 << 21
_STEPS = 32
_SMALLEST = 1 << 18
_LARGE = 1 << 25
_FOLDER = "partial"
_OLD_S = 7 * 86400


class Came:
    """How much of a download has come. `is_resumed`: some of it in an earlier try."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.size = 0
        self.is_resumed = False

    def tell(self, size: int) -> None:
        """Note so many bytes more; fewer where a try failed."""
        self.size += size
        self._progress.advance(size=size)


def sweep_partial(folder: Path) -> None:
    """Delete what downloads left that nobody went on with for a week."""
    with contextlib.suppress(FileNotFoundError):
        for path in (folder / _FOLDER).iterdir():
            if time.time() - path.stat().st_mtime > _OLD_S:
                path.unlink(missing_ok=True)


class Parts:
    """The parts of one file that is being downloaded, below a local folder. Use as a context.

    `is_resumed`: some of it was here before.
    """

    @staticmethod
    def is_worth(size: int) -> bool:
        """Tell whether a file is large enough to come in parts."""
        return size >= _LARGE

    def __init__(self, folder: Path, name: str, size: int, step: int = 0, work: Digester | None = None) -> None:
        key = hashing.digest("sha256", f"{name} {size}".encode()).hex()[:32]
        self._folder = folder / _FOLDER
        self._path = self._folder / key
        self._note = self._folder / f"{key}.parts"
        self._size = size
        self._step = max(_SMALLEST, min(_PART, step or max(_FINE, size // _STEPS)))
        self._done: set[tuple[int, int]] = set()
        self._work = work
        self._follower: Follower | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fd = self._open()
        if not try_lock(self._fd) or not self._is_there():
            # Another process gets it just now, or has just finished it: this one gets it for itself.
            os.close(self._fd)
            self._path = files.temporary(self._folder)
            self._note = self._path.with_suffix(".parts")
            self._fd = self._open()
        try:
            self._read_note()
            self._noting = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except BaseException:
            os.close(self._fd)
            raise
        self._follower = Follower(self._fd, self._work) if self._work else None
        return self

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_there(self) -> bool:
        """Tell whether what was opened still has its name: a finished file is another's, and not to be written to."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        return False

    def __exit__(self, *_: object) -> None:
        if self._follower:
            self._follower.end()
        os.close(self._noting)
        os.close(self._fd)

    def _read_note(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._note.read_text().splitlines():
                start, end = map(int, line.split())
                if 0 <= start < end <= self._size <= os.fstat(self._fd).st_size:
                    self._done.add((start, end))
        self.is_resumed = bool(self._done)

    def left(self, advance: Callable[[int], object]) -> Iterator[tuple[int, int]]:
        """Return the ranges that lack; what is here counts as come."""
        at = 0
        found = []
        for start, end in sorted(self._done):
            if start >= at:
                found += self._ranges(at, start)
                advance(end - start)
                at = end
        found += self._ranges(at, self._size)
        if os.fstat(self._fd).st_size != self._size:
            os.ftruncate(self._fd, self._size)
        self._follow()
        return iter(found)

    def _ranges(self, start: int, end: int) -> list[tuple[int, int]]:
        return [(at, min(at + self._step, end)) for at in range(start, end, self._step)]

    def write(
        self, start: int, end: int, pieces: Iterable[bytes | memoryview], advance: Callable[[int], object]
    ) -> None:
        """Put a part in its place as it comes; raises OSError when it is not as long as it must be."""
        at = start
        for piece in pieces:
            view = memoryview(piece)
            size = len(view)
            if at + size > end:
                raise OSError(f"more than {end - start} bytes came")
            try:
                files.write_all_at(self._fd, view, at)
            except OSError as exc:  # ours, not the server's: the same again would not help
                raise explain(exc, self._path, "can't write") from exc
            at += size
            advance(size)
        if at != end:
            raise OSError(f"{at - start} bytes came, not {end - start}")
        start_writeback(self._fd, start, end - start)
        os.write(self._noting, f"{start} {end}\n".encode())
        with self._lock:
            self._done.add((start, end))
            self._follow()

    def _follow(self) -> None:
        """Have hashed what is here without a gap."""
        if self._follower:
            at = self._follower.copied
            for start, end in sorted(self._done):
                if start <= at < end:
                    at = end
            self._follower.advance(at - self._follower.copied)

    def finish(self, path: Path) -> None:
        """Hand the whole file over under another name of the same file system, hashed if that was asked for."""
        if self._follower:
            self._follower.end()
            self._follower.digest()
        os.replace(self._path, path)
        self._note.unlink(missing_ok=True)
