"""Bring a folder from what dvlite last put there to another version by looking only at what differs between the two.

That is what a switch of branches asks for. It rests on the index: what differs must have the very stat that is remembered for it,
and the rest is not looked at. Where anything is not as remembered, nothing is done, and the caller looks at all of it.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dvlite import hashing, lines, rows, statkey, tree
from dvlite.errors import DvliteError, UsageError
from dvlite.ops.base import reader
from dvlite.progress import Progress
from dvlite.repo import Repo
from dvlite.rows import Packed, Row
from dvlite.statkey import StatKey
from dvlite.tree import Entry, Read
from dvlite.worktree import ignore, materialise
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Change
from dvlite.worktree.settle import Outcome, Place


@dataclass(slots=True)
class _Known:
    """What the index remembers of a tracked path; entries are read folder by folder, when first asked for."""

    repo: Repo
    tracked: str
    rows: dict[str, Row]
    packed: dict[str, Packed] = field(default_factory=dict)

    def folder(self, path: str) -> Packed:
        """Return a folder's entries (in-repo path)."""
        if path not in self.packed:
            row = self.rows.get(path)
            self.packed[path] = self.repo.index.packed(path, row) if row and row.fingerprint else {}
        return self.packed[path]

    def stat(self, path: str) -> StatKey | None:
        """Return the stat remembered for a path below the tracked path."""
        folder, name = self._place(path)
        found = self.folder(folder).get(name)
        return rows.unpack_stat(found[0]) if found else None

    def is_as_remembered(self, path: str, entry: Entry) -> bool:
        """Tell whether a file has the remembered stat and content."""
        folder, name = self._place(path)
        try:
            key = statkey.of(os.lstat(self.repo.root / self.tracked / path))
        except OSError:
            return False
        return self.folder(folder).get(name) == rows.pack_entry(key, entry.oid)

    def _place(self, path: str) -> tuple[str, str]:
        folder, _, name = f"{self.tracked}/{path}".rpartition("/")
        return folder, name


def advance(
    repo: Repo, tracked: str, base: Entry, target: Entry, progress: Progress, begin: Callable[[], None]
) -> Outcome | None:
    """Change a folder from `base`, which is all there, to `target`; None where all of it must be looked at (again).

    `begin` is called before anything is changed.
    """
    known = _Known(repo, tracked, repo.index.rows(tracked))
    row = known.rows.get(tracked)
    if row is None or row.oid != base.oid or not row.state or row.state != repo.store.state():
        return None
    for one in known.rows.values():
        if one.subs:  # a folder's, which was checked when it was noted
            tree.note_checked(tree.Slot(one.oid, one.size, one.files))
    read = reader(repo)
    try:
        changes = list(plans.plan(base, base, target, read))
        if not all(_is_plain(change) and _is_there(change, known) for change in changes) or _has_ignores(
            known, changes
        ):
            return None
    except DvliteError:  # a tree that isn't here: the caller says so
        return None
    place = Place(repo.root, tracked, repo.tmp(repo.root / tracked), repo.link, known.stat)
    begin()
    try:
        outcome = materialise.apply(place, changes, repo.store, read, progress)
    except UsageError:  # a link where a folder was: the long way does what can be done
        return None
    if outcome.kept or outcome.failed or len(outcome.done) < len(changes):
        return None
    repo.index.save(dict(_new_rows(known, changes, target, read, outcome)))
    return outcome


def _is_plain(change: Change) -> bool:
    """Tell whether files alone come, go or change; folders that come or go want a look at what else is in them."""
    return all(entry is None or not entry.is_tree for entry in (change.data, change.target)) and bool(change.path)


def _is_there(change: Change, known: _Known) -> bool:
    """Tell whether what a change replaces is as remembered, or the folder that gets something new is there."""
    if change.data is None:
        folder = (known.repo.root / known.tracked / change.path).parent
        return folder.is_dir() and not folder.is_symlink()
    return known.is_as_remembered(change.path, change.data)


def _has_ignores(known: _Known, changes: list[Change]) -> bool:
    """Tell whether something says what to ignore, there or above: what it says may have changed since the last scan."""
    folders = {known.tracked}
    for change in changes:
        folder = f"{known.tracked}/{change.path}".rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    parts = known.tracked.split("/")
    folders |= {"/".join(parts[:count]) for count in range(len(parts))}
    return any(os.path.lexists(known.repo.root / folder / ignore.FILE) for folder in folders)


def _new_rows(
    known: _Known, changes: list[Change], target: Entry, read: Read, outcome: Outcome
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of all folders in which something changed, and of those above, as a scan would find them now."""
    changed: dict[str, list[Change]] = {known.tracked: []}
    for change in changes:
        folder = f"{known.tracked}/{change.path}".rpartition("/")[0]
        while folder != known.tracked and folder not in changed:
            changed[folder] = []
            folder = folder.rpartition("/")[0]
        changed[f"{known.tracked}/{change.path}".rpartition("/")[0]].append(change)
    entries = {known.tracked: target}
    for folder in sorted(changed):  # those above come first
        entry, row = entries.get(folder), known.rows.get(folder)
        if entry is None or row is None or not row.fingerprint:
            continue
        subs = lines.folders(entry, read)
        entries |= {f"{folder}/{sub.name}": sub for sub in subs}
        packed = known.folder(folder)
        for change in changed[folder]:
            _put(known.repo, packed, folder, change, outcome)
        sub_sum = hashing.checksum(tree.encode(tree.Page(0, subs)))
        row = row._replace(oid=entry.oid, size=entry.size, files=entry.files, subs=sub_sum)
        yield folder, rows.join(row, packed, [sub.name for sub in subs])


def _put(repo: Repo, packed: Packed, folder: str, change: Change, outcome: Outcome) -> None:
    name = change.path.rpartition("/")[2]
    if change.target is None:
        packed.pop(name, None)
        return
    try:
        key = statkey.of(os.lstat(repo.root / folder / name))
    except FileNotFoundError:  # somebody was quick
        packed.pop(name, None)
        return
    wrote = outcome.made.files.get(folder, {}).get(name)
    if wrote is None or rows.unpack_stat(wrote[0]) != key:
        key = key._replace(ctime_ns=-1)  # changed since it was put there: to be read again
    packed[name] = rows.pack_entry(key, change.target.oid)
