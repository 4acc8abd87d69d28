"""Merge two versions of a pointer as Git merges files: folder by folder, reading trees and never contents; and take sides.

A conflict leaves both versions in one file with ordinary markers. Each side is the whole merge with that side's choice where the
two disagree, so what differs between the sides is exactly what is in conflict: nothing else needs to be remembered.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import files, git, lines, pointer, recipe, refs, tree
from dvlite.errors import DvliteError, FormatError, UsageError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, enclosing, reader
from dvlite.ops.bring import CheckoutResult
from dvlite.ops.checkout import checkout
from dvlite.ops.commit import AFTER_COMMIT
from dvlite.ops.fetch import refuse_unused, tree_reader
from dvlite.pointer import SUFFIX, Pointer
from dvlite.reach import walk
from dvlite.repo import Repo, pointer_path
from dvlite.tree import BLOB_MODES, SYMLINK, Entry, Read

_MARKER = 7  # the length of Git's conflict markers; more in the merge of ancestors
Three = tuple[Entry | None, Entry | None, Entry | None]  # base, ours, theirs


@dataclass(slots=True)
class MergeResult:
    """The merged file, the paths in conflict (the tracked path itself, or inside it), and why it could not be told."""

    text: bytes
    conflicts: list[str] = field(default_factory=list)
    error: DvliteError | None = None


def merge(repo: Repo, tracked: str, base: Path, ours: Path, theirs: Path, *, marker_size: int = _MARKER) -> MergeResult:
    """Merge three versions of a tracked path's pointer, given as files (`base` may be empty)."""
    texts = [path.read_bytes() for path in (base, ours, theirs)]
    name = f"{tracked}{SUFFIX}"
    try:
        items = [pointer.decode(text, name) if text else None for text in texts]
        one, two = _merge(repo, items[0], items[1], items[2], is_inner=marker_size > _MARKER)
    except DvliteError as exc:
        text, is_clean = git.merge_texts(repo.root, ours, base, theirs, marker_size=marker_size)
        return MergeResult(text, [] if is_clean else [tracked], None if is_clean else exc)
    if one == two:
        return MergeResult(pointer.encode(one))
    text = pointer.conflict(pointer.encode(one), pointer.encode(two), marker_size=marker_size)
    return MergeResult(text, _in_conflict(tracked, one, two, reader(repo)))


def _merge(
    repo: Repo, base: Pointer | None, ours: Pointer | None, theirs: Pointer | None, *, is_inner: bool
) -> tuple[Pointer, Pointer]:
    """Return the two sides of the merge, equal where nothing is in conflict.

    `is_inner`: it makes a common ancestor out of several; as Git does, that has the base where the two disagree.
    """
    if ours is None or theirs is None:
        raise FormatError("one side is empty")
    read = _reader(repo)
    grafts: dict[str, Entry | None] = {}
    conflicts: dict[str, Entry | None] = {}
    if ours.oid.algorithm == theirs.oid.algorithm:
        _merge_entries("", (base.entry if base else None, ours.entry, theirs.entry), read, grafts, conflicts)
    else:  # one tree can't name objects of two algorithms
        conflicts[""] = theirs.entry
    _get_listings([entry for entry in [*grafts.values(), *conflicts.values()] if entry and entry.is_tree], read)
    if is_inner:
        if base:
            grafts |= {path: _inner(base, path, read) for path in conflicts}
        conflicts = {}
    roots, made = _grafted(ours.entry, [grafts, conflicts], read)
    with repo.store.batch() as batch:
        for oid, data in made.items():
            batch.take(oid, data, is_tree=True)
    rests = [
        pointer.merge_rest(base.rest if base else b"", ours.rest, theirs.rest, prefers_theirs=prefers)
        for prefers in (False, not is_inner)
    ]
    one, two = (
        _truly(ours.pointing_to(root)._replace(rest=rest), ours, theirs)
        for root, rest in zip(roots, rests, strict=True)
    )
    return one, two


def _truly(merged: Pointer, *sides: Pointer) -> Pointer:
    """Take out how data was made, unless it is what one side has, made as that side says."""
    of_side = any(side.oid == merged.oid and recipe.same_run(side, merged) for side in sides)
    return merged if of_side else recipe.without(merged)


def _get_listings(folders: Sequence[Entry], read: Read) -> None:
    """Have the trees below whole folders that were taken over, so that they can be listed and checked out in part."""
    with contextlib.suppress(DvliteError):
        walk(folders, lambda oids: ((oid, read(oid)) for oid in oids))


def _inner(item: Pointer, path: str, read: Read) -> Entry | None:
    return tree.find(item.entry, path.split("/"), read) if path else item.entry


def _reader(repo: Repo) -> Read:
    """Return a function that reads trees, from a remote used before too, unless the user wants none of that."""
    near = reader(repo)
    if repo.flag("offline", default=False):
        return near
    far = tree_reader(repo, repo.remote)

    def read(oid: Oid) -> bytes:
        if not repo.store.find([oid]) and repo.index.tree(oid) is None:
            refuse_unused(repo)
            return far(oid)
        return near(oid)

    return read


def _grafted(
    root: Entry, steps: Sequence[Mapping[str, Entry | None]], read: Read
) -> tuple[list[Entry], dict[Oid, bytes]]:
    """Put one set of entries after the other into a root; return the root after each, and the tree objects made."""
    made: dict[Oid, bytes] = {}
    roots = []
    for step in steps:
        keyed = {tuple(path.split("/")) if path else (): entry for path, entry in step.items()}
        new, objects = tree.graft(root, keyed, lambda oid: made.get(oid) or read(oid)) if keyed else (root, [])
        made.update(objects)
        assert new is not None
        root = new
        roots.append(root)
    return roots, made


def _merge_entries(
    path: str, three: Three, read: Read, grafts: dict[str, Entry | None], conflicts: dict[str, Entry | None]
) -> bool:
    """Note what to put into ours: `grafts` where theirs alone changed, `conflicts` (their entries) where both did.

    Tell whether something is left there.
    """
    base, ours, theirs = three
    if _same(ours, theirs) or _same(base, theirs):
        return ours is not None
    if _same(base, ours):
        grafts[path] = theirs
        return theirs is not None
    if _are_folders(three):
        return _merge_folders(path, three, read, grafts, conflicts)
    if merged := _merge_files(base, ours, theirs):
        grafts[path] = merged
    else:
        conflicts[path] = theirs
    return True


def _same(one: Entry | None, two: Entry | None) -> bool:
    if one is None or two is None:
        return one is two
    return one.oid == two.oid and one.mode == two.mode


def _are_folders(three: Three) -> bool:
    """Tell whether all that is there is a folder, and it was one before where a side has none any more."""
    base, ours, theirs = three
    present = [entry for entry in (ours, theirs) if entry]
    was_folder = len(present) == 2 or bool(base and base.is_tree)
    return was_folder and all(entry.is_tree for entry in present)


def _merge_folders(
    path: str, three: Three, read: Read, grafts: dict[str, Entry | None], conflicts: dict[str, Entry | None]
) -> bool:
    folders = [entry if entry and entry.is_tree else None for entry in three]
    in_ours, in_theirs, in_base = lines.differing(folders[1], folders[2], folders[0], read=read)
    inner_grafts: dict[str, Entry | None] = {}
    inner_conflicts: dict[str, Entry | None] = {}
    is_left = three[2] is not None
    for name in {**in_ours, **in_theirs, **in_base}:
        entries = (in_base.get(name), in_ours.get(name), in_theirs.get(name))
        inner = f"{path}/{name}" if path else name
        is_left |= _merge_entries(inner, entries, read, inner_grafts, inner_conflicts)
    if not is_left:  # they took the folder away, and ours has nothing new in it
        grafts[path] = None
        return False
    grafts.update(inner_grafts)
    conflicts.update(inner_conflicts)
    return True


def _merge_files(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
    """Merge content and executable bit each for itself; None where that is not possible."""
    if not (base and ours and theirs) or any(
        one.mode not in BLOB_MODES or one.mode == SYMLINK for one in (base, ours, theirs)
    ):
        return None
    mode = theirs.mode if ours.mode == base.mode else ours.mode
    content = theirs if ours.oid == base.oid else ours if theirs.oid in (base.oid, ours.oid) else None
    return content._replace(mode=mode, name=ours.name) if content else None


def conflicts(repo: Repo, tracked: str) -> list[str]:
    """Return the paths in conflict of a tracked path whose pointer has conflict markers."""
    path = pointer_path(repo, tracked)
    try:
        ours, theirs = (pointer.decode(text, path.name) for text in pointer.sides(path.read_bytes()))
    except (DvliteError, OSError):
        return []
    return _in_conflict(tracked, ours, theirs, reader(repo))


def _in_conflict(tracked: str, one: Pointer, two: Pointer, read: Read) -> list[str]:
    """Return the paths at which two sides differ."""
    found: list[str] = []

    def walk(path: str, a: Entry | None, b: Entry | None) -> None:
        if _same(a, b):
            return
        if a and b and a.is_tree and b.is_tree:
            in_a, in_b = lines.differing(a, b, read=read)
            for name in sorted({*in_a, *in_b}, key=tree.raw):
                walk(f"{path}/{name}", in_a.get(name), in_b.get(name))
        else:
            found.append(path)

    try:
        walk(tracked, one.entry, two.entry)
    except DvliteError:
        found.append(tracked)
    return found or [f"{tracked}{SUFFIX}"]  # the metadata


def note_conflict(repo: Repo) -> None:
    """Leave word that data is to follow once the merge is committed."""
    path = repo.git.folder / "dvlite" / AFTER_COMMIT
    if not path.exists():
        files.write_atomic(path, b"", is_synced=False)


# ---- taking sides ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ResolveResult:
    """What taking a side did. `resolved`: pointers without conflict now; `left`: paths still in conflict."""

    resolved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    checkout: CheckoutResult = field(default_factory=CheckoutResult)


def resolve(repo: Repo, paths: Sequence[str], *, is_theirs: bool) -> ResolveResult:
    """Take ours or theirs for in-repo paths of pointers in conflict: whole tracked paths, or paths inside them."""
    result = ResolveResult()
    here = refs.in_worktree(repo.git)
    with repo.writing("checkout"):
        for path in paths:
            plain = path.removesuffix(SUFFIX)
            tracked = enclosing(here.broken, plain)
            try:
                if not tracked:
                    raise UsageError(f"'{path}' is not in conflict", "See 'git status'.")
                _resolve_one(repo, tracked, plain[len(tracked) + 1 :], is_theirs, result)
            except DvliteError as exc:
                result.failures.append(Failure(path, exc))
    result.resolved = list(dict.fromkeys(result.resolved))
    if result.resolved:
        if repo.flag("autostage", default=True):
            result.staged = [f"{one}{SUFFIX}" for one in result.resolved]
            git.stage(repo.git, result.staged)
        result.checkout = checkout(repo, result.resolved)
    return result


def _resolve_one(repo: Repo, tracked: str, inner: str, is_theirs: bool, result: ResolveResult) -> None:
    path = pointer_path(repo, tracked)
    texts = pointer.sides(path.read_bytes())
    ours, theirs = (pointer.decode(text, path.name) for text in texts)
    read = _reader(repo)
    chosen, other = (theirs, ours) if is_theirs else (ours, theirs)
    if not inner:
        other = chosen
    else:
        conflicts = _in_conflict(tracked, ours, theirs, read)
        full = f"{tracked}/{inner}"
        if not any(f"{one}/".startswith(f"{full}/") or f"{full}/".startswith(f"{one}/") for one in conflicts):
            raise UsageError(f"'{full}' is not in conflict", f"In conflict are: {', '.join(conflicts)}")
        entry = tree.find(chosen.entry, inner.split("/"), read)
        (root,), made = _grafted(other.entry, [{inner: entry}], read)
        with repo.store.batch() as batch:
            for oid, data in made.items():
                batch.take(oid, data, is_tree=True)
        other = _truly(other.pointing_to(root), other)
    one, two = (other, chosen) if is_theirs else (chosen, other)
    if one == two:
        files.write_atomic(path, pointer.encode(one), folder=repo.tmp(path.parent))
        result.resolved.append(tracked)
        result.left = [left for left in result.left if enclosing([tracked], left) != tracked]
        return
    files.write_atomic(path, pointer.conflict(pointer.encode(one), pointer.encode(two)), folder=repo.tmp(path.parent))
    result.left = [left for left in result.left if enclosing([tracked], left) != tracked]
    result.left += _in_conflict(tracked, one, two, read)
