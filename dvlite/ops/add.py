"""Store data and write its pointer: scan into a batch, publish, pointer, ignore line, Git's index, our index. In this order.

Three-way (docs/data.md): where Git moved the pointer meanwhile, or what was put here isn't known, nothing is guessed.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dvlite import git, pointer, refs, tree
from dvlite import recipe as recipes
from dvlite.errors import DvliteError, MissingError, UnsavedError, UsageError, explain, quote
from dvlite.index import Base, spell
from dvlite.oid import Oid
from dvlite.ops import policy
from dvlite.ops.base import MAGIC, Failure, View, algorithm_of, enclosing, folders_of, look, trees_of
from dvlite.ops.track import (
    by_file,
    check_apart,
    check_trackable,
    refuse_tracked_by_git,
    stage,
    write_ignores,
    write_pointer,
)
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.recipe import Recipe
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.stores.local.batch import LocalBatch
from dvlite.tree import Entry
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Change, Kind

_SYNCED_POINTERS = 64  # more at once are left to the file system: the data they name still lies in the worktree


@dataclass(frozen=True, slots=True)
class Added:
    """One tracked path: what its pointer says now, whether that is new, and how many files had to be read."""

    path: str
    oid: str
    size: int
    files: int
    is_changed: bool
    files_read: int = 0
    note: str = ""


@dataclass(slots=True)
class AddResult:
    """What was added, what wasn't and why; `staged` or `to_stage` are the files for Git."""

    added: list[Added] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Ready:
    """A tracked path on its way: pointer and base as they will be, and what was scanned of it."""

    tracked: str
    new: Pointer | None
    base: Base | None
    base_trees: dict[Oid, bytes] = field(default_factory=dict)
    note: str = ""
    views: list[View] = field(default_factory=list)


def add(
    repo: Repo,
    paths: Sequence[str],
    *,
    meta: dict[str, str] | None = None,
    recipe: Recipe | None = None,
    is_forced: bool = False,
    is_rehashed: bool = False,
    is_staged: bool = True,
    progress: Progress = SILENT,
) -> AddResult:
    """Add in-repo paths; one that can't be is reported and doesn't stop the others.

    `is_forced`: what is in the worktree counts, whatever base and pointer say. `is_rehashed`: convert to the repository's hash.
    `recipe`: how it was made; without, what a pointer says of that goes when its data has changed.
    """
    result = AddResult()
    reason = (meta or {}).get(policy.REASON, "") if is_forced else ""
    pointers = refs.in_worktree(repo.git)
    wanted = _targets(repo, pointers, paths, result)
    in_git = git.tracked_below(repo.git, [path for path, _ in wanted]) if wanted else []
    committed = _committed(repo)
    ready: dict[str, _Ready] = {}
    progress.phase("add")
    with repo.writing("add"):
        try:
            with repo.store.open_batch(is_synced=False) as batch:
                for path, tracked in wanted:
                    try:
                        refuse_tracked_by_git(path, in_git)
                        before = ready.get(tracked) or _before(repo, tracked, pointers.found.get(tracked))
                        prepare = _rehash if is_rehashed and before.new else _prepare
                        one = prepare(repo, batch, path, before, is_forced, progress)
                        if prepare is _prepare:
                            _refuse_frozen(repo, one, committed.get(tracked), reason)
                        ready[tracked] = one
                    except DvliteError as exc:
                        result.failures.append(Failure(path, exc))
                progress.phase("publish")
        except OSError as exc:
            raise explain(exc, repo.store.root, "can't store in") from exc
        progress.phase("write")
        with repo.writing_pointers("add"):
            _write(repo, list(ready.values()), meta or {}, recipe, result)
            result.staged, result.to_stage = stage(
                repo, [one.path for one in result.added], result.to_stage, is_staged=is_staged
            )
    return result


def _targets(repo: Repo, pointers: Pointers, paths: Sequence[str], result: AddResult) -> list[tuple[str, str]]:
    """Return what to scan: each path with its tracked path (itself, or the folder that it lies in)."""
    found: dict[str, str] = {}
    staged = functools.cache(lambda: {name.removesuffix(SUFFIX) for name in git.index_blobs(repo.git, SUFFIX)})
    folders = folders_of(pointers)
    for path in paths:
        for one in _expand(repo, path):
            try:
                found[one] = _target(repo, pointers, folders, one, staged)
            except DvliteError as exc:
                result.failures.append(Failure(one, exc))
    # A part of what is added as a whole needs no scan of its own, and gets no pointer.
    return [(path, tracked) for path, tracked in found.items() if not enclosing(found, path.rpartition("/")[0])]


def _expand(repo: Repo, path: str) -> list[str]:
    if MAGIC & set(path) and not (repo.root / path).exists():
        try:
            hits = sorted(one.relative_to(repo.root).as_posix() for one in repo.root.glob(path))
        except ValueError as exc:
            raise UsageError(f"'{path}' is not a pattern: {exc}") from exc
        return [one for one in hits if not _is_own(one)] or [path]
    return [path]


def _is_own(path: str) -> bool:
    """Tell whether a path that a pattern hits is a pointer, or one of Git's or dvlite's own."""
    is_git = path.partition("/")[0] == ".git"
    return is_git or path.endswith(SUFFIX) or path.rpartition("/")[2].casefold() in refs.OWN


def _target(
    repo: Repo, pointers: Pointers, folders: Mapping[str, str], path: str, staged: Callable[[], set[str]]
) -> str:
    if path.endswith(SUFFIX) and path.removesuffix(SUFFIX) in pointers.found:
        raise UsageError(
            f"'{path}' is a pointer", f"Add the data itself: 'dvlite add {quote(path.removesuffix(SUFFIX))}'."
        )
    check_trackable(repo, path)
    full = repo.root / path
    if broken := enclosing(pointers.broken, path):
        raise pointers.broken[broken]
    owner = enclosing(pointers.found, path)
    if not owner and (gone := enclosing(staged(), path)) and gone != path:
        name = quote(f"{gone}{SUFFIX}")
        raise UsageError(
            f"'{path}' lies in '{gone}', whose pointer was deleted here",
            f"Bring it back: git restore -- {name}. Or let go of it: git rm -- {name}",
        )
    if not full.is_symlink() and not full.exists():
        back = f"Its pointer stays as it is; 'dvlite checkout {quote(path)}' brings data back." if owner else ""
        raise UsageError(f"'{path}' does not exist", back)
    if owner:
        return owner
    check_apart(folders, path)
    return path


def _before(repo: Repo, tracked: str, old: Pointer | None) -> _Ready:
    """Return a tracked path as it stands before anything is added."""
    if repo.index.intent(tracked) is None:
        return _Ready(tracked, old, repo.index.base(tracked))
    view = look(
        repo, tracked, algorithm=algorithm_of(repo, old)
    )  # a checkout was interrupted: what was put here must be told
    base = view.base
    return _Ready(tracked, old, base, trees_of(base.entry, view.read) if base else {})


def _prepare(repo: Repo, batch: LocalBatch, path: str, before: _Ready, is_forced: bool, progress: Progress) -> _Ready:
    """Scan a path into the batch and decide what its pointer says now."""
    tracked, old = before.tracked, before.new
    view = look(repo, path, algorithm=algorithm_of(repo, old), batch=batch, has=batch.has, progress=progress)
    if view.data is None:
        raise UsageError(f"'{path}' does not exist")
    base = view.base if path == tracked and not before.views else before.base
    trees = dict(before.base_trees)

    def read(oid: Oid) -> bytes:
        return trees.get(oid) or view.read(oid)

    parts = path[len(tracked) + 1 :].split("/") if path != tracked else []
    root, note = _root(path, parts, base, view, old, batch, trees, read, is_forced)
    if parts:
        new_base, made = tree.graft(base.entry if base else None, {tuple(parts): view.data}, read)
        trees.update(made)
    else:
        new_base = view.data
    whole = _nameless(new_base) if new_base else None
    kept = {} if whole and whole.oid == root.oid else trees_of(whole, read)
    new = old.pointing_to(root) if old else pointer.of(root)
    if old and root.oid != old.oid:
        new = recipes.without(new)
    is_whole = bool(whole and whole.oid == root.oid)
    was_in_line = not before.base or not old or before.base.pointer == spell(old.entry)
    mark = spell(new.entry) if is_whole or was_in_line or not before.base else before.base.pointer
    is_partial = not is_whole and (before.base is None or before.base.is_partial)
    return _Ready(tracked, new, Base(whole, "", mark, is_partial), kept, note, [*before.views, view])


def _root(
    path: str,
    parts: list[str],
    base: Base | None,
    view: View,
    old: Pointer | None,
    batch: LocalBatch,
    trees: dict[Oid, bytes],
    read: tree.Read,
    is_forced: bool,
) -> tuple[Entry, str]:
    """Return the new root of the pointer: its old one with what is new in the worktree put in."""
    data = view.data
    assert data is not None
    if not parts and (old is None or data == _nameless(old.entry) or _is_in_line(base, old)):
        return data, ""
    try:
        at_base = _inner(base.entry if base else None, parts, read)
        at_target = _inner(old.entry if old else None, parts, read)
        changes = list(plans.plan(at_base, data, at_target, read, is_base_known=base is not None))
    except MissingError as exc:
        if is_forced and not parts:
            return data, ""
        whole = path.removesuffix("/" + "/".join(parts)) if parts else path
        hint = f"{exc.hint} Or take the data as it is: 'dvlite add --force {quote(whole)}'."
        raise MissingError(f"what '{path}' was before can't be read: {exc.message}", hint) from exc
    # With force, data of another rev counts as a whole: what that rev doesn't have is not merely absent.
    is_whole = is_forced and not parts and bool(base and base.rev)
    grafts, note = _grafts(path, changes, is_forced=is_forced, is_whole=is_whole)
    if not parts and len(grafts) == len(changes) and None not in grafts.values():
        return data, note
    below = {(*parts, *key): entry for key, entry in grafts.items()}
    root, made = tree.graft(old.entry if old else None, below, read)
    for oid, content in made:
        trees[oid] = content
        batch.take(oid, content, is_tree=True)
    if root is None:
        raise UsageError(f"'{path}' does not exist")
    return root, note


def _is_in_line(base: Base | None, old: Pointer) -> bool:
    """Tell whether all that the pointer names was put here last: then what is here now is the next version, whatever it lacks."""
    if base is None or base.entry is None or base.rev or base.is_partial:
        return False
    return (base.entry.oid, base.entry.mode) == (old.entry.oid, old.entry.mode)


def _rehash(repo: Repo, batch: LocalBatch, path: str, before: _Ready, is_forced: bool, progress: Progress) -> _Ready:
    """Add a whole tracked path under the repository's hash; all of it must be here, metadata stays."""
    tracked, old = before.tracked, before.new
    assert old is not None
    if path != tracked:
        raise UsageError(
            f"'{path}' is a part of '{tracked}'", f"Convert it as a whole: 'dvlite add --rehash {quote(tracked)}'."
        )
    now = look(repo, tracked, algorithm=old.oid.algorithm)
    known = now.base is not None
    changes = list(plans.plan(now.base_entry, now.data, old.entry, now.read, is_base_known=known))
    if not is_forced and any(change.kind not in (Kind.NEW, Kind.MODIFIED) for change in changes):
        raise UnsavedError(
            f"not all of '{tracked}' is here as its pointer says", f"Run 'dvlite pull {quote(tracked)}' first."
        )
    view = look(repo, tracked, algorithm=repo.config.hash, batch=batch, has=batch.has, progress=progress)
    if view.data is None:
        raise UsageError(f"'{path}' does not exist")
    return _Ready(tracked, old.pointing_to(view.data), Base(view.data, "", spell(view.data)), {}, "", [view])


def _committed(repo: Repo) -> dict[str, Pointer]:
    """Return the pointers of HEAD, where the policy keeps some of their data as it is."""
    is_asked = repo.config.policy.get("append_only") and git.has_commits(repo.git)
    return refs.at(repo.git, "HEAD").found if is_asked else {}


def _refuse_frozen(repo: Repo, one: _Ready, old: Pointer | None, reason: str) -> None:
    """Refuse what changes committed data that the policy keeps as it is."""
    if old is None or one.new is None or not one.views or old.oid == one.new.oid:
        return
    if reason and reason == policy.reason_of(None, old):
        raise UsageError(f"'{one.tracked}' was changed for that very reason before", "Say what is new: --reason TEXT.")
    policy.refuse_rewrite(
        repo.config,
        one.tracked,
        old,
        one.new.entry,
        one.views[-1].read,
        known=reason,
        is_taken=lambda path: os.path.lexists(repo.root / path),
    )


def _nameless(entry: Entry) -> Entry:
    return entry._replace(name="")


def _inner(root: Entry | None, parts: list[str], read: tree.Read) -> Entry | None:
    found = tree.find(root, parts, read) if root else None
    return _nameless(found) if found else None


def _grafts(
    path: str, changes: list[Change], *, is_forced: bool, is_whole: bool
) -> tuple[dict[tuple[str, ...], Entry | None], str]:
    """Return what of the worktree goes into the pointer, by path, and a note on what doesn't; refuses to guess."""
    grafts: dict[tuple[str, ...], Entry | None] = {}
    unclear, moved, here = [], 0, quote(path)
    for change in changes:
        key = tuple(change.path.split("/")) if change.path else ()
        is_deletion = change.kind is Kind.DELETED and change.base == change.target
        if (
            change.kind in (Kind.NEW, Kind.MODIFIED)
            or is_deletion
            or (is_forced and (is_whole or change.kind is not Kind.ABSENT))
        ):
            grafts[key] = change.data
        elif change.kind in (Kind.CONFLICT, Kind.UNKNOWN, Kind.DELETED):
            unclear.append(change)
        elif change.kind is not Kind.ABSENT:
            moved += 1
    if unclear:
        reason = (
            "dvlite doesn't know what it put here last"
            if unclear[0].kind is Kind.UNKNOWN
            else "the pointer moved meanwhile"
        )
        where = "/".join(one for one in (path, unclear[0].path) if one)
        raise UnsavedError(
            f"'{where}' differs from its pointer, and {reason} ({len(unclear)} such)",
            f"Take the data as it is: 'dvlite add --force {here}'. Or take the pointer's: 'dvlite checkout --force {here}'.",
        )
    note = (
        f"{moved} paths follow the pointer: run 'dvlite checkout {here}', or 'dvlite add --force {here}' to go back"
        if moved
        else ""
    )
    return grafts, note


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(repo: Repo, ready: list[_Ready], meta: dict[str, str], recipe: Recipe | None, result: AddResult) -> None:
    is_synced = len(ready) <= _SYNCED_POINTERS
    written: dict[str, tuple[_Ready, Added]] = {}
    for one in ready:
        assert one.new is not None
        try:
            new = pointer.with_meta(one.new, meta)
            new = recipes.put(new, recipe) if recipe else new
            is_changed = write_pointer(repo, one.tracked, new, is_synced=is_synced)
        except OSError as exc:
            result.failures.append(_refused(one.tracked, exc))
            continue
        files_read = sum(view.scan.files_read for view in one.views)
        added = Added(one.tracked, str(new.oid), new.size, new.files, is_changed, files_read, one.note)
        written[one.tracked] = one, added
    for name, lines in by_file(written).items():  # each is written once, however many paths have a line there
        try:
            if write_ignores(repo, name, lines.values(), is_synced=is_synced):
                result.to_stage.append(name)
        except OSError as exc:
            result.failures += [_refused(tracked, exc) for tracked in lines]
            for tracked in lines:
                del written[tracked]
    with repo.index.together():
        for one, added in written.values():
            assert one.base is not None
            for view in one.views:
                repo.index.save(view.scan.rows, view.scan.gone)
            repo.index.set_base(one.tracked, one.base, one.base_trees)
            result.added.append(added)


def _refused(tracked: str, exc: OSError) -> Failure:
    return Failure(tracked, explain(exc, exc.filename2 or exc.filename or f"{tracked}{SUFFIX}", "can't write"))
