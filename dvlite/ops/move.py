"""Give a tracked path another name, or let go of it: data, pointer, ignore line and what is remembered go together."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from dvlite import files, git, refs
from dvlite.errors import DvliteError, UnsavedError, UsageError, quote
from dvlite.ops.add import add
from dvlite.ops.base import Failure, enclosing, select
from dvlite.ops.bring import bring
from dvlite.ops.status import status
from dvlite.ops.track import check_free, ignoring, unignore, write
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path


@dataclass(slots=True)
class MoveResult:
    """Paths that moved (old to new) or were let go of (to nothing); `staged` or `to_stage` are the files for Git."""

    moved: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)
    saved: int = 0


def move(repo: Repo, old: str, new: str, *, is_staged: bool = True) -> MoveResult:
    """Move a tracked path to another in-repo path, or into a folder. Refuses to overwrite; metadata comes along."""
    old = old.removesuffix(SUFFIX)
    with repo.writing("mv"), repo.changing_data("mv"), repo.writing_pointers("mv"):
        pointers = refs.in_worktree(repo.git)
        item = _tracked(pointers, old)
        if (repo.root / new).is_dir() and not enclosing([*pointers.found, *pointers.broken], new):
            new = f"{new}/{old.rpartition('/')[2]}" if new else old.rpartition("/")[2]
        new = new.removesuffix(SUFFIX)
        if new == old:
            raise UsageError(f"'{old}' is there already")
        was_cut_off = pointers.found.get(new) == item and not os.path.lexists(repo.root / old)
        if not was_cut_off or git.tracked_below(repo.git, [f"{new}{SUFFIX}"]):
            _check_free(repo, pointers, old, new)
        result = MoveResult({old: new})
        # The new pointer first, the old one last: what is cut off in between is finished by the same command.
        _, lines = write(repo, new, item)
        if os.path.lexists(repo.root / old):
            (repo.root / old).rename(repo.root / new)
        repo.index.move(old, new)
        if origin := repo.index.note(f"import {old}"):
            repo.index.set_note(f"import {new}", origin)
        changed = [*lines, *_let_go(repo, old), f"{new}{SUFFIX}"]
        _stage(repo, changed, result, is_staged=is_staged)
    return result


def _tracked(pointers: Pointers, path: str) -> Pointer:
    """Return a tracked path's pointer; UsageError for what is none, or lies in one."""
    if path in pointers.broken:
        raise pointers.broken[path]
    if path not in pointers.found:
        owner = enclosing(pointers.found, path)
        hint = f"Move it with mv, then run 'dvlite add {quote(owner)}'." if owner else "See 'dvlite ls' for what is."
        raise UsageError(f"'{path}' lies in '{owner}'" if owner else f"'{path}' is not tracked by dvlite", hint)
    return pointers.found[path]


def _check_free(repo: Repo, pointers: Pointers, old: str, new: str) -> None:
    if enclosing([old], new) or enclosing([new], old):
        raise UsageError(f"'{old}' and '{new}' would lie in one another", "Move it in two steps, by another name.")
    check_free(repo, pointers, new, "Name another place.")


def _let_go(repo: Repo, tracked: str) -> list[str]:
    """Take away a pointer and its ignore line; return the files that changed."""
    pointer_path(repo, tracked).unlink(missing_ok=True)
    files.sync(pointer_path(repo, tracked).parent)
    name, line = ignoring(tracked)
    return [f"{tracked}{SUFFIX}", *([name] if unignore(repo, name, line) else [])]


def _stage(repo: Repo, changed: Sequence[str], result: MoveResult, *, is_staged: bool) -> None:
    """Stage what changed, gone files too; what Git doesn't take is left to the user, and said."""
    in_git = set(git.tracked_below(repo.git, changed))
    names = [name for name in dict.fromkeys(changed) if (repo.root / name).exists() or name in in_git]
    if not is_staged or not repo.flag("autostage", default=True):
        result.to_stage += names
        return
    try:
        git.stage(repo.git, names)
        result.staged += names
    except DvliteError as exc:
        result.to_stage += names
        line = " ".join(map(quote, names))
        result.failures.append(
            Failure("", DvliteError(f"it is done, but not staged: {exc.message}", f"git add -A -- {line}"))
        )


def remove(
    repo: Repo,
    paths: Sequence[str],
    *,
    has_data: bool = False,
    is_forced: bool = False,
    is_staged: bool = True,
    progress: Progress = SILENT,
) -> MoveResult:
    """Let go of tracked in-repo paths. The data stays where it is, unless `has_data`; then what is not stored is kept.

    `is_forced`: that goes too, and can be had back by `dvlite checkout --saved`. Versions in commits stay what they are.
    """
    pointers = refs.in_worktree(repo.git)
    selection = select(pointers, paths, repo.store.read)
    result = MoveResult(failures=selection.failures)
    for tracked, part in sorted(selection.parts.items()):
        try:
            if part.paths:
                inner = sorted(part.paths)[0]
                raise UsageError(
                    f"'{tracked}/{inner}' lies in '{tracked}'",
                    f"Remove it with rm, then run 'dvlite add {quote(tracked)}'.",
                )
            _remove(
                repo, tracked, result, has_data=has_data, is_forced=is_forced, is_staged=is_staged, progress=progress
            )
        except DvliteError as exc:
            result.failures.append(Failure(tracked, exc))
    return result


def _remove(
    repo: Repo,
    tracked: str,
    result: MoveResult,
    *,
    has_data: bool,
    is_forced: bool,
    is_staged: bool,
    progress: Progress,
) -> None:
    pointers = refs.in_worktree(repo.git)
    if has_data:
        if is_forced:  # all of it is stored first, and has a number then
            for failure in add(repo, [tracked], is_forced=True, is_staged=False, progress=progress).failures:
                if os.path.lexists(repo.root / tracked):
                    raise failure.error
            pointers = refs.in_worktree(repo.git)
        else:
            _refuse_unsaved(repo, tracked)
        without = Pointers({name: item for name, item in pointers.found.items() if name != tracked}, pointers.broken)
        selection = select(pointers, [tracked], repo.store.read)
        done = bring(repo, without, selection, is_forced=is_forced, progress=progress)
        result.saved = done.saved or result.saved
        for failure in done.failures:
            raise failure.error
        if done.kept or os.path.lexists(repo.root / tracked):
            reason = done.kept[0].reason if done.kept else "not all of it is stored, or some is ignored"
            raise UnsavedError(f"'{tracked}' is kept: {reason}", f"See 'dvlite status {quote(tracked)}'.")
    with repo.writing("rm"), repo.writing_pointers("rm"):
        changed = _let_go(repo, tracked)
        repo.index.drop_base(tracked)  # else the next checkout took the data for left behind
        result.moved[tracked] = ""
        _stage(repo, changed, result, is_staged=is_staged)


def _refuse_unsaved(repo: Repo, tracked: str) -> None:
    for one in status(repo, [tracked]).paths:
        if one.changes or one.unknown:
            raise UnsavedError(
                f"'{tracked}' has data that is not stored",
                f"Store it with 'dvlite add {quote(tracked)}', or let go of it too with --force.",
            )
