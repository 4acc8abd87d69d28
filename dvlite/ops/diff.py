"""Say what differs between two versions of data: revs, Git's index, the worktree. Reads only trees that differ."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvlite import compare, files, refs, transfer, tree
from dvlite import oid as oids
from dvlite.compare import Count, Difference
from dvlite.errors import DvliteError, FormatError, MissingError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops.base import MAGIC, Failure, algorithm_of, enclosing, keep, look, reader
from dvlite.pointer import Pointer
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.tree import Entry, Read
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Kind

if TYPE_CHECKING:
    from dvlite.tables import TableDiff

INDEX = ":"  # Git's index, as in 'git show :FILE'
WORKTREE = ""


@dataclass(slots=True)
class FileDiff:
    """One file, or a whole folder, that differs. `kind`: added, removed, changed, renamed or mode; sizes in bytes.

    `table`: rows and columns of a table that changed, where that was asked for.
    """

    path: str
    kind: str
    old_path: str = ""
    old_size: int = 0
    new_size: int = 0
    files: int = 1
    is_folder: bool = False
    old_oid: str = ""
    new_oid: str = ""
    table: "TableDiff | None" = None


@dataclass(slots=True)
class PathDiff:
    """One tracked path. `has_meta`: what the user wrote in its pointer differs; `unknown`: why the rest can't be told."""

    path: str
    kind: str = "changed"
    old_path: str = ""
    old_size: int = 0
    new_size: int = 0
    old_files: int = 0
    new_files: int = 0
    count: Count = Count()
    has_meta: bool = False
    changes: list[FileDiff] = field(default_factory=list)
    unknown: str = ""


@dataclass(slots=True)
class DiffResult:
    """What differs, by tracked path, from `old` to `new` (revs; ':' is Git's index, empty the worktree)."""

    old: str
    new: str
    paths: list[PathDiff] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Side(NamedTuple):
    """One of the two: the tracked paths that are meant, what they hold, and how to read it."""

    roots: dict[str, Entry]
    pointers: dict[str, Pointer]
    failures: list[Failure]
    reads: list[Read]


def diff(
    repo: Repo,
    old: str,
    new: str,
    paths: Sequence[str] = (),
    *,
    remote: str | None = None,
    has_content: bool = False,
    progress: Progress = SILENT,
) -> DiffResult:
    """Compare two versions (revs, INDEX, WORKTREE) of in-repo paths (all without).

    `remote`: get listings that are missing here from there (empty: the default one). `has_content`: look into tables too.
    """
    result = DiffResult(old, new)
    sides = [_side(repo, version, paths, progress) for version in (old, new)]
    result.failures = [failure for side in sides for failure in side.failures]
    read = _reading(repo, [read for side in sides for read in side.reads], remote)
    _check(paths, sides, result)
    for side in sides:  # what can't be told of one side is told of neither
        for failure in result.failures:
            side.roots.pop(failure.path, None)
    found: list[Difference] = []
    unknown: dict[str, str] = {}
    for tracked in sorted({*sides[0].roots, *sides[1].roots}):
        roots = [side.roots.get(tracked) for side in sides]
        try:
            for inner in _inside(tracked, paths):
                parts = inner.split("/") if inner else []
                before, after = (tree.find(root, parts, read) if root else None for root in roots)
                found += compare.differences(f"{tracked}/{inner}" if inner else tracked, before, after, read)
        except (MissingError, FormatError) as exc:
            unknown[tracked] = f"{exc.message}; see 'dvlite diff --fetch'" if remote is None else exc.message
    try:
        found = compare.with_renames(found, read)
    except (MissingError, FormatError):  # a folder that one side alone has stays what it is
        pass
    _report(sides, found, unknown, result)
    if has_content:
        _look_into(repo, result)
    return result


# ---- the two sides --------------------------------------------------------------------------------------------------


def _side(repo: Repo, version: str, paths: Sequence[str], progress: Progress) -> Side:
    if version == INDEX:
        pointers = refs.in_index(repo.git)
    elif version == WORKTREE:
        pointers = refs.in_worktree(repo.git)
    else:
        pointers = refs.at(repo.git, version)
    wanted = {tracked: item for tracked, item in pointers.found.items() if not paths or list(_inside(tracked, paths))}
    side = Side({}, wanted, [], [])
    for tracked, error in pointers.broken.items():
        if not paths or list(_inside(tracked, paths)):
            side.failures.append(Failure(tracked, error))
    if version != WORKTREE:
        side.roots.update((tracked, item.entry) for tracked, item in wanted.items())
        return side
    progress.phase("diff", files=sum(item.files for item in wanted.values()))
    with repo.index.grouping():
        for tracked, item in wanted.items():
            try:
                if entry := _data(repo, tracked, item, side.reads, progress):
                    side.roots[tracked] = entry
            except DvliteError as exc:
                side.failures.append(Failure(tracked, exc))
    return side


def _data(repo: Repo, tracked: str, item: Pointer, reads: list[Read], progress: Progress) -> Entry | None:
    """Return what lies in the worktree; what was never put there counts as the pointer has it."""
    view = look(repo, tracked, algorithm=algorithm_of(repo, item), progress=progress)
    keep(repo, view, view.scan.rows)
    changes = plans.plan(view.base_entry, view.data, item.entry, view.read, is_base_known=view.base is not None)
    absent = {
        tuple(change.path.split("/")) if change.path else (): change.target
        for change in changes
        if change.kind is Kind.ABSENT
    }
    root, objects = tree.graft(view.data, absent, view.read) if absent else (view.data, [])
    made = dict(objects)
    reads.append(lambda oid: made.get(oid) or view.read(oid))
    return root


def _reading(repo: Repo, reads: list[Read], remote: str | None) -> Read:
    """Return how trees are read: what a scan made, what is here, and what a remote has, where that is allowed."""
    here = reader(repo)

    def read(oid: Oid) -> bytes:
        for one in (*reads, here):
            try:
                return one(oid)
            except MissingError:
                continue
        if remote is None:
            raise MissingError(f"the listing {oid.short} is not here", "Run the same with --fetch.")
        report = transfer.copy(repo.remote(remote), repo.store, {oid: 0}, jobs=1)
        for error in report.failed.values():
            raise error
        return repo.store.read(oid)

    return read


# ---- paths ----------------------------------------------------------------------------------------------------------


def _inside(tracked: str, paths: Sequence[str]) -> Iterable[str]:
    """Yield what of a tracked path is meant: all of it (empty), or paths inside; nothing where it isn't meant."""
    if not paths:
        return [""]
    plain = [path.removesuffix(".dvlite") for path in paths]
    if any(enclosing([path], tracked) or not path for path in plain) or any(_matches(path, tracked) for path in plain):
        return [""]
    inner = {path[len(tracked) + 1 :] for path in plain if enclosing([tracked], path)}
    return sorted(path for path in inner if not enclosing(inner - {path}, path))


def _matches(pattern: str, tracked: str) -> bool:
    return bool(MAGIC & set(pattern)) and fnmatch.fnmatchcase(tracked, pattern)


def _check(paths: Sequence[str], sides: Sequence[Side], result: DiffResult) -> None:
    """Name the paths that neither side has."""
    tracked = {one for side in sides for one in side.pointers} | {one.path for one in result.failures}
    for path in paths:
        if path and not any(list(_inside(one, [path])) for one in tracked):
            error = UsageError(
                f"'{path}' is neither a rev nor tracked in either version",
                f"See 'dvlite ls'; 'dvlite add {quote(path)}' tracks it.",
            )
            result.failures.append(Failure(path, error))


# ---- the report -----------------------------------------------------------------------------------------------------


def _report(sides: Sequence[Side], found: list[Difference], unknown: dict[str, str], result: DiffResult) -> None:
    before, after = sides
    tracked = {*before.roots, *after.roots}
    by_path: dict[str, list[Difference]] = {path: [] for path in unknown}
    for one in found:
        by_path.setdefault(enclosing(tracked, one.path), []).append(one)
    whole = {one.path: one for one in found if one.old_path in before.roots and one.path in after.roots}
    gone = {one.old_path for one in whole.values()}
    for path in sorted({*tracked, *by_path}):
        old, new = before.roots.get(path), after.roots.get(path)
        told = PathDiff(path, "changed" if old and new else "removed" if old else "added")
        if path in whole:
            told.kind, told.old_path, old = "renamed", whole[path].old_path, whole[path].old
        told.old_size, told.old_files = (old.size, old.files) if old else (0, 0)
        told.new_size, told.new_files = (new.size, new.files) if new else (0, 0)
        told.changes = [_file(each, path) for each in by_path.get(path, ())]
        told.count = compare.count(by_path.get(path, ()))
        was = before.pointers.get(told.old_path or path)
        told.has_meta = bool(was and path in after.pointers and was.rest != after.pointers[path].rest)
        told.unknown = unknown.get(path, "")
        if (told.changes or told.has_meta or told.unknown) and not (path in gone and not new):
            result.paths.append(told)


def _file(one: Difference, tracked: str) -> FileDiff:
    path = one.path[len(tracked) + 1 :]
    old_path = one.old_path[len(tracked) + 1 :] if one.old_path.startswith(f"{tracked}/") else one.old_path
    return FileDiff(
        path,
        one.kind,
        old_path,
        one.old.size if one.old else 0,
        one.new.size if one.new else 0,
        one.entry.files,
        one.entry.is_tree,
        str(one.old.oid) if one.old else "",
        str(one.new.oid) if one.new else "",
    )


# ---- inside of tables -----------------------------------------------------------------------------------------------


def _look_into(repo: Repo, result: DiffResult) -> None:
    """Compare the rows and columns of tables that changed."""
    from dvlite import tables  # it needs a library that few have

    stage = files.temporary(repo.tmp(repo.root))
    stage.mkdir(0o700)
    try:
        for tracked in result.paths:
            for one in tracked.changes:
                name = one.path or tracked.path
                if one.kind != "changed" or one.is_folder or not tables.is_table(name):
                    continue
                here = repo.root / tracked.path / one.path if one.path else repo.root / tracked.path
                try:
                    ends = _contents(repo, one, here if result.new == WORKTREE else None, stage)
                    one.table = tables.differ(*ends, name)
                except MissingError as exc:
                    one.table = tables.TableDiff(note=exc.message)
    finally:
        files.remove_folder(stage)


def _contents(repo: Repo, one: FileDiff, here: Path | None, stage: Path) -> tuple[Path, Path]:
    """Return files that hold what a path was and is; `here`: where it lies as it is."""
    found = []
    for position, text in enumerate((one.old_oid, one.new_oid)):
        if position and here:
            found.append(here)
            continue
        name = oids.parse(text)
        path = repo.store.path_of(name)
        if path is None:
            path = stage / f"{position}"
            path.write_bytes(repo.store.read(name))
        found.append(path)
    return found[0], found[1]
