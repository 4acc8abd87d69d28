"""Track data that comes from elsewhere: of another repository, or of a URL. The pointer records from where, and stays as it is.

`update` looks there again. What is imported is stored and pushed as all data is, so that it can be had when its source is gone.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvlite import config, files, hashing, pointer, refs, tree
from dvlite.errors import DvliteError, FormatError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops.base import Failure, select
from dvlite.ops.checkout import checkout
from dvlite.ops.source import Source, bring_all, bring_listings, is_local
from dvlite.ops.status import refuse_unsaved
from dvlite.ops.track import check_free, stage, write
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.base import Batch
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.base import Listed
from dvlite.tree import SYMLINK, Entry

TABLE = "import"
ALONE = {"stored": "no"}  # in the table: the data stays at its source
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
    is_recorded: bool = False,
    is_staged: bool = True,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> ImportResult:
    """Track a path of another repository as the in-repo path `target`. `rev`: what the user named, for `update`.

    `is_recorded`: bring listings alone; the data stays there until `update` brings it.
    """
    asked = {"rev": rev} if rev else {}
    told = {"repo": source.url, "path": path.strip("/").removesuffix(pointer.SUFFIX), **asked}
    _check_free(repo, target, told)
    tracked, entry = source.find(path)
    if entry.mode == SYMLINK:
        raise UsageError(f"'{path}' is a symbolic link", "Import the folder that it lies in, or what it leads to.")
    told |= {"commit": source.commit} | (ALONE if is_recorded else {})
    new = pointer.with_table(pointer.of(entry), TABLE, told)
    if entry == source.pointers.found[tracked].entry:
        meta = source.pointers.found[tracked].tables.get("meta")
        known = meta if isinstance(meta, dict) else {}  # a stranger's may be anything
        new = pointer.with_meta(new, {key: value for key, value in known.items() if isinstance(value, str)})
    result = ImportResult()
    _take(repo, source, tracked, entry, target, new, result, jobs, progress)
    _finish(repo, [target], result, is_staged=is_staged, progress=progress)
    return result


def _check_free(repo: Repo, target: str, told: dict[str, str]) -> None:
    """Refuse a target that is there, or can't be tracked; but not the same import, which was cut off."""
    pointers = refs.in_worktree(repo.git)
    if target in pointers.found:
        before = pointers.found[target].tables.get(TABLE, {})
        is_same = (
            isinstance(before, dict) and {**before, **told} == before and ("stored" in before) == ("stored" in told)
        )
        if is_same and not os.path.lexists(repo.root / target):
            return
    hint = f"Get a newer version with 'dvlite update {quote(target)}', or name another place with -o."
    check_free(repo, pointers, target, hint)


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
        bring = bring_listings if new.is_elsewhere else bring_all
        bring(source, tracked, entry, repo.store, jobs=jobs, progress=progress)
        _point(repo, target, new, result)


def _point(repo: Repo, target: str, new: Pointer, result: ImportResult) -> None:
    with repo.writing_pointers("import"):
        is_changed, to_stage = write(repo, target, new)
    result.to_stage += to_stage
    told = new.tables.get(TABLE, {})
    repo.index.set_note(f"import {target}", told.get("repo") or told.get("url", ""))
    result.imported.append(Imported(target, str(new.oid), new.size, new.files, told, is_changed))


def _finish(repo: Repo, targets: Sequence[str], result: ImportResult, *, is_staged: bool, progress: Progress) -> None:
    """Stage the pointers, and check data out: the same again finishes what was cut off."""
    if not targets:
        return
    with repo.writing_pointers("import"):
        result.staged, result.to_stage = stage(repo, targets, result.to_stage, is_staged=is_staged)
    pointers = refs.in_worktree(repo.git)
    stored = [target for target in targets if target not in pointers.found or not pointers.found[target].is_elsewhere]
    behind = [target for target in stored if _is_behind(repo, target, pointers.found.get(target))]
    if behind:
        result.failures += checkout(repo, behind, progress=progress).failures


def _is_behind(repo: Repo, target: str, item: Pointer | None) -> bool:
    """Tell whether data lies there in another version than the pointer's, or not at all."""
    base = repo.index.base(target)
    return item is None or base is None or base.entry is None or base.entry.oid != item.oid


# ---- of a URL -------------------------------------------------------------------------------------------------------


def import_url(
    repo: Repo,
    url: str,
    target: str,
    *,
    options: dict[str, Any] | None = None,
    is_recorded: bool = False,
    is_staged: bool = True,
    progress: Progress = SILENT,
) -> ImportResult:
    """Track a file, or all that lies below a folder, of any URL that a remote may have. `options` are its driver's.

    `is_recorded`: what is there is read once, for its checksums, and kept nowhere here until `update` brings it.
    """
    told = {"url": config.redact(url)} | (ALONE if is_recorded else {})
    _check_free(repo, target, told)
    result = ImportResult()
    _take_url(repo, url, target, None, options or {}, result, progress, is_recorded=is_recorded)
    _finish(repo, [target], result, is_staged=is_staged, progress=progress)
    return result


def _take_url(
    repo: Repo,
    url: str,
    target: str,
    item: Pointer | None,
    options: dict[str, Any],
    result: ImportResult,
    progress: Progress,
    *,
    is_recorded: bool,
) -> None:
    """Store what a URL names, then write the pointer: the worktree's data is the checkout's to change."""
    bucket, name = _bucket(repo, url, options)
    version, sizes = _version(bucket, name)
    progress.phase("fetch", files=len(sizes), size=sum(sizes.values()))
    algorithm = item.oid.algorithm if item else repo.config.hash
    aside = files.temporary(repo.tmp(repo.root))
    aside.mkdir(0o700)
    try:
        with repo.writing("import"):
            with repo.store.open_batch(is_synced=True) as batch:
                entries: dict[str, Entry] = {}

                def bring(path: str) -> None:
                    place = files.temporary(aside)
                    bucket.get_file(path, place, sizes[path], lambda size: progress.advance(size=size))
                    size = place.stat().st_size  # servers need not tell
                    oid = _oid_alone(place, algorithm) if is_recorded else _stored(repo, place, batch, algorithm)
                    entries[path] = Entry(tree.FILE, oid, size, 1, path.rpartition("/")[2])

                bucket.many(bring, sizes)
                entry = entries[name] if name in entries else _folder(entries, name, batch, algorithm)
            new = (item or pointer.of(entry)).pointing_to(entry)
            told = {"url": config.redact(url), "version": version} | (ALONE if is_recorded else {})
            _point(repo, target, pointer.with_table(new, TABLE, told), result)
    finally:
        files.remove_folder(aside)


def _oid_alone(place: Path, algorithm: str) -> Oid:
    """Return the oid of what was downloaded, and let go of it."""
    oid = hashing.oid_of_file(algorithm, place)
    place.unlink()
    return oid


def _stored(repo: Repo, place: Path, batch: Batch, algorithm: str) -> Oid:
    """Put a file that was downloaded into the store."""
    if place.stat().st_size >= repo.store.pack_below:
        return batch.put_file(place, algorithm, is_given=True).oid
    data = place.read_bytes()
    place.unlink()
    return batch.put(data, algorithm)


def _folder(entries: Mapping[str, Entry], path: str, batch: Batch, algorithm: str) -> Entry:
    """Put the listings of a folder into the store, from the entries of all files by path."""
    below = {name[len(path) + 1 :].partition("/")[0]: name for name in entries if name.startswith(f"{path}/")}
    rows = [
        entries[f"{path}/{name}"] if f"{path}/{name}" == one else _folder(entries, f"{path}/{name}", batch, algorithm)
        for name, one in below.items()
    ]
    folder = tree.build(algorithm, rows)
    for oid, data in folder.objects:
        batch.take(oid, data, is_tree=True)
    return Entry(tree.TREE, folder.oid, folder.size, folder.files, path.rpartition("/")[2])


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
    for path in listed:  # a server could say anything
        for part in path.split("/"):
            tree.check_name(part)
        if not path.startswith(f"{name}/"):
            raise FormatError(f"'{bucket.url}' lists '{tree.escape(path)}' below '{name}'", "Ask whose server it is.")
    text = "".join(f"{path} {one.size} {one.time_ns}\n" for path, one in sorted(listed.items()))
    return hashing.checksum(text.encode("utf-8", "surrogateescape")).hex(), {
        path: one.size for path, one in listed.items()
    }


def _below(bucket: Bucket, name: str) -> dict[str, Listed]:
    try:
        return bucket.list([f"{name}/"])
    except DvliteError:  # some say so of a file; what else is wrong is said again when it is asked for
        return {}


# ---- looking again --------------------------------------------------------------------------------------------------


def update(
    repo: Repo,
    paths: Sequence[str],
    open_source: Open,
    *,
    rev: str = "",
    options: dict[str, Any] | None = None,
    is_recorded: bool = False,
    is_staged: bool = True,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> ImportResult:
    """Bring imported in-repo paths (all without) to what their sources have now, or at another rev. No change, no new pointer.

    `is_recorded`: the data stays there, as with `import_data`; without, it comes here.
    """
    pointers = refs.in_worktree(repo.git)
    selection = select(pointers, paths, repo.store.read)
    result = ImportResult(failures=selection.failures)
    seen = []
    for tracked in sorted(selection.parts):
        item = pointers.found[tracked]
        try:
            told = _told(tracked, item)
            if told is None and paths:
                raise UsageError(f"'{tracked}' was not imported", "Only what 'dvlite import' brought can be updated.")
            if told is None:
                continue
            _refuse_unasked(repo, tracked, told, is_named=bool(paths))
            if "url" in told:
                _update_url(repo, tracked, item, told, options or {}, result, progress, is_recorded=is_recorded)
            else:
                _update(repo, tracked, item, told, open_source, rev, result, jobs, progress, is_recorded=is_recorded)
            seen.append(tracked)
        except DvliteError as exc:
            result.failures.append(Failure(tracked, exc))
    _finish(repo, seen, result, is_staged=is_staged, progress=progress)
    return result


def _told(tracked: str, item: Pointer) -> dict[str, str] | None:
    """Return what a pointer records of its source, which may be a stranger's; None where it records nothing."""
    found = item.tables.get(TABLE)
    if found is None:
        return None
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        has_all = {"repo", "path"} <= found.keys() or "url" in found
        if has_all and not any("\0" in value for value in found.values()):
            return found
    raise FormatError(
        f"'{tracked}{pointer.SUFFIX}': [import] must have 'repo' and 'path', or 'url', as text",
        f"Restore it with 'git checkout -- {quote(tracked + pointer.SUFFIX)}', or import it anew.",
    )


def _refuse_unasked(repo: Repo, tracked: str, told: dict[str, str], *, is_named: bool) -> None:
    """Refuse to read from this machine what a clone brought along and nobody named: it would be pushed with the next push."""
    place = told.get("url") or told["repo"]
    is_here = config.protocol_of(place) == "file" if "url" in told else is_local(place)
    if is_here and not is_named and repo.index.note(f"import {tracked}") != place:
        raise UsageError(
            f"'{tracked}' comes from '{place}' on this machine, and was not imported in this clone",
            f"If that is right: dvlite update {quote(tracked)}",
        )


def _update(
    repo: Repo,
    tracked: str,
    item: Pointer,
    told: dict[str, str],
    open_source: Open,
    rev: str,
    result: ImportResult,
    jobs: int,
    progress: Progress,
    *,
    is_recorded: bool,
) -> None:
    """Look again into the repository that a pointer records."""
    rev = rev or told.get("rev", "")
    source = open_source(told["repo"], rev)
    owner, entry = source.find(told["path"])
    if entry.oid == item.oid and rev == told.get("rev", "") and is_recorded == item.is_elsewhere:
        result.imported.append(Imported(tracked, str(item.oid), item.size, item.files, told, is_changed=False))
        return
    refuse_unsaved(repo, [tracked])
    asked = {"rev": rev} if rev else {}
    now = {"repo": told["repo"], "path": told["path"], **asked, "commit": source.commit} | (
        ALONE if is_recorded else {}
    )
    new = pointer.with_table(item.pointing_to(entry), TABLE, now)
    _take(repo, source, owner, entry, tracked, new, result, jobs, progress)


def _update_url(
    repo: Repo,
    tracked: str,
    item: Pointer,
    told: dict[str, str],
    options: dict[str, Any],
    result: ImportResult,
    progress: Progress,
    *,
    is_recorded: bool,
) -> None:
    """Look again at the URL that a pointer records."""
    bucket, name = _bucket(repo, told["url"], options)
    version, _ = _version(bucket, name)
    if version == told.get("version") and is_recorded == item.is_elsewhere:
        result.imported.append(Imported(tracked, str(item.oid), item.size, item.files, told, is_changed=False))
        return
    refuse_unsaved(repo, [tracked])
    _take_url(repo, told["url"], tracked, item, options, result, progress, is_recorded=is_recorded)
