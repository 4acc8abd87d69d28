"""What was taken out of a store for good, on purpose: so that it is told from what is missing, and not taken in again."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from dvlite import files, oid
from dvlite.errors import FormatError
from dvlite.oid import Oid

FOLDER = "purged"


def note(root: Path, oids: Iterable[Oid]) -> None:
    """Put up tombstones."""
    for one in oids:
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        files.write_atomic(root / FOLDER / name(one), b"")


def lift(root: Path, oids: Iterable[Oid]) -> None:
    """Take tombstones away: the content may come back."""
    for one in oids:
        (root / FOLDER / name(one)).unlink(missing_ok=True)


def name(one: Oid) -> str:
    """Return the file name of a tombstone."""
    return f"{one.algorithm}-{one.hex}"


def parse(text: str) -> Oid:
    """Read a tombstone's file name; FormatError for any other."""
    return oid.parse(text.replace("-", ":", 1))


def oids(root: Path) -> set[Oid]:
    """Return all that was purged."""
    found = set()
    for path in (root / FOLDER).glob("*-*"):
        with contextlib.suppress(FormatError):  # not of ours
            found.add(parse(path.name))
    return found
