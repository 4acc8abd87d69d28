"""Bring tracked paths to what pointers say: look, plan, fill in what was asked for by force, carry out, remember.

What is not stored stays, and is named. Small ones are carried out together, as to wait for the clock and for the disk takes as
long for many as for one: all are noted as begun, then each is settled, then all are remembered.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dvlite import refs, tree
from dvlite.errors import DvliteError, LockedError, MissingError, UnsavedError
from dvlite.index import Base, Intent, spell
from dvlite.oid import Oid
from dvlite.ops import saved
from dvlite.ops.advance import advance
from dvlite.ops.base import (
    Failure,
    Selection,
    View,
    enclosing,
    leave_nowhere,
    look,
    reader,
    rescan,
    stats_of,
    trees_of,
)
from dvlite.ops.links import relinks
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.tree import Entry
from dvlite.worktree import plan as plans
from dvlite.worktree.materialise import Staging, Work
from dvlite.worktree.plan import Change, Kind, Only
from dvlite.worktree.settle import Outcome, Place

_TOGETHER = 256  # so many files are carried out together, and so many bytes
_TOGETHER_BYTES = 1 << 26
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
        way = _Way(repo, result, is_forced, progress, announce, functools.cache(lambda: _committed(repo)))
        gone = selection.parts.keys() - pointers.found.keys()
        for some in (gone, selection.parts.keys() - gone):  # what goes makes room for what comes
            _bring_some(way, pointers, {tracked: selection.parts[tracked] for tracked in sorted(some)})
    return result


@contextlib.contextmanager
def _noted(result: CheckoutResult, tracked: str) -> Iterator[None]:
    """Note what goes wrong with a path: it stops no other. An index that another process has would stop all of them."""
    try:
        yield
    except LockedError:
        raise
    except DvliteError as exc:
        _note(result, tracked, exc)


def _note(result: CheckoutResult, tracked: str, exc: DvliteError) -> None:
    if isinstance(exc, MissingError):
        result.missing.append(tracked)
    else:
        result.failures.append(Failure(tracked, exc))


class _Way(NamedTuple):
    """How paths are brought, and who is told; `announce` is called before the first change; `committed` tells which roots are."""

    repo: Repo
    result: CheckoutResult
    is_forced: bool
    progress: Progress
    announce: Callable[[], None]
    committed: Callable[[], set[Oid]]


class _Job(NamedTuple):
    """A tracked path as it was found, and what is to change there: all, and what may be done."""

    view: View
    place: Place
    target: Entry | None
    wanted: Only
    changes: list[Change]
    doable: list[Change]
    algorithm: str


class _Batch:
    """Jobs that are carried out together: on one file system, and few files and bytes, unless there is but one."""

    def __init__(self) -> None:
        self.jobs: dict[str, _Job] = {}
        self._files = self._size = 0

    def has_room(self, job: _Job) -> bool:
        """Tell whether one more may be added."""
        files, size = _extent(job)
        is_small = self._files + files <= _TOGETHER and self._size + size <= _TOGETHER_BYTES
        is_near = all(one.place.tmp == job.place.tmp for one in itertools.islice(self.jobs.values(), 1))
        return not self.jobs or (is_small and is_near and len(self.jobs) < _TOGETHER)

    def add(self, job: _Job) -> None:
        """Add one."""
        files, size = _extent(job)
        self._files += files
        self._size += size
        self.jobs[job.place.tracked] = job

    def empty(self) -> list[_Job]:
        """Return all, in the order in which they came, and begin anew."""
        jobs = list(self.jobs.values())
        self.jobs, self._files, self._size = {}, 0, 0
        return jobs


def _extent(job: _Job) -> tuple[int, int]:
    """Return how many files were looked at or are to be written, whichever is more, and how many bytes are to be."""
    targets = [change.target for change in job.doable if change.target]
    seen = job.view.data.files if job.view.data else 0
    return max(seen, sum(target.files for target in targets)), sum(target.size for target in targets)


def _bring_some(way: _Way, pointers: Pointers, parts: Mapping[str, Only]) -> None:
    batch = _Batch()
    for tracked, wanted in parts.items():
        if enclosing(batch.jobs, tracked):  # a file there may become a folder
            _carry_out(way, batch.empty())
        job = None
        with _noted(way.result, tracked):
            job = _prepare(way, tracked, pointers.found.get(tracked), wanted)
        if job and not batch.has_room(job):
            _carry_out(way, batch.empty())
        if job:
            batch.add(job)
    _carry_out(way, batch.empty())


def _prepare(way: _Way, tracked: str, item: Pointer | None, wanted: Only) -> _Job | None:
    """Look at a path and decide what is to change; None where nothing is left to do."""
    repo, result, is_forced, progress, _, _ = way
    target = item.entry if item else None
    if target and not is_forced and not wanted.paths and _advance(way, tracked, target):
        return None
    algorithm = item.oid.algorithm if item else repo.config.hash
    progress.phase("look")
    view = look(repo, tracked, algorithm=algorithm, progress=progress)
    part = leave_nowhere(view, target, wanted, result.failures)
    if part is None:
        return None
    wanted = part
    changes = list(
        plans.plan(view.base_entry, view.data, target, view.read, is_base_known=view.base is not None, wanted=wanted)
    )
    if is_forced:
        result.saved = _save(repo, tracked, changes, view, algorithm) or result.saved
    doable = [change for change in changes if _is_wanted(repo, change, view, result, tracked, is_forced)]
    if repo.index.note(f"link {tracked}") not in ("", repo.link) or repo.link in ("hardlink", "symlink"):
        touched = {change.path for change in changes}
        doable += [change for change in relinks(repo, view, repo.link, wanted) if change.path not in touched]
    if item is None and doable and view.base_entry and view.base_entry.oid not in way.committed():
        result.saved = saved.write(repo, tracked, view.base_entry)  # nothing else would name it any more
    place = Place(repo.root, tracked, repo.tmp(repo.root / tracked), repo.link, stats_of(repo, tracked, view.scan))
    return _Job(view, place, target, wanted, changes, doable, algorithm)


def _carry_out(way: _Way, jobs: Sequence[_Job]) -> None:
    """Carry out some jobs: what they need is written aside for all at once, then each is begun, settled and remembered."""
    if not jobs:
        return
    index = way.repo.index
    works = [Work(job.place, job.doable, job.view.read) for job in jobs]
    try:
        with index.together():
            for job in jobs:
                if job.view.data or not job.doable:  # else it is looked at again when something is there
                    index.save(job.view.scan.rows, job.view.scan.gone)
        with Staging(works, way.repo.store, way.progress) as staging:
            _settle(way, jobs, staging)
    except LockedError:
        raise
    except DvliteError as exc:
        if len(jobs) == 1:
            _note(way.result, jobs[0].place.tracked, exc)
            return
        for job in jobs:  # each for itself, so that it stops no other
            _carry_out(way, [job])


def _settle(way: _Way, jobs: Sequence[_Job], staging: Staging) -> None:
    """Note what is about to be done in one step, settle one job after the other, and remember what was done in one step."""
    _begin(way, [job for job in jobs if job.doable])
    done: list[tuple[_Job, Outcome]] = []
    for number, job in enumerate(jobs):
        with _noted(way.result, job.place.tracked):
            done.append((job, staging.settle(number)))
    with _noted(way.result, jobs[-1].place.tracked), way.repo.index.together():
        for job, outcome in done:
            _remember_one(way, job, outcome)


def _begin(way: _Way, jobs: Sequence[_Job]) -> None:
    index = way.repo.index
    if not jobs:
        return
    way.announce()
    with index.together():
        bases = {}
        for job in jobs:
            view = job.view
            if view.base is None and view.data is None:  # what an interruption leaves here is ours then
                bases[view.tracked] = Base(None)
                index.set_base(view.tracked, Base(None), {})
            elif view.base and index.intent(view.tracked):  # one was interrupted: its intent gives way to this one's
                bases[view.tracked] = view.base
                index.set_base(view.tracked, view.base, trees_of(view.base.entry, view.read))
        index.begin({job.view.tracked: Intent(job.target, way.result.rev) for job in jobs}, bases)


def _remember_one(way: _Way, job: _Job, outcome: Outcome) -> None:
    repo, tracked = way.repo, job.place.tracked
    way.progress.phase("note")
    count(outcome, job.changes, job.target, way.result, tracked)
    again = None
    with _noted(way.result, tracked):
        again = rescan(repo, tracked, algorithm=job.algorithm, made=outcome.made) if outcome.done else None
    if job.target is None and outcome.done:
        _remove_empty_above(repo, tracked)
    with _noted(way.result, tracked):
        repo.index.set_note(f"link {tracked}", repo.link)
        _remember(repo, job, outcome, way.result.rev)
        if again:
            repo.index.save(again.rows, again.gone)


def _remove_empty_above(repo: Repo, tracked: str) -> None:
    """Remove the folders that a path lay in as far as they are empty, as Git does; not the one in which the user is."""
    folder = (repo.root / tracked).parent
    with contextlib.suppress(OSError):  # one that isn't empty
        while folder != repo.root and not folder.is_symlink() and not folder.samefile(repo.here):
            folder.rmdir()
            folder = folder.parent


def _advance(way: _Way, tracked: str, target: Entry) -> bool:
    """Take the short way from the base to the target, where that is possible; tell whether all is done."""
    repo, result, _, progress, announce, _ = way
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
        repo.index.begin({tracked: Intent(target)})

    outcome = advance(repo, tracked, base.entry, target, progress, begin)
    if outcome is None:
        return False
    repo.index.set_base(tracked, Base(target, "", mark), {})
    count(outcome, [], None, result, tracked)
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


def count(outcome: Outcome, changes: list[Change], target: Entry | None, result: CheckoutResult, tracked: str) -> None:
    """Add what became of a path's changes to what a command did."""
    result.written += outcome.files
    result.size += outcome.size
    result.removed += sum(change.data.files for change in outcome.done if change.data and not change.target)
    if target:
        result.unchanged += max(0, target.files - sum(one.target.files for one in changes if one.target))
    result.kept += [KeptPath(_full(tracked, kept.change.path), kept.reason) for kept in outcome.kept]
    for path, error in outcome.failed.items():
        _note(result, path, error)


# ---- what is remembered ---------------------------------------------------------------------------------------------


def _remember(repo: Repo, job: _Job, outcome: Outcome, rev: str) -> None:
    """Set the base to what is in place now."""
    view, _, target, wanted, changes, _, _ = job
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
        asked = [path for path in wanted.paths if not _is_in_the_way(path, old, target, read)]
        grafts = {path: _inner(target, path, read) for path in asked} | grafts
    if target and view.base_entry and target.oid.algorithm != view.base_entry.oid.algorithm:
        return None, {}  # one tree can't name both: what was put here is not known any more
    for path in sorted(grafts, key=len):
        key = tuple(path.split("/")) if path else ()
        root, made = tree.graft(root, {key: grafts[path]}, read)
        trees.update(made)
    return (root._replace(name="") if root else None), trees_of(root, read)


def _is_in_the_way(path: str, kept: Container[str], target: Entry | None, read: tree.Read) -> bool:
    """Tell whether a part could not be brought, as above it lies something else here, or in the target, than a folder."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(len(parts))]
    roots = [target, *(_inner(target, one, read) for one in above[1:])]
    return any(one in kept for one in above) or any(root and not root.is_tree for root in roots)


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


def _committed(repo: Repo) -> set[Oid]:
    """Return all roots that a pointer in any commit or in Git's index names."""
    found, _ = refs.selected(repo.git, ["--all"])
    return {item.oid for _, item in found}
