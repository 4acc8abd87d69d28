"""The one seam through which every file and store operation passes in a fault run: it counts, and at the N-th makes a fault.

Most faults happen once; a disk that is full stays full, and one that dies stays dead, until the command ends.
Installed in a child process only, around the calls of `os` and `io.open` and around a remote's verbs.
"""

import builtins
import errno
import io
import os
import signal
import stat
import threading

from dvlite.stores.remote.bucket import Bucket

LASTING = {"disk stays full": "ENOSPC", "disk dies": "EIO"}
FAULTS = ("ENOSPC", "EIO", "EACCES", "short read", "short write", "dropped rename", "kill", *LASTING)
_BY_PATH = (
    "open",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "utime",
    "chmod",
    "listdir",
)
_BY_FD = ("write", "read", "pread", "preadv", "fsync", "fchmod", "copy_file_range")
_READS = ("read", "pread", "preadv", "copy_file_range")
_NEEDS_ROOM = (
    "write",
    "copy_file_range",
    "fsync",
    "mkdir",
    "rename",
    "replace",
    "link",
    "symlink",
    "remote.put",
    "remote.put_file",
    "remote.put_hashed",
)
_VERBS = ("list", "get", "get_file", "put", "put_file", "put_hashed", "remove")


class Seam:
    """Counts operations below some folder; `at` is the one that fails, by `fault`."""

    def __init__(self, root, *, at=0, fault="", record=None):
        self.root, self.at, self.fault, self.record = str(root), at, fault, record
        self.count = 0
        self.applicable = {fault: [] for fault in FAULTS}  # the operations at which each fault can happen
        self._lock = threading.Lock()
        self._inside = threading.local()

    def install(self):
        for name in _BY_PATH:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        for name in _BY_FD:
            setattr(os, name, self._wrapped(name, getattr(os, name), is_fd=True))
        io.open = builtins.open = self._wrapped("io.open", io.open)
        for name in _VERBS:
            setattr(Bucket, name, self._wrapped(f"remote.{name}", getattr(Bucket, name), is_verb=True))
        return self

    def _concerns(self, arguments, is_fd, is_verb):
        if is_verb:
            return True
        if is_fd:
            return stat.S_ISREG(os.fstat(arguments[0]).st_mode)
        return any(
            self.root in os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)
        ) or (bool(arguments) and isinstance(arguments[0], str) and "/" not in arguments[0])

    def _wrapped(self, name, real, *, is_fd=False, is_verb=False):
        def call(*arguments, **options):
            if getattr(self._inside, "busy", False):
                return real(*arguments, **options)
            self._inside.busy = True
            try:
                concerned = self._concerns(arguments, is_fd, is_verb)
            finally:
                self._inside.busy = False
            if not concerned:
                return real(*arguments, **options)
            with self._lock:
                self.count += 1
                number = self.count
                self._note(name, number, arguments)
            if number == self.at or (0 < self.at < number and self._lasts(name, arguments)):
                return self._fail(name, real, arguments, options)
            return real(*arguments, **options)

        return call

    def _lasts(self, name, arguments):
        return self.fault in LASTING and (LASTING[self.fault] == "EIO" or _needs_room(name, arguments))

    def _note(self, name, number, arguments):
        for fault in ("ENOSPC", "EIO", "EACCES", "kill", "disk dies"):
            self.applicable[fault].append(number)
        if _needs_room(name, arguments):
            self.applicable["disk stays full"].append(number)
        if name in _READS:
            self.applicable["short read"].append(number)
        if name == "write":
            self.applicable["short write"].append(number)
        if name in ("rename", "replace"):
            self.applicable["dropped rename"].append(number)

    def _fail(self, name, real, arguments, options):
        if self.count == self.at and self.at not in self.applicable[self.fault]:  # threads took another order
            return real(*arguments, **options)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "dropped rename":
            return None
        if self.fault == "short write":
            view = memoryview(arguments[1])
            return real(arguments[0], view[: max(1, len(view) // 2)])
        if self.fault == "short read":
            if name == "copy_file_range":
                return real(arguments[0], arguments[1], max(1, arguments[2] // 2))
            if name == "preadv":
                short = memoryview(arguments[1][0])[: max(1, len(arguments[1][0]) // 2)]
                return real(arguments[0], [short], *arguments[2:])
            return real(arguments[0], max(1, arguments[1] // 2), *arguments[2:])
        code = getattr(errno, LASTING.get(self.fault, self.fault))
        raise OSError(
            code, os.strerror(code), str(arguments[0]) if arguments and isinstance(arguments[0], str) else None
        )


def _needs_room(name, arguments):
    """Tell whether an operation takes room on the disk; what is open already can be read, and files can go."""
    if name == "open":
        return len(arguments) > 1 and bool(arguments[1] & os.O_CREAT)
    return name in _NEEDS_ROOM or (
        name == "io.open" and len(arguments) > 1 and set("wax") & set(str(arguments[1])) != set()
    )
