"""Make data match the pointers, or another rev's; and put back what force replaced. Nothing here uses the network."""

import os
from collections.abc import Sequence

from dvlite import git, refs
from dvlite.errors import UsageError
from dvlite.index import Base, Intent
from dvlite.ops import saved
from dvlite.ops.base import Selection, enclosing, folders_of, look, pointers_at, rescan, select_stored, stats_of
from dvlite.ops.bring import CheckoutResult, bring, count
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path
from dvlite.worktree import materialise
from dvlite.worktree import plan as plans
from dvlite.worktree.settle import Place


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


def add_left_behind(repo: Repo, here: Pointers, selection: Selection) -> None:
    """Add the paths that dvlite put here and whose pointers are gone: Git took them away, so the data goes too.

    Not what is now part of a path whose data was put here as well, or has some in it: there it counts as the user's.
    """
    live = {*here.found, *here.broken}
    bases = repo.index.bases()
    gone = bases.keys() - live
    folders = folders_of(here) if gone else {}
    left = []
    for tracked in gone:
        mixed = {enclosing(live, tracked.rpartition("/")[0])} - {""}
        if tracked in folders:
            mixed |= {one for one in live if one.startswith(f"{tracked}/")}
        is_free = all(one in here.found and (one not in bases or bases[one] == Base(None)) for one in mixed)
        if is_free and not os.path.lexists(pointer_path(repo, tracked)):
            left.append(tracked)
    in_git = git.tracked_below(repo.git, left) if left else []
    for tracked in left:
        if any(f"{name}/".startswith(f"{tracked}/") for name in in_git):
            repo.index.drop_base(tracked)  # at this commit the files are Git's own
        else:
            selection.add(tracked, "")


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
        repo.index.begin({tracked: Intent(None)})
        outcome = materialise.apply(place, changes, repo.store, view.read, progress)
        repo.index.finish(tracked)
        count(outcome, changes, item.entry, result, tracked)
        again = rescan(repo, tracked, algorithm=item.oid.algorithm, made=outcome.made)
        repo.index.save(again.rows, again.gone)
    return result
