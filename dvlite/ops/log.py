"""The versions of a tracked path, or of what lies inside it: when, who, why, how large, what changed. Follows renames."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dvlite import compare, git, pointer, refs, tree
from dvlite.compare import Count
from dvlite.errors import FormatError, MissingError, UsageError
from dvlite.git import Touched
from dvlite.ops.base import enclosing, reader
from dvlite.pointer import SUFFIX, Pointer
from dvlite.repo import Repo
from dvlite.tree import Entry, Read


@dataclass(slots=True)
class Version:
    """One version. `path`: as it was called; `count`: against the version before, None where that isn't here.

    `kind`: added, changed, renamed, removed, metadata, or unknown (its pointer can't be read, or its listing isn't here).
    """

    commit: str
    date: str
    author: str
    message: str
    path: str
    kind: str = "changed"
    oid: str = ""
    size: int = 0
    files: int = 0
    count: Count | None = None
    tags: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(slots=True)
class LogResult:
    """All versions of an in-repo path that a rev reaches."""

    path: str
    versions: list[Version] = field(default_factory=list)


class _State:
    """What one commit made of the path: the pointer, and what lies at the path inside it."""

    def __init__(self, touched: Touched, item: Pointer | None, inner: str, read: Read, broken: str) -> None:
        self.touched, self.item, self.inner, self.note = touched, item, inner, broken
        self.tracked = touched.path.removesuffix(SUFFIX)
        self.entry: Entry | None = None
        if item:
            try:
                self.entry = tree.find(item.entry, inner.split("/") if inner else [], read)
            except (MissingError, FormatError) as exc:
                self.note = exc.message

    @property
    def path(self) -> str:
        return f"{self.tracked}/{self.inner}" if self.inner else self.tracked


def log(repo: Repo, path: str, *, rev: str = "HEAD", limit: int = 0) -> LogResult:
    """Return the versions of an in-repo path in all commits that `rev` reaches, at most `limit` (0: all)."""
    path = path.removesuffix(SUFFIX)
    result = LogResult(path)
    named: dict[str, list[str]] = {}
    for name, commit in git.tags(repo.git).items():
        named.setdefault(commit, []).append(name)
    read = reader(repo)
    states = _states(repo, rev, path, read)
    new = next(states, None)
    if new is None:
        raise UsageError(f"'{path}' was never tracked by dvlite", "See 'dvlite ls' for what is.")
    while new:
        old = next(states, None)
        if version := _version(old, new, read):
            version.tags = sorted(named.get(version.commit, ()))
            result.versions.append(version)
            if len(result.versions) == limit:
                break
        new = old
    if not result.versions:
        raise UsageError(f"there never was a '{path}'", "See 'dvlite ls' for what is.")
    return result


def _states(repo: Repo, rev: str, path: str, read: Read) -> Iterator[_State]:
    """Yield what commits made of a path, newest first, under the names that it had."""
    tracked = _tracked(repo, rev, path)
    inner = path[len(tracked) + 1 :]
    while tracked:
        last = None
        found = list(git.touched(repo.git, rev, f"{tracked}{SUFFIX}"))
        contents = dict(git.read_blobs(repo.git, [one.blob for one in found if one.blob]))
        for one in found:
            item, broken = _decoded(contents.get(one.blob), one.path)
            state = _State(one, item, inner, read, broken)
            yield state
            inner = _before(state, contents, found, read)
            last = state
        tracked, rev = _renamed_from(repo, last, read)


def _decoded(data: bytes | None, name: str) -> tuple[Pointer | None, str]:
    if data is None:
        return None, ""
    try:
        return pointer.decode(data, name), ""
    except FormatError as exc:
        return None, exc.message


def _tracked(repo: Repo, rev: str, path: str) -> str:
    """Return the tracked path that a path is, or lies in, at a rev; else in any commit that it reaches."""
    if now := enclosing(refs.at(repo.git, rev).found, path):
        return now
    parts = path.split("/")
    heads = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((head for head in heads if next(git.touched(repo.git, rev, f"{head}{SUFFIX}"), None)), "")


def _before(state: _State, contents: dict[str, bytes], found: list[Touched], read: Read) -> str:
    """Return what a path inside a folder was called in the version before, where it came by a rename."""
    position = found.index(state.touched) + 1
    if not state.inner or not state.item or not state.entry or position == len(found):
        return state.inner
    old, _ = _decoded(contents.get(found[position].blob), "")
    if not old or not old.is_tree:
        return state.inner
    try:
        if tree.find(old.entry, state.inner.split("/"), read):
            return state.inner
        found_ = compare.with_renames(list(compare.differences("", old.entry, state.item.entry, read)), read)
    except (MissingError, FormatError):
        return state.inner
    for one in found_:
        if one.old_path and (one.path == state.inner or state.inner.startswith(f"{one.path}/")):
            return one.old_path + state.inner[len(one.path) :]
    return state.inner


def _renamed_from(repo: Repo, last: _State | None, read: Read) -> tuple[str, str]:
    """Return under which name, and before which commit, the same data was tracked; nothing where it was new."""
    if not last or not last.item or not last.touched.is_new:
        return "", ""
    commit = last.touched.commit.id
    old = git.came_from(repo.git, commit, last.touched.path, SUFFIX)
    before, _ = _decoded(git.file_at(repo.git, f"{commit}^", old) or None, old) if old else (None, "")
    if before and (before.oid == last.item.oid or _is_akin(before.entry, last.item.entry, read)):
        return old.removesuffix(SUFFIX), f"{commit}^"
    return "", ""


def _is_akin(old: Entry, new: Entry, read: Read) -> bool:
    """Tell whether two folders share most of their files."""
    if not old.is_tree or not new.is_tree:
        return False
    try:
        count = compare.count(compare.differences("", old, new, read))
    except (MissingError, FormatError):
        return False
    return 2 * (count.removed + count.changed) < old.files


def _version(old: _State | None, new: _State, read: Read) -> Version | None:
    """Return what became of the path from one commit to the next; None where nothing did."""
    commit = new.touched.commit
    version = Version(commit.id, commit.date, commit.author, commit.subject, new.path, note=new.note)
    if new.entry:
        version.oid, version.size, version.files = str(new.entry.oid), new.entry.size, new.entry.files
    if new.note or (old and old.note and not new.entry):
        version.kind = "unknown"
        return version
    before, after = old.entry if old else None, new.entry
    if before is None and after is None:
        return None
    if before is None or after is None:
        version.kind = "added" if after else "removed"
        if old and old.note:  # whatever it was before
            version.kind = "changed"
            return version
    elif (before.oid, before.mode) == (after.oid, after.mode):
        if old and old.path != new.path:
            version.kind = "renamed"
        elif not new.inner and old and old.item and new.item and old.item.rest != new.item.rest:
            version.kind = "metadata"
        else:
            return None
    try:
        version.count = compare.count(compare.with_renames(list(compare.differences("", before, after, read)), read))
    except (MissingError, FormatError):
        version.count = None
    return version
