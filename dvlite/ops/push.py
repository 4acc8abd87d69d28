"""Send objects to a remote: claim, list, contents, then trees. "Everything is there" is said only after a fresh listing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvlite import git, refs, remotes, transfer, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError
from dvlite.oid import Oid, parse
from dvlite.ops.base import Failure, nowhere, once_each, pointers_at, select
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.reach import Reach
from dvlite.repo import Repo
from dvlite.stores.local import tombs
from dvlite.stores.remote import RemoteStore, covers, sweep
from dvlite.stores.remote.verify import Verified, verify
from dvlite.tree import Entry
from dvlite.worktree.plan import Only


@dataclass(slots=True)
class PushResult:
    """What was sent: objects and bytes; `present` were there (one that is named twice may count twice).

    `missing`: objects that are nowhere, and who wants them; `purged`: how many of what was looked at are gone on purpose.
    `elsewhere`: paths whose data stays at its source, and was not sent (their listings were).
    `was_emptied`: what this clone has seen there before is gone. `by_path`: of a dry run, objects and bytes by path;
    `verified`: what was looked at once more, if that was asked for.
    """

    remote: str
    pointers: int = 0
    pushed: int = 0
    size: int = 0
    present: int = 0
    purged: int = 0
    is_dry_run: bool = False
    was_emptied: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    by_path: dict[str, tuple[int, int]] = field(default_factory=dict)
    verified: Verified | None = None
    failures: list[Failure] = field(default_factory=list)


def push_all(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    each: Callable[[PushResult], object] = lambda _: None,
    **options: Any,
) -> list[PushResult]:
    """Push to each of the named remotes; without names, each path to the remote that `paths` of its settings choose for it.

    `each` is told of each result before the next push begins, which may fail; `options` are those of `push`.
    """
    results: list[PushResult] = []
    routes = remotes.routes(repo.config, repo.settings)
    involved = names or list(dict.fromkeys([*(name for name, _ in routes.patterns), routes.default]))
    for name in involved:

        def is_its(path: str, name: str = name) -> bool:
            return routes.of(path) == name

        is_routed = bool(routes.patterns) and not names
        result = push(repo, paths, remote=name, is_its=is_its if is_routed else None, **options)
        is_last = name == involved[-1]
        if result.pointers or result.failures or not is_routed or (is_last and not results):
            results.append(result)
            each(result)
    return results


def push(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    remote: str = "",
    rev: str | None = None,
    scopes: Sequence[str] = (),
    revs: Sequence[str] = (),
    tips: Sequence[str] = (),
    is_its: Callable[[str], bool] | None = None,
    is_dry_run: bool = False,
    is_verified: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> PushResult:
    """Push what the pointers name of all commits that no Git remote has yet, of HEAD and of Git's index.

    `rev`: the pointers of that commit alone; `scopes`: of all "branches", "tags", or "all" refs; `revs`: of the commits that
    these words of Git's select, and those at `tips`, whatever Git's remotes have. In-repo paths narrow it; so does `is_its`,
    which tells of a tracked path whether it goes to this remote. `is_verified`: look at all of it once more, by name.
    """
    target = repo.remote(remote)
    result = PushResult(target.remote.name, is_dry_run=is_dry_run)
    roots = _roots(repo, rev, [*revs, *(f"--{scope}" for scope in scopes)], paths, is_its, result)
    for tip in tips:
        if git.has_commit(repo.git, tip):
            found = {path: item for path, item in refs.at(repo.git, tip).found.items() if not is_its or is_its(path)}
            roots |= {f"{path} ({item.oid.short})": item.entry for path, item in found.items()}
            result.elsewhere += [f"{path} ({item.oid.short})" for path, item in found.items() if item.is_elsewhere]
    result.pointers = len(roots)
    if not roots:
        return result
    if not is_dry_run:
        target.refuse_read_only()
    with repo.writing("push"):
        repo.store.settle()
        progress.phase("look")
        jobs = jobs or target.remote.jobs
        may_skip = not (is_verified or result.elsewhere)
        known, mark = target.covers() if may_skip else ({}, b"")
        reach = _reach(repo, target, roots, jobs, result, known)
        skipped = [known[covers.key(slot)] for slot in reach.skipped.values()]
        covered = covers.packs_of(skipped)
        wanted = _wanted(repo, roots, reach, result)
        if is_dry_run:
            target.look(is_whole=False, oids=wanted, covered=covered, progress=progress)
            target.is_fresh = True
        else:
            oids = {entry.oid for entry in roots.values()}
            may_begin = bool(repo.store.find(oids))
            sweep.claim(
                target,
                repo.config.id,
                repo.clone_id,
                oids,
                wanted=wanted,
                covered=covered,
                may_begin=may_begin,
                progress=progress,
            )
        purged = target.purged() | tombs.oids(repo.store.root)
        if not covered <= target.live or mark != covers.mark_of(purged):  # what was remembered holds no more
            known, skipped = {}, []
            if reach.skipped:
                reach = _reach(repo, target, roots, jobs, result, known)
                wanted = _wanted(repo, roots, reach, result)
        result.present = sum(one.objects for one in skipped)
        failures = len(result.failures)
        _push(repo, target, roots, reach, wanted, purged, jobs, result, progress)
        if may_skip and not (is_dry_run or len(result.failures) > failures or result.missing):
            target.note_covers(reach, known, purged)  # the next push skips what is all there now
        if is_verified and not is_dry_run:
            progress.phase("verify")
            gone = purged | {parse(oid) for oid in result.missing}
            result.verified = verify(target, [oid for oid in wanted if oid not in gone], repo.store)
            result.failures += [Failure("", error) for error in result.verified.errors]
    result.was_emptied = target.was_emptied
    return result


def _wanted(repo: Repo, roots: dict[str, Entry], reach: Reach, result: PushResult) -> list[Oid]:
    """Return what is to be on the remote; takes out of `reach` the contents that stay elsewhere."""
    if result.elsewhere:
        here = transfer.reach([entry for label, entry in roots.items() if label not in result.elsewhere], repo.store)
        for oid in reach.blobs.keys() - here.blobs.keys():
            del reach.blobs[oid]
    trees = [oid for oid in reach.trees if oid not in reach.missing and oid not in reach.blobs]
    return [*trees, *reach.blobs]


def _pointers(
    repo: Repo, rev: str | None, revs: Sequence[str], paths: list[str] | None, result: PushResult
) -> list[tuple[str, Pointer]]:
    if rev:
        at = refs.at(repo.git, rev)
        result.failures += [Failure(path, error) for path, error in at.broken.items()]
        return [(path, item) for path, item in at.found.items() if paths is None or path in paths]
    unpushed = ["HEAD", "--not", "--remotes"]
    found, broken = refs.selected(repo.git, revs or unpushed, has_index=not revs, paths=paths)
    result.failures += [Failure(path, error) for path, error in broken]
    return found


def _roots(
    repo: Repo,
    rev: str | None,
    revs: Sequence[str],
    paths: Sequence[str],
    is_its: Callable[[str], bool] | None,
    result: PushResult,
) -> dict[str, Entry]:
    """Return the distinct roots to push by a label: the path, with the oid where a path has several versions."""
    parts: dict[str, Only] = {}
    if paths:
        known = pointers_at(repo, rev)
        selection = select(known, paths, repo.store.read)
        result.failures += selection.failures
        parts = selection.parts
    roots: dict[str, Entry] = {}
    absent = {(path, inner) for path, part in parts.items() for inner in part.paths}
    for path, item in _pointers(repo, rev, revs, list(parts) if paths else None, result) if parts or not paths else ():
        if is_its and not is_its(path):
            absent -= {(path, inner) for inner in parts[path].paths} if path in parts else set()
            continue
        for inner in sorted(parts[path].paths) if path in parts and parts[path].paths else [""]:
            try:
                entry = tree.find(item.entry, inner.split("/"), repo.store.read) if inner else item.entry
            except DvliteError as exc:
                result.failures.append(Failure(f"{path}/{inner}", exc))
                continue
            if entry:  # a version that doesn't have the path has nothing to push
                absent.discard((path, inner))
                label = f"{path}/{inner}" if inner else path
                label = label if label not in roots else f"{label} ({item.oid.short})"
                roots[label] = entry
                if item.is_elsewhere:
                    result.elsewhere.append(label)
    # A typing error must not look like a push; what the pointers at hand have was pushed with an earlier commit.
    for path, inner in sorted(absent):
        if tree.find(known.found[path].entry, inner.split("/"), repo.store.read) is None:
            result.failures.append(nowhere(path, inner))
    return roots


def _push(
    repo: Repo,
    target: RemoteStore,
    roots: dict[str, Entry],
    reach: Reach,
    wanted: list[Oid],
    purged: set[Oid],
    jobs: int,
    result: PushResult,
    progress: Progress,
) -> None:
    contents, found = reach.blobs, target.find(wanted)  # there may be millions: no second list of them
    above = dict.fromkeys(reach.trees.keys() - found.keys() - contents.keys() - reach.missing - purged, 0)
    result.purged = len(purged & contents.keys())
    for oid in [*purged, *(oid for oid, size in found.items() if contents.get(oid) in (0, size))]:
        contents.pop(oid, None)
    result.present += len(wanted) - len(contents) - len(above) - result.purged
    lost = transfer.lacking(contents, repo.store).keys() | reach.missing
    if lost:
        if not result.is_dry_run:
            repo.store.raise_generation()  # so that 'dvlite add' looks, and stores anew what lies in the worktree
        result.missing = _who_wants(repo, roots, lost)
        contents = {oid: size for oid, size in contents.items() if oid not in lost}
    if result.is_dry_run:
        result.pushed, result.size = len(contents) + len(above), sum(contents.values())
        result.by_path = _by_path(repo, roots, contents | above)
        return
    progress.phase("push", files=len(contents), size=sum(contents.values()))
    report = transfer.copy(repo.store, target, contents, jobs=jobs, progress=progress)
    failed = dict(report.failed)
    sendable = above if not failed and not lost else _whole(repo, reach, above, {*failed, *lost})
    more = transfer.copy(repo.store, target, sendable, jobs=jobs, progress=progress)
    failed |= more.failed
    result.pushed = len(report.copied) + len(more.copied)
    result.size = report.size + more.size
    if failed:
        names = _who_wants(repo, roots, set(failed))
        result.failures += once_each([Failure(names.get(str(oid), ""), error) for oid, error in failed.items()])


def _reach(
    repo: Repo,
    target: RemoteStore,
    roots: dict[str, Entry],
    jobs: int,
    result: PushResult,
    known: Mapping[bytes, covers.Cover],
) -> Reach:
    """Walk all roots at once; where one can't be walked, each for itself, so that it stops no other."""
    skip = (lambda slot: covers.key(slot) in known) if known else None
    try:
        return transfer.reach(roots.values(), repo.store, target, jobs=jobs, skip=skip)
    except (CorruptError, FormatError):
        total = Reach({}, {}, set(), {})
    for label, entry in list(roots.items()):
        try:
            reach = transfer.reach([entry], repo.store, target, jobs=jobs, skip=skip)
        except (CorruptError, FormatError) as exc:
            result.failures.append(Failure(label, exc))
            del roots[label]
            continue
        total.trees.update(reach.trees)
        total.blobs.update(reach.blobs)
        total.missing.update(reach.missing)
        total.skipped.update(reach.skipped)
    return total


def _whole(repo: Repo, reach: Reach, trees: dict[Oid, int], bad: set[Oid]) -> dict[Oid, int]:
    """Return the trees below which nothing failed: a tree goes up only after all that it names."""
    names = {}
    for oid, data in repo.store.read_many([oid for oid in reach.trees if oid not in reach.missing]):
        names[oid] = {row.oid for row in tree.decode(data, oid.algorithm).entries}
    while True:
        worse = {oid for oid, below in names.items() if oid not in bad and below & bad}
        if not worse:
            return {oid: size for oid, size in trees.items() if oid not in bad}
        bad = bad | worse


def _who_wants(repo: Repo, roots: dict[str, Entry], oids: set[Oid]) -> dict[str, str]:
    """Return for each object the label of a root that reaches it."""
    found: dict[str, str] = {}
    for label, entry in roots.items():
        reach = transfer.reach([entry], repo.store)
        for oid in oids & {*reach.trees, *reach.blobs, *reach.missing}:
            found.setdefault(str(oid), label)
    return found


def _by_path(repo: Repo, roots: dict[str, Entry], absent: Mapping[Oid, int]) -> dict[str, tuple[int, int]]:
    """Return what each root would send, objects and bytes; what several reach counts for the first."""
    left = dict(absent)
    found: dict[str, tuple[int, int]] = {}
    for label, entry in roots.items():
        if not left:
            break
        reach = transfer.reach([entry], repo.store)
        its = {oid: left.pop(oid) for oid in {*reach.trees, *reach.blobs} & left.keys()}
        if its:
            found[label] = (len(its), sum(its.values()))
    return found


def missing_error(result: PushResult) -> MissingError:
    """Return the error that names what is neither here nor on the remote."""
    labels = sorted(set(result.missing.values()))
    what = "1 object is" if len(result.missing) == 1 else f"{len(result.missing):,} objects are"
    return MissingError(
        f"{what} neither here nor on remote '{result.remote}', wanted by: {', '.join(labels)}",
        "Run 'dvlite add' where the data still is, or 'dvlite fetch' from another remote.",
    )
