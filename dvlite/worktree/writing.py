"""Write the files of a plan from the store into folders that were made aside; by other processes where there are very many.

Small files come from packs, many at a time, each as it was verified: their cost is the system calls. Large ones are copied,
or linked, one by one.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvlite import copying, files, hashing, rows, statkey, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError
from dvlite.oid import Oid
from dvlite.progress import Progress
from dvlite.rows import Files
from dvlite.statkey import StatKey
from dvlite.stores.local import LocalStore, Packed
from dvlite.tree import EXECUTABLE, FILE, SYMLINK, Entry, Slot
from dvlite.worktree.reading import mode_of
from dvlite.worktree.settle import Outcome

_CHUNK = 256
_SHARED = 4096  # from so many files on, a second process pays
_MANY = 8  # from so many files on, it pays to open their folder
_NOTHING = StatKey(0, 0, 0, 0, 0)


class Page(NamedTuple):
    """A page of a folder's listing, undecoded: its files are to be written into another folder. `folder` is in-repo."""

    target: str
    folder: str
    slot: Slot
    data: bytes

    @property
    def length(self) -> int:
        """How many entries it has."""
        return self.data.count(b"\n") - 1


class One(NamedTuple):
    """One file of a folder (in-repo), to be written into another under another name."""

    target: str
    folder: str
    entry: Entry
    alias: str
    length: int = 1


Part = Page | One


class _File(NamedTuple):
    """A file to be written: `name` below the open folder `at`, or a whole path."""

    entry: Entry
    folder: str
    target: str
    name: str
    at: int | None

    @property
    def path(self) -> str:
        """The in-repo path."""
        return f"{self.folder}/{self.entry.name}" if self.entry.name else self.folder

    @property
    def whole(self) -> str:
        """The path to write to."""
        return self.name if self.at is None else f"{self.target}/{self.name}"

    @property
    def mode(self) -> int:
        """The permissions to create it with."""
        return 0o777 if self.entry.mode == EXECUTABLE else 0o666


class _Done(NamedTuple):
    """What became of a chunk, part by part: the files written, and the symbolic links that were left; errors by in-repo path.

    `odd`: folders in which the file system keeps other modes than were asked for.
    """

    number: int
    made: list[Files]
    links: list[list[Entry]]
    failed: dict[str, DvliteError]
    odd: set[str]


class Writer:
    """Writes, and notes what was written in the outcome of its tracked path. `link` is one of files.LINKS."""

    def __init__(self, store: LocalStore, link: str, outcomes: Mapping[str, Outcome], progress: Progress) -> None:
        self._store = store
        self._link = link
        self._outcomes = outcomes
        self._progress = progress
        self._chunks: list[list[Part]] = []
        self._links: list[Part] = []
        self._odd: set[str] = set()
        self.newest_ns = 0  # the youngest mtime of what was written

    def spoilt(self) -> set[str]:
        """Return the folders that don't have just what the tree says, or have links, which a scan reads again."""
        failed = {path.rpartition("/")[0] for outcome in self._outcomes.values() for path in outcome.failed}
        return {part.folder for part in self._links} | failed | self._odd

    def write(self, parts: Sequence[Part]) -> None:
        """Write all files; symbolic links last. What can't be had is noted as failed."""
        self._links = [part for part in parts if _is_link(part)]
        self._write_all([part for part in parts if not _is_link(part)])
        self._write_all(self._links)

    def _write_all(self, parts: Sequence[Part]) -> None:
        if not parts:
            return
        self._chunks = list(_chunks(parts))
        if sum(part.length for part in parts) >= _SHARED and self._share():
            return
        if len(self._chunks) == 1:
            self._take(self._write_chunk(0))
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
        errors = [error for outcome in self._outcomes.values() for error in outcome.failed.values()]
        if any(isinstance(error, CorruptError) for error in errors):
            self._store.refresh()  # another process may have set aside what was bad
        return True

    def _take(self, done: _Done) -> None:
        for part, its, links in zip(self._chunks[done.number], done.made, done.links, strict=True):
            outcome = self._outcome_of(part.folder)
            if isinstance(part, Page):
                outcome.made.pages.setdefault(part.folder, []).append(its)
            elif its.stats:
                outcome.made.files.setdefault(part.folder, {}).update(rows.split(its))
            self._links += [One(part.target, part.folder, entry, entry.name) for entry in links]
            count, size = len(its.oids) // rows.OID_SIZE, rows.total_size(its.stats)
            outcome.files += count
            outcome.size += size
            self._progress.advance(files=count, size=size)
            self.newest_ns = max(self.newest_ns, rows.newest(its.stats))
        for path, error in done.failed.items():
            self._outcome_of(path).failed[path] = error
        self._odd |= done.odd

    def _outcome_of(self, path: str) -> Outcome:
        while path not in self._outcomes:
            path = path.rpartition("/")[0]
        return self._outcomes[path]

    def _write_chunk(self, number: int) -> _Done:
        with contextlib.ExitStack() as stack:
            return _Chunk(self._store, self._link, stack, self._chunks[number]).write(number)


class _Chunk:
    """Some files that are written at once; `waiting` has the positions of those that are not written yet, by oid."""

    def __init__(self, store: LocalStore, link: str, stack: contextlib.ExitStack, parts: Sequence[Part]) -> None:
        self._store = store
        self._link = link
        self._files: list[_File] = []
        self._ends: list[int] = []  # of each part
        self._links: list[list[Entry]] = []
        for part, at in _opened(parts, stack):
            entries, links = _entries(part)
            before = f"{part.target}/" if at is None else ""
            alias = part.alias if isinstance(part, One) else ""
            self._files += [
                _File(entry, part.folder, part.target, f"{before}{alias or entry.name}", at) for entry in entries
            ]
            self._ends.append(len(self._files))
            self._links.append(links)
        self._keys = [_NOTHING] * len(self._files)
        self._failed: dict[str, DvliteError] = {}
        self._waiting: dict[Oid, list[int]] = {}
        for at, file in enumerate(self._files):
            self._waiting.setdefault(file.entry.oid, []).append(at)

    def write(self, number: int) -> _Done:
        waiting = self._waiting
        packed, loose, _ = self._store.group(waiting)
        for oid, path in loose.items():
            for at in [at for at in waiting[oid] if self._files[at].entry.mode != SYMLINK]:
                waiting[oid].remove(at)
                self._put(at, self._write_loose, path)
        for oid, data in self._read(packed, [oid for oid in loose if waiting[oid]]):
            for at in waiting.pop(oid):
                self._put(at, _write_small, data)
        for oid, left in waiting.items():
            for at in left:
                self._failed.setdefault(self._files[at].path, MissingError(f"object {oid.short} is not here"))
        odd = {file.folder for file, key in zip(self._files, self._keys, strict=True) if _is_odd(file.entry, key)}
        return _Done(number, list(self._made()), self._links, self._failed, odd)

    def _made(self) -> Iterator[Files]:
        """Yield what was written of each part."""
        start = 0
        for end in self._ends:
            done = [at for at in range(start, end) if self._keys[at] is not _NOTHING]
            names = rows.pack_names([self._files[at].entry.name for at in done])
            stats = rows.pack_stats([self._keys[at] for at in done])
            yield Files(names, stats, rows.pack_oids([self._files[at].entry.oid for at in done]))
            start = end

    def _read(self, packed: Packed, others: Sequence[Oid]) -> Iterator[tuple[Oid, bytes]]:
        wanted = [*(oid for places in packed.values() for oid in places), *others]
        try:
            yield from self._store.read_packed(packed)
            yield from self._store.read_many(others)
        except CorruptError:  # one of them is: find out which, and take the others
            for oid in [oid for oid in wanted if oid in self._waiting]:
                try:
                    yield oid, self._store.read(oid)
                except CorruptError as exc:
                    self._fail(oid, exc)
                except MissingError as exc:
                    self._fail(oid, CorruptError(f"{exc.message} any more: it was corrupt", exc.hint))

    def _fail(self, oid: Oid, error: DvliteError) -> None:
        for at in self._waiting.pop(oid):
            self._failed[self._files[at].path] = error

    def _put(self, at: int, write: Callable[..., StatKey], *what: Any) -> None:
        file = self._files[at]
        try:
            self._keys[at] = write(file, *what)
        except FileExistsError as exc:
            raise names_meet(file.path) from exc
        except (CorruptError, FormatError) as exc:
            self._failed[file.path] = exc

    def _write_loose(self, file: _File, path: Path) -> StatKey:
        if file.entry.mode != EXECUTABLE and self._may_link():
            return self._link_loose(file, path)
        source = files.open_regular(path)
        target = files.create(file.whole, file.mode)
        try:
            if not self._is_copied(file.entry.oid, path, source, target):
                os.unlink(file.whole)
                raise self._store.corrupt(file.entry.oid, path)
            key = statkey.of(os.fstat(target))
        finally:
            os.close(target)
            os.close(source)
        if key.size != file.entry.size:
            os.unlink(file.whole)
            raise _wrong_size(file, key.size)
        return key

    def _may_link(self) -> bool:
        return self._link == "symlink" or (self._link == "hardlink" and os.geteuid() != 0)

    def _link_loose(self, file: _File, path: Path) -> StatKey:
        if not self._store.is_trusted(path):
            raise CorruptError(f"object {file.entry.oid.short} was corrupt in the local store", "Run 'dvlite pull'.")
        if self._link == "symlink":
            os.symlink(path, file.whole)
            return statkey.of(os.lstat(file.whole))
        if (size := path.stat().st_size) != file.entry.size:
            raise _wrong_size(file, size)
        os.link(path, file.whole)
        # Without ctime, as a scan keeps those of the store's own objects: it changes when they are linked elsewhere.
        return statkey.of(os.lstat(file.whole))._replace(ctime_ns=0)

    def _is_copied(self, oid: Oid, path: Path, source: int, target: int) -> bool:
        """Copy a large object and tell whether the copy is true: by the quick checksum where one was noted for this file.

        What this process has just hashed, as it was fetched, is copied as it is, and leaves its memory to the copy.
        """
        if self._store.is_proved(path):
            copying.copy(source, target, leaves_memory=True)
            self._store.unprove(path)  # another copy of it comes from the disk
            return True
        if checksum := self._store.checksum_of(path):
            return hashing.checksum_of_copy(source, target) == checksum or self._is_true(oid, path, target)
        return hashing.content_of_copy(oid.algorithm, source, target).oid == oid

    def _is_true(self, oid: Oid, path: Path, target: int) -> bool:
        """Hash a copy whose checksum is not the one noted: perhaps the note is wrong, and the object is right."""
        if hashing.oid_of_open_file(oid.algorithm, target) != oid:
            return False
        self._store.verify(path)
        return True


def _write_small(file: _File, data: bytes) -> StatKey:
    if file.entry.mode == SYMLINK:
        os.symlink(data, os.fsencode(file.name), dir_fd=file.at)
        return statkey.of(os.stat(file.name, dir_fd=file.at, follow_symlinks=False))
    if len(data) != file.entry.size:
        raise _wrong_size(file, len(data))
    return statkey.of(files.write_new(file.name, data, file.mode, file.at))


def _wrong_size(file: _File, size: int) -> FormatError:
    return FormatError(
        f"'{file.path}' has {size} bytes, not {file.entry.size} as its pointer or tree says",
        "Add it again in a clone that has the data.",
    )


def names_meet(path: str) -> FormatError:
    """Return the error to raise for a name that this file system doesn't tell from another."""
    return FormatError(
        f"'{path}' meets another name on this file system (upper and lower case, or accents)",
        "Nothing was changed. Check it out on a file system that tells them apart.",
    )


def _is_odd(entry: Entry, key: StatKey) -> bool:
    return key is not _NOTHING and entry[0] != mode_of(key[0])


def _is_link(part: Part) -> bool:
    return isinstance(part, One) and part.entry.mode == SYMLINK


def _opened(parts: Sequence[Part], stack: contextlib.ExitStack) -> Iterator[tuple[Part, int | None]]:
    """Yield parts with their folders, opened where they get many files, so that the kernel need not walk there each time."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts[part.target] += part.length
    opened: dict[str, int] = {}
    for part in parts:
        if counts[part.target] >= _MANY and part.target not in opened:
            opened[part.target] = files.open_folder(part.target)
            stack.callback(os.close, opened[part.target])
        yield part, opened.get(part.target)


def _entries(part: Part) -> tuple[list[Entry], list[Entry]]:
    """Return the files of a part that are to be written now, and links that are left for later."""
    if isinstance(part, One):
        return [part.entry], []
    found = tree.open_slot(part.slot, part.data).entries
    if all(entry[0] in (FILE, EXECUTABLE) for entry in found):
        return found, []
    return [one for one in found if one.mode in (FILE, EXECUTABLE)], [one for one in found if one.mode == SYMLINK]


def _chunks(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield parts that have about so many files together as are written at once."""
    chunk: list[Part] = []
    count = 0
    for part in parts:
        chunk.append(part)
        count += part.length
        if count >= _CHUNK:
            yield chunk
            chunk, count = [], 0
    if chunk:
        yield chunk
