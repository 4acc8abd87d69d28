"""Get objects from a remote into the local store: trees first, level by level, then the contents that are lacking."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dvlite import remotes, transfer, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, UsageError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, nowhere, once_each, pointers_at, select_stored
from dvlite.ops.bring import CheckoutResult
from dvlite.ops.checkout import checkout
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.stores.local import tombs
from dvlite.stores.remote import RemoteStore
from dvlite.tree import Entry, Read
from dvlite.worktree.plan import Only

Parts = dict[str, Only]  # tracked paths, and which part of each


@dataclass(slots=True)
class FetchResult:
    """What came: objects and bytes; `missing` maps objects that are nowhere to the path that wants them.

    `no_remote_at`: where the remote should be, if no dvlite remote lies there.
    """

    remote: str = ""
    fetched: int = 0
    size: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    no_remote_at: str = ""
    purged: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class PullResult:
    """A fetch, and the checkout after it."""

    fetch: FetchResult
    checkout: CheckoutResult


def fetch(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    remote: str = "",
    rev: str | None = None,
    pointers: Pointers | None = None,
    is_by_hook: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> FetchResult:
    """Fetch what the pointers of the worktree (or of `rev`) name and the local store lacks; in-repo paths narrow it.

    `pointers`: these instead. `is_by_hook`: only from remotes that this clone used before.
    """
    pointers = pointers or pointers_at(repo, rev)
    with repo.writing("fetch"):
        selection = select_stored(pointers, paths, tree_reader(repo, lambda: repo.remote(remote)))
        result = FetchResult(failures=selection.failures)
        entries = [pointers.found[one].entry for one in selection.parts]
        if entries and (remote or not _is_here(repo, entries)):
            for names, parts in _by_sources(repo, remote, selection.parts).items():
                if is_by_hook and not (names := tuple(name for name in names if _is_used(repo, name))):
                    raise _unused()
                _fetch_from(repo, names, pointers.found, parts, jobs, result, progress)
    return result


def _by_sources(repo: Repo, remote: str, parts: Parts) -> dict[tuple[str, ...], Parts]:
    """Share paths out by the remotes to ask for them, in order: the named one; or each path's own, the default, the others."""
    if remote:
        return {(remote,): parts}
    routes = remotes.routes(repo.config, repo.settings)
    known = remotes.names(repo.config, repo.settings)
    found: dict[tuple[str, ...], Parts] = {}
    for path, part in parts.items():
        found.setdefault(tuple(routes.sources(path, known)) or ("",), {})[path] = part
    return found


def _fetch_from(
    repo: Repo,
    names: Sequence[str],
    found: dict[str, Pointer],
    parts: Parts,
    jobs: int | None,
    result: FetchResult,
    progress: Progress,
) -> None:
    """Fetch from the first of some remotes; what it lacks, or fails to give, from the next. The first one's failures are said."""
    for _ in names:
        ones = []
        for name in names:
            ones.append(one := _fetch_one(repo, name, found, parts, jobs, progress, may_raise=len(names) == 1))
            if one.fetched:
                result.remote = ", ".join(dict.fromkeys([*filter(None, result.remote.split(", ")), one.remote]))
            result.fetched += one.fetched
            result.size += one.size
            result.purged |= one.purged
            if not one.missing and not one.failures:
                return
        first, last = ones[0], ones[-1]
        missing = first.missing | last.missing if last.failures else last.missing
        if first.missing.keys() - result.purged.keys() <= missing.keys():
            break  # else what came from a later one may name what an earlier one has
    result.remote = result.remote or first.remote
    result.missing |= missing
    if missing and all(one.no_remote_at for one in ones):
        result.no_remote_at = first.no_remote_at
    result.failures = once_each(result.failures + (first.failures or ([] if result.missing else last.failures)))


def _fetch_one(
    repo: Repo,
    name: str,
    found: dict[str, Pointer],
    parts: Parts,
    jobs: int | None,
    progress: Progress,
    *,
    may_raise: bool,
) -> FetchResult:
    """Fetch from one remote; a failure of all of it is raised, or one of the result's."""
    result = FetchResult()
    try:
        source = repo.remote(name)
        progress.phase("look")
        source.look(is_whole=False, progress=progress)
        _fetch(repo, source, found, parts, jobs or source.remote.jobs, result, progress)
    except DvliteError as exc:
        if may_raise:
            raise
        result.failures.append(Failure("", exc))
    return result


@dataclass(slots=True)
class _Fetching:
    """A fetch from one remote under way. `roots`: what is wanted, by path; `left`: contents that lack, not asked for yet."""

    repo: Repo
    source: RemoteStore
    jobs: int
    result: FetchResult
    progress: Progress
    roots: dict[str, list[Entry]] = field(default_factory=dict)
    left: dict[Oid, int] = field(default_factory=dict)
    failed: dict[Oid, DvliteError] = field(default_factory=dict)


def _fetch(
    repo: Repo,
    source: RemoteStore,
    found: dict[str, Pointer],
    parts: Parts,
    jobs: int,
    result: FetchResult,
    progress: Progress,
) -> None:
    result.remote = source.remote.name
    fetching = _Fetching(repo, source, jobs, result, progress)
    for path, part in parts.items():
        try:
            read = tree_reader(repo, lambda: source)
            fetching.roots[path] = _roots(path, found[path].entry, part, read, result.failures)
        except (CorruptError, FormatError, MissingError) as exc:
            result.failures.append(Failure(path, exc))
    entries = [(path, entry) for path, its in fetching.roots.items() for entry in its]
    files = sum(entry.files for _, entry in entries)
    if is_much := files > transfer.AT_ONCE:  # how much of it lacks is not known before the last is walked
        progress.phase("fetch", files=files, size=sum(entry.size for _, entry in entries))
    for path in fetching.roots:
        _want(fetching, path, is_much=is_much)
    if not is_much:
        progress.phase("fetch", files=len(fetching.left), size=sum(fetching.left.values()))
    _copy(fetching, fetching.left)
    wanted_by = transfer.who_wants(entries, repo.store, fetching.failed)
    for oid, error in fetching.failed.items():
        if isinstance(error, MissingError):
            result.missing[str(oid)] = wanted_by.get(oid, "")
        else:
            result.failures.append(Failure(wanted_by.get(oid, ""), error))
    if result.missing and not source.has_marker and not source.was_emptied:
        result.no_remote_at = source.bucket.url
    if result.missing and source.was_emptied:
        result.failures.append(Failure("", source.emptied()))
    result.failures = once_each(result.failures)


def _want(fetching: _Fetching, tracked: str, *, is_much: bool) -> None:
    """Get the trees of a path, and note the contents that it lacks; those are got when they have become many."""
    repo, source, result = fetching.repo, fetching.source, fetching.result
    graves = tombs.oids(repo.store.root) | source.purged()
    try:
        for reach in transfer.reaches(fetching.roots[tracked], repo.store, source, jobs=fetching.jobs):
            result.missing |= {str(oid): tracked for oid in reach.missing}
            lacking, here = reach.blobs, repo.store.find(reach.blobs)
            for oid in here:
                del lacking[oid]
            gone = graves & lacking.keys()
            for oid in gone:
                del lacking[oid]
            result.purged |= {str(oid): tracked for oid in gone}
            if is_much and here:
                fetching.progress.advance(files=len(here), size=sum(here.values()))
            fetching.left.update(lacking)
            if len(fetching.left) >= transfer.AT_ONCE:
                later = source.better_later(fetching.left)
                kept = {oid: fetching.left.pop(oid) for oid in later} if len(later) <= transfer.WAITING else {}
                _copy(fetching, fetching.left)
                fetching.left = kept
    except (CorruptError, FormatError, MissingError) as exc:
        result.failures.append(Failure(tracked, exc))


def _copy(fetching: _Fetching, contents: dict[Oid, int]) -> None:
    report = transfer.copy(
        fetching.source, fetching.repo.store, contents, jobs=fetching.jobs, progress=fetching.progress
    )
    fetching.result.fetched += len(report.copied)
    fetching.result.size += report.size
    fetching.failed = {oid: why for oid, why in fetching.failed.items() if oid not in report.copied} | report.failed


def _is_here(repo: Repo, roots: list[Entry]) -> bool:
    try:
        return not any(
            reach.missing or transfer.lacking(reach.blobs, repo.store) for reach in transfer.reaches(roots, repo.store)
        )
    except (CorruptError, FormatError):
        return False


def refuse_unused(repo: Repo) -> None:
    """Raise where the default remote was never used from this clone: a hook contacts nothing that a repository brings along."""
    name = remotes.default_name(repo.config, repo.settings)
    if not name or not _is_used(repo, name):
        raise _unused()


def _is_used(repo: Repo, name: str) -> bool:
    return (repo.git.common / "dvlite" / "remotes" / name / "marker").exists()


def _unused() -> DvliteError:
    return DvliteError("no remote was used from this clone before", "Run 'dvlite pull'.")


def tree_reader(repo: Repo, source: Callable[[], RemoteStore]) -> Read:
    """Return a function that reads trees, getting those from the remote that aren't here."""
    opened = functools.cache(source)

    def read(oid: Oid) -> bytes:
        if not repo.store.find([oid]):
            report = transfer.copy(opened(), repo.store, {oid: 0}, jobs=1)
            for error in report.failed.values():
                raise error
        return repo.store.read(oid)

    return read


def _roots(tracked: str, root: Entry, part: Only, read: Read, failures: list[Failure]) -> list[Entry]:
    """Return the entries that a selection means, getting the trees on the way; paths that aren't there become failures."""
    if not part.paths:
        return [root]
    found = [(path, tree.find(root, path.split("/"), read)) for path in sorted(part.paths)]
    failures += [nowhere(tracked, path) for path, entry in found if entry is None]
    return [entry for _, entry in found if entry]


def pull(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    remote: str = "",
    is_forced: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> PullResult:
    """Fetch, then check out what is here; the rest is named. What turns out to be corrupt here is fetched again."""
    result = _pull(repo, paths, remote, is_forced, jobs, progress)
    if any(isinstance(one.error, CorruptError) for one in result.checkout.failures) and not result.fetch.failures:
        again = _pull(repo, paths, remote, is_forced, jobs, progress)  # the store gave up what was corrupt
        again.fetch.fetched += result.fetch.fetched
        again.fetch.size += result.fetch.size
        again.checkout.written += result.checkout.written
        again.checkout.size += result.checkout.size
        again.checkout.removed += result.checkout.removed
        return again
    return result


def _pull(
    repo: Repo, paths: Sequence[str], remote: str, is_forced: bool, jobs: int | None, progress: Progress
) -> PullResult:
    fetched = fetch(repo, paths, remote=remote, jobs=jobs, progress=progress)
    done = checkout(repo, paths, is_forced=is_forced, progress=progress)
    # What the paths mean is judged by the checkout: it knows the data here too.
    said = {(one.path, one.error.message) for one in done.failures}
    fetched.failures = [
        one
        for one in fetched.failures
        if not isinstance(one.error, UsageError) and (one.path, one.error.message) not in said
    ]
    return PullResult(fetched, done)
