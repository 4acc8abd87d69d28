"""Decide, file by file, what data and pointer ask for: three-way, from base, data and target. Pure.

Base is what dvlite last put here, data is what is here now, target is what the pointer (or another rev) says. Absent is not
deleted: only what the base has can have been deleted. What no rule covers is kept.
"""

from collections.abc import Collection, Iterator
from enum import Enum
from typing import NamedTuple

from dvlite import lines, tree
from dvlite.oid import Oid
from dvlite.tree import Entry, Read


class Kind(Enum):
    """How data at one path stands to base and target."""

    ABSENT = "absent"  # never put here
    DELETED = "deleted"  # was put here, and is gone
    NEW = "new"  # neither base nor target have it
    MODIFIED = "modified"  # changed here, and only here
    OUTDATED = "outdated"  # unchanged here; the target has another version
    DROPPED = "dropped"  # unchanged here; the target doesn't have it
    CONFLICT = "conflict"  # changed here, and the target changed too
    UNKNOWN = "unknown"  # differs, and what was put here isn't known


class Change(NamedTuple):
    """One difference between data and target. `path` is relative to the tracked path, empty for itself.

    For ABSENT, DELETED, NEW, OUTDATED and DROPPED an entry may be a whole folder.
    """

    path: str
    kind: Kind
    base: Entry | None
    data: Entry | None
    target: Entry | None


class Only(NamedTuple):
    """Which paths below a tracked path a command is about; everything when `paths` is empty."""

    paths: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        """Tell whether all of `path` is wanted."""
        if not self.paths or path in self.paths:
            return True
        return any(path.startswith(f"{one}/") for one in self.paths)

    def leads(self, path: str) -> bool:
        """Tell whether something at or below `path` is wanted."""
        return not path or self.has(path) or any(one.startswith(f"{path}/") for one in self.paths)


ALL = Only()


def only(paths: Collection[str]) -> Only:
    """Return the selection of some paths; the empty path selects everything."""
    return ALL if "" in paths else Only(frozenset(paths))


def _same(one: Entry | None, two: Entry | None) -> bool:
    if one is None or two is None:
        return one is two
    return one.oid == two.oid and one.mode == two.mode


def plan(
    base: Entry | None,
    data: Entry | None,
    target: Entry | None,
    read: Read,
    *,
    is_base_known: bool = True,
    wanted: Only = ALL,
) -> Iterator[Change]:
    """Yield what differs between data and target, in path order, reading only trees that differ."""
    yield from _plan("", (base, data, target), read, is_base_known, wanted)


def _plan(
    path: str, three: tuple[Entry | None, Entry | None, Entry | None], read: Read, is_known: bool, wanted: Only
) -> Iterator[Change]:
    base, data, target = three
    if not wanted.leads(path) or _same(data, target):
        return
    tree.check_depth(path)
    trees = [entry if entry and entry.is_tree else None for entry in three]
    if _must_descend(three, trees, is_whole=wanted.has(path)):
        in_data, in_target, in_base = lines.differing(trees[1], trees[2], trees[0], read=read)
        for name in sorted({*in_data, *in_target, *in_base}, key=tree.raw):
            inner = (in_base.get(name), in_data.get(name), in_target.get(name))
            yield from _plan(f"{path}/{name}" if path else name, inner, read, is_known, wanted)
        if data and data.is_tree and target is None and wanted.has(path) and base:
            # What is left of a folder that the target doesn't have: an empty one goes too.
            yield Change(path, Kind.DROPPED, base, data._replace(files=0, size=0), None)
    elif not wanted.has(path):
        if data and target and target.is_tree:  # a file lies where the folder of what is wanted should be
            yield Change(path, Kind.CONFLICT, base, data, target)
    else:
        if kind := _judge(base, data, target, is_known):
            yield Change(path, kind, base, data, target)


def resumed(
    base: Entry | None, data: Entry | None, target: Entry | None, read: Read
) -> tuple[Entry | None, list[tuple[Oid, bytes]]]:
    """Return what counts as the base after a checkout to `target` was interrupted, and the tree objects that it needs.

    What is there as the target has it was put there; what is absent is not deleted, but may have been taken away to be replaced.
    """
    if data is None:
        return None, []
    root: Entry | None = data
    made: dict[Oid, bytes] = {}

    def reading(oid: Oid) -> bytes:
        return made.get(oid) or read(oid)

    for change in list(plan(base, data, target, read)):
        if change.data is None or change.data == change.base or change.kind is Kind.DROPPED:
            continue
        was = change.base
        if change.target and change.data.is_tree and was and was.is_tree:  # a folder half gone, where a file will lie
            was, objects = resumed(was, change.data, None, reading)
            made.update(objects)
        key = tuple(change.path.split("/")) if change.path else ()
        root, objects = tree.graft(root, {key: was}, reading)
        made.update(objects)
    return (root._replace(name="") if root else None), list(made.items())


def _must_descend(
    three: tuple[Entry | None, Entry | None, Entry | None], trees: list[Entry | None], *, is_whole: bool
) -> bool:
    base, data, target = three
    if trees[1] and trees[2]:
        return True
    if trees[1] and target is None:
        return base is not None and not _same(base, data) if is_whole else True
    if data is None and trees[2] and trees[2].files:
        return base is not None and not _same(base, target) if is_whole else True
    return False


def _judge(base: Entry | None, data: Entry | None, target: Entry | None, is_known: bool) -> Kind | None:
    if data is None:
        if target is None:
            return None
        return Kind.DELETED if base and is_known else Kind.ABSENT
    if not is_known:
        return Kind.NEW if target is None else Kind.UNKNOWN
    if base is None:
        return Kind.NEW if target is None else Kind.CONFLICT
    if _same(base, data):
        return Kind.DROPPED if target is None else Kind.OUTDATED
    return Kind.MODIFIED if _same(base, target) else Kind.CONFLICT
