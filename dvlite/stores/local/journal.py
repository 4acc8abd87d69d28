"""What the local store knows of its own files: which may not be on disk yet, and which were seen whole.

The journal is why `add` needs not wait for the disk: right after it the user's own file is the safe copy, and whatever is
about to destroy that copy settles the journal first. After a power cut the files it names are verified before use.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dvlite import files

Mark = tuple[int, ...]


def _mark(status: os.stat_result) -> Mark:
    """Return what tells that a file of the store is as it was."""
    return (status.st_size, status.st_mtime_ns, status.st_ino)


class Seen:
    """Files of the store with size, mtime and inode at the time when they were hashed and synced: one line each.

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
                lines = self._path.read_text().split("\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # a torn line
                    name, size, mtime, inode, end = line.split(" ")
                    if end == ".":
                        self._noted[name] = (int(size), int(mtime), int(inode))
        return self._noted

    def note(self, name: str, path: Path) -> None:
        """Note a file as it is now."""
        self.note_many({name: path})

    def note_many(self, paths: dict[str, Path]) -> None:
        """Note files as they are now."""
        noted = self._load()
        lines = []
        for name, path in paths.items():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                noted[name] = _mark(status)
                lines.append("{} {} {} {} .\n".format(name, *noted[name]))
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            files.write_all(fd, "".join(lines).encode())
        finally:
            os.close(fd)

    def is_as_noted(self, name: str, path: Path) -> bool:
        """Tell whether a file is as it was when it was noted."""
        try:
            status = path.stat()
        except OSError:
            return False
        return self._load().get(name) == _mark(status)


class Journal:
    """Names of published files that nobody has waited for yet, one small synced file a batch."""

    def __init__(self, root: Path, seen: Seen) -> None:
        self._root = root
        self._folder = root / "journal"
        self._seen = seen

    def write(self, pending: Mapping[Path, str]) -> None:
        """Note files (unfinished path to final name) before they are published, and wait until the note is on disk."""
        names = {name: _mark(path.stat()) for path, name in pending.items()}
        entry = {"host": files.host_id(), "boot": files.boot_id(), "names": names}
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
                    {name: tuple(mark) for name, mark in values["names"].items()},
                )

    def torn_names(self) -> list[str]:
        """Return the files that a reboot of this machine may have torn."""
        return [
            name
            for _, host, boot, names in self._entries()
            if host == files.host_id() and boot != files.boot_id()
            for name in names
            if (self._root / name).exists()
        ]

    def forget_earlier_boots(self) -> None:
        """Drop the entries of this machine's earlier boots; their files were verified."""
        for path, host, boot, _ in self._entries():
            if host == files.host_id() and boot != files.boot_id():
                path.unlink(missing_ok=True)

    def settle(self) -> list[str]:
        """Sync all that this machine's entries name, note it as seen, and drop the entries; return what could not be synced."""
        for path, host, _, names in self._entries():
            if host != files.host_id():
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
            self._seen.note_many({name: file for name, file in here.items() if _mark(file.stat()) == names[name]})
            path.unlink(missing_ok=True)
        return []
