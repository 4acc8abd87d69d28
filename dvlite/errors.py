"""Every error that dvlite raises on purpose, each with its exit code and a hint that can be pasted.

The tree, with exit codes:

    DvliteError          1   could not do it
    ├── UsageError       2   the call makes no sense
    ├── FormatError      1   a file is not what its format says
    ├── MissingError    10   an object is named but not present
    ├── CorruptError    11   an object's content does not match its oid
    ├── LockedError     12   another process is at work
    ├── RemoteError     13   a remote cannot be reached, or refuses
    └── UnsavedError    14   going on would lose data that is stored nowhere

A message is in lower case, names paths in quotes and ends without a full stop; the hint is a sentence of its own. Foreign
errors are translated where they arise. Exit code 70 is a bug in dvlite, 130 an interruption: they have no class here. A path in a
line to be pasted goes through `quote`: a name from a stranger must not be a command.
"""

import errno
import os
import shlex


def quote(path: str) -> str:
    """Return a path as it can be pasted into a shell, after any command."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


class DvliteError(Exception):
    """The base of all: something could not be done; `hint` says how to mend it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DvliteError):
    """The call makes no sense as it stands."""

    exit_code = 2


class FormatError(DvliteError):
    """A file or object is not what its format says."""


class MissingError(DvliteError):
    """An object is named but not present."""

    exit_code = 10


class CorruptError(DvliteError):
    """An object's content does not match its oid."""

    exit_code = 11


class LockedError(DvliteError):
    """Another process is at work here."""

    exit_code = 12


class RemoteError(DvliteError):
    """A remote cannot be reached, or it refuses."""

    exit_code = 13


class UnsavedError(DvliteError):
    """Going on would lose bytes that are stored nowhere else."""

    exit_code = 14


def explain(exc: OSError, path: object = "", doing: str = "") -> DvliteError:
    """Translate what the operating system said: what was being done, the path, what happened, how to go on."""
    where = str(path or exc.filename or "")
    room, rights = "Free some space and run the same command again; nothing was lost.", "Check the permissions"
    hints = {
        errno.ENOSPC: room,
        errno.EDQUOT: room,
        errno.EACCES: f"{rights} with 'ls -ld {quote(where)}'." if where else f"{rights}.",
        errno.EPERM: f"{rights} with 'ls -ld {quote(where)}'." if where else f"{rights}.",
        errno.EIO: "The disk may be failing: copy your data to another one.",
    }
    said = (os.strerror(exc.errno) if exc.errno else str(exc)).lower()
    what = " ".join(part for part in (doing, f"'{where}'" if where else "") if part)
    return DvliteError(f"{what}: {said}" if what else said, hints.get(exc.errno or 0, ""))
