"""Keep a commit honest: its pointers name the data as it is and is stored, and large data doesn't get into Git itself.

Called before a commit, with Git's index as the commit will take it. Three-way as everywhere: a pointer that Git moved, or whose
base isn't known or is another rev's, is never rewritten, and absent files are not deletions.
"""

import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dvlite import config, files, git, lines, pointer, refs, transfer
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, UnsavedError, UsageError, quote
from dvlite.git import Staged
from dvlite.index import Base, spell
from dvlite.oid import Oid
from dvlite.ops.base import Failure, View, algorithm_of, enclosing, keep, look
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.worktree.reading import TooMuchError

if TYPE_CHECKING:
    from dvlite.ops.add import AddResult

STALE_MAX_SIZE = 10**9
GIT_MAX_SIZE = 100 * 10**6
AFTER_COMMIT = "after-commit"  # in the worktree's dvlite folder: there is something to do once the commit is made
_OTHER_SIDES = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


class CommitResult(NamedTuple):
    """What was done for a commit. `updated`: tracked paths whose pointers were rewritten and staged; `blocks`: why not to."""

    updated: list[str]
    notes: list[str]
    blocks: list[Failure]

    def block(self, path: str, error: DvliteError) -> None:
        """Note a reason why the commit must not be made."""
        self.blocks.append(Failure(path, error))


def before_commit(
    repo: Repo,
    *,
    is_partial: bool = False,
    is_aside: bool = False,
    is_made: bool = False,
    sides: Sequence[str] = (),
    progress: Progress = SILENT,
) -> CommitResult:
    """Update stale pointers, then look at everything that is staged.

    `is_partial`: a commit of some paths alone. `is_aside`: with an index that Git throws away if it makes no commit. `is_made`:
    Git has the commit's content already (a merge, a step of a rebase), so that what would be staged now came into another one.
    `sides`: the commits that are merged, where Git hasn't written that yet.
    """
    asked = git.begin_staged(repo.git)
    here = refs.in_worktree(repo.git)
    left = [] if is_partial or is_made else _stage_left(repo)
    result = sync_data(repo, here, is_partial=is_partial, is_made=is_made, progress=progress)
    result.updated.extend(one for one in left if one not in result.updated)
    if result.updated and (is_partial or is_aside):
        _note_staged(repo, result.updated)
    staged = asked()
    if result.updated:
        staged = git.staged(repo.git)
    result.blocks.extend(check_pointers(repo, staged, sides))
    result.blocks.extend(check_files(repo, here, staged, sides))
    return result


def _sides(repo: Repo, known: Sequence[str]) -> list[str]:
    """Return the commits, beside HEAD, that what is staged may come from."""
    return [*known, *(side for side in _OTHER_SIDES if git.in_progress(repo.git, side))]


# ---- data to pointers -----------------------------------------------------------------------------------------------


def sync_data(
    repo: Repo, here: Pointers, *, is_partial: bool = False, is_made: bool = False, progress: Progress = SILENT
) -> CommitResult:
    """Find tracked data that changed, and do with it what `[policy] stale` says.

    Where pointers are staged already, or the commit is of some paths alone, only those are concerned.
    """
    result = CommitResult([], [], [])
    stale, unread = _stale(repo, here, result)
    if not stale and not unread:
        return result
    staged = git.staged(repo.git)
    chosen = {one.path.removesuffix(SUFFIX) for one in _pointers(staged)}
    must = set() if is_made else chosen if chosen or is_partial else here.found.keys()
    _judge_unread(unread, must, result)
    if not stale:
        return result
    if is_made:
        result.notes.append(f"changed data that is not in this commit: {', '.join(stale)} (the next one has it)")
        return result
    from dvlite.ops.add import add  # most commits change no data

    if is_partial and not staged:  # of what is named nothing has changed yet as Git sees it: perhaps it is a pointer
        add(repo, stale, is_staged=False, progress=progress)
        _note_staged(repo, stale)
        result.notes.append(f"pointers updated: {', '.join(stale)}; the same 'git commit' once more has what it names")
        return result
    concerned = [tracked for tracked in stale if tracked in chosen] if chosen or is_partial else stale
    if left := [tracked for tracked in stale if tracked not in concerned]:
        how = f"dvlite add {' '.join(map(quote, left))}"
        result.notes.append(
            f"changed data that is not in this commit: {', '.join(left)} ('{how}', and the next one has it)"
        )
    policy = repo.config.policy.get("stale", "update")
    if policy == "block":
        for tracked in concerned:
            said = UnsavedError(f"the data of '{tracked}' changed", f"Add it: dvlite add {quote(tracked)}")
            result.block(tracked, said)
    elif policy == "update" and concerned:
        _report(repo, add(repo, concerned, progress=progress), result)
        if result.updated and not staged:  # Git looked before the hook, and finds nothing to commit
            result.notes.append(
                "where Git says that there is nothing to commit, the same 'git commit' once more has it"
            )
    return result


def _judge_unread(unread: Mapping[str, TooMuchError], must: Collection[str], result: CommitResult) -> None:
    """Block the commit for what is too much to read, if it is about it; else say that it wasn't looked at."""
    for tracked, exc in unread.items():
        how = f"dvlite add {quote(tracked)}"
        if tracked in must:
            result.block(tracked, UsageError(exc.message, f"Add it before: {how}"))
        else:
            result.notes.append(f"'{tracked}' is not looked at, {exc.message} ('{how}', and the next commit has it)")


def _stale(repo: Repo, here: Pointers, result: CommitResult) -> tuple[list[str], dict[str, TooMuchError]]:
    """Return the tracked paths whose data was changed here and whose pointers don't say so yet; and what is too much to read."""
    limit = config.parse_size(repo.config.policy.get("stale_max_size", STALE_MAX_SIZE))
    if repo.config.policy.get("stale") == "ignore":
        return [], {}
    stale, unread = [], {}
    with repo.index.grouping():
        for tracked, item in here.found.items():
            try:
                if os.path.lexists(repo.root / tracked) and _is_stale(repo, tracked, item, limit, result):
                    stale.append(tracked)
            except TooMuchError as exc:
                unread[tracked] = exc
            except DvliteError as exc:
                result.notes.append(f"the data of '{tracked}' can't be looked at, its pointer stays: {exc.message}")
    return stale, unread


def _is_stale(repo: Repo, tracked: str, item: Pointer, limit: int, result: CommitResult) -> bool:
    view = look(repo, tracked, algorithm=algorithm_of(repo, item), limit=limit)
    keep(repo, view, view.scan.rows)
    if view.data == item.entry and view.base != (known := Base(item.entry, "", spell(item.entry))):
        # The right data is here, whoever put it here.
        repo.index.later(functools.partial(repo.index.set_base, tracked, known, {}))
    if view.data is None or view.data == item.entry or (view.base and view.data == view.base.entry):
        return False
    if view.base and _is_all_gone(view):
        result.notes.append(
            f"nothing of what was in '{tracked}' is left: its pointer stays ('dvlite add' or 'dvlite checkout')"
        )
        return False
    if view.base is None or view.base.rev:
        why = f"is that of {view.base.rev}" if view.base else "differs, and dvlite doesn't know what it put there last"
        result.notes.append(f"the data of '{tracked}' {why}: its pointer stays (see 'dvlite status')")
        return False
    if view.base.pointer and view.base.pointer != spell(item.entry):
        result.notes.append(
            f"the data of '{tracked}' and its pointer were both changed: it stays"
            f" ('dvlite add {quote(tracked)}' puts both together)"
        )
        return False
    return True


def _is_all_gone(view: View) -> bool:
    """Tell whether no file is left of several that were put here: that looks like an accident, or Git's doing."""
    base, data = view.base_entry, view.data
    if not (base and data and base.is_tree and data.is_tree and base.files > 1):
        return False
    in_base, in_data = lines.differing(base, data, read=view.read)
    return sum(entry.files for entry in in_base.values()) == base.files and not in_base.keys() & in_data.keys()


def _report(repo: Repo, added: "AddResult", result: CommitResult) -> None:
    if added.to_stage:  # staging is the user's by choice, but this commit would not have it
        git.stage(repo.git, added.to_stage)
    result.updated.extend([one.path for one in added.added if one.is_changed])
    for failure in added.failures:
        if isinstance(failure.error, UnsavedError):
            result.notes.append(f"{failure.error.message}: its pointer stays (see 'dvlite status')")
        else:
            result.blocks.append(failure)


# ---- what is staged -------------------------------------------------------------------------------------------------


def _pointers(staged: Iterable[Staged]) -> list[Staged]:
    return [
        one
        for one in staged
        if one.path.endswith(SUFFIX) and one.path.rpartition("/")[2] != SUFFIX and one.mode.startswith("100")
    ]


def check_pointers(repo: Repo, staged: Sequence[Staged], sides: Sequence[str] = ()) -> list[Failure]:
    """Return why staged pointers must not be committed: unreadable, or of data that was never stored. Waits for the disk."""
    blocks = _frozen_removed(repo)
    changed = _pointers(staged)
    if not changed:
        return blocks
    contents = dict(git.read_blobs(repo.git, (one.blob for one in changed)))
    is_kept = repo.config.policy.get("append_only") and git.has_commits(repo.git)
    before = refs.at(repo.git, "HEAD").found if is_kept else {}
    for one in changed:
        tracked = one.path.removesuffix(SUFFIX)
        try:
            refs.check_path(tracked)
            item = pointer.decode(contents[one.blob], one.path)
            _refuse_never_stored(repo, tracked, item, one, sides)
            _check_policy(repo, tracked, before.get(tracked), item)
        except DvliteError as exc:
            blocks.append(Failure(tracked, exc))
    try:
        repo.store.settle()
    except CorruptError as exc:
        blocks.append(Failure("", exc))
    return blocks


def _check_policy(repo: Repo, tracked: str, old: Pointer | None, item: Pointer) -> None:
    """Refuse a pointer without the metadata that the policy requires, or that changes data which it keeps as it is."""
    if not repo.config.policy.get("require") and not repo.config.policy.get("append_only"):
        return
    from dvlite.ops.policy import check_meta, reason_of, refuse_rewrite  # most repositories have none

    check_meta(repo.config, tracked, item)
    if old and old.oid != item.oid:
        refuse_rewrite(repo.config, tracked, old, item.entry, repo.store.read, known=reason_of(old, item))


def _frozen_removed(repo: Repo) -> list[Failure]:
    """Return why pointers may not go: the policy keeps their data. One that only moves, its data as it is, may."""
    if not repo.config.policy.get("append_only") or not git.has_commits(repo.git):
        return []
    from dvlite.ops.policy import keeps, rewritten

    here, before = refs.in_index(repo.git), refs.at(repo.git, "HEAD").found
    blocks: list[Failure] = []
    for tracked in before.keys() - here.found.keys() - here.broken.keys():
        if keeps(repo.config, here.found, before, tracked):
            continue
        try:
            path = next(rewritten(repo.config, tracked, before[tracked].entry, None, repo.store.read), "")
            if path:
                said = f"'{path}' is committed, and [policy] append_only keeps it"
                hint = f"Bring its pointer back: git restore --staged --worktree -- {quote(tracked + SUFFIX)}"
                raise UnsavedError(said, hint)
        except DvliteError as exc:
            blocks.append(Failure(tracked, exc))
    return sorted(blocks, key=lambda one: one.path)


def _refuse_never_stored(repo: Repo, tracked: str, item: Pointer, one: Staged, known: Sequence[str]) -> None:
    row = repo.index.rows(tracked).get(tracked)
    if row and row.oid == item.oid and row.state and row.state == repo.store.state() and repo.store.find([item.oid]):
        return  # seen there, all of it, and nothing has left the store since
    lacking = _lacking(repo, item)
    if not lacking:
        return
    sides = _sides(repo, known)
    if one.blob in git.blobs_in(repo.git, ["--all", *sides], SUFFIX):
        return  # some commit has it already: this one makes nothing worse
    for earlier in _earlier(repo, one.path, sides):
        reach = transfer.reach([earlier.entry], repo.store)
        if reach.missing:
            return  # what it had can't be told here
        lacking -= reach.blobs.keys() | reach.trees.keys()
    if lacking:
        raise MissingError(
            f"the pointer of '{tracked}' names {len(lacking)} objects that were never stored",
            f"Add the data: dvlite add {quote(tracked)}. Or take the pointer out: git restore --staged -- {quote(one.path)}",
        )


def _lacking(repo: Repo, item: Pointer) -> set[Oid]:
    reach = transfer.reach([item.entry], repo.store)
    return reach.missing | transfer.lacking(reach.blobs, repo.store).keys()


def _earlier(repo: Repo, path: str, sides: Sequence[str]) -> Iterable[Pointer]:
    """Yield the pointer as the commits have it that this one stands on: what they name was stored by someone."""
    for commit in ["HEAD", *sides] if git.has_commits(repo.git) else sides:
        if blob := git.blobs_at(repo.git, commit, SUFFIX).get(path):
            try:
                yield pointer.decode(dict(git.read_blobs(repo.git, [blob]))[blob], path)
            except FormatError:
                continue


def check_files(repo: Repo, here: Pointers, staged: Sequence[Staged], sides: Sequence[str] = ()) -> list[Failure]:
    """Return why staged files must not be committed: too large for Git, or data that a pointer stands for."""
    pointers = {one.path for one in _pointers(staged)}
    added = [one for one in staged if one.mode.startswith(("100", "120")) and one.path not in pointers]
    for side in _sides(repo, sides) if added else ():  # what comes from there is in Git already
        new = {one.path for one in git.staged(repo.git, side)}
        added = [one for one in added if one.path in new]
    if not added:
        return []
    blocks = []
    limit = config.parse_size(repo.config.policy.get("git_max_size", GIT_MAX_SIZE))
    sizes = git.blob_sizes(repo.git, (one.blob for one in added))
    for one in added:
        size = sizes.get(one.blob, 0)
        if owner := enclosing([*here.found, *here.broken], one.path):
            said = f"'{one.path}' is staged, and the pointer '{owner}{SUFFIX}' stands for it"
            blocks.append(
                Failure(one.path, UsageError(said, f"Take it out of Git: git rm --cached -- {quote(one.path)}"))
            )
        elif size > limit:
            said = f"'{one.path}' has {size} bytes: more than Git should hold ({limit})"
            hint = f"Track it: git rm --cached -- {quote(one.path)} && dvlite add {quote(one.path)}"
            blocks.append(Failure(one.path, UsageError(said, hint)))
    return blocks


# ---- after the commit -----------------------------------------------------------------------------------------------


def _note_staged(repo: Repo, tracked: Sequence[str]) -> None:
    names = sorted({*_noted(repo), *(f"{one}{SUFFIX}" for one in tracked)})
    files.write_atomic(repo.git.folder / "dvlite" / AFTER_COMMIT, "\0".join(names).encode("utf-8", "surrogateescape"))


def _noted(repo: Repo) -> list[str]:
    try:
        text = (repo.git.folder / "dvlite" / AFTER_COMMIT).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [name for name in text.split("\0") if name]


def _stage_left(repo: Repo) -> list[str]:
    """Stage the pointers that an earlier hook staged for a commit that was not made; return their tracked paths."""
    names = [name for name in _noted(repo) if (repo.root / name).is_file()]
    if not names:
        return []
    left = git.unstaged(repo.git, names)
    git.stage(repo.git, left)
    (repo.git.folder / "dvlite" / AFTER_COMMIT).unlink(missing_ok=True)
    return [name.removesuffix(SUFFIX) for name in left]


def after_commit(repo: Repo) -> None:
    """Bring Git's index up to the pointers that went into a partial commit by way of Git's temporary index."""
    names = _noted(repo)
    if not names:
        return
    at_head = git.blobs_at(repo.git, "HEAD", SUFFIX)
    contents = dict(git.read_blobs(repo.git, [at_head[name] for name in names if name in at_head]))
    committed = []
    for name in names:
        path = repo.root / name
        if name in at_head and path.is_file() and path.read_bytes() == contents[at_head[name]]:
            committed.append(name)
    git.stage(repo.git, committed)
    if left := [name for name in names if name not in committed]:
        _note_staged(repo, [name.removesuffix(SUFFIX) for name in left])
    else:
        (repo.git.folder / "dvlite" / AFTER_COMMIT).unlink(missing_ok=True)
