"""Send objects to a remote: claim, list, contents, then trees. "Everything is there" is said only after a fresh listing."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from dvlite import git, refs, remotes, transfer, tree
from dvlite.errors import DvliteError, MissingError
from dvlite.oid import Oid, parse
from dvlite.ops.base import Failure, nowhere, pointers_at, select
from dvlite.ops.send import PushResult, Sending, portions, reached, send, send_ahead
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.reach import Reach
from dvlite.repo import Repo
from dvlite.stores.local import tombs
from dvlite.stores.remote import covers, sweep
from dvlite.stores.remote.covers import Cover
from dvlite.stores.remote.verify import verify
from dvlite.tree import Entry
from dvlite.worktree.plan import Only


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
        may_skip = not (is_verified or result.elsewhere)
        known, mark = target.covers() if may_skip else ({}, b"")
        sending = Sending(
            repo,
            target,
            roots,
            result,
            jobs or target.remote.jobs,
            progress,
            known,
            may_note=may_skip and not is_dry_run,
        )
        reach, known = _begin(sending, mark)
        wanted = reach.oids() if is_verified else []
        send(sending, reach)
        if sending.fresh and not sending.spoilt:  # the next push skips what is all there now
            target.note_covers(sending.used | sending.fresh, known, sending.purged)
        if is_verified and not is_dry_run:
            progress.phase("verify")
            gone = sending.purged | {parse(oid) for oid in result.missing}
            result.verified = verify(target, [oid for oid in wanted if oid not in gone], repo.store)
            result.failures += [Failure("", error) for error in result.verified.errors]
    result.was_emptied = target.was_emptied
    return result


def _begin(sending: Sending, mark: bytes) -> tuple[Reach, dict[bytes, Cover]]:
    """Say what will be pushed, look at the remote, and send portions ahead; return what is left, and the covers that hold.

    `mark`: that of the covers known.
    """
    target, known = sending.target, sending.known
    if ahead := portions(sending) if sending.may_note else []:
        _look(sending)
        known = known if mark == covers.mark_of(sending.purged) else {}
        sending.known = {name: one for name, one in known.items() if one.packs <= target.live}
        send_ahead(sending, ahead)
        target.is_fresh = True  # what went since the look is known
        return reached(sending), known
    reach = reached(sending)
    _leave_elsewhere(sending, reach)
    covered = covers.packs_of(sending.covers_of(reach).values())
    _look(sending, reach.oids(), covered)
    if not covered <= target.live or mark != covers.mark_of(sending.purged):  # what was remembered holds no more
        known = sending.known = {}
        if reach.skipped:
            reach = reached(sending)
            _leave_elsewhere(sending, reach)
    return reach, known


def _look(sending: Sending, wanted: Collection[Oid] = (), covered: Collection[str] = ()) -> None:
    """Look at the remote, by listing it or by asking for what is wanted; unless nothing is sent, after saying what will be."""
    repo, target, progress = sending.repo, sending.target, sending.progress
    if sending.result.is_dry_run:
        target.look(is_whole=False, oids=wanted, covered=covered, progress=progress)
        target.is_fresh = True
    else:
        oids = {entry.oid for entry in sending.roots.values()}
        sweep.claim(
            target,
            repo.config.id,
            repo.clone_id,
            oids,
            wanted=wanted,
            covered=covered,
            may_begin=bool(repo.store.find(oids)),
            progress=progress,
        )
    sending.purged = target.purged() | tombs.oids(repo.store.root)


def _leave_elsewhere(sending: Sending, reach: Reach) -> None:
    """Take out what is not sent, as it stays at its source."""
    if elsewhere := sending.result.elsewhere:
        entries = [entry for label, entry in sending.roots.items() if label not in elsewhere]
        here = transfer.reach(entries, sending.repo.store)
        for oid in reach.blobs.keys() - here.blobs.keys():
            del reach.blobs[oid]


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


def missing_error(result: PushResult) -> MissingError:
    """Return the error that names what is neither here nor on the remote."""
    labels = sorted(set(result.missing.values()))
    what = "1 object is" if len(result.missing) == 1 else f"{len(result.missing):,} objects are"
    return MissingError(
        f"{what} neither here nor on remote '{result.remote}', wanted by: {', '.join(labels)}",
        "Run 'dvlite add' where the data still is, or 'dvlite fetch' from another remote.",
    )
