"""Track data that comes from elsewhere: of another repository, or of a URL. The pointer records from where, and stays as it is.

`update` looks there again. What is imported is stored and pushed as all data is, so that it can be had when its source is gone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvlite import config, files, hashing, pointer, refs
from dvlite.errors import DvliteError, UnsavedError, UsageError, quote
from dvlite.ops.add import add
from dvlite.ops.base import Failure, enclosing, select
from dvlite.ops.checkout import checkout
from dvlite.ops.source import Source, bring_all
from dvlite.ops.status import status
from dvlite.ops.track import check_apart, check_trackable, stage, write
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.base import Listed
from dvlite.tree import Entry

TABLE = "import"
Open = Callable[[str, str], Source]  # a repository's url and a rev, opened


@dataclass(slots=True)
class Imported:
    """One tracked path that came from elsewhere. `source`: what its pointer records of that."""

    path: str
    oid: str
    size: int
    files: int
    source: dict[str, str]
    is_changed: bool = True


@dataclass(slots=True)
class ImportResult:
    """What was imported or updated, and what wasn't and why; `staged` or `to_stage` are the files for Git."""

    imported: list[Imported] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)


def import_data(
    repo: Repo,
    source: Source,
    path: str,
    target: str,
    *,
    rev: str = "",
    is_staged: bool = True,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> ImportResult:
    """Track a path of another repository as the in-repo path `target`. `rev`: what the user named, for `update`."""
    _check_free(repo, target)
    tracked, entry = source.find(path)
    asked = {"rev": rev} if rev else {}
    told = {"repo": source.url, "path": path.strip("/").removesuffix(pointer.SUFFIX), **asked, "commit": source.commit}
    new = pointer.with_table(pointer.of(entry), TABLE, told)
    if entry == source.pointers.found[tracked].entry:
        meta = source.pointers.found[tracked].tables.get("meta", {})
        new = pointer.with_meta(new, {key: value for key, value in meta.items() if isinstance(value, str)})
    result = ImportResult()
    _take(repo, source, tracked, entry, target, new, result, jobs, progress)
    _finish(repo, [target], result, is_staged=is_staged, progress=progress)
    return result


def _check_free(repo: Repo, target: str) -> None:
    """Refuse a target that is there, or can't be tracked."""
    check_trackable(repo, target)
    pointers = refs.in_worktree(repo.git)
    if owner := enclosing([*pointers.found, *pointers.broken], target):
        hint = f"Get a newer version with 'dvlite update {quote(owner)}', or name another place with -o."
        raise UsageError(f"'{target}' is tracked already" if owner == target else f"'{target}' lies in '{owner}'", hint)
    check_apart(pointers, target)
    if (repo.root / target).is_symlink() or (repo.root / target).exists():
        raise UsageError(f"'{target}' exists", "Name another place with -o, or move it away.")
    if not (repo.root / target).parent.is_dir():
        folder = quote(str(Path(target).parent))
        raise UsageError(f"'{Path(target).parent}' is not a folder", f"Make it: mkdir -p {folder}")


def _take(
    repo: Repo,
    source: Source,
    tracked: str,
    entry: Entry,
    target: str,
    new: Pointer,
    result: ImportResult,
    jobs: int,
    progress: Progress,
) -> None:
    """Bring objects here, then write the pointer."""
    with repo.writing("import"):
        bring_all(source, tracked, entry, repo.store, jobs=jobs, progress=progress)
        _point(repo, target, new, result)


def _point(repo: Repo, target: str, new: Pointer, result: ImportResult) -> None:
    with repo.writing_pointers("import"):
        is_changed, to_stage = write(repo, target, new)
    result.to_stage += to_stage
    told = new.tables.get(TABLE, {})
    result.imported.append(Imported(target, str(new.oid), new.size, new.files, told, is_changed))


def _finish(repo: Repo, targets: Sequence[str], result: ImportResult, *, is_staged: bool, progress: Progress) -> None:
    """Check data out, and stage the pointers."""
    if not targets:
        return
    done = checkout(repo, targets, progress=progress)
    result.failures += done.failures
    with repo.writing_pointers("import"):
        result.staged, result.to_stage = stage(repo, targets, result.to_stage, is_staged=is_staged)


# ---- of a URL -------------------------------------------------------------------------------------------------------


def import_url(
    repo: Repo,
    url: str,
    target: str,
    *,
    options: dict[str, Any] | None = None,
    is_staged: bool = True,
    progress: Progress = SILENT,
) -> ImportResult:
    """Track a file, or all that lies below a folder, of any URL that a remote may have. `options` are its driver's."""
    _check_free(repo, target)
    version = _download(repo, url, repo.root / target, options or {}, progress)
    told = {"url": config.redact(url), "version": version}
    result = ImportResult()
    done = add(repo, [target], is_staged=False, progress=progress)
    result.failures += done.failures
    if done.added:
        item = refs.in_worktree(repo.git).found[target]
        _point(repo, target, pointer.with_table(item, TABLE, told), result)
        result.to_stage += done.to_stage
        with repo.writing_pointers("import"):
            result.staged, result.to_stage = stage(repo, [target], result.to_stage, is_staged=is_staged)
    return result


def _bucket(repo: Repo, url: str, options: dict[str, Any]) -> tuple[Bucket, str]:
    """Open the folder that a URL's last part lies in."""
    parent, _, name = url.rstrip("/").rpartition("/")
    if config.check_url(url) == "file":
        parent = str((repo.root / Path(parent.removeprefix("file://") or "/").expanduser()).resolve())
    return Bucket(parent, options, folder=repo.git.common / "dvlite" / "partial"), name


def _version(bucket: Bucket, name: str) -> tuple[str, dict[str, int]]:
    """Return what is another when the source is, and the files there with their sizes; UsageError where there is nothing."""
    listed = {} if bucket.driver.is_flat else _below(bucket, name)
    if not listed:
        try:
            found, version = bucket.info(name)
            return version, {name: found.size}
        except DvliteError as exc:
            listed = _below(bucket, name) if bucket.driver.is_flat else {}
            if not listed:
                raise UsageError(f"'{bucket.url}/{name}' can't be had: {exc.message}", exc.hint) from exc
    text = "".join(f"{path} {one.size} {one.time_ns}\n" for path, one in sorted(listed.items()))
    return hashing.checksum(text.encode()).hex(), {path: one.size for path, one in listed.items()}


def _below(bucket: Bucket, name: str) -> dict[str, Listed]:
    try:
        return bucket.list([f"{name}/"])
    except DvliteError:  # some say so of a file; what else is wrong is said again when it is asked for
        return {}


def _download(repo: Repo, url: str, target: Path, options: dict[str, Any], progress: Progress) -> str:
    """Bring what a URL names to a place in the worktree, in one step; return its version."""
    bucket, name = _bucket(repo, url, options)
    version, sizes = _version(bucket, name)
    progress.phase("fetch", files=len(sizes), size=sum(sizes.values()))
    stage_ = files.temporary(repo.tmp(target))
    stage_.mkdir(0o700)
    try:
        for path in sizes:
            place = stage_ / path
            place.parent.mkdir(parents=True, exist_ok=True)
        bucket.many(
            lambda path: bucket.get_file(path, stage_ / path, sizes[path], lambda size: progress.advance(size=size)),
            sizes,
        )
        (stage_ / name).rename(target)
    finally:
        files.remove_folder(stage_)
    return version


# ---- looking again --------------------------------------------------------------------------------------------------


def update(
    repo: Repo,
    paths: Sequence[str],
    open_source: Open,
    *,
    rev: str = "",
    options: dict[str, Any] | None = None,
    is_staged: bool = True,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> ImportResult:
    """Bring imported in-repo paths (all without) to what their sources have now, or at another rev. No change, no new pointer."""
    pointers = refs.in_worktree(repo.git)
    selection = select(pointers, paths, repo.store.read)
    result = ImportResult(failures=selection.failures)
    moved = []
    for tracked in sorted(selection.parts):
        item = pointers.found[tracked]
        told = item.tables.get(TABLE, {})
        try:
            if not told:
                if paths:
                    raise UsageError(
                        f"'{tracked}' was not imported", "Only what 'dvlite import' brought can be updated."
                    )
                continue
            if _update(repo, tracked, item, told, open_source, rev, options or {}, result, jobs, progress):
                moved.append(tracked)
        except DvliteError as exc:
            result.failures.append(Failure(tracked, exc))
    _finish(repo, moved, result, is_staged=is_staged, progress=progress)
    return result


def _update(
    repo: Repo,
    tracked: str,
    item: Pointer,
    told: dict[str, str],
    open_source: Open,
    rev: str,
    options: dict[str, Any],
    result: ImportResult,
    jobs: int,
    progress: Progress,
) -> bool:
    """Look again at what one pointer records; tell whether it moved."""
    if "url" in told:
        return _update_url(repo, tracked, item, told, options, result, progress)
    rev = rev or told.get("rev", "")
    source = open_source(told["repo"], rev)
    owner, entry = source.find(told["path"])
    if entry.oid == item.oid and rev == told.get("rev", ""):
        result.imported.append(Imported(tracked, str(item.oid), item.size, item.files, told, is_changed=False))
        return False
    _refuse_unsaved(repo, tracked)
    asked = {"rev": rev} if rev else {}
    now = {"repo": told["repo"], "path": told["path"], **asked, "commit": source.commit}
    new = pointer.with_table(item.pointing_to(entry), TABLE, now)
    _take(repo, source, owner, entry, tracked, new, result, jobs, progress)
    return True


def _update_url(
    repo: Repo,
    tracked: str,
    item: Pointer,
    told: dict[str, str],
    options: dict[str, Any],
    result: ImportResult,
    progress: Progress,
) -> bool:
    bucket, name = _bucket(repo, told["url"], options)
    version, _ = _version(bucket, name)
    if version == told.get("version"):
        result.imported.append(Imported(tracked, str(item.oid), item.size, item.files, told, is_changed=False))
        return False
    _refuse_unsaved(repo, tracked)
    aside = files.temporary(repo.tmp(repo.root / tracked))
    aside.mkdir(0o700)
    target = repo.root / tracked
    try:
        version = _download(repo, told["url"], aside / "new", options, progress)
        if target.exists() or target.is_symlink():
            target.rename(aside / "old")
        (aside / "new").rename(target)
    finally:
        if not target.exists() and (aside / "old").exists():
            (aside / "old").rename(target)
        files.remove_folder(aside)
    done = add(repo, [tracked], is_forced=True, is_staged=False, progress=progress)
    result.failures += done.failures
    new = refs.in_worktree(repo.git).found[tracked]
    _point(repo, tracked, pointer.with_table(new, TABLE, {"url": told["url"], "version": version}), result)
    return True


def _refuse_unsaved(repo: Repo, tracked: str) -> None:
    """Refuse to move a path whose data is not stored."""
    found = status(repo, [tracked])
    for failure in found.failures:
        raise failure.error
    kinds = {change.kind for one in found.paths for change in one.changes}
    if kinds & {"new", "modified", "deleted", "renamed", "conflict", "unknown"}:
        raise UnsavedError(
            f"'{tracked}' has changes that are not stored",
            f"Store them with 'dvlite add {quote(tracked)}', or drop them with 'dvlite checkout --force {quote(tracked)}'.",
        )
