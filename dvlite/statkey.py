"""What tells that a file is still the same without reading it, and up to which time that can be trusted. Times in nanoseconds."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from dvlite.files import create, temporary

# A stat is trusted when it is older than a stamp by this; file systems with whole seconds need two of them.
_GRAIN_NS = 10_000_000
_COARSE_GRAIN_NS = 2_000_000_000


class StatKey(NamedTuple):
    """What tells that a file is still the same, without reading it."""

    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def of(status: os.stat_result) -> StatKey:
    """Return the key of a stat result."""
    return StatKey(status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def stamp(folder: Path) -> int:
    """Return the time up to which stats in `folder`'s file system can be trusted, in nanoseconds.

    Taken from the file system itself, by a file without a name: nothing in the folder changes.
    """
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):
        return _named_stamp(folder)
    try:
        now = os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    return _less_grain(now)


def _named_stamp(folder: Path) -> int:
    path = temporary(folder)
    try:
        fd = create(path)
    except OSError:  # read-only: nothing young can be told from what is old
        return 0
    try:
        now = os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
        path.unlink()
    return _less_grain(now)


def _less_grain(now_ns: int) -> int:
    return now_ns - (_GRAIN_NS if now_ns % 1_000_000_000 else _COARSE_GRAIN_NS)


def stamp_after(folder: Path, newest_ns: int) -> int:
    """Wait until a stamp is newer than `newest_ns` (at most some grains), and return it."""
    for _ in range(20):
        now = stamp(folder)
        if now > newest_ns or newest_ns - now > 2 * _COARSE_GRAIN_NS:
            return now
        time.sleep(0.004)
    return now
