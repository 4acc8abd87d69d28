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

from shlex import quote as quote


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


def of_system(exc: OSError) -> DvliteError:
    """Return what the operating system said, with the path that it said it of."""
    return DvliteError(f"{exc.filename or 'the system'}: {(exc.strerror or str(exc)).lower()}")
