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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dvlite import files, lines, statkey, tree
from dvlite.errors import MissingError, explain
from dvlite.progress import SILENT, Progress
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry, Read
from dvlite.worktree.made import Whole
from dvlite.worktree.plan import Change
from dvlite.worktree.settle import Kept, Outcome, Place, Walker, remove_empty, settle
from dvlite.worktree.writing import One, Page, Part, Writer, names_meet

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
        if builder.writer.newest_ns:
            statkey.stamp_after(stage, builder.writer.newest_ns)
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
        outcome.made.spoil(builder.writer.spoilt())
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
    for child in lines.folders(entry, read):
        below = f"{path}/{child.name}" if path else child.name
        yield from _within(below, child, read)
        yield below


# ---- building aside -------------------------------------------------------------------------------------------------


class _Builder:
    def __init__(self, place: Place, store: LocalStore, stage: Path, outcome: Outcome, progress: Progress) -> None:
        self._place = place
        self._stage = stage
        self._outcome = outcome
        self._progress = progress
        self.writer = Writer(store, place.link, outcome, progress)
        self.whole: dict[int, dict[str, Whole]] = {}  # folders made, by position of the change

    def build(self, changes: Sequence[Change], read: Read) -> dict[int, Path]:
        """Write the targets of all changes below the stage; return where each lies, without those that can't be had."""
        total = sum(change.target.files for change in changes if change.target)
        self._make_room(changes)
        size = sum(change.target.size for change in changes if change.target)
        _check_space(self._stage, total, size)
        staged: dict[int, Path] = {}
        parts: list[Part] = []
        for position, change in enumerate(changes):
            if change.target is None:
                continue
            staged[position] = self._stage / str(position)
            full, target = self._full(change.path), str(staged[position])
            if change.target.is_tree:
                self._lay_out(change.target, target, full, read, parts, self.whole.setdefault(position, {}))
            else:
                folder, _, name = full.rpartition("/") if change.path else (full, "", "")
                parts.append(One(str(self._stage), folder, change.target._replace(name=name), str(position)))
        self._progress.phase("checkout", files=total, size=size)
        self.writer.write(parts)
        for position, path in list(staged.items()):
            if not os.path.lexists(path):
                del staged[position]
        return staged

    def _make_room(self, changes: Sequence[Change]) -> None:
        """Let the new bytes of a large file have the memory of the old ones, which lie in the store too."""
        for change in changes:
            if change.data and change.target and not change.data.is_tree and change.data.size >= _LARGE:
                _drop_cache(self._place.root / self._full(change.path))

    def _full(self, path: str) -> str:
        return f"{self._place.tracked}/{path}" if path else self._place.tracked

    def _lay_out(
        self, entry: Entry, target: str, path: str, read: Read, parts: list[Part], whole: dict[str, Whole]
    ) -> None:
        """Make a folder and those below it; list what must be written into them."""
        tree.check_depth(path[len(self._place.tracked) :])
        try:
            pages = list(tree.pages(entry, read))
            subs = lines.folders(entry, read) if any(lines.may_have_folders(data) for _, data in pages) else []
        except MissingError as exc:
            self._outcome.failed[path] = exc
            return
        try:
            os.mkdir(target)
        except FileExistsError as exc:
            raise names_meet(path) from exc
        parts += [Page(target, path, slot, data) for slot, data in pages]
        whole[path] = Whole(entry, [child.name for child in subs], [entry.oid, *(slot.oid for slot, _ in pages)])
        for child in subs:
            self._lay_out(child, f"{target}/{child.name}", f"{path}/{child.name}", read, parts, whole)


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
