"""What the local store knows of its own files: which may not be on disk yet, and which were seen whole.

The journal is why `add` needs not wait for the disk: right after it the user's own file is the safe copy, and whatever is
about to destroy that copy settles the journal first. After a power cut the files it names are verified before use.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing, machine
from dvlite.locks import Lock

_NAME = re.compile(r"packs/[0-9a-f]{64}\.pack|objects/(sha256|blake3)/[0-9a-f]{2}/[0-9a-f]{62}")
_NEVER = -1  # a time that no file of a store has


class Mark(NamedTuple):
    """What tells that a file of the store is as it was; the checksum (hex, "-" for a pack) takes a reading.

    One without a time is of a copy whose own bytes nobody has read: the checksum is what they must have.
    """

    size: int
    mtime_ns: int
    inode: int
    checksum: str = "-"

    def is_of(self, status: os.stat_result) -> bool:
        """Tell whether a file still has the size, time and inode."""
        return self[:3] == (status.st_size, status.st_mtime_ns, status.st_ino)

    def is_of_unread(self, status: os.stat_result) -> bool:
        """Tell whether a file is the copy that nobody has read."""
        return self[:3] == (status.st_size, _NEVER, status.st_ino)


def mark(status: os.stat_result, checksum: bytes = b"") -> Mark:
    """Return what a file is recognised by."""
    return Mark(status.st_size, status.st_mtime_ns, status.st_ino, checksum.hex() or "-")


class Seen:
    """Files of the store with size, mtime, inode and checksum at the time when they were hashed and synced: one line each.

    Deletable: what isn't noted is hashed again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted: dict[str, Mark] | None = None

    def _load(self) -> dict[str, Mark]:
        if self._noted is None:
            self._noted = {}
            lines = []
            with contextlib.suppress(OSError):
                lines = self._path.read_text(errors="replace").split("\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # a torn line
                    name, size, mtime, inode, checksum, end = line.split(" ")
                    bytes.fromhex(checksum.replace("-", ""))
                    if end == "." and _NAME.fullmatch(name):  # a line after half a line
                        self._noted[name] = Mark(int(size), int(mtime), int(inode), checksum)
        return self._noted

    def note(self, name: str, path: Path, checksum: bytes = b"") -> None:
        """Note a file as it is now."""
        with contextlib.suppress(FileNotFoundError):
            self.note_many({name: mark(path.stat(), checksum)})

    def note_many(self, marks: Mapping[str, Mark]) -> None:
        """Note files that are as their marks say; not those that have left meanwhile."""
        with self._alone():
            here = {name: mark for name, mark in marks.items() if os.path.exists(self._path.parent / name)}
            self._load().update(here)
            lines = ["{} {} {} {} {} .\n".format(name, *mark) for name, mark in here.items()]
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                files.write_all(fd, "".join(lines).encode())
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def leaving(self, names: Collection[str]) -> Iterator[None]:
        """Take out files, and what was noted of files twice; in the block they leave the store, and nobody can note them."""
        with self._alone():
            self._noted = None  # others may have noted, or taken out, more
            noted = self._load()
            for name in names:
                noted.pop(name, None)
            is_written = False
            with contextlib.suppress(OSError):  # a full disk has room once they have left
                self._write(noted)
                is_written = True
            yield
            if not is_written:
                self._write(noted)

    def _alone(self) -> contextlib.AbstractContextManager[object]:
        return Lock(self._path.with_suffix(".lock")).hold(is_exclusive=True, label="dvlite")

    def _write(self, noted: Mapping[str, Mark]) -> None:
        lines = ["{} {} {} {} {} .\n".format(name, *mark) for name, mark in noted.items()]
        files.write_atomic(self._path, "".join(lines).encode(), is_synced=False)

    def names(self) -> list[str]:
        """Return the files that are noted."""
        return list(self._load())

    def is_as_noted(self, name: str, path: Path) -> bool:
        """Tell whether a file is as it was when it was noted."""
        return self._noted_as(name, path, Mark.is_of) is not None

    def _noted_as(self, name: str, path: Path, is_of: Callable[[Mark, os.stat_result], bool]) -> Mark | None:
        noted = self._load().get(name)
        try:
            return noted if noted and is_of(noted, path.stat()) else None
        except OSError:
            return None

    def checksum(self, name: str, path: Path) -> bytes:
        """Return the checksum of a file that is as it was when it was noted; empty where it isn't, or none was noted.

        Of a copy that nobody has read, what its checksum must be.
        """
        noted = self._noted_as(name, path, Mark.is_of) or self._noted_as(name, path, Mark.is_of_unread)
        return bytes.fromhex(noted.checksum) if noted and noted.checksum != "-" else b""

    def confirm(self, name: str, path: Path) -> bool:
        """Read a copy that nobody has read; where it is what it must be, note it as seen."""
        noted = self._noted_as(name, path, Mark.is_of_unread)
        with contextlib.suppress(OSError):
            if noted and hashing.checksum_of_file(path).hex() == noted.checksum:
                self.was_read(name, path)
                return True
        return False

    def was_read(self, name: str, path: Path) -> None:
        """Note a copy that nobody had read as seen: now somebody has, and it is what it must be."""
        if noted := self._noted_as(name, path, Mark.is_of_unread):
            files.sync(path)
            self.note(name, path, bytes.fromhex(noted.checksum))


class Journal:
    """Names of published files that nobody has waited for yet, one small synced file a batch."""

    def __init__(self, root: Path, seen: Seen) -> None:
        self._root = root
        self._folder = root / "journal"
        self._seen = seen

    def write(self, pending: Mapping[Path, str], checksums: Mapping[str, bytes], unread: Collection[str]) -> None:
        """Note files (unfinished path to final name) before they are published, and wait until the note is on disk.

        `unread`: those whose own bytes nobody has read. They are synced with the rest, but do not count as seen whole.
        """
        names = {name: mark(path.stat(), checksums.get(name, b"")) for path, name in pending.items()}
        names |= {name: names[name]._replace(mtime_ns=_NEVER) for name in unread}
        entry = {"host": machine.host_id(), "boot": machine.boot_id(), "names": names}
        self._folder.mkdir(exist_ok=True)
        path = files.temporary(self._folder)
        files.write_atomic(path, json.dumps(entry).encode(), folder=self._root / "tmp")

    def _entries(self) -> Iterator[tuple[Path, str, str, dict[str, Mark]]]:
        try:
            paths = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                values = json.loads(path.read_bytes())
                yield (
                    path,
                    values["host"],
                    values["boot"],
                    {name: Mark(*mark) for name, mark in values["names"].items()},
                )

    def torn_names(self) -> list[str]:
        """Return the files that a reboot of this machine may have torn."""
        return [
            name
            for _, host, boot, names in self._entries()
            if host == machine.host_id() and boot != machine.boot_id()
            for name in names
            if (self._root / name).exists()
        ]

    def forget_earlier_boots(self) -> None:
        """Drop the entries of this machine's earlier boots; their files were verified."""
        for path, host, boot, _ in self._entries():
            if host == machine.host_id() and boot != machine.boot_id():
                path.unlink(missing_ok=True)

    def settle(self) -> list[str]:
        """Sync all that this machine's entries name, note it as seen, and drop the entries; return what could not be synced."""
        for path, host, _, names in self._entries():
            if host != machine.host_id():
                continue
            for name in names:
                try:
                    files.sync(self._root / name)
                except FileNotFoundError:  # folded into another pack, which was synced
                    continue
                except OSError:
                    return [name]
            here = {name: self._root / name for name in names if (self._root / name).exists()}
            files.sync_folders({file.parent for file in here.values()})
            # One that was touched since it was hashed is not noted, so that it is hashed again before it is trusted.
            marks = {name: (names[name], file.stat()) for name, file in here.items()}
            self._seen.note_many(
                {name: one for name, (one, now) in marks.items() if one.is_of(now) or one.is_of_unread(now)}
            )
            path.unlink(missing_ok=True)
        return []
