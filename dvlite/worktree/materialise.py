"""Make worktree data what a plan says: everything is built aside first, then put into place one rename at a time.

Invariants:
- What is replaced or removed was seen in the store, on disk, a moment ago; it is renamed aside, looked at again, and put back
  if it moved since it was scanned.
- Nothing is ever written through a symbolic link: folders are opened one below the other without following any; symbolic
  links are made last.
- A file appears whole or not at all; a folder that wasn't there appears in one step.
"""

import contextlib
import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing, tree
from dvlite.errors import CorruptError, FormatError, MissingError, explain
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress
from dvlite.stores.local import LocalStore
from dvlite.tree import EXECUTABLE, SYMLINK, Entry, Read
from dvlite.worktree.plan import Change
from dvlite.worktree.scan import Written
from dvlite.worktree.settle import Kept, Outcome, Place, Walker, settle

_CHUNK = 256
_LARGE = 1 << 26


def apply(
    place: Place, changes: Sequence[Change], store: LocalStore, read: Read, progress: Progress = SILENT
) -> Outcome:
    """Carry out changes whose target is to be put in place (None: removed); what can't be done is kept and reported."""
    outcome = Outcome()
    changes = list(_secure(changes, store, read, outcome))
    if not changes:
        return outcome
    files.sweep(place.tmp)
    stage = files.temporary(place.tmp)
    stage.mkdir(0o700)
    try:
        _refuse_meeting_names(place, changes, stage)
        builder = _Builder(place, store, stage, outcome, progress)
        staged = builder.build(changes, read)
        if builder.newest_ns:
            files.stamp_after(stage, builder.newest_ns)
        with Walker(place.root) as walker:
            for position, change in enumerate(changes):
                aside = stage / f"{position}{files.ASIDE}"
                settle(place, walker, change, staged.get(position), aside, outcome)
                if os.path.lexists(aside):
                    outcome.kept.append(
                        Kept(change, f"is in the way of what was there before and lies in '{aside}' now")
                    )
    except OSError as exc:
        raise explain(exc, place.tracked, "can't check out") from exc
    finally:
        if not files.holds_aside(stage):  # what could not be put back stays there
            files.remove_folder(stage)
        if place.tmp.name == files.NEAR:
            with contextlib.suppress(OSError):
                place.tmp.rmdir()
    return outcome


def _secure(changes: Iterable[Change], store: LocalStore, read: Read, outcome: Outcome) -> Iterator[Change]:
    """Yield the changes that destroy nothing, or only what is safely stored."""
    doomed = {}
    for position, change in enumerate(changes := list(changes)):
        if change.data and change.data.files:
            doomed[position] = {entry.oid for _, entry in _files_of(change.path, change.data, read)}
    safe = store.secured({oid for oids in doomed.values() for oid in oids}) if doomed else set()
    for position, change in enumerate(changes):
        if doomed.get(position, set()) <= safe:
            yield change
        else:
            outcome.kept.append(Kept(change, "is not stored"))


def _files_of(path: str, entry: Entry, read: Read) -> Iterator[tuple[str, Entry]]:
    """Yield all files and links at or below an entry, with their paths, in order."""
    if not entry.is_tree:
        yield path, entry
        return
    tree.check_depth(path)
    if entry.files:
        for child in tree.entries(entry, read):
            yield from _files_of(f"{path}/{child.name}" if path else child.name, child, read)


# ---- building aside -------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    entry: Entry
    target: Path
    path: str  # in-repo


class _Builder:
    def __init__(self, place: Place, store: LocalStore, stage: Path, outcome: Outcome, progress: Progress) -> None:
        self._place = place
        self._store = store
        self._stage = stage
        self._outcome = outcome
        self._progress = progress
        self.newest_ns = 0

    def build(self, changes: Sequence[Change], read: Read) -> dict[int, Path]:
        """Write the targets of all changes below the stage; return where each lies, without those that can't be had."""
        total = sum(change.target.files for change in changes if change.target)
        self._make_room(changes)
        _check_space(self._stage, total, sum(change.target.size for change in changes if change.target))
        staged: dict[int, Path] = {}
        jobs: list[_Job] = []
        links: list[_Job] = []
        for position, change in enumerate(changes):
            if change.target is None:
                continue
            staged[position] = self._stage / str(position)
            for job in self._lay_out(change.target, staged[position], self._full(change.path), read):
                (links if job.entry.mode == SYMLINK else jobs).append(job)
        self._progress.phase("checkout", files=len(jobs), size=sum(job.entry.size for job in jobs))
        self._write_all(jobs)
        self._write_all(links)
        for position, path in list(staged.items()):
            if not os.path.lexists(path):
                del staged[position]
        return staged

    def _make_room(self, changes: Sequence[Change]) -> None:
        """Let the new bytes of a large file have the memory of the old ones, which lie in the store too."""
        for change in changes:
            if change.data and change.target and not change.data.is_tree and change.data.size >= _LARGE:
                files.drop_cache(self._place.root / self._full(change.path))

    def _full(self, path: str) -> str:
        return f"{self._place.tracked}/{path}" if path else self._place.tracked

    def _lay_out(self, entry: Entry, target: Path, path: str, read: Read) -> Iterator[_Job]:
        """Make the folders; yield what must be written into them."""
        if not entry.is_tree:
            yield _Job(entry, target, path)
            return
        tree.check_depth(path[len(self._place.tracked) :])
        try:
            below = tree.entries(entry, read)
        except MissingError as exc:
            self._outcome.failed[path] = exc
            return
        try:
            target.mkdir()
        except FileExistsError as exc:
            raise _names_meet(path) from exc
        for child in below:
            yield from self._lay_out(child, target / child.name, f"{path}/{child.name}", read)

    def _write_all(self, jobs: list[_Job]) -> None:
        chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            for written in pool.map(self._write_chunk, chunks):
                for path, record in written:
                    self._outcome.written[path] = record
                    self._outcome.files += 1
                    self._outcome.size += record.size
                    self.newest_ns = max(self.newest_ns, record.mtime_ns)

    def _write_chunk(self, jobs: list[_Job]) -> list[tuple[str, Written]]:
        packed: dict[Oid, list[_Job]] = {}
        written = []
        for job in jobs:
            path = self._store.path_of(job.entry.oid)
            if path and job.entry.mode != SYMLINK:
                written += self._try(job, lambda job=job, path=path: self._write_loose(job, path))  # type: ignore[misc]
            else:
                packed.setdefault(job.entry.oid, []).append(job)
        for oid, data in self._read(packed):
            for job in packed.pop(oid):
                written += self._try(job, lambda job=job, data=data: _write_small(job, data))  # type: ignore[misc]
        for oid, left in packed.items():
            for job in left:
                self._outcome.failed.setdefault(job.path, MissingError(f"object {oid.short} is not here"))
        self._progress.advance(files=len(written), size=sum(record.size for _, record in written))
        return written

    def _read(self, packed: dict[Oid, list[_Job]]) -> Iterator[tuple[Oid, bytes]]:
        wanted = list(packed)
        try:
            for oid, data in self._store.read_many(wanted):
                yield oid, data
        except CorruptError:  # one of them is: find out which, and take the others
            for oid in [oid for oid in wanted if oid in packed]:
                try:
                    yield oid, self._store.read(oid)
                except CorruptError as exc:
                    for job in packed.pop(oid):
                        self._outcome.failed[job.path] = exc
                except MissingError as exc:
                    for job in packed.pop(oid):
                        self._outcome.failed[job.path] = CorruptError(
                            f"{exc.message} any more: it was corrupt", exc.hint
                        )

    def _try(self, job: _Job, write: Callable[[], os.stat_result]) -> list[tuple[str, Written]]:
        try:
            status = write()
        except FileExistsError as exc:
            raise _names_meet(job.path) from exc
        except CorruptError as exc:
            self._outcome.failed[job.path] = exc
            return []
        if status.st_size != job.entry.size and not stat.S_ISLNK(status.st_mode):
            job.target.unlink()
            said = f"'{job.path}' has {status.st_size} bytes, not {job.entry.size} as its pointer or tree says"
            self._outcome.failed[job.path] = FormatError(said, "Add it again in a clone that has the data.")
            return []
        return [(job.path, Written(status.st_size, status.st_mtime_ns, status.st_ino, job.entry.oid))]

    def _write_loose(self, job: _Job, path: Path) -> os.stat_result:
        link = self._place.link
        is_executable = job.entry.mode == EXECUTABLE
        if link in ("hardlink", "symlink") and not is_executable and not (link == "hardlink" and os.geteuid() == 0):
            if not self._store.is_trusted(path):
                raise CorruptError(f"object {job.entry.oid.short} was corrupt in the local store", "Run 'dvlite pull'.")
            if link == "symlink":
                job.target.symlink_to(path)
            else:
                os.link(path, job.target)
            return job.target.lstat()
        source = files.open_regular(path)
        target = files.create(job.target, 0o777 if is_executable else 0o666)
        try:
            if not self._is_copied(job.entry.oid, path, source, target):
                job.target.unlink()
                raise self._store.corrupt(job.entry.oid, path)
            return os.fstat(target)
        finally:
            os.close(target)
            os.close(source)

    def _is_copied(self, oid: Oid, path: Path, source: int, target: int) -> bool:
        """Copy a large object and tell whether the copy is true: by the quick checksum where one was noted for this file."""
        if checksum := self._store.checksum_of(path):
            return hashing.checksum_of_copy(source, target) == checksum or self._is_true(oid, path, target)
        return hashing.content_of_copy(oid.algorithm, source, target).oid == oid

    def _is_true(self, oid: Oid, path: Path, target: int) -> bool:
        """Hash a copy whose checksum is not the one noted: perhaps the note is wrong, and the object is right."""
        if hashing.oid_of_open_file(oid.algorithm, target) != oid:
            return False
        self._store.forget(path)
        return True


def _check_space(folder: Path, count: int, size: int) -> None:
    """Refuse early what can't fit: also a tree from a stranger that unfolds to more files than there are."""
    space = os.statvfs(folder)
    if size > space.f_bavail * space.f_frsize or (space.f_files and count > space.f_favail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _write_small(job: _Job, data: bytes) -> os.stat_result:
    if job.entry.mode == SYMLINK:
        os.symlink(data, os.fsencode(job.target))
        return job.target.lstat()
    fd = files.create(job.target, 0o777 if job.entry.mode == EXECUTABLE else 0o666)
    try:
        files.write_all(fd, data)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _refuse_meeting_names(place: Place, changes: Sequence[Change], stage: Path) -> None:
    """Raise, before anything is written, where a new name is another's on this file system.

    Inside a folder that is built aside the file system tells by itself.
    """
    alike: dict[str, list[str]] = {}
    for change in changes:
        if change.target and change.path:
            alike.setdefault(unicodedata.normalize("NFC", change.path).casefold(), []).append(change.path)
            path = place.root / place.tracked / change.path
            if change.data is None and os.path.lexists(path) and path.name not in os.listdir(path.parent):
                raise _names_meet(f"{place.tracked}/{change.path}")
    for paths in alike.values():
        if len(paths) > 1:
            _probe(place, paths, stage / "names")


def _probe(place: Place, paths: Sequence[str], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        try:
            os.close(files.create(folder / path.rpartition("/")[2]))
        except FileExistsError as exc:
            raise _names_meet(f"{place.tracked}/{path}") from exc
    files.remove_folder(folder)


def _names_meet(path: str) -> FormatError:
    return FormatError(
        f"'{path}' meets another name on this file system (upper and lower case, or accents)",
        "Nothing was changed. Check it out on a file system that tells them apart.",
    )
