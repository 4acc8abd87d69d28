"""What the verbs share: which tracked paths a call is about, and a look at one of them (base, data, target)."""

import fnmatch
import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dvlite import refs, tree
from dvlite.errors import DvliteError, FormatError, MissingError, RemoteError, UsageError, quote
from dvlite.index import Base, Intent
from dvlite.oid import Oid
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.reach import walk
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.rows import Row, unpack
from dvlite.statkey import StatKey
from dvlite.stores.base import Batch
from dvlite.stores.local.batch import LocalBatch
from dvlite.stores.memory import Hashing
from dvlite.tree import Entry, Read
from dvlite.worktree import plan as plans
from dvlite.worktree.made import Made
from dvlite.worktree.plan import Only
from dvlite.worktree.scan import Memory, Scan, scan

MAGIC = frozenset("*?[")


class Failure(NamedTuple):
    """A path that could not be dealt with, and why; the others were."""

    path: str
    error: DvliteError


class Selection(NamedTuple):
    """The tracked paths that a call is about, each with the part of it that is meant."""

    parts: dict[str, Only]
    failures: list[Failure]

    def add(self, tracked: str, inner: str) -> None:
        """Widen the selection by a path inside a tracked path (empty: all of it)."""
        before = self.parts.get(tracked)
        if before is None:
            self.parts[tracked] = plans.only([inner])
        elif before.paths:
            self.parts[tracked] = plans.only([*before.paths, inner])


def select(pointers: Pointers, paths: Sequence[str], read: Read) -> Selection:
    """Find what in-repo paths mean: tracked paths, pointers, folders above or paths inside them, globs. None: everything.

    `read` reads the trees that a glob reaches into. As in Git, its `*` matches a slash too.
    """
    selection = Selection({}, [])
    for tracked, malformed in pointers.broken.items():
        if not paths or any(_is_at_or_below(tracked, _plain(path)) for path in paths):
            selection.failures.append(Failure(tracked, malformed))
    for path in paths or [""]:
        if not _select_one(pointers, _plain(path), selection, read):
            error = UsageError(
                f"'{path}' is not tracked by dvlite", f"Add it with 'dvlite add {quote(path)}', or see 'dvlite ls'."
            )
            selection.failures.append(Failure(path, error))
    return selection


def select_stored(pointers: Pointers, paths: Sequence[str], read: Read) -> Selection:
    """Select; of everything, leave out the data that stays at its source."""
    selection = select(pointers, paths, read)
    for tracked in list(selection.parts) if not paths else ():
        if pointers.found[tracked].is_elsewhere:
            del selection.parts[tracked]
    return selection


def _plain(path: str) -> str:
    return path.removesuffix(SUFFIX)


def _is_at_or_below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def _select_one(pointers: Pointers, path: str, selection: Selection, read: Read) -> bool:
    below = [tracked for tracked in pointers.found if _is_at_or_below(tracked, path)]
    if not below and MAGIC & set(path):
        below = [tracked for tracked in pointers.found if fnmatch.fnmatchcase(tracked, path)]
    for tracked in below:
        selection.add(tracked, "")
    if below or not path:
        return True
    hits = list(_matches(pointers, path, read)) if MAGIC & set(path) else []
    for tracked, inner in hits:
        selection.add(tracked, inner)
    if hits:
        return True
    if owner := enclosing(pointers.found, path):
        selection.add(owner, path[len(owner) + 1 :])
        return True
    return path in pointers.broken


def _matches(pointers: Pointers, pattern: str, read: Read) -> Iterator[tuple[str, str]]:
    """Yield the files inside tracked folders that a glob matches: tracked path, and path inside it."""
    parts = pattern.split("/")
    fixed = re.split(r"[*?[]", pattern)[0]
    matches = re.compile(fnmatch.translate(pattern)).match

    def walk(tracked: str, inner: str, folder: Entry) -> Iterator[tuple[str, str]]:
        for entry in tree.entries(folder, read):
            path = f"{inner}/{entry.name}" if inner else entry.name
            full = f"{tracked}/{path}"
            if entry.is_tree:
                if f"{full}/".startswith(fixed) or fixed.startswith(f"{full}/"):
                    yield from walk(tracked, path, entry)
            elif matches(full):
                yield tracked, path

    for tracked, item in pointers.found.items():
        heads = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if item.entry.is_tree and any(tracked == head or fnmatch.fnmatchcase(tracked, head) for head in heads):
            yield from walk(tracked, "", item.entry)


def enclosing(tracked: Iterable[str], path: str) -> str:
    """Return the innermost tracked path that `path` lies in, or is; empty where there is none."""
    known = tracked if isinstance(tracked, Container) else set(tracked)
    while path and path not in known:
        path = path.rpartition("/")[0]
    return path


def folders_of(pointers: Pointers) -> dict[str, str]:
    """Return all folders that tracked paths lie in, each with one of those."""
    found: dict[str, str] = {}
    for tracked in (*pointers.broken, *pointers.found):
        above = tracked.rpartition("/")[0]
        while above and above not in found:
            found[above] = tracked
            above = above.rpartition("/")[0]
    return found


# ---- a look at one tracked path -------------------------------------------------------------------------------------


class View(NamedTuple):
    """One tracked path as it is: what dvlite put there last, what is there, and how to read the trees of both."""

    tracked: str
    base: Base | None
    scan: Scan
    read: Read

    @property
    def base_entry(self) -> Entry | None:
        """The base's root."""
        return self.base.entry if self.base else None

    @property
    def data(self) -> Entry | None:
        """The data's root; None where there is nothing."""
        return self.scan.entry


def reader(repo: Repo, *sources: Callable[[Oid], bytes | None]) -> Read:
    """Return a function that reads trees: from the sources in hand, those kept with bases, those in the store."""

    @functools.lru_cache(maxsize=1024)
    def read(oid: Oid) -> bytes:
        for source in (*sources, repo.index.tree):
            data = source(oid)
            if data is not None:
                return data
        return repo.store.read(oid)

    return read


def look(
    repo: Repo,
    tracked: str,
    *,
    algorithm: str,
    batch: Batch | None = None,
    has: Callable[[Oid], bool] | None = None,
    made: Made | None = None,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> View:
    """Scan a tracked path, reading at most `limit` bytes.

    With a `batch` of the store (and its `has`) what isn't stored is; without, it is only hashed.
    """
    _refuse_links(repo, tracked)
    base = repo.index.base(tracked)
    if base and base.entry and base.entry.oid.algorithm != algorithm and batch is None and readable_base(repo, tracked):
        # Compare with the base in its own algorithm first; data that is neither as it was nor as it should be is unknown.
        before = _scan(repo, tracked, base.entry.oid.algorithm, None, has, made, limit, progress)
        if before.data and before.data.oid == base.entry.oid:
            return before
        return _scan(repo, tracked, algorithm, batch, has, made, limit, progress)._replace(base=None)
    return _scan(repo, tracked, algorithm, batch, has, made, limit, progress)


def _refuse_links(repo: Repo, tracked: str) -> None:
    """Refuse a tracked path below a symbolic link: it could lead anywhere."""
    above = repo.root
    for part in tracked.split("/")[:-1]:
        above = above / part
        if above.is_symlink():
            inner = above.relative_to(repo.root)
            raise UsageError(
                f"'{tracked}' lies below the symbolic link '{inner}'", "Data is never read or written through one."
            )


def _scan(
    repo: Repo,
    tracked: str,
    algorithm: str,
    batch: Batch | None,
    has: Callable[[Oid], bool] | None,
    made: Made | None,
    limit: int | None,
    progress: Progress,
) -> View:
    hashing = Hashing()
    memory = _memory(repo, has, made, limit, is_storing=batch is not None)
    found = _found(repo, tracked, algorithm, batch or hashing, memory, progress)
    base = readable_base(repo, tracked)
    read = reader(repo, hashing.trees.get, *([batch.tree] if isinstance(batch, LocalBatch) else []))
    if intent := repo.index.intent(tracked):
        base, read = _resumed(base, found, intent, read)
    return View(tracked, base, found, read)


def keep(repo: Repo, view: View, rows: Mapping[str, Row]) -> None:
    """Have the index keep rows of what was looked at, some time."""
    gone = view.scan.gone
    if rows or gone:
        repo.index.later(lambda: repo.index.save(rows, gone), sum(row.files for row in rows.values()))


def rescan(repo: Repo, tracked: str, *, algorithm: str, made: Made) -> Scan:
    """Scan a tracked path of which some was `made` a moment ago, for the rows alone."""
    return _found(repo, tracked, algorithm, Hashing(), _memory(repo, made=made), SILENT)


def _found(repo: Repo, tracked: str, algorithm: str, batch: Batch, memory: Memory, progress: Progress) -> Scan:
    below = repo.store.pack_below
    return scan(repo.root, tracked, batch, memory, algorithm=algorithm, pack_below=below, progress=progress)


def _memory(
    repo: Repo,
    has: Callable[[Oid], bool] | None = None,
    made: Made | None = None,
    limit: int | None = None,
    *,
    is_storing: bool = False,
) -> Memory:
    return Memory(
        repo.index,
        repo.store.state(),
        has or (lambda oid: bool(repo.store.find([oid]))),
        is_storing=is_storing,
        made=made or Made(),
        objects=repo.store.root / "objects",
        limit=limit,
    )


def _resumed(base: Base | None, found: Scan, intent: Intent, read: Read) -> tuple[Base | None, Read]:
    """Return the base after a checkout that was interrupted, and how to read its trees."""
    if base is None:
        return None, read
    data, target = found.entry, intent.target
    if data and any(one and one.oid.algorithm != data.oid.algorithm for one in (base.entry, target)):
        return None, read  # one tree can't name both
    try:
        entry, objects = plans.resumed(base.entry, data, target, read)
    except (MissingError, FormatError):
        return None, read
    made = dict(objects)
    return base._replace(entry=entry, rev=intent.rev or base.rev), lambda oid: made.get(oid) or read(oid)


def leave_nowhere(view: View, target: Entry | None, wanted: Only, failures: list[Failure]) -> Only | None:
    """Return what is wanted without the paths that neither the pointer, nor the data, nor what was put here has.

    Those become failures; None where nothing else was wanted.
    """
    roots = (target, view.data, view.base_entry)
    absent = {
        path for path in wanted.paths if not any(root and tree.find(root, path.split("/"), view.read) for root in roots)
    }
    failures += [nowhere(view.tracked, path) for path in sorted(absent)]
    return None if absent and absent == wanted.paths else Only(wanted.paths - absent)


def nowhere(tracked: str, path: str) -> Failure:
    """Return the failure for a path inside a tracked folder that isn't there."""
    error = UsageError(f"there is no '{tracked}/{path}'", f"See 'dvlite ls {quote(tracked)}'.")
    return Failure(f"{tracked}/{path}", error)


def readable_base(repo: Repo, tracked: str) -> Base | None:
    """Return a tracked path's base, if its root can still be read."""
    base = repo.index.base(tracked)
    if base and base.entry and base.entry.is_tree and not _is_seen(repo, tracked, base.entry.oid):
        try:
            tree.open_slot(tree.root_slot(base.entry), reader(repo)(base.entry.oid))
        except (MissingError, FormatError):
            return None
    return base


def _is_seen(repo: Repo, tracked: str, oid: Oid) -> bool:
    """Tell whether all of a root was seen in the store, which nothing has left since."""
    root = repo.index.root(tracked)
    return bool(root and root[0] == str(oid) and root[1] and root[1] == repo.store.state())


def stats_of(repo: Repo, tracked: str, found: Scan) -> Callable[[str], StatKey | None]:
    """Return a function from paths below a tracked path to the stats they had in a scan.

    What the index has of a folder counts only while it is what the scan saw: another process may look at it again meanwhile.
    """

    @functools.lru_cache(maxsize=64)
    def folder(path: str) -> dict[str, StatKey]:
        row = found.rows.get(path) or found.seen.get(path)
        known = (unpack(row) if row.stats else repo.index.entries(path, row)) if row else {}
        return {name: key for name, (key, _) in known.items()}

    def stat(path: str) -> StatKey | None:
        if not path:
            return folder(tracked).get("")
        parent, _, name = path.rpartition("/")
        return folder(f"{tracked}/{parent}" if parent else tracked).get(name)

    return stat


def trees_of(root: Entry | None, read: Read) -> dict[Oid, bytes]:
    """Return all tree objects of a root."""
    walked = walk([root], lambda oids: ((oid, read(oid)) for oid in oids)).trees if root and root.is_tree else ()
    return {oid: read(oid) for oid in walked}


def algorithm_of(repo: Repo, pointer: Pointer | None) -> str:
    """Return the algorithm for a tracked path: its pointer's, or the repository's for a new one."""
    return pointer.oid.algorithm if pointer else repo.config.hash


def pointers_at(repo: Repo, rev: str | None) -> Pointers:
    """Return the pointers of a rev, or of the worktree."""
    return refs.at(repo.git, rev) if rev else refs.in_worktree(repo.git)


def once_each(failures: list[Failure]) -> list[Failure]:
    """Keep one failure of a kind for each path: a remote that is down fails every object alike."""
    kept: dict[tuple[str, str], Failure] = {}
    for one in failures:
        message = type(one.error).__name__ if isinstance(one.error, RemoteError) else one.error.message
        kept.setdefault((one.path, message), one)
    return list(kept.values())
