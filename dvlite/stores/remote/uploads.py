"""Notes of large uploads on this machine, so that what a killed one left on the remote is removed by the next of the same."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dvlite import files
from dvlite.locks import try_lock

_FOLDER = "uploads"
_MOST = 1 << 16


@contextlib.contextmanager
def noted(
    folder: Path | None, name: str, clean: Callable[[Sequence[str]], object]
) -> Iterator[Callable[[str], object]]:
    """Note an upload, below a local folder, until it has gone well; yields what notes each name that it makes meanwhile.

    First, `clean` is called with the names that one left which was killed; not while another process sends the same. Where
    nothing can be noted (on a full disk), the upload goes on all the same.
    """
    path = folder / _FOLDER / name.replace("/", "-") if folder else None
    fd, is_left = _open(path) if path else (-1, False)
    if path is None or fd < 0:
        yield lambda made: None
        return
    try:
        if is_left:
            clean(files.read_at(fd, _MOST, 0).decode(errors="replace").split())
            os.ftruncate(fd, 0)
        yield lambda made: _note(fd, made)
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _open(path: Path) -> tuple[int, bool]:
    """Open and lock a note; tell whether it was there before. -1: it can't be had."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_left = path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1, False
    if try_lock(fd):
        return fd, is_left
    os.close(fd)
    return -1, False


def _note(fd: int, made: str) -> None:
    with contextlib.suppress(OSError):
        files.write_all(fd, f"{made}\n".encode())
