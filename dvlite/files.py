"""Careful local file primitives: atomic writes, the order of syncs, reading with a look before and after.

The only room that makes raw OS calls with a safety order. It knows no stores, trees or pointers. Paths are file-system
paths; sizes in bytes; times in nanoseconds.
"""

import contextlib
import errno
import functools
import os
import stat
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from dvlite import machine

LINKS = ("reflink", "copy", "hardlink", "symlink")  # how a large file gets from the store into the worktree
NEAR = ".dvlite-tmp"  # a folder of unfinished files, beside data that lies on another file system than the Git folder
ASIDE = ".aside"  # the end of a name under which a user's file waits to be deleted or put back
_AT_ONCE = 1000  # buffers that one call takes; IOV_MAX is 1024
# Bytes that one call writes. For a megabyte or more, Linux takes pages of its largest kind, which virtual machines may have
# to get back from their host first: the same gigabyte took 0.3 s in steps like this, and 1.3 to 2 s in larger ones.
_WRITE_STEP = 1 << 18
_NOFOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC


class Moved(Exception):
    """A file changed while it was read; internal, callers try again or refuse."""


Listed = tuple[int, int, int, int, int]  # a stat that was listed: mode, size, mtime_ns, ctime_ns, inode


# ---- writing --------------------------------------------------------------------------------------------------------


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however short the single writes are."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_WRITE_STEP]) :]


def write_all_at(fd: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at an offset."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view[:_WRITE_STEP], at)
        at, view = at + count, view[count:]


def write_parts(fd: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write many parts in few calls, without putting them together first."""
    some: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        if size + len(part) > _WRITE_STEP or len(some) == _AT_ONCE:
            _write_some(fd, some, size)
            some, size = [], 0
        some.append(part)
        size += len(part)
    _write_some(fd, some, size)


def _write_some(fd: int, some: list[bytes | memoryview], size: int) -> None:
    if size > _WRITE_STEP:  # one large part
        write_all(fd, some[0])
    elif size and (done := os.writev(fd, some)) < size:
        write_all(fd, b"".join(some)[done:])


def token(size: int) -> str:
    """Return `size` random bytes as hexadecimal digits."""
    return os.urandom(size).hex()


def temporary(folder: Path) -> Path:
    """Return a path in `folder` that nobody else uses; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{machine.host_mark()}-{os.getpid():x}-{token(8)}"


def sweep(folder: Path) -> None:
    """Remove what processes of this host left in a folder of temporaries when they were killed.

    A folder with something in it that was moved aside stays: that may be the only copy of a user's last edit.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            mark, _, rest = path.name.partition("-")
            process = rest.partition("-")[0]
            if mark != machine.host_mark() or not process or machine.is_alive(int(process, 16)):
                continue
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif not holds_aside(path):
                remove_folder(path)


def holds_aside(folder: Path) -> bool:
    """Tell whether a folder of unfinished files has something in it that was moved aside."""
    return any(name.endswith(ASIDE) for name in os.listdir(folder))


def share(root: Path, bits: int) -> None:
    """Give what is ours below `root` more permissions (of reading and writing, as in modes); read-only files stay so.

    Folders get what it takes to enter them, and hand their group on.
    """
    own = os.geteuid()
    for folder, _, names in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                mode = stat.S_IMODE(status.st_mode)
                if stat.S_ISDIR(status.st_mode):
                    wanted = mode | bits | (bits & 0o044) >> 2 | stat.S_ISGID
                else:
                    wanted = mode | (bits if mode & 0o200 else bits & 0o044)
                if status.st_uid == own and wanted != mode and not stat.S_ISLNK(status.st_mode):
                    os.chmod(path, wanted)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; what can't be removed stays."""
    import shutil  # needs 2 ms

    shutil.rmtree(path, ignore_errors=True)


def create(path: str | Path, mode: int = 0o666) -> int:
    """Create a new file, never an existing one and never through a link; return its descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode)


def write_new(path: str, data: bytes, mode: int = 0o666, dir_fd: int | None = None) -> os.stat_result:
    """Create a new file with its content and return its stat; never an existing one, never through a link."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode, dir_fd=dir_fd)
    try:
        write_all(fd, data)
        return os.fstat(fd)
    finally:
        os.close(fd)


def write_atomic(
    path: Path, data: bytes | Iterable[bytes], *, folder: Path | None = None, is_synced: bool = True
) -> None:
    """Replace `path` by `data` (or its parts) in one step; `folder` (same file system) takes the unfinished file.

    The mode of an existing file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary(folder or path.parent)
    try:
        fd = create(unfinished)
        try:
            for part in [data] if isinstance(data, bytes) else data:
                write_all(fd, part)
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
            if is_synced:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(unfinished, path)
        if os.path.lexists(unfinished):  # said to be done, and wasn't: the caller must not go on as if it were
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if is_synced:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folders(folders: Iterable[Path]) -> None:
    """Sync each folder once, deepest first."""
    for folder in sorted(set(folders), key=lambda one: -len(one.parts)):
        sync(folder)


def start_writeback(fd: int, start: int = 0, size: int = 0) -> None:
    """Ask the kernel to begin writing `size` bytes of a file (0: all) to disk, without waiting; a hint only."""
    if sys.platform == "linux" and (call := _sync_file_range()):
        call(fd, start, size, 2)


def write_back(fd: int) -> None:
    """Close a file, and have the kernel begin to write it to disk, beside this thread: it finds room there first.

    What the system says at the close (a full quota, over a network) is raised here; that writing began is a hint only.
    """
    spare = os.dup(fd)
    try:
        os.close(fd)
    except OSError:
        os.close(spare)
        raise
    try:
        threading.Thread(target=_write_back, args=(spare,), daemon=True).start()
    except RuntimeError:  # there is no room for a thread
        os.close(spare)


def _write_back(fd: int) -> None:
    with contextlib.suppress(OSError):
        start_writeback(fd)
        os.close(fd)


@functools.cache
def _sync_file_range():  # type: ignore[no-untyped-def]
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        call = ctypes.CDLL(None).sync_file_range
        call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
        return call
    return None


def place(source: Path, target: Path) -> None:
    """Move a file to a name that must not exist yet; raises FileExistsError where it does."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from exc
        os.rename(source, target)
    else:
        os.unlink(source)


# ---- reading --------------------------------------------------------------------------------------------------------


def is_regular(path: str) -> bool:
    """Tell whether there is a regular file, and no link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_start(path: str | Path, size: int) -> bytes:
    """Return a file's first bytes, `size` at most."""
    with open(path, "rb") as file:
        return file.read(size)


def read_into(fd: int, buffer: memoryview, start: int) -> int:
    """Fill a buffer from a file's byte `start` on; return how many bytes there were."""
    count = 0
    while count < len(buffer) and (got := os.preadv(fd, [buffer[count:]], start + count)):
        count += got
    return count


def open_folder(path: str | Path, dir_fd: int | None = None) -> int:
    """Open a folder, never through a link."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW, dir_fd=dir_fd)


def open_regular(path: str | Path, dir_fd: int | None = None) -> int:
    """Open a regular file for reading, never through a link and never waiting for a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def read_small(path: str, below: int = sys.maxsize) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file with its stat; raises Moved if it changed meanwhile, or has `below` bytes or more."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode) or before.st_size >= below:
            raise Moved
        data = os.read(fd, before.st_size + 1)
        while 0 < len(data) < before.st_size:
            more = os.read(fd, before.st_size + 1 - len(data))
            if not more:
                break
            data += more
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if len(data) != after.st_size or before.st_mtime_ns != after.st_mtime_ns or before.st_ctime_ns != after.st_ctime_ns:
        raise Moved
    return data, after


def read_listed(folder: str, names: Sequence[str], keys: Sequence[Listed], room: memoryview) -> list[memoryview] | None:
    """Read regular files of a folder into `room`, one behind the other; None where one isn't as it was listed, or can't be read.

    The stat that was listed stands for a look before the reading, so this takes four calls a file.
    """
    found: list[memoryview] = []
    more = bytearray(1)
    at = 0
    try:
        within = open_folder(folder)
    except OSError:
        return None
    try:
        for name, (mode, size, mtime_ns, ctime_ns, inode) in zip(names, keys, strict=True):
            piece = room[at : at + size]
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _NOFOLLOW, dir_fd=within)
            try:
                count = os.readv(fd, [piece, more])  # some files hold more than their stats say
                after = os.fstat(fd)
            finally:
                os.close(fd)
            is_same = mtime_ns == after.st_mtime_ns and ctime_ns == after.st_ctime_ns and inode == after.st_ino
            if not is_same or not count == size == after.st_size or after.st_mode != mode:
                return None
            found.append(piece)
            at += size
    except OSError:
        return None
    finally:
        os.close(within)
    return found


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes from an offset, however short the single reads are; fewer only at the file's end."""
    data = os.pread(fd, size, offset)
    while 0 < len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


def drop_cache(fd: int, start: int = 0, size: int = 0) -> None:
    """Tell the kernel that a part of a file (all behind `start` without a size) need not stay in memory; a hint only."""
    with contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(fd, start, size, os.POSIX_FADV_DONTNEED)
