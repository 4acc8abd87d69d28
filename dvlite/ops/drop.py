"""Free local copies of what a remote has: of some paths, of all but the last versions, of what is old.

Unlike gc this takes what commits name, so each object is read on the remote and hashed; what isn't whole there needs force, and
goes to the trash. What another repository names that shares the store stays.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dvlite import git, pointer, refs, transfer, tree
from dvlite.errors import FormatError, MissingError, UnsavedError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops import roots
from dvlite.ops.base import select
from dvlite.ops.gc import GRACE_S
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.base import Report
from dvlite.stores.local import collect
from dvlite.stores.local.repack import drop as delete
from dvlite.stores.local.repack import rewrite
from dvlite.stores.memory import Hashing
from dvlite.stores.remote import RemoteStore, sweep


@dataclass(slots=True)
class DropResult:
    """Which versions are not here any more (path and short oid), how much that freed, and what only lies in the trash."""

    is_dry_run: bool = False
    remote: str = ""
    versions: list[str] = field(default_factory=list)
    objects: int = 0
    size: int = 0
    trashed: int = 0


def drop(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    rev: str = "",
    keep_last: int | None = None,
    older_s: float | None = None,
    remote: str = "",
    is_dry_run: bool = False,
    is_forced: bool = False,
    progress: Progress = SILENT,
) -> DropResult:
    """Free the local copies of versions: of in-repo paths (of `rev` alone, or a range), beyond the last N, older than an age.

    Paths and ages together mean versions that are both. Nothing is read on the remote in a dry run, nor where it is forced.
    """
    result = DropResult(is_dry_run)
    with repo.collecting("gc --drop"):
        repo.store.settle()
        chosen = _chosen(repo, paths, rev, keep_last, older_s)
        doomed = _doomed(repo, chosen)
        result.versions = sorted({f"{path} ({oid.short})" for path, oid in chosen if oid in doomed})
        if not doomed:
            return result
        target = repo.remote(remote)
        result.remote = target.remote.name
        unsafe = transfer.absent(doomed, target)
        if unsafe and not is_forced:
            raise UnsavedError(
                f"{len(unsafe)} of {len(doomed)} objects are not on remote '{target.remote.name}'",
                "Send them with 'dvlite push --all', or let them go to the trash with --force.",
            )
        if not is_dry_run and not is_forced:
            named = {oid for _, oid in chosen if oid in doomed}
            if named and not target.is_read_only:  # there is the last copy now, and perhaps only commits here name it
                sweep.claim(target, repo.config.id, repo.clone_id, named)
            _verify(doomed, target, progress)
        result.objects, result.size, result.trashed = len(doomed), sum(doomed.values()), len(unsafe)
        if not is_dry_run:
            _apply(repo, doomed, unsafe)
    return result


def _verify(doomed: Mapping[Oid, int], target: RemoteStore, progress: Progress) -> None:
    """Read on the remote what is to go here; UnsavedError where some of it isn't what its oid says."""
    report = Report()
    progress.phase("verify", files=len(doomed), size=sum(doomed.values()))
    target.send(doomed, Hashing(), report, progress)
    if bad := doomed.keys() - report.copied.keys():
        why = next((report.failed[oid].message for oid in sorted(bad) if oid in report.failed), "")
        raise UnsavedError(
            f"{len(bad)} of {len(doomed)} objects are not whole on remote '{target.remote.name}'{': ' if why else ''}{why}",
            f"Heal it with 'dvlite fsck --remote-name {quote(target.remote.name)} --repair'.",
        )


def _chosen(
    repo: Repo, paths: Sequence[str], rev: str, keep_last: int | None, older_s: float | None
) -> set[tuple[str, Oid]]:
    by_age = _by_age(repo, keep_last, older_s) if not paths or keep_last is not None or older_s is not None else None
    if not paths:
        return by_age or set()
    named = _of_paths(repo, paths, rev)
    return named if by_age is None else named & by_age


def _of_paths(repo: Repo, paths: Sequence[str], rev: str) -> set[tuple[str, Oid]]:
    """Return path and root of all versions of some paths, down to files inside a tracked folder."""
    if rev and ".." not in rev:
        items = list(refs.at(repo.git, rev).found.items())
    else:
        items, _ = refs.selected(repo.git, [rev] if rev else ["--all", "--reflog"], has_index=not rev)
        items += [] if rev else list(refs.in_worktree(repo.git).found.items())
    chosen: set[tuple[str, Oid]] = set()
    known = refs.Pointers(dict(items), {})
    selection = select(known, paths, repo.store.read)
    for failure in selection.failures:
        raise failure.error
    for path, item in items:
        part = selection.parts.get(path)
        for inner in (sorted(part.paths) or [""]) if part else ():
            with contextlib.suppress(MissingError):  # a version that was freed before, its listing with it
                entry = tree.find(item.entry, inner.split("/"), repo.store.read) if inner else item.entry
                if entry:
                    chosen.add((f"{path}/{inner}" if inner else path, entry.oid))
    return chosen


def _by_age(repo: Repo, keep_last: int | None, older_s: float | None) -> set[tuple[str, Oid]]:
    """Return path and root of the versions that come after the last N of their path, or are older; never what is current."""
    if keep_last is None and older_s is None:
        raise UsageError("nothing is chosen", "Name paths with --drop, or use --keep-last or --older-than.")
    history = git.history(repo.git, ["--all"], SUFFIX)
    contents = dict(git.read_blobs(repo.git, (blob for _, _, blob in history)))
    by_path: dict[str, dict[Oid, int]] = {}
    for when, name, blob in history:  # newest first
        try:
            item = pointer.decode(contents[blob], name)
        except FormatError:
            continue
        by_path.setdefault(name.removesuffix(SUFFIX), {}).setdefault(item.oid, when)
    current = {item.oid for item in _current(repo)}
    chosen = set()
    for path, versions in by_path.items():
        for position, (oid, when) in enumerate(versions.items()):
            is_late = keep_last is not None and position >= keep_last
            is_old = older_s is not None and time.time() - when > older_s
            if (is_late or is_old) and oid not in current:
                chosen.add((path, oid))
    return chosen


def _current(repo: Repo) -> list[Pointer]:
    found, _ = refs.selected(repo.git, ["HEAD", "--not", "HEAD"])
    return [*(item for _, item in found), *refs.in_worktree(repo.git).found.values()]


def _doomed(repo: Repo, chosen: set[tuple[str, Oid]]) -> dict[Oid, int]:
    """Return the objects that only chosen versions reach, and that are here."""
    names = {oid for _, oid in chosen}
    found = roots.gather(repo, GRACE_S)
    whole = names & {item.oid for kept in found for _, item in kept.pointers}
    others = [
        kept._replace(pointers=[one for one in kept.pointers if one[1].oid not in whole], named=kept.named - whole)
        for kept in found
        if kept.reason != "data in a worktree"
    ]
    keep = roots.keep(repo, others).objects if whole else {}
    foreign = [kept for kept in found if kept.is_foreign]
    keep_for_others = roots.keep(repo, foreign).objects if foreign else {}
    reach = transfer.named(whole, repo.store)
    below = transfer.named(names - whole, repo.store)  # parts of folders, whose own listings stay
    doomed = {oid for oid in (*reach.trees, *reach.blobs) if oid not in keep} | below.trees | below.blobs
    return repo.store.find(doomed - keep_for_others.keys())


def _apply(repo: Repo, doomed: dict[Oid, int], unsafe: dict[Oid, int]) -> None:
    wanted: dict[str, list[Oid] | None] = {}
    gone: list[str] = []
    trashed: list[str] = []
    for held in collect.held(repo.store):
        mine = held.objects.keys() & doomed.keys()
        if not mine:
            continue
        if left := [oid for oid in held.objects if oid not in mine]:
            wanted[held.name] = left
        (trashed if mine & unsafe.keys() else gone).append(held.name)
    repo.store.raise_generation()
    collect.take_out(repo.store, [name for name in trashed if name not in wanted])
    delete(repo.store, {name for name in gone if name not in wanted})
    if wanted:  # takes room before it gives some
        done = rewrite(repo.store, wanted, limit=repo.store.pack_size)
        repo.store.raise_generation()
        collect.take_out(repo.store, [name for name in trashed if name in done])
        delete(repo.store, {name for name in gone if name in done})
