"""Two versions of data to what differs: files and folders that were added, removed, changed, renamed. Pure.

Only trees that differ are read. A folder that one side alone has is one difference, and stays one unless something in it was
renamed. Renames are found by content; what is empty has none.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from dvlite import lines, tree
from dvlite.oid import Oid
from dvlite.tree import Entry, Read


class Difference(NamedTuple):
    """One path that differs; `old_path` where it was renamed. Either entry may be a whole folder."""

    path: str
    old: Entry | None
    new: Entry | None
    old_path: str = ""

    @property
    def kind(self) -> str:
        """Added, removed, renamed, mode (nothing but what it is changed) or changed."""
        if self.old is None or self.new is None:
            return "removed" if self.old else "added"
        if self.old_path:
            return "renamed"
        return "mode" if self.old.oid == self.new.oid else "changed"

    @property
    def entry(self) -> Entry:
        """What is there now, or was there last."""
        found = self.new or self.old
        assert found is not None
        return found


def differences(path: str, old: Entry | None, new: Entry | None, read: Read) -> Iterator[Difference]:
    """Yield what differs at and below a path, in path order."""
    if old and new and (old.oid, old.mode) == (new.oid, new.mode):
        return
    if old and new and old.is_tree and new.is_tree and old.oid.algorithm == new.oid.algorithm:
        tree.check_depth(path)
        before, after = lines.differing(old, new, read=read)
        for name in sorted({*before, *after}, key=tree.raw):
            yield from differences(_join(path, name), before.get(name), after.get(name), read)
    elif old and new and old.is_tree != new.is_tree:
        yield Difference(path, old, None)
        yield Difference(path, None, new)
    elif old or new:
        yield Difference(path, old, new)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def with_renames(found: Collection[Difference], read: Read) -> list[Difference]:
    """Put what was removed and what was added together where it is the same, whole folders first."""
    moved = _moved(found, read)
    if not moved:
        return list(found)
    olds = {old.path for old in moved.values()}
    heads = [{head for path in paths for head in tree.heads(path)} for paths in (olds, moved)]
    result: list[Difference] = []
    for one in found:
        if one.old and one.new:
            result.append(one)
        elif one.old:
            result += (part for part in _parts(one, heads[0], read) if part.path not in olds)
        else:
            for part in _parts(one, heads[1], read):
                old = moved.get(part.path)
                result.append(part._replace(old=old.old, old_path=old.path) if old else part)
    return result


def _moved(found: Collection[Difference], read: Read) -> dict[str, Difference]:
    """Return what is the same as something that was removed: where it is now, and what it was."""
    level = [one for one in found if one.old is None]
    gone = _Gone([one for one in found if one.new is None] if level else [], read)
    moved: dict[str, Difference] = {}
    while level and gone.by_oid:
        below: list[Difference] = []
        for one in level:
            if old := gone.take(one):
                moved[one.path] = old
            elif one.entry.is_tree:
                below += _open(one, read)
        level = below
    return moved


class _Gone:
    """What was removed, at every depth, each to be taken once: not with a folder and again with what lay in it."""

    def __init__(self, found: Collection[Difference], read: Read) -> None:
        self.by_oid: dict[tuple[Oid, bool], dict[str, list[Difference]]] = {}  # and by name
        self._taken: set[str] = set()
        self._above: set[str] = set()
        level = list(found)
        while level:
            for one in level:
                if one.entry.size:
                    names = self.by_oid.setdefault((one.entry.oid, one.entry.is_tree), {})
                    names.setdefault(one.path.rpartition("/")[2], []).append(one)
            level = [inner for one in level if one.entry.is_tree for inner in _open(one, read)]

    def take(self, come: Difference) -> Difference | None:
        """Return what was removed and is the same, of the same name if there is one."""
        names = self.by_oid.get((come.entry.oid, come.entry.is_tree), {})
        while names:
            name = come.path.rpartition("/")[2]
            name = name if name in names else next(iter(names))
            old = names[name].pop()
            if not names[name]:
                del names[name]
            heads = tree.heads(old.path)
            if old.path not in self._above and self._taken.isdisjoint([*heads, old.path]):
                self._taken.add(old.path)
                self._above.update(heads)
                return old
        return None


def _open(one: Difference, read: Read) -> Iterator[Difference]:
    """Yield what lies in a folder; a file as it is."""
    if not one.entry.is_tree:
        yield one
        return
    tree.check_depth(one.path)
    for child in tree.entries(one.entry, read):
        yield Difference(_join(one.path, child.name), child if one.old else None, child if one.new else None)


def _parts(one: Difference, heads: Collection[str], read: Read) -> Iterator[Difference]:
    """Yield a difference whole, or, where it is one of the folders above what must stand apart, its parts."""
    if not one.entry.is_tree or one.path not in heads:
        yield one
        return
    for child in _open(one, read):
        yield from _parts(child, heads, read)


def old_files(one: Difference, read: Read) -> Iterator[str]:
    """Yield the paths of the files that a difference changes or takes away."""
    if one.old is None:
        return
    if not one.old.is_tree:
        yield one.path
        return
    for child in _open(one._replace(new=None), read):
        yield from old_files(child, read)


class Count(NamedTuple):
    """How many files differ, and how: those of whole folders too. Sizes are bytes."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    renamed: int = 0
    size_added: int = 0
    size_removed: int = 0


def count(found: Iterable[Difference]) -> Count:
    """Sum up differences; what changed counts with its old size as removed, and with its new one as added."""
    added = removed = changed = renamed = plus = minus = 0
    for one in found:
        files = one.entry.files
        kind = one.kind
        added += files if kind == "added" else 0
        removed += files if kind == "removed" else 0
        renamed += files if kind == "renamed" else 0
        changed += files if kind in ("changed", "mode") else 0
        if kind in ("added", "changed") and one.new:
            plus += one.new.size
        if kind in ("removed", "changed") and one.old:
            minus += one.old.size
    return Count(added, removed, changed, renamed, plus, minus)
