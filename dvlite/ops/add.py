"""Store data and write its pointer: scan into a batch, publish, pointer, ignore line, Git's index, our index. In this order.

Three-way (docs/data.md): where Git moved the pointer meanwhile, or what was put here isn't known, nothing is guessed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dvlite import config, files, git, pointer, refs, tree
from dvlite.errors import DvliteError, UnsavedError, UsageError
from dvlite.index import Base
from dvlite.oid import Oid
from dvlite.ops.base import MAGIC, Failure, View, algorithm_of, enclosing, look, reader
from dvlite.ops.init import add_line
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path
from dvlite.stores.local.batch import LocalBatch
from dvlite.tree import Entry
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Change, Kind

_SYNCED_POINTERS = 64  # more at once are left to the file system: the data they name still lies in the worktree


@dataclass(frozen=True, slots=True)
class Added:
    """One tracked path: what its pointer says now, whether that is new, and how many files had to be read."""

    path: str
    oid: str
    size: int
    files: int
    is_changed: bool
    files_read: int = 0
    note: str = ""


@dataclass(slots=True)
class AddResult:
    """What was added, what wasn't and why; `staged` or `to_stage` are the files for Git."""

    added: list[Added] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Ready:
    """A tracked path whose data is in the batch, ready for its pointer."""

    tracked: str
    view: View
    old: Pointer | None
    new: Pointer
    base: Base
    base_trees: dict[Oid, bytes]
    note: str = ""


def add(
    repo: Repo,
    paths: Sequence[str],
    *,
    meta: dict[str, str] | None = None,
    is_forced: bool = False,
    is_rehashed: bool = False,
    is_staged: bool = True,
    progress: Progress = SILENT,
) -> AddResult:
    """Add in-repo paths; one that can't be is reported and doesn't stop the others.

    `is_forced`: what is in the worktree counts, whatever base and pointer say. `is_rehashed`: convert to the repository's hash.
    """
    result = AddResult()
    pointers = refs.in_worktree(repo.git)
    wanted = _targets(repo, pointers, paths, result)
    in_git = git.tracked_below(repo.git, [path for path, _ in wanted]) if wanted else []
    ready: list[_Ready] = []
    progress.phase("add")
    with repo.writing("add"):
        try:
            with repo.store.open_batch(is_synced=False) as batch:
                for path, tracked in wanted:
                    try:
                        _refuse_tracked_by_git(path, in_git)
                        old = None if is_rehashed and path == tracked else pointers.found.get(tracked)
                        ready.append(_prepare(repo, batch, path, tracked, old, is_forced=is_forced, progress=progress))
                        pointers.found[tracked] = ready[-1].new
                    except DvliteError as exc:
                        result.failures.append(Failure(path, exc))
        except OSError as exc:
            raise files.explain(exc, repo.store.root, "can't store in") from exc
        _write(repo, ready, meta or {}, result)
    _stage(repo, result, is_staged=is_staged)
    return result


def _targets(repo: Repo, pointers: Pointers, paths: Sequence[str], result: AddResult) -> list[tuple[str, str]]:
    """Return what to scan: each path with its tracked path (itself, or the folder that it lies in)."""
    found: dict[str, str] = {}
    for path in paths:
        for one in _expand(repo, path):
            try:
                found[one] = _target(repo, pointers, one)
            except DvliteError as exc:
                result.failures.append(Failure(one, exc))
    # A part of what is added as a whole needs no scan of its own.
    return [(path, tracked) for path, tracked in found.items() if path == tracked or tracked not in found]


def _expand(repo: Repo, path: str) -> list[str]:
    if MAGIC & set(path) and not (repo.root / path).exists():
        hits = sorted(one.relative_to(repo.root).as_posix() for one in repo.root.glob(path))
        plain = [one for one in hits if not one.endswith(SUFFIX) and one.partition("/")[0] != ".git"]
        return plain or [path]
    return [path]


def _target(repo: Repo, pointers: Pointers, path: str) -> str:
    if path.endswith(SUFFIX) and path.removesuffix(SUFFIX) in pointers.found:
        raise UsageError(f"'{path}' is a pointer", f"Add the data itself: 'dvlite add {path.removesuffix(SUFFIX)}'.")
    if (
        not path
        or path == config.FILE
        or path.partition("/")[0] == ".git"
        or path.endswith(("/.gitignore", ".dvliteignore"))
    ):
        raise UsageError(f"'{path or '.'}' can't be tracked", "Name a folder or file with data.")
    tree.check_name(path.rpartition("/")[2])
    full = repo.root / path
    if path in pointers.broken:
        raise pointers.broken[path]
    owner = enclosing(pointers.found, path)
    if not full.is_symlink() and not full.exists():
        raise UsageError(
            f"'{path}' does not exist",
            f"Its pointer stays as it is; 'dvlite checkout {path}' brings data back." if owner else "",
        )
    if owner:
        return owner
    below = [tracked for tracked in [*pointers.found, *pointers.broken] if tracked.startswith(f"{path}/")]
    if below:
        raise UsageError(
            f"'{path}' overlaps with '{below[0]}', which is tracked already",
            f"Add what lies beside it, or move '{below[0]}{SUFFIX}' away first.",
        )
    above = full.parent
    while above != repo.root:
        if above.is_symlink():
            raise UsageError(
                f"'{path}' lies below the symbolic link '{above.relative_to(repo.root)}'", "Add it by its real path."
            )
        above = above.parent
    return path


def _refuse_tracked_by_git(path: str, in_git: Iterable[str]) -> None:
    for name in in_git:
        if name == path or name.startswith(f"{path}/"):
            raise UsageError(
                f"'{path}' is tracked by Git" if name == path else f"'{name}' in it is tracked by Git",
                f"Let Git forget it (the file stays): git rm -r --cached -- '{path}'",
            )


def _prepare(
    repo: Repo,
    batch: LocalBatch,
    path: str,
    tracked: str,
    old: Pointer | None,
    *,
    is_forced: bool,
    progress: Progress,
) -> _Ready:
    """Scan a path into the batch and decide what its pointer says now."""
    algorithm = algorithm_of(repo, old)
    view = look(repo, path, algorithm=algorithm, batch=batch, has=batch.has, progress=progress)
    base = view.base if path == tracked else repo.index.base(tracked)
    trees: dict[Oid, bytes] = {}
    read = reader(repo, trees.get, batch.tree)
    parts = path[len(tracked) + 1 :].split("/") if path != tracked else []
    if not parts and (old is None or view.data == _nameless(old.entry)):
        root, new_base, note = view.data, view.data, ""
    else:
        at_base = _inner(base.entry if base else None, parts, read)
        at_target = _inner(old.entry if old else None, parts, read)
        data = view.data
        changes = list(plans.plan(at_base, data, at_target, read, is_base_known=base is not None))
        grafts, note = _grafts(path, changes, is_forced=is_forced)
        if not parts and len(grafts) == len(changes) and None not in grafts.values():
            root = data
        else:
            below = {(*parts, *key): entry for key, entry in grafts.items()}
            root, made = tree.graft(old.entry if old else None, below, read)
            _take(batch, trees, made)
        new_base = data if not parts else _part(base, parts, data, read, trees)
    if root is None:
        raise UsageError(f"'{path}' does not exist")
    new = old.pointing_to(root) if old else pointer.of(root)
    whole = _nameless(new_base) if new_base else None
    kept = {} if whole and whole.oid == root.oid else dict(_trees_of(whole, read))
    return _Ready(tracked, view, old, new, Base(whole), kept, note)


def _nameless(entry: Entry) -> Entry:
    return entry._replace(name="")


def _inner(root: Entry | None, parts: list[str], read: tree.Read) -> Entry | None:
    found = tree.find(root, parts, read) if root else None
    return _nameless(found) if found else None


def _take(batch: LocalBatch, trees: dict[Oid, bytes], made: Iterable[tuple[Oid, bytes]]) -> None:
    for oid, data in made:
        trees[oid] = data
        batch.take(oid, data, is_tree=True)


def _part(
    base: Base | None, parts: list[str], data: Entry | None, read: tree.Read, trees: dict[Oid, bytes]
) -> Entry | None:
    """Return the base with one path in it set to what is there now."""
    root, made = tree.graft(base.entry if base else None, {tuple(parts): data}, read)
    trees.update(made)
    return root


def _trees_of(root: Entry | None, read: tree.Read) -> Iterable[tuple[Oid, bytes]]:
    if root and root.is_tree:
        for found in tree.walk([root], lambda oids: ((oid, read(oid)) for oid in oids)).trees:
            yield found, read(found)


def _grafts(path: str, changes: list[Change], *, is_forced: bool) -> tuple[dict[tuple[str, ...], Entry | None], str]:
    """Return what of the worktree goes into the pointer, by path, and a note on what doesn't; refuses to guess."""
    grafts: dict[tuple[str, ...], Entry | None] = {}
    unclear, moved = [], 0
    for change in changes:
        key = tuple(change.path.split("/")) if change.path else ()
        is_deletion = change.kind is Kind.DELETED and change.base == change.target
        if change.kind in (Kind.NEW, Kind.MODIFIED) or is_deletion or (is_forced and change.kind is not Kind.ABSENT):
            grafts[key] = change.data
        elif change.kind in (Kind.CONFLICT, Kind.UNKNOWN, Kind.DELETED):
            unclear.append(change)
        elif change.kind is not Kind.ABSENT:
            moved += 1
    if unclear:
        reason = (
            "dvlite doesn't know what it put here last"
            if unclear[0].kind is Kind.UNKNOWN
            else "the pointer moved meanwhile"
        )
        where = "/".join(one for one in (path, unclear[0].path) if one)
        raise UnsavedError(
            f"'{where}' differs from its pointer, and {reason} ({len(unclear)} such)",
            f"Take the data as it is: 'dvlite add --force {path}'. Or take the pointer's: 'dvlite checkout --force {path}'.",
        )
    note = (
        f"{moved} paths follow the pointer: run 'dvlite checkout {path}', or 'dvlite add --force {path}' to go back"
        if moved
        else ""
    )
    return grafts, note


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(repo: Repo, ready: list[_Ready], meta: dict[str, str], result: AddResult) -> None:
    is_synced = len(ready) <= _SYNCED_POINTERS
    last = {one.tracked: one for one in ready}
    for one in last.values():
        new = pointer.with_meta(one.new, meta)
        name = f"{one.tracked}{SUFFIX}"
        path = pointer_path(repo, one.tracked)
        data = pointer.encode(new)
        is_changed = not path.exists() or path.read_bytes() != data
        if is_changed:
            files.write_atomic(path, data, folder=repo.tmp(path.parent), is_synced=is_synced)
            result.to_stage.append(name)
        parent, _, last_name = one.tracked.rpartition("/")
        ignore = f"{parent}/.gitignore" if parent else ".gitignore"
        if add_line(repo.root / ignore, ignore_line(last_name)):
            result.to_stage.append(ignore)
        result.added.append(
            Added(one.tracked, str(new.oid), new.size, new.files, is_changed, one.view.scan.files_read, one.note)
        )
    for one in ready:
        repo.index.save(one.view.scan.rows, one.view.scan.gone)
        repo.index.set_base(one.tracked, one.base, one.base_trees)


def ignore_line(name: str) -> str:
    """Return the `.gitignore` line for one name in the same folder, with what Git would read as a pattern escaped."""
    plain = name.rstrip(" ")
    escaped = re.sub(r"([\\*?\[\]!#])", r"\\\1", plain) + "\\ " * (len(name) - len(plain))
    return "/" + escaped.replace("\n", "?")  # a line can't hold a newline; any one character matches it


def _stage(repo: Repo, result: AddResult, *, is_staged: bool) -> None:
    result.to_stage = list(dict.fromkeys(result.to_stage))
    if result.to_stage and is_staged and repo.setting("autostage", "true") != "false":
        git.stage(repo.git, result.to_stage)
        result.staged, result.to_stage = result.to_stage, []
