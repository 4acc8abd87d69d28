"""Send objects to a remote: claim, list, contents, then trees. "Everything is there" is said only after a fresh listing."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dvlite import refs, transfer, tree
from dvlite.errors import MissingError, UsageError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, once_each, select
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.stores.remote import RemoteStore
from dvlite.tree import Entry, Reach


@dataclass(slots=True)
class PushResult:
    """What was sent: objects and bytes; `present` were there. `missing`: objects that are nowhere, and who wants them."""

    remote: str
    pointers: int = 0
    pushed: int = 0
    size: int = 0
    present: int = 0
    is_dry_run: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def push(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    remote: str = "",
    rev: str | None = None,
    scopes: Sequence[str] = (),
    is_dry_run: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> PushResult:
    """Push what the pointers name of all commits that no Git remote has yet, of HEAD and of Git's index.

    `rev`: the pointers of that commit alone; `scopes`: of all "branches", "tags", or "all" refs. In-repo paths narrow it.
    """
    roots = _roots(repo, _pointers(repo, rev, scopes), paths)
    target = repo.remote(remote)
    result = PushResult(target.remote.name, pointers=len(roots), is_dry_run=is_dry_run)
    if not roots:
        return result
    if not is_dry_run:
        target.refuse_read_only()
    with repo.writing("push"):
        repo.store.settle()
        progress.phase("look")
        if not is_dry_run:
            target.claim(repo.config.id, repo.clone_id, {entry.oid for entry in roots.values()})
        _push(repo, target, roots, jobs or target.remote.jobs, result, progress)
    return result


def _pointers(repo: Repo, rev: str | None, scopes: Sequence[str]) -> list[tuple[str, Pointer]]:
    if rev:
        found = refs.at(repo.git, rev)
        for error in found.broken.values():
            raise error
        return list(found.found.items())
    revs = [f"--{scope}" for scope in scopes] or ["HEAD", "--not", "--remotes"]
    return refs.selected(repo.git, revs, has_index=not scopes)


def _roots(repo: Repo, pointers: list[tuple[str, Pointer]], paths: Sequence[str]) -> dict[str, Entry]:
    """Return the distinct roots to push, by a label: the path, with the oid where a path has several."""
    roots: dict[str, Entry] = {}
    seen: set[Oid] = set()
    wanted = None
    if paths:
        selection = select(Pointers(dict(pointers)), paths)
        for failure in selection.failures:
            raise failure.error
        wanted = selection.parts
    for path, item in pointers:
        if item.oid in seen or (wanted is not None and path not in wanted):
            continue
        seen.add(item.oid)
        label = path if path not in roots else f"{path} ({item.oid.short})"
        roots[label] = item.entry
        if wanted is not None and (inner := wanted[path].paths):
            del roots[label]
            for one in inner:
                entry = tree.find(item.entry, one.split("/"), repo.store.read)
                if entry is None:
                    raise UsageError(f"there is no '{one}' in '{path}'", f"See 'dvlite ls {path}'.")
                roots[f"{path}/{one}"] = entry
    return roots


def _push(
    repo: Repo, target: RemoteStore, roots: dict[str, Entry], jobs: int, result: PushResult, progress: Progress
) -> None:
    reach = transfer.reach(roots.values(), repo.store, target, jobs=jobs)
    trees = dict.fromkeys(reach.trees.keys() - reach.missing, 0)
    absent = transfer.absent(trees | reach.blobs, target)
    result.present = len(trees) + len(reach.blobs) - len(absent)
    contents = {oid: size for oid, size in absent.items() if oid in reach.blobs}
    above = {oid: size for oid, size in absent.items() if oid not in reach.blobs}
    lost = {oid for oid in contents if not repo.store.find([oid])} | reach.missing
    if lost:
        result.missing = _who_wants(repo, roots, lost)
        contents = {oid: size for oid, size in contents.items() if oid not in lost}
    if result.is_dry_run:
        result.pushed, result.size = len(contents) + len(above), sum(contents.values())
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
        result.failures = once_each([Failure(names.get(str(oid), ""), error) for oid, error in failed.items()])


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


def missing_error(result: PushResult) -> MissingError:
    """Return the error that names what is neither here nor on the remote."""
    labels = sorted(set(result.missing.values()))
    return MissingError(
        f"{len(result.missing)} objects are neither here nor on remote '{result.remote}', wanted by: {', '.join(labels)}",
        "Run 'dvlite add' where the data still is, or 'dvlite fetch' from another remote.",
    )
