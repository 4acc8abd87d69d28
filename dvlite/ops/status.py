"""Say how data, pointers, the store and (if asked) a remote stand to each other. Changes nothing but what the index knows."""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dvlite import git, refs, transfer, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, UnsavedError, quote
from dvlite.index import Base, spell
from dvlite.oid import Oid
from dvlite.ops.base import Failure, Selection, View, algorithm_of, keep, leave_nowhere, look, select_stored
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.rows import Row
from dvlite.tree import Entry, Read
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Change, Kind, Only

if TYPE_CHECKING:
    from dvlite.stores.base import Store
    from dvlite.stores.remote import RemoteStore

_WORTH = 1 << 20
_UNSAVED = frozenset(["new", "modified", "deleted", "renamed", "conflict", "unknown"])


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs. `kind`: new, modified, deleted, renamed, absent, outdated, dropped, conflict or unknown."""

    path: str
    kind: str
    size: int = 0
    old_path: str = ""


@dataclass(slots=True)
class PathStatus:
    """One tracked path. `git`: the pointer's state against HEAD; counts are of objects.

    `at`: the rev whose data lies here by `checkout --rev`. `unknown`: why the rest can't be told.
    `remote`: the one that `missing_there` is about.
    """

    path: str
    oid: str
    size: int
    files: int
    git: str = ""
    changes: list[FileChange] = field(default_factory=list)
    absent_files: int = 0
    missing_here: int = 0
    missing_there: int | None = None
    remote: str = ""
    at: str = ""
    unknown: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether data and pointer agree, and everything is where it should be."""
        return not (
            self.changes or self.absent_files or self.missing_here or self.missing_there or self.at or self.unknown
        )


@dataclass(slots=True)
class StatusResult:
    """All tracked paths asked for; `lost_index` tells that the index could not be read and was begun anew."""

    paths: list[PathStatus] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    remote: str = ""
    lost_index: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs."""
        return not self.failures and all(one.is_clean for one in self.paths)


def status(
    repo: Repo, paths: Sequence[str] = (), *, remote: str | None = None, progress: Progress = SILENT
) -> StatusResult:
    """Compare in-repo paths (all without). `remote`: also compare with that remote (empty: the default one)."""
    asked = git.begin_changed(repo.git, SUFFIX)
    pointers = refs.in_worktree(repo.git)
    selection = select_stored(pointers, paths, repo.store.read)
    result = StatusResult(failures=[_with_conflicts(repo, failure) for failure in selection.failures])
    states = asked()
    progress.phase("status", files=sum(pointers.found[one].files for one in selection.parts))
    with repo.index.grouping():
        _look_at_all(repo, pointers, selection, states, result, progress)
    if remote is not None:
        _compare_remote(repo, remote, {one.path: pointers.found[one.path] for one in result.paths}, result)
    result.lost_index = repo.index.was_lost
    return result


def _look_at_all(
    repo: Repo,
    pointers: Pointers,
    selection: Selection,
    states: Mapping[str, str],
    result: StatusResult,
    progress: Progress,
) -> None:
    for tracked in sorted(selection.parts):
        item = pointers.found[tracked]
        one = PathStatus(
            tracked, str(item.oid), item.size, item.files, _git_state(states.get(f"{tracked}{SUFFIX}", ""))
        )
        try:
            view = look(repo, tracked, algorithm=algorithm_of(repo, item), progress=progress)
        except DvliteError as exc:
            result.failures.append(Failure(tracked, exc))
            continue
        try:
            wanted = leave_nowhere(view, item.entry, selection.parts[tracked], result.failures)
            if wanted is None:
                continue
            _compare(repo, view, item, wanted, one)
        except (MissingError, CorruptError, FormatError) as exc:
            one.unknown = f"{exc.message}; {exc.hint}" if exc.hint else exc.message
        keep(repo, view, _worth_keeping(repo, view))
        result.paths.append(one)


def _worth_keeping(repo: Repo, view: View) -> dict[str, Row]:
    """Return the rows to remember: a few bytes that changed are sooner read again than their folder's row is written twice."""
    rows = view.scan.rows
    if view.scan.bytes_read >= _WORTH or all(row.state for row in rows.values()):
        return rows
    before = repo.index.rows(view.tracked)
    return {path: row for path, row in rows.items() if row.state or path not in before or not before[path].state}


def _with_conflicts(repo: Repo, failure: Failure) -> Failure:
    """Name the paths in conflict where a pointer has conflict markers."""
    if "conflict markers" not in failure.error.message:
        return failure
    from dvlite.ops.merge import conflicts  # seldom, and it needs much

    found = conflicts(repo, failure.path)
    said = f"{failure.error.message}; in conflict: {', '.join(map(quote, found))}"
    return Failure(failure.path, FormatError(said, failure.error.hint)) if found else failure


def refuse_unsaved(repo: Repo, paths: Sequence[str], *, but: Collection[str] = ()) -> None:
    """Refuse where data of tracked paths that is about to be replaced has changes that are not stored; `but` of some kinds."""
    if not paths:
        return
    found = status(repo, paths)
    for failure in found.failures:
        raise failure.error
    for one in found.paths:
        kinds = {change.kind for change in one.changes} & _UNSAVED
        if kinds - set(but):
            here = quote(one.path)
            raise UnsavedError(
                f"'{one.path}' has changes that are not stored",
                f"Store them with 'dvlite add {here}', or drop them with 'dvlite checkout --force {here}'.",
            )


def _git_state(letters: str) -> str:
    if not letters:
        return ""
    names = {"?": "untracked", "A": "added", "M": "modified", "R": "renamed", "U": "unmerged"}
    staged = names.get(letters[0], "")
    if letters[0] in " ?":
        return names.get(letters[1], "modified")
    return f"{staged or 'changed'}, staged" if letters[1] == " " else f"{staged or 'changed'}, staged in part"


def _compare(repo: Repo, view: View, item: Pointer, wanted: Only, one: PathStatus) -> None:
    target = item.entry
    if view.data and view.data.oid == target.oid and view.data.size != target.size:
        one.unknown = f"the pointer says {target.size} bytes, the data has {view.data.size}: run 'dvlite add --force'"
    if view.data and view.data.oid == target.oid and view.data.mode == target.mode:
        # The right data is here, whoever put it here: from now on it is ours.
        repo.index.later(functools.partial(repo.index.set_base, view.tracked, Base(target, "", spell(target)), {}))
        one.missing_here = _count_unseen(repo, view.tracked, target)
        return
    known = view.base is not None
    changes = list(plans.plan(view.base_entry, view.data, target, view.read, is_base_known=known, wanted=wanted))
    if view.base and view.base.rev:
        one.at = view.base.rev
        changes = [change for change in changes if change.kind not in (Kind.OUTDATED, Kind.DROPPED, Kind.ABSENT)]
    needed: list[Entry] = []
    found: list[tuple[FileChange, Oid]] = []
    for change in changes:
        if change.target:
            needed.append(change.target)
        if change.kind is Kind.ABSENT and change.target:
            one.absent_files += change.target.files
        else:
            found.extend(one for one in _files(change, view.read) if not _holds_ignored(repo, view.tracked, one[0]))
    one.changes = _with_renames(found)
    one.missing_here = view.scan.unstored + _count_missing(repo, needed)


def _holds_ignored(repo: Repo, tracked: str, change: FileChange) -> bool:
    """Tell whether a folder that looks new and empty is there for what is ignored in it."""
    return change.kind == "new" and change.path.endswith("/") and any((repo.root / tracked / change.path).iterdir())


def _files(change: Change, read: Read) -> Iterator[tuple[FileChange, Oid]]:
    """Yield the files of a change, a whole folder's one by one, each with the oid that tells where it went or came from."""
    entry = change.target if change.data is None else change.data
    if entry is None:
        return
    tree.check_depth(change.path)
    if entry.is_tree and change.kind is not Kind.DROPPED:
        below = tree.entries(entry, read)
        if not below:
            yield FileChange(f"{change.path}/", change.kind.value), entry.oid
        for child in below:
            path = f"{change.path}/{child.name}" if change.path else child.name
            inner = change._replace(
                path=path, data=child if change.data else None, target=None if change.data else child
            )
            yield from _files(inner, read)
    else:
        yield FileChange(change.path, change.kind.value, entry.size), entry.oid


def _with_renames(found: list[tuple[FileChange, Oid]]) -> list[FileChange]:
    """Put a deleted and a new file of the same content together."""
    gone: dict[Oid, list[str]] = {}
    for one, oid in found:
        if one.kind == "deleted":
            gone.setdefault(oid, []).append(one.path)
    moved: set[str] = set()
    changes = []
    for one, oid in found:
        if one.kind == "new" and gone.get(oid):
            old = gone[oid].pop(0)
            moved.add(old)
            changes.append(FileChange(one.path, "renamed", one.size, old))
        else:
            changes.append(one)
    return [one for one in changes if one.kind != "deleted" or one.path not in moved]


def _count_unseen(repo: Repo, tracked: str, target: Entry) -> int:
    """Count what the store lacks of a root; where all was seen there, and nothing has left since, the top alone is looked up."""
    state = repo.store.state()
    if state and repo.index.root(tracked) == (str(target.oid), state):
        if repo.store.find([target.oid]):
            return 0
        repo.store.raise_generation()  # somebody else's hand was at work
        state = repo.store.state()
    missing = _count_missing(repo, [target])
    if not missing and state:
        repo.index.later(functools.partial(repo.index.set_state, tracked, state))
    return missing


def _count_missing(repo: Repo, roots: list[Entry]) -> int:
    reach = transfer.reach(roots, repo.store)
    return len(reach.missing) + len(transfer.lacking(reach.blobs, repo.store))


def _compare_remote(repo: Repo, remote: str, items: dict[str, Pointer], result: StatusResult) -> None:
    """Compare with the named remote, or each path with the one that it is pushed to."""
    from dvlite import remotes  # needs 10 ms, and only where a remote is asked

    routes = remotes.routes(repo.config, repo.settings)
    by_remote: dict[str, list[PathStatus]] = {}
    for one in result.paths:
        by_remote.setdefault(remote or routes.of(one.path), []).append(one)
    for name, its in by_remote.items():
        _compare_one(repo.remote(name), repo.store, items, its)
    result.remote = ", ".join(dict.fromkeys(one.remote for one in result.paths)) or repo.remote(remote).remote.name


def _compare_one(store: "RemoteStore", here: "Store", items: dict[str, Pointer], its: Sequence[PathStatus]) -> None:
    found = {one.path: transfer.seen([items[one.path].entry], here, store) for one in its}
    wanted = {
        oid: size for reach in found.values() for oid, size in (dict.fromkeys(reach.trees, 0) | reach.blobs).items()
    }
    absent = transfer.absent(wanted, store)
    for one in its:
        reach = found[one.path]
        one.remote = store.remote.name
        one.missing_there = sum(oid in absent for oid in (*reach.trees, *reach.blobs))
        if reach.missing and not one.unknown:
            one.unknown = f"{len(reach.missing)} of its listings are neither here nor on '{store.remote.name}'"
