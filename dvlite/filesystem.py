"""`dvlite://`: a read-only fsspec file system over any repository at any rev, without a checkout.

A path is `dvlite://[REV@]PATH`; the storage options `repo` (a folder, or a URL that Git takes; else the current folder) and `rev`
win. Without a rev it is the worktree's pointers, or HEAD where there is none. A literal `@` in a path is `%40`, a `%` is `%25`.
Files below a mebibyte, and whole reads, are verified; parts of larger ones are read as they are, unless `cache` is set: then a
file is brought here whole, verified, and read from there.
"""

import datetime
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from dvlite import files, hashing, tree
from dvlite.errors import CorruptError
from dvlite.oid import Oid
from dvlite.ops.base import enclosing
from dvlite.ops.read import content
from dvlite.ops.source import Source, Untracked, bring, bring_listings_below, open_source, time_of
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry

_SMALL = 1 << 20
_BLOCK = 1 << 22
_MENDS = "'dvlite fsck' there says what is touched; 'dvlite fsck --repair' heals it."
T = TypeVar("T")


def cache_folder() -> Path:
    """Return where clones of other repositories, their listings and cached files lie; it can be deleted without loss."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dvlite"


class DvliteFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Reads what a repository tracks. Safe to pickle (what it reads stays the same commit), and for threads and processes."""

    protocol = "dvlite"
    root_marker = ""
    cachable = False  # a branch moves, and so does the current folder

    def __init__(
        self,
        repo: str | os.PathLike[str] = "",
        rev: str | None = None,
        *,
        cache: bool = False,
        url_rev: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.repo = os.fspath(repo)
        self.rev = rev if rev is not None else url_rev
        self.is_cached = cache
        self._url_rev = url_rev
        self._trusted: set[Oid] = set()  # what of the repository's own store was verified here
        self._opened: Source | None = None
        self._process = os.getpid()
        self._lock, self._bringing = threading.Lock(), threading.Lock()
        # fsspec asks the instance: a path of another rev must not be read from this one.
        self._strip_protocol = self._checked  # type: ignore[method-assign]

    def _checked(self, path: Any) -> Any:
        """Return a path, or paths, without protocol and rev; ValueError for a rev that isn't read here."""
        if isinstance(path, list):
            return [self._checked(one) for one in path]
        rev = self._get_kwargs_from_urls(os.fspath(path)).get("url_rev")
        if rev and rev not in (self.rev, self._url_rev):
            raise ValueError(
                f"'{path}' names a rev, and this file system reads {self.rev or 'the worktree'}: open one for each"
            )
        return type(self)._strip_protocol(path).rpartition("@")[2].strip("/")

    @property
    def source(self) -> Source:
        """The repository, opened when it is first asked for; anew in a forked process, at the same commit."""
        if self._process != os.getpid():
            self._lock, self._bringing = threading.Lock(), threading.Lock()  # the parent's may be held for ever
            self._process = os.getpid()
            if found := self._opened:
                place = self.repo if found.is_clone else found.url
                self._opened = open_source(place, found.commit or None, cache_folder(), Path.cwd())
        with self._lock:
            if self._opened is None:
                base = Path.cwd()
                self._opened = open_source(self.repo or str(base), self.rev, cache_folder(), base)
            return self._opened

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the commit that is read here, so that every worker reads the same."""
        repo = self.repo if self.source.is_clone else self.source.url
        return _rebuilt, (type(self), repo, self.source.commit or None, self.is_cached, self._url_rev or self.rev)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        # The rev stays: of several URLs, fsspec asks the first one's file system for all.
        return os.fspath(path).removeprefix("dvlite://").removeprefix("dvlite:").strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        rev, separator, _ = path.removeprefix("dvlite://").rpartition("@")
        return {"url_rev": rev} if separator and rev else {}

    def unstrip_protocol(self, name: str) -> str:
        """Return a path's whole URL, with the rev that is read here."""
        rev = f"{self.rev}@" if self.rev else ""
        return f"dvlite://{rev}{self._strip_protocol(name)}"

    def _find(self, path: str) -> tuple[str, Entry]:
        """Return the tracked path that a path is or lies in, and its entry; FileNotFoundError where there is none."""
        plain, source = _unescape(self._strip_protocol(path)), self.source
        try:
            return source.find(plain)
        except Untracked as exc:
            raise FileNotFoundError(2, exc.message, path) from exc

    def _above(self, path: str) -> list[str]:
        """Return the tracked paths that lie below a folder which is none itself."""
        plain = _unescape(path)
        return [tracked for tracked in self.source.pointers.found if not plain or tracked.startswith(f"{plain}/")]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size in bytes, type and (of what is tracked) oid."""
        path = self._strip_protocol(path)
        plain = _unescape(path)
        if not plain or (not enclosing(self.source.pointers.found, plain) and self._above(path)):
            return {"name": path, "size": 0, "type": "directory"}
        return _info(path, self._find(path)[1])

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder; a file is listed as itself."""
        path = self._strip_protocol(path)
        plain = _unescape(path)
        found: dict[str, dict[str, Any]] = {}
        if enclosing(self.source.pointers.found, plain):
            tracked, entry = self._find(path)
            if entry.is_tree:
                for child in tree.entries(entry, self.source.reading(tracked)):
                    name = f"{path}/{escape(child.name)}"
                    found[name] = _info(name, child)
            else:
                found[path] = _info(path, entry)
        for tracked in self._above(path):
            inner = tracked[len(plain) + 1 :] if plain else tracked
            head, _separator, below = inner.partition("/")
            name = f"{path}/{escape(head)}" if path else escape(head)
            if below:
                found.setdefault(name, {"name": name, "size": 0, "type": "directory"})
            else:
                found[name] = _info(name, self.source.pointers.found[tracked].entry)
        if not found and plain and not enclosing(self.source.pointers.found, plain):
            raise FileNotFoundError(2, f"'{plain}' is not tracked in {self.source.where}", path)
        listed = [found[name] for name in sorted(found)]
        return listed if detail else [one["name"] for one in listed]

    def find(self, path: str, *arguments: Any, **options: Any) -> Any:
        """Return all files at and below a path; listings come a level at a time."""
        bring_listings_below(self.source, _unescape(self._strip_protocol(path)))
        return super().find(path, *arguments, **options)

    def exists(self, path: str, **_: Any) -> bool:
        """Tell whether there is such a path; what can't be told is an error, never a no."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return bytes of a file from `start` to before `end`."""
        tracked, entry = self._find(path)
        if entry.is_tree:
            raise IsADirectoryError(21, "is a folder", path)
        return self._read(tracked, entry, start, end)

    def _read(self, tracked: str, entry: Entry, start: int, end: int) -> bytes:
        if self.is_cached:
            return self._brought(tracked, entry).read_range(entry.oid, start, end)
        return self.source.read_range(tracked, entry, start, min(end, entry.size))

    def _brought(self, tracked: str, entry: Entry) -> LocalStore:
        """Return a store on this machine that has a file, whole and verified."""
        if entry.oid not in self._trusted and self.source.is_here(entry.oid):
            for _ in content(self.source.repo.store, entry.oid, tracked):  # raises where it is corrupt
                pass
            self._trusted.add(entry.oid)
        if entry.oid in self._trusted:
            return self.source.repo.store
        store = LocalStore(cache_folder() / "files")
        store.root.mkdir(parents=True, exist_ok=True)
        with self._bringing:
            if not store.find([entry.oid]):
                bring(self.source, tracked, {entry.oid: entry.size}, store)
        return store

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes, verified, or a part of them; negative positions count from its end."""
        tracked, entry = self._find(path)
        if entry.is_tree:
            raise IsADirectoryError(21, "is a folder", path)
        first, last, _step = slice(start, end).indices(entry.size)
        return self._read(tracked, entry, first, max(first, last))

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **options: Any
    ) -> list[Any]:
        """Return parts of files, many at once."""
        from concurrent.futures import ThreadPoolExecutor

        count = len(paths)
        starts = starts if isinstance(starts, list) else [starts] * count
        ends = ends if isinstance(ends, list) else [ends] * count

        def one(path: str, start: int, end: int) -> Any:
            try:
                return self.cat_file(path, start, end)
            except Exception as exc:
                if on_error != "return":
                    raise
                return exc

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, paths, starts, ends))

    def get_file(self, rpath: str, lpath: Any, callback: Any = None, outfile: Any = None, **options: Any) -> None:
        """Write a file here, once all of it is verified; a folder is made."""
        tracked, entry = self._find(rpath)
        if entry.is_tree:
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        if outfile is not None or hasattr(lpath, "write"):
            (outfile or lpath).write(self.cat_file(rpath))
            return
        target = Path(lpath)
        target.parent.mkdir(parents=True, exist_ok=True)
        work, unfinished = hashing.hasher(entry.oid.algorithm), files.temporary(target.parent)
        try:
            with unfinished.open("xb") as file:
                for at in range(0, entry.size, _BLOCK):
                    data = self._read(tracked, entry, at, min(at + _BLOCK, entry.size))
                    work.update(memoryview(data))
                    file.write(data)
            if work.digest() != entry.oid.digest:
                raise CorruptError(f"'{rpath}' is corrupt in {self.source.where}", _MENDS)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> "DvliteFile":
        if mode != "rb":
            raise PermissionError(1, "dvlite:// is read only", path)
        tracked, entry = self._find(path)
        if entry.is_tree:
            raise IsADirectoryError(21, "is a folder", path)
        options.pop("cache_options", None)
        options.pop("autocommit", None)
        return DvliteFile(self, path, mode, block_size or _BLOCK, size=entry.size, where=(tracked, entry), **options)

    def modified(self, path: str) -> datetime.datetime:
        """Return when the version that is read was committed (for the worktree's, when its pointer was written)."""
        tracked, _ = self._find(path)
        seconds = time_of(self.source, tracked)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

    created = modified

    def checksum(self, path: str) -> int:
        """Return a number that changes when the content does."""
        return int(self._find(path)[1].oid.digest[:8].hex(), 16)

    def ukey(self, path: str) -> str:
        """Return the oid."""
        return str(self._find(path)[1].oid)


class DvliteFile(AbstractBufferedFile):  # type: ignore[misc]
    """One open file; a small one is read once, whole."""

    def __init__(self, fs: DvliteFileSystem, *arguments: Any, where: tuple[str, Entry], **options: Any) -> None:
        self._where = where
        self._whole: bytes | None = None
        super().__init__(fs, *arguments, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        tracked, entry = self._where
        if entry.size > _SMALL:
            return self.fs._read(tracked, entry, start, end)  # type: ignore[no-any-return]
        if self._whole is None:
            self._whole = self.fs._read(tracked, entry, 0, entry.size)
        return self._whole[start:end]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a file that is opened anew."""
        return _reopened, (self.fs, self.path, self.blocksize, self.loc)


def _rebuilt(kind: Callable[..., T], repo: str, rev: str | None, is_cached: bool, named: str | None) -> T:
    return kind(repo=repo, rev=rev, cache=is_cached, url_rev=named)


def _reopened(fs: DvliteFileSystem, path: str, block_size: int, position: int) -> Any:
    file = fs.open(path, "rb", block_size=block_size)
    file.seek(position)
    return file


def _info(name: str, entry: Entry) -> dict[str, Any]:
    kind = "directory" if entry.is_tree else "link" if entry.mode == tree.SYMLINK else "file"
    return {
        "name": name,
        "size": entry.size,
        "type": "file" if kind == "link" else kind,
        "oid": str(entry.oid),
        "files": entry.files,
        "islink": kind == "link",
    }


def escape(name: str) -> str:
    """Return a name, or a path, as it is written in a URL."""
    return name.replace("%", "%25").replace("@", "%40")


def _unescape(path: str) -> str:
    return path.replace("%40", "@").replace("%25", "%")
