"""Make data match the pointers (or another rev's): look, plan, fill in what was asked for by force, apply, remember.

What is not stored stays, and is named. Nothing here uses the network.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dvlite import git, refs, tree
from dvlite.errors import DvliteError, MissingError, UnsavedError, UsageError
from dvlite.index import Base, spell
from dvlite.oid import Oid
from dvlite.ops import saved
from dvlite.ops.advance import advance
from dvlite.ops.base import (
    Failure,
    Selection,
    View,
    leave_nowhere,
    look,
    pointers_at,
    reader,
    select_stored,
    stats_of,
    trees_of,
)
from dvlite.ops.links import relinks
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path
from dvlite.tree import Entry
from dvlite.worktree import materialise
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Change, Kind, Only
from dvlite.worktree.settle import Outcome, Place

_REASONS = {
    Kind.MODIFIED: "has changes that are not stored",
    Kind.CONFLICT: "changed here, and its pointer changed too",
    Kind.UNKNOWN: "differs, and dvlite doesn't know what it put here last",
}


@dataclass(frozen=True, slots=True)
class KeptPath:
    """A path that was left as it is, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class CheckoutResult:
    """What a checkout did. Counts are of files; `missing`: paths whose objects are not here; `saved`: what `--saved` takes.

    `ignored`: paths whose lines in `.gitignore` had to be written.
    """

    written: int = 0
    removed: int = 0
    size: int = 0
    unchanged: int = 0
    kept: list[KeptPath] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    saved: int = 0
    rev: str = ""
    ignored: list[str] = field(default_factory=list)


def checkout(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    rev: str | None = None,
    is_forced: bool = False,
    progress: Progress = SILENT,
) -> CheckoutResult:
    """Bring in-repo paths (all without) to what their pointers say, here or at `rev`.

    `is_forced`: also what is not stored is replaced; it is stored first, for `checkout --saved`.
    """
    here = refs.in_worktree(repo.git)
    pointers = pointers_at(repo, rev)
    selection = select_stored(pointers, paths, repo.store.read)
    if not paths and rev is None:
        add_left_behind(repo, here, selection)
    result = bring(repo, pointers, selection, rev=rev or "", is_forced=is_forced, progress=progress)
    if rev is None:
        from dvlite.ops.track import ignore  # hooks bring data without it

        result.ignored = ignore(repo, [one for one in sorted(selection.parts) if one in pointers.found])
    return result


def bring(
    repo: Repo,
    pointers: Pointers,
    selection: Selection,
    *,
    rev: str = "",
    is_forced: bool = False,
    progress: Progress = SILENT,
) -> CheckoutResult:
    """Bring what was selected to what some pointers say."""
    result = CheckoutResult(failures=selection.failures, rev=rev)
    with repo.writing("checkout"), repo.changing_data("checkout") as announce:
        for tracked in sorted(selection.parts):
            item = pointers.found.get(tracked)
            try:
                _checkout_one(repo, tracked, item, selection.parts[tracked], result, is_forced, progress, announce)
            except MissingError:
                result.missing.append(tracked)
            except DvliteError as exc:
                result.failures.append(Failure(tracked, exc))
    return result


def add_left_behind(repo: Repo, here: Pointers, selection: Selection) -> None:
    """Add the paths that dvlite put here and whose pointers are gone: Git took them away, so the data goes too."""
    live = {*here.found, *here.broken}
    left = []
    for tracked in repo.index.bases().keys() - live:
        is_mixed = any(one.startswith(f"{tracked}/") or tracked.startswith(f"{one}/") for one in live)
        if not is_mixed and not os.path.lexists(pointer_path(repo, tracked)):
            left.append(tracked)
    in_git = git.tracked_below(repo.git, left) if left else []
    for tracked in left:
        if any(f"{name}/".startswith(f"{tracked}/") for name in in_git):
            repo.index.drop_base(tracked)  # at this commit the files are Git's own
        else:
            selection.add(tracked, "")


def _checkout_one(
    repo: Repo,
    tracked: str,
    item: Pointer | None,
    wanted: Only,
    result: CheckoutResult,
    is_forced: bool,
    progress: Progress,
    announce: Callable[[], None],
) -> None:
    target = item.entry if item else None
    if target and not is_forced and not wanted.paths and _advance(repo, tracked, target, result, progress, announce):
        return
    algorithm = item.oid.algorithm if item else repo.config.hash
    progress.phase("look")
    view = look(repo, tracked, algorithm=algorithm, progress=progress)
    part = leave_nowhere(view, target, wanted, result.failures)
    if part is None:
        return
    wanted = part
    changes = list(
        plans.plan(view.base_entry, view.data, target, view.read, is_base_known=view.base is not None, wanted=wanted)
    )
    if is_forced:
        result.saved = _save(repo, tracked, changes, view, algorithm) or result.saved
    doable = [change for change in changes if _is_wanted(repo, change, view, result, tracked, is_forced)]
    if view.data or not doable:  # else it is looked at again when something is there
        repo.index.save(view.scan.rows, view.scan.gone)
    if repo.index.note(f"link {tracked}") not in ("", repo.link) or repo.link in ("hardlink", "symlink"):
        touched = {change.path for change in changes}
        doable += [change for change in relinks(repo, view, repo.link, wanted) if change.path not in touched]
    place = Place(repo.root, tracked, repo.tmp(repo.root / tracked), repo.link, stats_of(repo, tracked, view.scan))
    if item is None and doable and view.base_entry and not _is_committed(repo, view.base_entry):
        result.saved = saved.write(repo, tracked, view.base_entry)  # nothing else would name it any more
    if doable:
        announce()
        with repo.index.together():
            if repo.index.intent(tracked) and view.base:  # one was interrupted: its intent gives way to this one's
                repo.index.set_base(tracked, view.base, trees_of(view.base.entry, view.read))
            repo.index.begin(tracked, target, result.rev)
    outcome = materialise.apply(place, doable, repo.store, view.read, progress)
    progress.phase("note")
    _count(outcome, changes, target, result, tracked)
    with repo.index.together():
        repo.index.set_note(f"link {tracked}", repo.link)
        _remember(repo, view, target, wanted, changes, outcome, result.rev)
    if outcome.done:
        again = look(repo, tracked, algorithm=algorithm, made=outcome.made)
        repo.index.save(again.scan.rows, again.scan.gone)


def _advance(
    repo: Repo,
    tracked: str,
    target: Entry,
    result: CheckoutResult,
    progress: Progress,
    announce: Callable[[], None],
) -> bool:
    """Take the short way from the base to the target, where that is possible; tell whether all is done."""
    base = repo.index.base(tracked)
    mark = spell(target)
    if (
        base is None
        or base.entry is None
        or base.rev
        or result.rev
        or base.is_partial
        or base.pointer == mark
        or not (base.entry.is_tree and target.is_tree)
        or base.entry.oid.algorithm != target.oid.algorithm
        or repo.index.intent(tracked)  # what an interrupted one put here is to be told first
        or repo.link not in ("reflink", "copy")
        or repo.index.note(f"link {tracked}") not in ("", repo.link)
    ):
        return False

    def begin() -> None:
        announce()
        repo.index.begin(tracked, target)

    outcome = advance(repo, tracked, base.entry, target, progress, begin)
    if outcome is None:
        return False
    repo.index.set_base(tracked, Base(target, "", mark), {})
    _count(outcome, [], None, result, tracked)
    result.unchanged += max(0, target.files - outcome.files)
    return True


def _is_wanted(repo: Repo, change: Change, view: View, result: CheckoutResult, tracked: str, is_forced: bool) -> bool:
    """Decide whether a change is to be made; materialise looks again whether it is safe."""
    if change.kind in (Kind.ABSENT, Kind.DELETED, Kind.OUTDATED, Kind.DROPPED):
        return True
    if change.kind is Kind.NEW:
        return False
    if is_forced:
        return True
    known = [one.oid for one in (change.base, change.target) if one]
    if change.kind is Kind.MODIFIED and change.data and change.data.oid in known:  # its bits alone
        return True
    result.kept.append(KeptPath(_full(tracked, change.path), _REASONS[change.kind]))
    return False


def _full(tracked: str, inner: str) -> str:
    return f"{tracked}/{inner}" if inner else tracked


def _count(outcome: Outcome, changes: list[Change], target: Entry | None, result: CheckoutResult, tracked: str) -> None:
    result.written += outcome.files
    result.size += outcome.size
    result.removed += sum(change.data.files for change in outcome.done if change.data and not change.target)
    if target:
        result.unchanged += max(0, target.files - sum(one.target.files for one in changes if one.target))
    result.kept += [KeptPath(_full(tracked, kept.change.path), kept.reason) for kept in outcome.kept]
    for path, error in outcome.failed.items():
        if isinstance(error, MissingError):
            result.missing.append(path)
        else:
            result.failures.append(Failure(path, error))


# ---- what is remembered ---------------------------------------------------------------------------------------------


def _remember(
    repo: Repo,
    view: View,
    target: Entry | None,
    wanted: Only,
    changes: list[Change],
    outcome: Outcome,
    rev: str,
) -> None:
    """Set the base to what is in place now."""
    tracked = view.tracked
    if (
        view.base is None
        and view.data is not None
        and (wanted.paths or outcome.kept or len(outcome.done) < len(changes))
    ):
        return  # what was put here before stays unknown
    base, trees = _new_base(view, target, wanted, changes, outcome)
    if base is None and target is None:
        if view.base is not None and len(outcome.done) < len(changes):
            repo.index.set_base(
                tracked, Base(None, "", ""), {}
            )  # what is left is the user's, and nothing was put there
        else:
            repo.index.drop_base(tracked)
    elif view.base is not None or base is not None:
        label = (rev if not wanted.paths else (rev or (view.base.rev if view.base else ""))) if base else ""
        old = view.base
        is_partial = bool(wanted.paths) and (old is None or old.is_partial)
        # A part alone leaves the whole as far behind its pointer as it was.
        stays = bool(wanted.paths) and old is not None and not old.is_partial
        mark = old.pointer if old and stays else spell(target) if target else ""
        repo.index.set_base(tracked, Base(base, label, mark, is_partial), trees)


def _new_base(
    view: View, target: Entry | None, wanted: Only, changes: list[Change], outcome: Outcome
) -> tuple[Entry | None, dict[Oid, bytes]]:
    """Return the target, with the old base wherever a change was not made or not asked for, and its tree objects."""
    done = {change.path for change in outcome.done}
    old = {change.path: change.base for change in changes if change.path not in done and change.kind is not Kind.NEW}
    failed = {path[len(view.tracked) + 1 :]: None for path in outcome.failed}
    trees: dict[Oid, bytes] = {}

    def read(oid: Oid) -> bytes:
        return trees.get(oid) or view.read(oid)

    if not wanted.paths and not old and not failed:
        return target, {}
    root, grafts = target, {**failed, **old}
    if wanted.paths:  # only a part was asked for: the rest of the base stays
        root = view.base_entry
        grafts = {path: _inner(target, path, read) for path in wanted.paths} | grafts
    if target and view.base_entry and target.oid.algorithm != view.base_entry.oid.algorithm:
        return None, {}  # one tree can't name both: what was put here is not known any more
    for path in sorted(grafts, key=len):
        key = tuple(path.split("/")) if path else ()
        root, made = tree.graft(root, {key: grafts[path]}, read)
        trees.update(made)
    return (root._replace(name="") if root else None), trees_of(root, read)


def _inner(root: Entry | None, path: str, read: tree.Read) -> Entry | None:
    return tree.find(root, path.split("/"), read) if root else None


# ---- what force replaces --------------------------------------------------------------------------------------------


def _save(repo: Repo, tracked: str, changes: list[Change], view: View, algorithm: str) -> int:
    """Store what is about to be replaced and is stored nowhere; return the number that `--saved` takes, 0 for nothing."""
    doomed = {
        tuple(change.path.split("/")) if change.path else (): change
        for change in changes
        if change.kind in (Kind.MODIFIED, Kind.CONFLICT, Kind.UNKNOWN) and change.data
    }
    if not doomed:
        return 0
    with repo.store.open_batch(is_synced=True) as batch:
        stored = look(repo, tracked, algorithm=algorithm, batch=batch, has=batch.has)
        read = reader(repo, batch.tree)
        grafts = {}
        for key, change in doomed.items():
            data = tree.find(stored.data, key, read) if stored.data else None
            if data is None or change.data is None or data.oid != change.data.oid:
                raise UnsavedError(
                    f"'{_full(tracked, change.path)}' changed a moment ago", "Run the same command again."
                )
            grafts[key] = data
        root, made = tree.graft(None, grafts, read)
        for oid, data_ in made:
            batch.take(oid, data_, is_tree=True)
    assert root is not None
    return saved.write(repo, tracked, root)


def _is_committed(repo: Repo, root: Entry) -> bool:
    """Tell whether a pointer in any commit or in Git's index names a root."""
    found, _ = refs.selected(repo.git, ["--all"])
    return any(item.oid == root.oid for _, item in found)


def bring_back(repo: Repo, number: int, *, progress: Progress = SILENT) -> CheckoutResult:
    """Put back what `--force` replaced; what lies there now must be stored, or it stays."""
    entries = saved.entries(repo)
    if number not in entries:
        raise UsageError(f"there is no saved/{number}", f"There are: {', '.join(map(str, entries)) or 'none'}.")
    tracked, item = entries[number]
    result = CheckoutResult()
    with repo.writing("checkout"), repo.changing_data("checkout"):
        view = look(repo, tracked, algorithm=item.oid.algorithm, progress=progress)
        changes = [
            change
            # Without a base, everything that both have counts as unknown, and what only one has is left alone.
            for change in plans.plan(None, view.data, item.entry, view.read, is_base_known=False)
            if change.target is not None
        ]
        repo.index.save(view.scan.rows, view.scan.gone)
        stats = stats_of(repo, tracked, view.scan)
        place = Place(repo.root, tracked, repo.tmp(repo.root / tracked), repo.link, stats)
        repo.index.begin(tracked, None)
        outcome = materialise.apply(place, changes, repo.store, view.read, progress)
        repo.index.finish(tracked)
        _count(outcome, changes, item.entry, result, tracked)
        again = look(repo, tracked, algorithm=item.oid.algorithm, made=outcome.made)
        repo.index.save(again.scan.rows, again.scan.gone)
    return result
