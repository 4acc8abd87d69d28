"""Look at data without checking it out: list tracked paths and folders, print files, at any rev."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dvlite import git, hashing, transfer, tree
from dvlite.errors import MissingError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops.base import pointers_at, select
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.stores.local import LocalStore
from dvlite.tree import Entry, Read

_BLOCK = 1 << 20
_KINDS = {tree.FILE: "file", tree.EXECUTABLE: "executable", tree.SYMLINK: "link", tree.TREE: "folder"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing; `path` is in-repo."""

    path: str
    kind: str
    size: int
    files: int
    oid: str


@dataclass(slots=True)
class LsResult:
    """A listing, in path order."""

    entries: list[Listed] = field(default_factory=list)


def is_rev(repo: Repo, text: str) -> bool:
    """Tell whether Git knows a commit, branch or tag by this name."""
    return bool(text) and git.has_commit(repo.git, text)


def revs_of(repo: Repo, text: str) -> tuple[str, str] | None:
    """Return the two ends of a range, as `git diff` takes it: A..B; of A...B what both come from, and B; None for no range."""
    old, dots, new = text.partition("...") if "..." in text else text.partition("..")
    if not dots or not all(is_rev(repo, end or "HEAD") for end in (old, new)):
        return None
    old, new = old or "HEAD", new or "HEAD"
    return (git.merge_base(repo.git, old, new) if dots == "..." else old), new


def ls(
    repo: Repo,
    path: str = "",
    *,
    rev: str | None = None,
    where: Sequence[str] = (),
    is_recursive: bool = False,
    remote: str | None = None,
) -> LsResult:
    """List the tracked paths at or below an in-repo path; for a folder that is tracked, or lies inside one, its content.

    `where`: only of tracked paths whose `[meta]` meets these conditions (KEY=VALUE).
    `remote`: get listings that are missing here from there (empty: the default one), and nothing else.
    """
    pointers = chosen(pointers_at(repo, rev), where)
    if remote is not None:
        plain = path.removesuffix(".dvlite")
        roots = [
            item.entry
            for tracked, item in pointers.found.items()
            if not plain or f"{tracked}/".startswith(f"{plain}/") or f"{plain}/".startswith(f"{tracked}/")
        ]
        with repo.writing("ls"):
            transfer.reach(roots, repo.store, repo.remote(remote))
    return listing(pointers, path, repo.store.read, is_recursive=is_recursive)


def chosen(pointers: Pointers, where: Sequence[str]) -> Pointers:
    """Return the pointers whose `[meta]` meets some conditions."""
    if not where:
        return pointers
    from dvlite.ops.meta import is_where

    found = {tracked: item for tracked, item in pointers.found.items() if is_where(item, where)}
    return Pointers(found, pointers.broken)


def listing(pointers: Pointers, path: str, read: Read, *, is_recursive: bool = False) -> LsResult:
    """List as `ls` does, by pointers and a way to read trees."""
    selection = select(pointers, [path] if path else [], read)
    for failure in selection.failures:
        raise failure.error
    result = LsResult()
    for tracked in sorted(selection.parts):
        for inner in sorted(selection.parts[tracked].paths) or [""]:
            full = f"{tracked}/{inner}" if inner else tracked
            found = find(pointers, full, read)
            is_named = full == path.removesuffix(".dvlite") and found.is_tree
            if not is_named:
                result.entries.append(_listed(full, found))
            if found.is_tree and (is_named or is_recursive):
                result.entries += _below(full, found, read, is_recursive=is_recursive)
    return result


def _owner(pointers: Pointers, path: str) -> str:
    return next((one for one in pointers.found if path.startswith(f"{one}/")), "")


def _listed(path: str, entry: Entry) -> Listed:
    return Listed(path, _KINDS[entry.mode], entry.size, entry.files, str(entry.oid))


def _below(path: str, root: Entry, read: Read, *, is_recursive: bool) -> Iterator[Listed]:
    tree.check_depth(path)
    for child in tree.entries(root, read):
        inner = f"{path}/{child.name}"
        yield _listed(inner, child)
        if is_recursive and child.is_tree:
            yield from _below(inner, child, read, is_recursive=True)


def find(pointers: Pointers, path: str, read: Read) -> Entry:
    """Return the entry of a tracked path, or of one inside it; UsageError where there is none."""
    path = path.removesuffix(".dvlite")
    owner = path if path in pointers.found else _owner(pointers, path)
    if path in pointers.broken:
        raise pointers.broken[path]
    if not owner:
        raise UsageError(f"'{path}' is not tracked by dvlite", "See 'dvlite ls' for what is.")
    parts = path[len(owner) + 1 :].split("/") if path != owner else []
    found = tree.find(pointers.found[owner].entry, parts, read)
    if found is None:
        raise UsageError(f"there is no '{path}' in that version", f"See 'dvlite ls {quote(owner)}'.")
    return found


def cat(repo: Repo, path: str, *, rev: str | None = None) -> Iterator[bytes]:
    """Yield a file's content in blocks, all of it verified before the first is given out."""
    entry = find(pointers_at(repo, rev), path, repo.store.read)
    if entry.is_tree:
        raise UsageError(f"'{path}' is a folder", f"See 'dvlite ls {quote(path)}'.")
    yield from content(repo.store, entry.oid, path)


def content(store: LocalStore, oid: Oid, path: str) -> Iterator[bytes]:
    """Yield an object's bytes in blocks, all of them verified before the first is given out; `path` is for errors."""
    source = store.path_of(oid)
    if source is None:
        try:
            yield store.read(oid)
        except MissingError as exc:
            raise MissingError(f"'{path}': {exc.message}", f"Run 'dvlite fetch {quote(path)}'.") from exc
        return
    if hashing.oid_of_file(oid.algorithm, source) != oid:
        raise store.corrupt(oid, source)
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
