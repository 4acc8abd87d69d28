"""Take a file or folder out of any repository at any rev, without cloning its data: tracked by dvlite, or by Git alone."""

import os
from dataclasses import dataclass
from pathlib import Path

from dvlite import files, git, refs, transfer, tree
from dvlite.errors import DvliteError, FormatError, UsageError, quote
from dvlite.ops.base import enclosing
from dvlite.ops.source import Source, bring_all
from dvlite.progress import SILENT, Progress
from dvlite.repo import open_repo
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry
from dvlite.worktree import materialise
from dvlite.worktree.plan import Change, Kind
from dvlite.worktree.settle import Place


@dataclass(slots=True)
class GetResult:
    """What was written, and where; `oid` is empty for what Git alone keeps."""

    path: str
    target: str
    commit: str
    oid: str = ""
    files: int = 0
    size: int = 0


def get(
    source: Source,
    path: str,
    target: Path,
    *,
    is_forced: bool = False,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> GetResult:
    """Write a path of a source to `target`, which must not exist unless `is_forced`. It appears in one step, verified.

    What is tracked, a repository, and the folder that the user is in are never replaced.
    """
    if not path.strip("/"):
        raise UsageError("no path is named", "Name a tracked path: see 'dvlite ls --repo'.")
    if os.path.lexists(target):
        if not is_forced:
            raise UsageError(f"'{target}' exists", "Name another place with -o, or replace it with --force.")
        _refuse_precious(target)
    if not target.parent.is_dir():
        raise UsageError(f"'{target.parent}' is not a folder", f"Make it: mkdir -p {quote(str(target.parent))}")
    try:
        tracked, entry = source.find(path)
    except UsageError:
        if kind := git.kind_at(source.repo.git, source.commit or "HEAD", path.strip("/")):
            return _plain(source, path.strip("/"), kind, target)
        raise
    stage = files.temporary(target.parent)
    stage.mkdir(0o700)
    try:
        store = _holding(source, tracked, entry, stage, jobs, progress)
        place = Place(stage, "new", stage / "tmp", "reflink", lambda _: None)
        place.tmp.mkdir()
        outcome = materialise.apply(place, [Change("", Kind.ABSENT, None, None, entry)], store, store.read, progress)
        for kept in outcome.kept:
            raise FormatError(f"'{path}' {kept.reason}")
        for error in outcome.failed.values():
            raise error
        _settle(stage / "new", target, stage / "old")
    finally:
        files.remove_folder(stage)
    return GetResult(path, str(target), source.commit, str(entry.oid), entry.files, entry.size)


def _refuse_precious(target: Path) -> None:
    """Refuse to replace what is more than a file or folder of the user's: he is in it, or a repository is, or it is tracked."""
    real, hint = target.resolve(), "Name another place with -o."
    if real == Path.cwd() or real in Path.cwd().parents:
        raise UsageError(f"'{target}' is the folder that you are in, or lies above it", hint)
    if ".git" in real.parts or any(".git" in (*names, *found) for _, names, found in os.walk(target)):
        raise UsageError(f"'{target}' is, or holds, a Git repository", hint)
    try:
        repo = open_repo(target.parent)
    except DvliteError:
        return
    pointers = refs.in_worktree(repo.git)
    inner = repo.in_repo(target, target.parent)
    known = [*pointers.found, *pointers.broken]
    if owner := enclosing(known, inner) or next((one for one in known if one.startswith(f"{inner}/")), ""):
        raise UsageError(
            f"'{target}' is, lies in, or holds what is tracked ('{owner}')", f"{hint} Or see 'dvlite import'."
        )


def _holding(source: Source, tracked: str, entry: Entry, stage: Path, jobs: int, progress: Progress) -> LocalStore:
    """Return a store that has all of an entry: the source's own where that does, else a passing one."""
    if not source.is_clone:
        reach = transfer.reach([entry], source.repo.store)
        if not reach.missing and not transfer.lacking(reach.blobs, source.repo.store):
            return source.repo.store
    store = LocalStore(stage / "store")
    store.root.mkdir()
    bring_all(source, tracked, entry, store, jobs=jobs, progress=progress)
    return store


def _settle(new: Path, target: Path, aside: Path) -> None:
    """Put what was made in place; what was there goes once the new is."""
    if os.path.lexists(target):
        target.rename(aside)
    try:
        new.rename(target)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(target):
            aside.rename(target)
        raise


def _plain(source: Source, path: str, kind: str, target: Path) -> GetResult:
    """Write what Git alone keeps."""
    stage = files.temporary(target.parent)
    stage.mkdir(0o700)
    result = GetResult(path, str(target), source.commit)
    links: list[tuple[Path, str]] = []
    try:
        new = stage / "new"
        if kind == "tree":
            new.mkdir()
        for name, sort, content in git.unpack(source.repo.git, source.commit or "HEAD", path):
            inner = name.removeprefix(path).lstrip("/")
            for part in inner.split("/") if inner else []:
                tree.check_name(part)
            place = new / inner if inner else new
            place.parent.mkdir(parents=True, exist_ok=True)
            if sort == "link":
                links.append((place, os.fsdecode(content)))
            else:
                place.write_bytes(content)
                if sort == "executable":
                    place.chmod(0o755)
                result.size += len(content)
            result.files += 1
        for place, link in links:
            place.symlink_to(link)
        _settle(new, target, stage / "old")
    finally:
        files.remove_folder(stage)
    return result
