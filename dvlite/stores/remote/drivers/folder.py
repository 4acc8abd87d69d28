"""A folder that this machine reaches: a disk, a mounted share. Written through the one seam for careful file calls."""

import contextlib
import os
import stat
from pathlib import Path

from dvlite import copying, files
from dvlite.stores.remote.drivers.base import Advance, Check, Listed, NoPlace, Page, Walking


class Folder(Walking):
    """A remote in a folder; what is written there is synced."""

    is_atomic = False
    proves = True  # by way of the disk: nothing is between it and us
    checks = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> tuple[Page, list[str]]:
        """Look at one folder; what is no regular file is passed over: to open a FIFO would wait for ever."""
        place = self.root / name if name else self.root
        if not name and not place.is_dir():
            # A parent that isn't there either is a disk that isn't mounted, or a typing error.
            if not self.root.parent.is_dir():
                raise NoPlace(f"no folder '{self.root.parent}'")
            raise FileNotFoundError(str(place))
        found: Page = {}
        below = []
        with os.scandir(place) as rows:
            for row in rows:
                full = f"{name}/{row.name}" if name else row.name
                with contextlib.suppress(FileNotFoundError):
                    status = row.stat()
                    if stat.S_ISDIR(status.st_mode) and not row.is_symlink():
                        below.append(full)
                    elif stat.S_ISREG(status.st_mode):
                        found[full] = Listed(status.st_size, status.st_mtime_ns)
        return found, below

    def info(self, name: str) -> Listed:
        """Ask for one file."""
        status = (self.root / name).stat()
        return Listed(status.st_size, status.st_mtime_ns)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file or a part of it."""
        with (self.root / name).open("rb") as file:
            if start:
                file.seek(start)
            return file.read() if end is None else file.read(end - (start or 0))

    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Copy a file here."""
        copying.copy_file(self.root / name, path, 0o666)
        advance(path.stat().st_size)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and sync it."""
        path = self._made(name)
        with path.open("wb") as file:
            file.write(data)
        self._share(path)
        files.sync(path)

    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Copy a file there, and sync it."""
        target = self._made(name)
        copying.copy_file(path, target, 0o666)
        self._share(target)
        files.sync(target)
        advance(path.stat().st_size)

    def upload_checked(self, name: str, path: Path, advance: Advance, rate: int, check: Check) -> None:
        """Copy a file there while the copy is hashed, and sync it."""
        target = self._made(name)
        check.judge(copying.copy_file_hashed(path, target, check.work))
        self._share(target)
        files.sync(target)
        advance(path.stat().st_size)

    def rename(self, name: str, to: str) -> None:
        """Move a file, and sync the folder."""
        target = self._made(to)
        self._share(self.root / name)
        (self.root / name).rename(target)
        files.sync(target.parent)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.root / name).unlink()

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder."""
        (self.root / name if name else self.root).rmdir()

    def local_path(self, name: str) -> Path:
        """Return where it lies."""
        return self.root / name

    def _made(self, name: str) -> Path:
        """Return a file's path, its folder made; in a folder that a group may write to, the group may write to it too."""
        path = self.root / name
        shared = _group_rights(self.root)
        new = [one for one in path.parents if shared and not one.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for one in new:
            one.chmod(one.stat().st_mode | shared)
        return path

    def _share(self, path: Path) -> None:
        if shared := _group_rights(self.root):
            path.chmod(path.stat().st_mode | (shared & 0o040))


def _group_rights(root: Path) -> int:
    """Return the permissions that a group has in a remote's folder if it may write there, else 0."""
    with contextlib.suppress(FileNotFoundError):
        mode = root.stat().st_mode
        return mode & 0o2070 if mode & 0o020 else 0
    return 0
