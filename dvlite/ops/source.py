"""Another repository, or this one, at a rev: what it tracks, and where its objects can be had.

A repository on this machine is read where it is, and never written to; one behind a URL is cloned bare, without contents, into a
cache folder, which can be deleted without loss.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvlite import config, files, git, hashing, refs, remotes, transfer, tree
from dvlite.errors import CorruptError, DvliteError, MissingError, RemoteError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops.base import enclosing
from dvlite.ops.read import LsResult, chosen, content, listing
from dvlite.pointer import SUFFIX
from dvlite.progress import SILENT, Progress
from dvlite.reach import Reach
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry, Read

if TYPE_CHECKING:
    from dvlite.stores.base import Store


_MENDS = "'dvlite fsck' there says what is touched; 'dvlite fsck --repair' heals it."


def _is_true(data: bytes, oid: Oid) -> bool:
    return hashing.oid_of(oid.algorithm, data) == oid


class Untracked(UsageError):
    """A path that the source doesn't have."""


class Source:
    """A repository at a commit (empty: as its worktree has it). `url` is what it is called by from anywhere.

    Listings are kept in the cache folder.
    """

    def __init__(self, repo: Repo, url: str, commit: str, cache: Path, *, is_clone: bool) -> None:
        self.repo, self.url, self.commit = repo, url, commit
        self.is_clone = is_clone
        self.trees = LocalStore(cache / "listings")
        if is_clone:
            git.fetch_blobs(repo.git, commit, SUFFIX)
        self.pointers: Pointers = refs.at(repo.git, commit) if commit else refs.in_worktree(repo.git)
        self._remotes: dict[str, Store] = {}

    @property
    def where(self) -> str:
        """What it is called in errors."""
        return f"'{self.url}' at {self.commit[:10]}" if self.commit else f"'{self.url}'"

    def stores(self, tracked: str = "") -> Iterator["Store"]:
        """Yield where a tracked path's objects may be, nearest first; one that can't be opened raises when it is its turn."""
        if not self.is_clone:
            yield self.repo.store
        known = remotes.names(self.repo.config, self.repo.settings)
        for name in remotes.routes(self.repo.config, self.repo.settings).sources(tracked, known):
            yield self._remote(name)

    def _remote(self, name: str) -> "Store":
        if name not in self._remotes:
            endpoint = remotes.untrusted_endpoint(name, self.repo.config, self.repo.settings)
            if endpoint:
                raise RemoteError(
                    f"remote '{name}' of '{self.url}' wants to be reached at '{endpoint}'",
                    f"If your credentials may go there: git config --global --add dvlite.trust {quote(endpoint)}",
                )
            self._remotes[name] = self.repo.remote(name)
        return self._remotes[name]

    def reading(self, tracked: str) -> Read:
        """Return how trees of a tracked path are read."""

        def read(oid: Oid) -> bytes:
            return self._read(oid, tracked)

        return read

    def read_range(self, tracked: str, entry: Entry, start: int, end: int) -> bytes:
        """Return bytes of a file from wherever they are; all of it is verified, a part is not."""
        first: DvliteError | None = None
        failed: dict[Oid, DvliteError] = {}
        for store in _reachable(self, tracked, failed, [entry.oid]):
            try:
                data = store.read_range(entry.oid, start, end)
                if len(data) == end - start and (end - start < entry.size or _is_true(data, entry.oid)):
                    return data
                raise CorruptError(f"object {entry.oid.short} of '{tracked}' is corrupt in {store.name}", _MENDS)
            except (MissingError, CorruptError, RemoteError) as exc:
                first = exc if first is None or isinstance(first, MissingError) else first
        first = first if first and not isinstance(first, MissingError) else failed.get(entry.oid, first)
        raise first or MissingError(
            f"'{tracked}' has no remote to be read from", "Its owner adds one: 'dvlite remote add'."
        )

    def is_here(self, oid: Oid) -> bool:
        """Tell whether the source lies on this machine, and has an object in its own store."""
        return not self.is_clone and bool(self.repo.store.find([oid]))

    def _read(self, oid: Oid, tracked: str) -> bytes:
        if self.is_here(oid):
            return self.repo.store.read(oid)
        if not self.trees.find([oid]):
            self.trees.root.mkdir(parents=True, exist_ok=True)
            bring(self, tracked, {oid: 0}, self.trees)
        return self.trees.read(oid)

    def find(self, path: str) -> tuple[str, Entry]:
        """Return the tracked path that a path is or lies in, and its entry; UsageError where there is none."""
        path = path.strip("/").removesuffix(".dvlite")
        if path in self.pointers.broken:
            raise self.pointers.broken[path]
        tracked = enclosing(self.pointers.found, path)
        if not tracked:
            raise Untracked(f"'{path}' is not tracked in {self.where}", "See 'dvlite ls --repo'.")
        parts = path[len(tracked) + 1 :].split("/") if path != tracked else []
        entry = tree.find(self.pointers.found[tracked].entry, parts, self.reading(tracked))
        if entry is None:
            raise Untracked(f"there is no '{path}' in {self.where}", "See 'dvlite ls --repo'.")
        return tracked, entry


def is_local(url: str) -> bool:
    """Tell whether a repository's name is a place on this machine: `file://`, or a path (`host:path` is what ssh takes)."""
    return url.startswith("file://") or ("://" not in url and ":" not in url.partition("/")[0])


def open_source(url: str, rev: str | None, cache: Path, base: Path) -> Source:
    """Open a repository (a path, relative to `base`, or what Git takes as a URL) at a rev (empty: its HEAD).

    None is the pointers of a worktree as they lie there, where there is one.

    Raises UsageError for a path that is no repository, DvliteError with Git's words where it can't be cloned.
    """
    if not url or "\0" in url:
        raise UsageError("no repository is named", "Give a folder, or a URL that 'git clone' takes.")
    place = base / url.removeprefix("file://")
    if place.exists():
        if not place.is_dir():
            raise UsageError(f"'{url}' is a file", "Give a folder, or a URL that 'git clone' takes.")
        repository = git.discover(place.resolve(), may_be_bare=True)
        is_bare = repository.root == repository.folder
        if is_bare and any((one / ".git").exists() for one in repository.root.parents):
            raise UsageError(  # files of a clone could be its config, which can name commands
                f"'{url}' is a bare repository inside of another one", "Move it out, if it is yours."
            )
        if rev is None and repository.root != repository.folder:
            return Source(Repo(repository), str(repository.root), "", cache, is_clone=False)
        return _opened(repository, str(repository.root), rev or "", cache, is_clone=False)
    if is_local(url) and "://" not in url:
        raise UsageError(f"there is no repository '{url}'", "Give a folder, or a URL that 'git clone' takes.")
    folder = cache / "repositories" / hashing.digest("sha256", url.encode("utf-8", "surrogateescape")).hex()[:32]
    if not (folder / "HEAD").exists():
        files.remove_folder(folder)
        _clone(url, folder)
        return _opened(git.of_folder(folder), git.without_login(url), rev or "", cache, is_clone=True)
    repository = git.of_folder(folder)
    rev = rev or ""
    is_commit = len(rev) in (40, 64) and git.has_commit(repository, rev)
    if not is_commit:
        git.refresh(repository, url)
    return _opened(repository, git.without_login(url), rev, cache, is_clone=True)


def _clone(url: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = files.temporary(folder.parent)
    try:
        git.clone_bare(url, unfinished)
        with contextlib.suppress(OSError):  # another process may have been quicker
            unfinished.rename(folder)
    finally:
        if unfinished.exists():
            files.remove_folder(unfinished)


def _opened(repository: git.Git, url: str, rev: str, cache: Path, *, is_clone: bool) -> Source:
    commit = git.resolve(repository, rev or "HEAD")
    text = git.file_at(repository, "HEAD", config.FILE) or git.file_at(repository, commit, config.FILE)
    return Source(Repo(repository, text or None), url, commit, cache, is_clone=is_clone)


def bring(
    source: Source,
    tracked: str,
    wanted: Mapping[Oid, int],
    target: LocalStore,
    *,
    jobs: int = 8,
    progress: Progress = SILENT,
) -> None:
    """Copy objects of a tracked path from wherever the source has them; raises what the first place said that failed."""
    left = dict(wanted)
    failed: dict[Oid, DvliteError] = {}
    asked = []
    for store in _reachable(source, tracked, failed, left):
        asked.append(store.name)
        report = transfer.copy(store, target, left, jobs=jobs, progress=progress)
        left = {oid: size for oid, size in left.items() if oid not in report.copied}
        for oid, error in report.failed.items():
            if oid not in failed or isinstance(failed[oid], MissingError):
                failed[oid] = error
        if not left:
            return
    said = next((failed[oid] for oid in left if oid in failed), None)
    if said and not isinstance(said, MissingError):
        raise said
    what = f"{len(left)} object{'s' if len(left) > 1 else ''} of '{tracked}'"
    raise MissingError(
        f"{what} can't be had from '{source.url}' (asked: {', '.join(asked) or 'nothing, it has no remote'})",
        "See that its remote is there; what was never pushed its owner sends by 'dvlite push --branches'.",
    )


def _reachable(
    source: Source, tracked: str, failed: dict[Oid, DvliteError], wanted: Collection[Oid]
) -> Iterator["Store"]:
    stores = source.stores(tracked)
    while True:
        try:
            store = next(stores)
        except StopIteration:
            return
        except (RemoteError, UsageError) as exc:
            failed.update(dict.fromkeys(wanted, exc))
            return
        yield store


def bring_all(
    source: Source, tracked: str, root: Entry, target: LocalStore, *, jobs: int = 8, progress: Progress = SILENT
) -> None:
    """Copy all that an entry reaches, trees too, into a store."""
    blobs = transfer.lacking(bring_listings(source, tracked, root, target, progress=progress).blobs, target)
    progress.phase("fetch", files=len(blobs), size=sum(blobs.values()))
    if blobs:
        bring(source, tracked, blobs, target, jobs=jobs, progress=progress)


def bring_listings(
    source: Source, tracked: str, root: Entry, target: LocalStore, *, jobs: int = 8, progress: Progress = SILENT
) -> Reach:
    """Copy all trees that an entry reaches, a level at a time; return all that it reaches."""
    while (reach := transfer.reach([root], target)).missing:
        bring(source, tracked, dict.fromkeys(reach.missing, 0), target, jobs=jobs, progress=progress)
    return reach


def ls(source: Source, path: str = "", *, where: Sequence[str] = (), is_recursive: bool = False) -> LsResult:
    """List a path of a source, or all that is tracked there; `where` as in a repository's own."""
    path = path.strip("/").removesuffix(".dvlite")
    if is_recursive:
        bring_listings_below(source, path)
    return listing(chosen(source.pointers, where), path, source.reading(""), is_recursive=is_recursive)


def bring_listings_below(source: Source, path: str) -> None:
    """Have all listings at and below a path here, a level at a time."""
    for tracked, item in source.pointers.found.items():
        is_meant = not path or enclosing([path], tracked) or enclosing([tracked], path)
        if is_meant and item.is_tree and not source.is_here(item.oid):
            root = source.find(path)[1] if enclosing([tracked], path) else item.entry
            source.trees.root.mkdir(parents=True, exist_ok=True)
            bring_listings(source, tracked, root, source.trees)


def cat(source: Source, path: str) -> Iterator[bytes]:
    """Yield a file's content in blocks, all of it verified before the first is given out."""
    tracked, entry = source.find(path)
    if entry.is_tree:
        raise UsageError(f"'{path}' is a folder", "See 'dvlite ls --repo', or 'dvlite get'.")
    if source.is_here(entry.oid):
        yield from content(source.repo.store, entry.oid, path)
        return
    place = files.temporary(source.trees.root)
    place.mkdir(parents=True)
    try:
        store = LocalStore(place)
        bring(source, tracked, {entry.oid: entry.size}, store)
        yield from content(store, entry.oid, path)
    finally:
        files.remove_folder(place)


def time_of(source: Source, tracked: str) -> float:
    """Return when a source's commit was made, or a worktree's pointer written, in seconds since the epoch."""
    if source.commit:
        return git.time_of(source.repo.git, source.commit)
    return pointer_path(source.repo, tracked).stat().st_mtime
