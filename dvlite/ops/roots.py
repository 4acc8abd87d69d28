"""What must be kept, and why: all that any repository of the store names, in the order in which reasons are told."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import git, refs, transfer
from dvlite.errors import DvliteError, RemoteError, UsageError, quote
from dvlite.git import Git
from dvlite.index import Index
from dvlite.oid import Oid
from dvlite.ops import saved
from dvlite.ops.fetch import refuse_unused
from dvlite.pointer import Pointer
from dvlite.refs import Kept
from dvlite.repo import Repo
from dvlite.stores.base import Store
from dvlite.stores.local import users


@dataclass(slots=True)
class Keep:
    """All objects that something names, each with the number of its first reason; trees among them.

    `missing`: listings that are nowhere to be read, with a path that wants each: what they name is not known.
    """

    reasons: list[str] = field(default_factory=list)
    objects: dict[Oid, int] = field(default_factory=dict)
    trees: set[Oid] = field(default_factory=set)
    missing: dict[Oid, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(repo: Repo, grace_s: float) -> list[Kept]:
    """Return what all repositories name that use the store; UsageError where one can't be read."""
    found: list[Kept] = []
    own = repo.git.common
    listed = users.listed(repo.store.root)
    for common in dict.fromkeys([own, *listed]):
        try:
            one = list(_named_by(repo.git if common == own else git.of_folder(common), grace_s))
        except DvliteError as exc:
            hint = exc.hint
            if common != own and common in listed:
                hint = f"Make it readable. If it is gone for good: rm {quote(str(listed[common]))}"
            raise UsageError(f"'{common}', which uses this store, can't be read: {exc.message}", hint) from exc
        found += one if common == own else [kept.of_another(common.parent) for kept in one]
    return found


def _named_by(repository: Git, grace_s: float) -> Iterator[Kept]:
    yield from refs.kept(repository)
    for worktree in git.worktrees(repository):
        bases = Index(worktree.folder / "dvlite" / "index.db").bases()
        yield Kept("data in a worktree", [], {base.entry.oid for base in bases.values() if base and base.entry})
    yield Kept("saved/N", [(path, item) for path, item in _saved(repository.common, grace_s)], set())


def _saved(common: Path, grace_s: float) -> Iterator[tuple[str, Pointer]]:
    for number, (tracked, item) in saved.in_folder(common).items():
        if time.time() - saved.path_of(common, number).stat().st_mtime < grace_s:
            yield tracked, item


def keep(repo: Repo, found: Iterable[Kept], *stores: Store, may_ask_remote: bool = False) -> Keep:
    """Follow what is named to all objects that it may reach, by the trees in some stores (and on the default remote)."""
    result = Keep()
    sources = list(stores) or [repo.store]
    for kept in found:
        labels = {item.oid: path for path, item in kept.pointers}
        if kept.reason not in result.reasons:
            result.reasons.append(kept.reason)
        number = result.reasons.index(kept.reason)
        for oid in (item.oid for _, item in kept.pointers if not item.is_tree):
            result.objects.setdefault(oid, number)
        roots = [*(item.oid for _, item in kept.pointers if item.is_tree), *kept.named]
        reach = transfer.named(roots, *sources, known=result.objects)
        if reach.missing and may_ask_remote and len(sources) == 1:
            sources += _remote(repo, result)
            reach = transfer.named(roots, *sources, known=result.objects)
        for oid in (*reach.trees, *reach.blobs, *reach.missing):
            result.objects.setdefault(oid, number)
        result.trees |= reach.trees
        for oid in reach.missing - kept.named:
            result.missing.setdefault(oid, labels.get(oid) or kept.reason)
    return result


def _remote(repo: Repo, result: Keep) -> list[Store]:
    try:
        refuse_unused(repo)
        remote = repo.remote()
        remote.look()
        return [remote]
    except RemoteError as exc:
        result.notes.append(f"listings that are not here could not be looked up: {exc.message}")
    except DvliteError:
        pass
    return []
