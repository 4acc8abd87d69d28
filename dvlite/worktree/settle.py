"""Put what was built aside into place, one rename at a time; take away what was there only if it still is what was scanned.

Folders are opened one below the other without following links; what is to be deleted is renamed aside, looked at again, and put
back if it moved since the plan.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dvlite import files, rows, statkey
from dvlite.errors import DvliteError, UsageError, explain
from dvlite.statkey import StatKey
from dvlite.worktree.made import Made
from dvlite.worktree.plan import Change

Stats = Callable[[str], StatKey | None]
IN_THE_WAY = "something new or ignored is in the way: move it away"


class Kept(NamedTuple):
    """A change that was not made, and why."""

    change: Change
    reason: str


@dataclass(slots=True)
class Outcome:
    """What became of a plan. `failed` has what could not be had, by path; `made` what needs no reading again."""

    done: list[Change] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    failed: dict[str, DvliteError] = field(default_factory=dict)
    made: Made = field(default_factory=Made)
    files: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where to materialise: a tracked path (in-repo) below `root`. `tmp` is a folder on the same file system.

    `link` is one of files.LINKS; `stats` tells the stat that a path (relative to the tracked path) had when it was scanned.
    """

    root: Path
    tracked: str
    tmp: Path
    link: str
    stats: Stats


class Walker:
    """Opens folders below a root one by one, never through a link; keeps open only those on the current path."""

    def __init__(self, root: Path) -> None:
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._parts: list[str] = []

    def __enter__(self) -> "Walker":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)

    def open(self, path: str, *, may_create: bool) -> int:
        """Return the descriptor of a folder; makes what is missing on the way if told."""
        parts = path.split("/") if path else []
        shared = 0
        while shared < min(len(parts), len(self._parts)) and parts[shared] == self._parts[shared]:
            shared += 1
        for fd in self._fds[shared + 1 :]:
            os.close(fd)
        del self._fds[shared + 1 :], self._parts[shared:]
        for part in parts[shared:]:
            self._fds.append(self._enter(part, "/".join([*self._parts, part]), may_create))
            self._parts.append(part)
        return self._fds[-1]

    def _enter(self, part: str, path: str, may_create: bool) -> int:
        if may_create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=self._fds[-1])
        try:
            return files.open_folder(part, self._fds[-1])
        except OSError as exc:
            if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            hint = "Data is never written through a link: move it away, then try again."
            raise UsageError(f"'{path}' is not a folder here, or a symbolic link", hint) from exc


def settle(place: Place, walker: Walker, change: Change, staged: Path | None, aside: Path, outcome: Outcome) -> None:
    """Make one change: take away what is there, by way of `aside`, put what was `staged` there, note what became of it."""
    if change.target and staged is None:  # nothing of it could be had; the reason is in `failed`
        return
    full = f"{place.tracked}/{change.path}" if change.path else place.tracked
    parent, _, name = full.rpartition("/")
    try:
        fd = walker.open(parent, may_create=change.target is not None)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise explain(exc, parent, "can't check out in") from exc
    try:
        if change.data and change.data.is_tree and not change.data.files and not change.target:
            _remove_if_empty(name, fd)  # the files of such a folder are dealt with one by one
        elif change.data and not _take_away(place, change.path, fd, name, aside):
            outcome.kept.append(Kept(change, "changed a moment ago"))
            return
        if staged:
            _bring(staged, name, fd, change, parent, outcome.made)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        outcome.kept.append(Kept(change, IN_THE_WAY))
        return
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise explain(exc, full, "can't check out") from exc
        outcome.kept.append(Kept(change, IN_THE_WAY))
        return
    outcome.done.append(change)


def remove_empty(place: Place, walker: Walker, paths: Iterable[str]) -> None:
    """Remove folders (paths below the tracked one, inner ones first) as far as they are empty; the others are none of ours."""
    for path in paths:
        parent, _, name = f"{place.tracked}/{path}".rpartition("/")
        with contextlib.suppress(OSError, UsageError):
            os.rmdir(name, dir_fd=walker.open(parent, may_create=False))


def _bring(staged: Path, name: str, fd: int, change: Change, folder: str, made: Made) -> None:
    """Put something into place, and note the ctime that a file has there: by it an edit is known that sets the mtime back."""
    is_folder = bool(change.target and change.target.is_tree)
    _put(staged, name, fd, is_folder=is_folder)
    if is_folder:
        return
    inner = name
    if not change.path:  # a tracked file is its own folder
        folder, inner = f"{folder}/{name}" if folder else name, ""
    with contextlib.suppress(FileNotFoundError):  # somebody was quick
        key, wrote = statkey.of(os.stat(name, dir_fd=fd, follow_symlinks=False)), made.files.get(folder, {}).get(inner)
        if wrote:
            was = rows.unpack_stat(wrote[0])
            if was.ctime_ns and was == key._replace(ctime_ns=was.ctime_ns):
                made.files[folder][inner] = (rows.pack_stats([key]), wrote[1])


def _put(staged: Path, name: str, fd: int, *, is_folder: bool) -> None:
    if is_folder:
        os.rename(staged, name, dst_dir_fd=fd)
        return
    try:
        os.link(staged, name, dst_dir_fd=fd, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=fd, follow_symlinks=False)
            raise FileExistsError(name) from None
        os.rename(staged, name, dst_dir_fd=fd)
    else:
        staged.unlink()


def _take_away(place: Place, path: str, fd: int, name: str, aside: Path) -> bool:
    """Move a file or folder out of the way and delete it, if it still is what was scanned; else leave it in place.

    A folder goes file by file; one in which something else is left (ignored, or new) stays with that.
    """
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        return _clear_folder(place, path, fd, name, aside)
    key = place.stats(path)
    # Renaming changes the ctime, so it is looked at before. An entry that was young has none, nor has a link into the store.
    if key is None or (key.ctime_ns > 0 and key.ctime_ns != status.st_ctime_ns):
        return False
    is_gone = False
    try:
        os.rename(name, aside, src_dir_fd=fd)
        if key == statkey.of(aside.lstat())._replace(ctime_ns=key.ctime_ns):
            aside.unlink()
            is_gone = True
        return is_gone
    finally:  # also when interrupted
        if not is_gone:
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                _put(aside, name, fd, is_folder=False)


def _clear_folder(place: Place, path: str, parent: int, name: str, aside: Path) -> bool:
    """Delete what was scanned in a folder, then the folder if it is empty; tell whether all that was scanned is gone."""
    fd = files.open_folder(name, parent)
    try:
        is_done = True
        for child in os.listdir(fd):
            below = f"{path}/{child}" if path else child
            status = os.stat(child, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                is_done &= _clear_folder(place, below, fd, child, aside)
            elif place.stats(below) is not None:
                is_done &= _take_away(place, below, fd, child, aside)
    finally:
        os.close(fd)
    _remove_if_empty(name, parent)
    return is_done


def _remove_if_empty(name: str, parent: int) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
