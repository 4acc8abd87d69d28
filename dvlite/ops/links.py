"""How large files lie in the worktree: as copies, or as links into the store."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import refs, tree
from dvlite.ops.base import Failure, View, algorithm_of, look, select, stats_of
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.tree import BLOB_MODES, SYMLINK, Entry, Read
from dvlite.worktree import materialise
from dvlite.worktree.plan import Change, Kind, Only
from dvlite.worktree.settle import Place


@dataclass(slots=True)
class UnprotectResult:
    """Files that were links and are writable copies now."""

    files: int = 0
    size: int = 0
    kept: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def unprotect(repo: Repo, paths: Sequence[str], *, progress: Progress = SILENT) -> UnprotectResult:
    """Replace links into the store by writable copies, at or below in-repo paths."""
    pointers = refs.in_worktree(repo.git)
    selection = select(pointers, paths, repo.store.read)
    result = UnprotectResult(failures=selection.failures)
    with repo.writing("unprotect"), repo.changing_data("unprotect"):
        for tracked, part in selection.parts.items():
            view = look(repo, tracked, algorithm=algorithm_of(repo, pointers.found[tracked]))
            repo.index.save(view.scan.rows, view.scan.gone)
            changes = list(relinks(repo, view, "copy", part))
            place = Place(repo.root, tracked, repo.tmp(repo.root / tracked), "copy", stats_of(repo, tracked, view.scan))
            outcome = materialise.apply(place, changes, repo.store, view.read, progress)
            again = look(repo, tracked, algorithm=algorithm_of(repo, pointers.found[tracked]), made=outcome.made)
            repo.index.save(again.scan.rows, again.scan.gone)
            result.files += outcome.files
            result.size += outcome.size
            result.kept += [kept.change.path for kept in outcome.kept]
    return result


def relinks(repo: Repo, view: View, link: str, wanted: Only) -> Iterator[Change]:
    """Yield the changes that turn large files, whose content stays, into links of another kind (or into copies)."""
    if view.data is None:
        return
    for path, entry in _files(view.data, "", view.read):
        if entry.mode == SYMLINK or not wanted.has(path):
            continue
        source = repo.store.path_of(entry.oid)
        full = repo.root / view.tracked / path if path else repo.root / view.tracked
        if source and _kind(full, source) != ("copy" if link == "reflink" else link):
            yield Change(path, Kind.OUTDATED, entry, entry, entry)


def _files(entry: Entry, path: str, read: Read) -> Iterator[tuple[str, Entry]]:
    if entry.mode in BLOB_MODES:
        yield path, entry
        return
    tree.check_depth(path)
    for child in tree.entries(entry, read):
        yield from _files(child, f"{path}/{child.name}" if path else child.name, read)


def _kind(path: Path, source: Path) -> str:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "symlink" if path.readlink() == source else "a link to elsewhere"
    return "hardlink" if os.path.samestat(status, source.stat()) else "copy"
