"""Make worktree data what a plan says: everything is built aside first, then put into place one rename at a time.

Invariants:
- What is replaced or removed was seen in the store, on disk, a moment ago; it is renamed aside, looked at again, and put back
  if it moved since it was scanned.
- Nothing is ever written through a symbolic link: folders are opened one below the other without following any; symbolic
  links are made last.
- A file appears whole or not at all; a folder that wasn't there appears in one step.

`writing` is what fills the folders that are built aside, `settle` what puts them into place.
"""

import contextlib
import errno
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from dvlite import files, lines, statkey, tree
from dvlite.errors import DvliteError, MissingError, explain
from dvlite.progress import SILENT, Progress
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry, Read
from dvlite.worktree.made import Whole
from dvlite.worktree.plan import Change
from dvlite.worktree.settle import Kept, Outcome, Place, Walker, remove_empty, settle
from dvlite.worktree.writing import One, Page, Part, Writer, names_meet

_LARGE = 1 << 26


class Work(NamedTuple):
    """Changes at one place, whose target is to be put there (None: removed); `read` reads their trees."""

    place: Place
    changes: Sequence[Change]
    read: Read


def apply(
    place: Place, changes: Sequence[Change], store: LocalStore, read: Read, progress: Progress = SILENT
) -> Outcome:
    """Carry out changes; what can't be done is kept and reported."""
    with Staging([Work(place, changes, read)], store, progress) as staging:
        return staging.settle(0)


class Staging:
    """What some works put into place, built aside together: then each is settled. A context, which leaves nothing aside.

    All of them lie on one file system and have the same `link`, and none within another. To wait until what was written is
    old enough to be known by its stat takes as long for many as for one.
    """

    def __init__(self, works: Sequence[Work], store: LocalStore, progress: Progress = SILENT) -> None:
        self._works = works
        self._store = store
        self._progress = progress
        self._outcomes = {work.place.tracked: Outcome() for work in works}
        self._changes: list[list[Change]] = []  # of each work, those that destroy nothing
        self._starts: list[int] = []  # of each work, the number of its first change
        self._stage: Path | None = None
        self._builder: _Builder | None = None
        self._staged: dict[int, Path] = {}

    def __enter__(self) -> Self:
        for place, changes, read in self._works:
            self._starts.append(sum(map(len, self._changes)))
            self._changes.append(list(_secure(changes, self._store, read, self._outcomes[place.tracked])))
        if any(self._changes):
            try:
                self._build()
            except OSError as exc:
                self._leave()
                raise self._explained(exc, 0) from exc
            except BaseException:
                self._leave()
                raise
        return self

    def _build(self) -> None:
        place = self._works[0].place
        files.sweep(place.tmp)
        stage = files.temporary(place.tmp)
        stage.mkdir(0o700)
        self._stage = stage
        works = [work._replace(changes=changes) for work, changes in zip(self._works, self._changes, strict=True)]
        for work in works:
            _refuse_meeting_names(work.place, work.changes, stage)
        self._builder = builder = _Builder(works, self._store, stage, self._outcomes, self._progress)
        self._staged = builder.build()
        self._progress.phase("settle")
        if builder.writer.newest_ns:
            statkey.stamp_after(stage, builder.writer.newest_ns)

    def settle(self, number: int) -> Outcome:
        """Put into place what one of the works says."""
        try:
            return self._settle(number)
        except OSError as exc:
            raise self._explained(exc, number) from exc

    def _settle(self, number: int) -> Outcome:
        place, _, read = self._works[number]
        outcome, builder, stage = self._outcomes[place.tracked], self._builder, self._stage
        if builder is None or stage is None or not self._changes[number]:
            return outcome
        may_link = place.link in ("hardlink", "symlink")  # links have stats of others
        with Walker(place.root) as walker:
            for position, change in enumerate(self._changes[number], self._starts[number]):
                aside = stage / f"{position}{files.ASIDE}"
                remove_empty(place, walker, _folders_of(change, read))
                count = len(outcome.done)
                settle(place, walker, change, self._staged.get(position), aside, outcome)
                if len(outcome.done) > count and not may_link:
                    outcome.made.whole.update(builder.whole.get(position, {}))
                if os.path.lexists(aside):
                    outcome.kept.append(
                        Kept(change, f"is in the way of what was there before and lies in '{aside}' now")
                    )
        outcome.made.spoil(builder.writer.spoilt())
        return outcome

    def _explained(self, exc: OSError, number: int) -> DvliteError:
        return explain(exc, self._works[number].place.tracked, "can't check out")

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._stage and not files.holds_aside(self._stage):  # what could not be put back stays there
            files.remove_folder(self._stage)
        tmp = self._works[0].place.tmp
        if self._stage and tmp.name == files.NEAR:
            with contextlib.suppress(OSError):
                tmp.rmdir()


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
    for child in lines.folders(entry, read):
        below = f"{path}/{child.name}" if path else child.name
        yield from _within(below, child, read)
        yield below


# ---- building aside -------------------------------------------------------------------------------------------------


class _Builder:
    def __init__(
        self, works: Sequence[Work], store: LocalStore, stage: Path, outcomes: Mapping[str, Outcome], progress: Progress
    ) -> None:
        self._works = works
        self._stage = stage
        self._outcomes = outcomes
        self._progress = progress
        self.writer = Writer(store, works[0].place.link, outcomes, progress)
        self.whole: dict[int, dict[str, Whole]] = {}  # folders made, by position of the change

    def build(self) -> dict[int, Path]:
        """Write the targets of all changes below the stage; return where each lies, without those that can't be had."""
        targets = [change.target for work in self._works for change in work.changes if change.target]
        total, size = sum(target.files for target in targets), sum(target.size for target in targets)
        for work in self._works:
            _make_room(work)
        _check_space(self._stage, total, size)
        staged: dict[int, Path] = {}
        parts: list[Part] = []
        each = ((work, change) for work in self._works for change in work.changes)
        for position, (work, change) in enumerate(each):
            if change.target:
                staged[position] = self._stage / str(position)
                parts += self._parts(work, change, change.target, position)
        self._progress.phase("checkout", files=total, size=size)
        self.writer.write(parts)
        for position, path in list(staged.items()):
            if not os.path.lexists(path):
                del staged[position]
        return staged

    def _parts(self, work: Work, change: Change, target: Entry, position: int) -> Iterator[Part]:
        full = _full(work.place, change.path)
        if target.is_tree:
            whole = self.whole.setdefault(position, {})
            yield from self._lay_out(work, target, str(self._stage / str(position)), full, whole)
        else:
            folder, _, name = full.rpartition("/") if change.path else (full, "", "")
            yield One(str(self._stage), folder, target._replace(name=name), str(position))

    def _lay_out(self, work: Work, entry: Entry, target: str, path: str, whole: dict[str, Whole]) -> Iterator[Part]:
        """Make a folder and those below it; yield what must be written into them."""
        place, _, read = work
        tree.check_depth(path[len(place.tracked) :])
        try:
            pages = list(tree.pages(entry, read))
            subs = lines.folders(entry, read) if any(lines.may_have_folders(data) for _, data in pages) else []
        except MissingError as exc:
            self._outcomes[place.tracked].failed[path] = exc
            return
        try:
            os.mkdir(target)
        except FileExistsError as exc:
            raise names_meet(path) from exc
        yield from (Page(target, path, slot, data) for slot, data in pages)
        whole[path] = Whole(entry, [child.name for child in subs], [entry.oid, *(slot.oid for slot, _ in pages)])
        for child in subs:
            yield from self._lay_out(work, child, f"{target}/{child.name}", f"{path}/{child.name}", whole)


def _full(place: Place, path: str) -> str:
    return f"{place.tracked}/{path}" if path else place.tracked


def _make_room(work: Work) -> None:
    """Let the new bytes of a large file have the memory of the old ones, which lie in the store too."""
    for change in work.changes:
        if change.data and change.target and not change.data.is_tree and change.data.size >= _LARGE:
            _drop_cache(work.place.root / _full(work.place, change.path))


def _drop_cache(path: Path) -> None:
    with contextlib.suppress(OSError):
        fd = files.open_regular(path)
        files.drop_cache(fd)
        os.close(fd)


def _check_space(folder: Path, count: int, size: int) -> None:
    """Refuse early what can't fit: also a tree from a stranger that unfolds to more files than there are."""
    space = os.statvfs(folder)
    if size > space.f_bavail * space.f_frsize or (space.f_files and count > space.f_favail):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


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
                raise names_meet(f"{place.tracked}/{change.path}")
    for paths in alike.values():
        if len(paths) > 1:
            _probe(place, paths, stage / "names")


def _probe(place: Place, paths: Sequence[str], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        try:
            os.close(files.create(folder / path.rpartition("/")[2]))
        except FileExistsError as exc:
            raise names_meet(f"{place.tracked}/{path}") from exc
    files.remove_folder(folder)
