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
import functools
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing, statkey, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, explain
from dvlite.files import Listed
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress
from dvlite.statkey import StatKey
from dvlite.stores.local import LocalStore, Packed
from dvlite.tree import EXECUTABLE, SYMLINK, TREE, Entry, Read
from dvlite.worktree.plan import Change
from dvlite.worktree.scan import Written
from dvlite.worktree.settle import Kept, Outcome, Place, Walker, remove_empty, settle

_CHUNK = 256
_SHARED = 4096  # from so many files on, a second process pays
_LARGE = 1 << 26


def apply(
    place: Place, changes: Sequence[Change], store: LocalStore, read: Read, progress: Progress = SILENT
) -> Outcome:
    """Carry out changes whose target is to be put in place (None: removed); what can't be done is kept and reported."""
    outcome = Outcome()
    changes = list(_secure(changes, store, read, outcome))
    if not changes:
        return outcome
    may_link = place.link in ("hardlink", "symlink")  # links have stats of others
    files.sweep(place.tmp)
    stage = files.temporary(place.tmp)
    stage.mkdir(0o700)
    try:
        _refuse_meeting_names(place, changes, stage)
        builder = _Builder(place, store, stage, outcome, progress)
        staged = builder.build(changes, read)
        progress.phase("settle")
        if builder.newest_ns:
            statkey.stamp_after(stage, builder.newest_ns)
        with Walker(place.root) as walker:
            for position, change in enumerate(changes):
                aside = stage / f"{position}{files.ASIDE}"
                remove_empty(place, walker, _folders_of(change, read))
                count = len(outcome.done)
                settle(place, walker, change, staged.get(position), aside, outcome)
                if len(outcome.done) > count and not may_link:
                    outcome.made.whole.update(builder.whole.get(position, {}))
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


def _folders_of(change: Change, read: Read) -> Iterator[str]:
    """Yield all folders within one that goes and has no files, inner ones first; of others, each is a change of its own."""
    data, base = change.data, change.base
    if data and base and data.is_tree and data.oid == base.oid and not data.files and not change.target:
        yield from _within(change.path, data, read)


def _within(path: str, entry: Entry, read: Read) -> Iterator[str]:
    for child in tree.folders(entry, read):
        below = f"{path}/{child.name}" if path else child.name
        yield from _within(below, child, read)
        yield below


# ---- building aside -------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Files of one folder (in-repo) to be written into another, or one file to be written under another name."""

    target: str
    folder: str
    entries: list[Entry]
    alias: str = ""


class _Job(NamedTuple):
    entry: Entry
    target: str
    path: str  # in-repo


class _Done(NamedTuple):
    """What became of a chunk: the stats of what was written, in order (None: nothing), and errors by in-repo path."""

    number: int
    keys: list[Listed | None]
    failed: dict[str, DvliteError]


class _Builder:
    def __init__(self, place: Place, store: LocalStore, stage: Path, outcome: Outcome, progress: Progress) -> None:
        self._place = place
        self._store = store
        self._stage = stage
        self._outcome = outcome
        self._progress = progress
        self._chunks: list[list[_Part]] = []
        # By position of the change: the folders made, with their subfolders.
        self.whole: dict[int, dict[str, list[str]]] = {}
        self.newest_ns = 0

    def build(self, changes: Sequence[Change], read: Read) -> dict[int, Path]:
        """Write the targets of all changes below the stage; return where each lies, without those that can't be had."""
        total = sum(change.target.files for change in changes if change.target)
        self._make_room(changes)
        size = sum(change.target.size for change in changes if change.target)
        _check_space(self._stage, total, size)
        staged: dict[int, Path] = {}
        parts: list[_Part] = []
        for position, change in enumerate(changes):
            if change.target is None:
                continue
            staged[position] = self._stage / str(position)
            full, target = self._full(change.path), str(staged[position])
            if change.target.is_tree:
                self._lay_out(change.target, target, full, read, parts, self.whole.setdefault(position, {}))
            else:
                folder, _, name = full.rpartition("/") if change.path else (full, "", "")
                parts.append(_Part(str(self._stage), folder, [change.target._replace(name=name)], str(position)))
        self._progress.phase("checkout", files=total, size=size)
        for is_link in (False, True):
            some = [part._replace(entries=_of_kind(part.entries, is_link=is_link)) for part in parts]
            self._write_all([part for part in some if part.entries])
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

    def _lay_out(
        self, entry: Entry, target: str, path: str, read: Read, parts: list[_Part], whole: dict[str, list[str]]
    ) -> bool:
        """Make a folder and those below it; list what must be written into them. False where it can't be had."""
        tree.check_depth(path[len(self._place.tracked) :])
        try:
            below = tree.entries(entry, read)
        except MissingError as exc:
            self._outcome.failed[path] = exc
            return False
        try:
            os.mkdir(target)
        except FileExistsError as exc:
            raise _names_meet(path) from exc
        subs = [child for child in below if child.mode == TREE]
        parts.append(_Part(target, path, [child for child in below if child.mode != TREE] if subs else below))
        inner = [(child, f"{target}/{child.name}", f"{path}/{child.name}") for child in subs]
        whole[path] = [one[0].name for one in inner if self._lay_out(*one, read, parts, whole)]
        return True

    def _write_all(self, parts: list[_Part]) -> None:
        self._chunks = list(_chunks(parts))
        if sum(len(part.entries) for part in parts) >= _SHARED and self._share():
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            for done in pool.map(self._write_chunk, range(len(self._chunks))):
                self._take(done)

    def _share(self) -> bool:
        """Write with other processes; False where there can be none."""
        from dvlite import forking

        count = forking.processors()
        if count == 1:
            return False
        forking.share(self._write_chunk, range(len(self._chunks)), self._take, count)
        if any(isinstance(error, CorruptError) for error in self._outcome.failed.values()):
            self._store.refresh()  # another process may have set aside what was bad
        return True

    def _take(self, done: _Done) -> None:
        keys, made = iter(done.keys), self._outcome.made.files
        count = size = 0
        for part in self._chunks[done.number]:
            its = made.setdefault(part.folder, {})
            for entry, key in zip(part.entries, keys, strict=False):
                if key:
                    its[entry.name] = Written(StatKey._make(key), entry.oid)
                    count, size, self.newest_ns = count + 1, size + key[1], max(self.newest_ns, key[2])
        self._outcome.failed.update(done.failed)
        self._outcome.files += count
        self._outcome.size += size
        self._progress.advance(files=count, size=size)

    def _write_chunk(self, number: int) -> _Done:
        jobs = [job for part in self._chunks[number] for job in _jobs(part)]
        keys: dict[str, Listed] = {}
        failed: dict[str, DvliteError] = {}
        waiting: dict[Oid, list[_Job]] = {}
        for job in jobs:
            waiting.setdefault(job.entry.oid, []).append(job)
        packed, loose, _ = self._store.group(waiting)
        for oid, path in loose.items():
            for job in [job for job in waiting[oid] if job.entry.mode != SYMLINK]:
                waiting[oid].remove(job)
                self._try(job, keys, failed, functools.partial(self._write_loose, job, path))
        for oid, data in self._read(packed, [oid for oid in loose if waiting[oid]], waiting, failed):
            for job in waiting.pop(oid):
                self._try(job, keys, failed, functools.partial(_write_small, job, data))
        for oid, left in waiting.items():
            for job in left:
                failed.setdefault(job.path, MissingError(f"object {oid.short} is not here"))
        return _Done(number, [keys.get(job.target) for job in jobs], failed)

    def _read(
        self, packed: Packed, others: Sequence[Oid], waiting: dict[Oid, list[_Job]], failed: dict[str, DvliteError]
    ) -> Iterator[tuple[Oid, bytes]]:
        wanted = [*(oid for places in packed.values() for oid in places), *others]
        try:
            yield from self._store.read_packed(packed)
            yield from self._store.read_many(others)
        except CorruptError:  # one of them is: find out which, and take the others
            for oid in [oid for oid in wanted if oid in waiting]:
                try:
                    yield oid, self._store.read(oid)
                except CorruptError as exc:
                    for job in waiting.pop(oid):
                        failed[job.path] = exc
                except MissingError as exc:
                    for job in waiting.pop(oid):
                        failed[job.path] = CorruptError(f"{exc.message} any more: it was corrupt", exc.hint)

    def _try(
        self, job: _Job, keys: dict[str, Listed], failed: dict[str, DvliteError], write: Callable[[], os.stat_result]
    ) -> None:
        try:
            status = write()
        except FileExistsError as exc:
            raise _names_meet(job.path) from exc
        except CorruptError as exc:
            failed[job.path] = exc
            return
        if status.st_size != job.entry.size and not stat.S_ISLNK(status.st_mode):
            os.unlink(job.target)
            said = f"'{job.path}' has {status.st_size} bytes, not {job.entry.size} as its pointer or tree says"
            failed[job.path] = FormatError(said, "Add it again in a clone that has the data.")
            return
        keys[job.target] = (*statkey.of(status),)

    def _write_loose(self, job: _Job, path: Path) -> os.stat_result:
        link = self._place.link
        is_executable = job.entry.mode == EXECUTABLE
        if link in ("hardlink", "symlink") and not is_executable and not (link == "hardlink" and os.geteuid() == 0):
            if not self._store.is_trusted(path):
                raise CorruptError(f"object {job.entry.oid.short} was corrupt in the local store", "Run 'dvlite pull'.")
            if link == "symlink":
                os.symlink(path, job.target)
            else:
                os.link(path, job.target)
            return os.lstat(job.target)
        source = files.open_regular(path)
        target = files.create(job.target, 0o777 if is_executable else 0o666)
        try:
            if not self._is_copied(job.entry.oid, path, source, target):
                os.unlink(job.target)
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


def _of_kind(entries: list[Entry], *, is_link: bool) -> list[Entry]:
    return [entry for entry in entries if (entry.mode == SYMLINK) == is_link]


def _chunks(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Yield parts, or pieces of them, that have so many files together as are written at once."""
    chunk: list[_Part] = []
    room = _CHUNK
    for part in parts:
        start = 0
        while start < len(part.entries):
            chunk.append(part._replace(entries=part.entries[start : start + room]))
            start += room
            room = _CHUNK - sum(len(one.entries) for one in chunk)
            if room == 0:
                yield chunk
                chunk, room = [], _CHUNK
    if chunk:
        yield chunk


def _jobs(part: _Part) -> Iterator[_Job]:
    for entry in part.entries:
        path = f"{part.folder}/{entry.name}" if entry.name else part.folder
        yield _Job(entry, f"{part.target}/{part.alias or entry.name}", path)


def _check_space(folder: Path, count: int, size: int) -> None:
    """Refuse early what can't fit: also a tree from a stranger that unfolds to more files than there are."""
    space = os.statvfs(folder)
    if size > space.f_bavail * space.f_frsize or (space.f_files and count > space.f_favail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _write_small(job: _Job, data: bytes) -> os.stat_result:
    if job.entry.mode == SYMLINK:
        os.symlink(data, os.fsencode(job.target))
        return os.lstat(job.target)
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
