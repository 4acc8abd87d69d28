"""A rev to the pointers that live there: worktree, Git's index, one commit, or all commits that some revs select."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite import config, files, git, pointer, tree
from dvlite.errors import FormatError, quote
from dvlite.git import Git, Touched
from dvlite.oid import Oid
from dvlite.pointer import SUFFIX, Pointer


class Pointers(NamedTuple):
    """The pointers of one place by tracked path; those that can't be read, with the reason."""

    found: dict[str, Pointer]
    broken: dict[str, FormatError]

    def take(self, name: str, data: bytes) -> None:
        """Read one pointer file. Its name says where data goes, and comes from strangers too."""
        try:
            check_path(name.removesuffix(SUFFIX))
            self.found[name.removesuffix(SUFFIX)] = pointer.decode(data, name)
        except FormatError as exc:
            self.broken[name.removesuffix(SUFFIX)] = exc


OWN = frozenset([config.FILE, ".gitignore", ".gitattributes", ".gitmodules", ".dvliteignore"])


def check_path(tracked: str) -> None:
    """Refuse a tracked path that would lie outside the worktree or in `.git`, on any file system, or is their own."""
    if tracked.rpartition("/")[2].casefold() in OWN:
        raise FormatError(
            f"'{tracked}{SUFFIX}' can't be a pointer: '{tracked}' is Git's or dvlite's own",
            f"Remove it: git rm -- {quote(tracked + SUFFIX)}",
        )
    for part in tracked.split("/"):
        try:
            tree.check_name(part)
        except FormatError as exc:
            raise FormatError(
                f"'{tracked}{SUFFIX}' can't be a pointer: {exc.message}",
                f"Remove it: git rm -- {quote(tracked + SUFFIX)}",
            ) from exc


def in_worktree(repository: Git) -> Pointers:
    """Return the pointers that lie in the worktree."""
    pointers = Pointers({}, {})
    for name in sorted(git.files_with_suffix(repository, SUFFIX)):
        path = f"{repository.root}/{name}"  # there may be many: no Path for each
        if name.rpartition("/")[2] != SUFFIX and files.is_regular(path):
            pointers.take(name, files.read_start(path, pointer.MAX_BYTES + 1))
    return pointers


def in_index(repository: Git) -> Pointers:
    """Return the pointers of Git's index."""
    return _read(repository, git.index_blobs(repository, SUFFIX))


def at(repository: Git, rev: str) -> Pointers:
    """Return the pointers of a commit."""
    return _read(repository, git.blobs_at(repository, git.resolve(repository, rev), SUFFIX))


def _read(repository: Git, blobs: dict[str, str]) -> Pointers:
    contents = dict(git.read_blobs(repository, blobs.values()))
    pointers = Pointers({}, {})
    for name, blob in blobs.items():
        pointers.take(name, contents[blob])
    return pointers


class Brought(NamedTuple):
    """What a commit did to one pointer; None where it has none, or one that can't be read."""

    touched: Touched
    old: Pointer | None
    new: Pointer | None


def brought(repository: Git, revs: str) -> list[Brought]:
    """Return what the commits of `revs` (`A..B`, or all that a rev reaches) did to pointers, newest first."""
    touched = list(git.touched_with_suffix(repository, revs, SUFFIX))
    blobs = {blob for one in touched for blob in (one.blob, one.old_blob) if blob.strip("0")}
    contents = dict(git.read_blobs(repository, sorted(blobs)))
    return [Brought(one, _readable(contents, one.old_blob), _readable(contents, one.blob)) for one in touched]


def _readable(contents: dict[str, bytes], blob: str) -> Pointer | None:
    try:
        return pointer.decode(contents[blob]) if blob in contents else None
    except FormatError:
        return None


class Kept(NamedTuple):
    """What one place keeps: pointers with their tracked paths, and what is named where a pointer can't be read."""

    reason: str
    pointers: list[tuple[str, Pointer]]
    named: set[Oid]
    is_foreign: bool = False  # another repository's

    def of_another(self, where: Path) -> "Kept":
        """Return the same as what another repository keeps."""
        return self._replace(reason=f"another repository ('{where}')", is_foreign=True)


def kept(repository: Git) -> Iterator[Kept]:
    """Yield all that a repository names: its refs, reflogs and stashes, and each worktree with all that is unfinished there.

    Whatever can't be read stops this: it is never an empty result.
    """
    worktrees = git.worktrees(repository)
    repository = repository.exact()
    yield _kept(repository, "a branch, tag or other ref", git.blobs_in(repository, ["--all"], SUFFIX).items())
    trees, blobs = git.tagged(repository, pointer.MAX_BYTES)
    yield _kept(repository, "a tag", [(blob, "") for blob in blobs])
    for tree_ in trees:
        yield _kept(
            repository, "a tag", [(blob, path) for path, blob in git.blobs_at(repository, tree_, SUFFIX).items()]
        )
    yield _kept(repository, "a reflog or stash", git.blobs_in(repository, ["--reflog", "--all"], SUFFIX).items())
    for worktree in worktrees:
        yield _kept(worktree, "Git's index", git.staged_blobs(worktree, SUFFIX))
        if commits := git.marks(worktree):
            yield _kept(worktree, "a merge or rebase", git.blobs_in(worktree, commits, SUFFIX).items())
        names = git.files_with_suffix(worktree, SUFFIX, has_ignored=True)
        paths = [(name, worktree.root / name) for name in names]
        texts = [
            (name, files.read_start(path, pointer.MAX_BYTES + 1))
            for name, path in paths
            if path.is_file() and not path.is_symlink()
        ]
        yield _judged("a pointer in a worktree", texts)


def _kept(repository: Git, reason: str, blobs: Iterable[tuple[str, str]]) -> Kept:
    listed = list(blobs)
    contents = dict(git.read_blobs(repository, (blob for blob, _ in listed)))
    return _judged(reason, [(path, contents[blob]) for blob, path in listed])


def _judged(reason: str, texts: Iterable[tuple[str, bytes]]) -> Kept:
    found = Kept(reason, [], set())
    for name, data in texts:
        try:
            found.pointers.append((name.removesuffix(SUFFIX), pointer.decode(data, name)))
        except FormatError as exc:
            if "newer dvlite" in exc.message:
                raise
            found.named.update(pointer.named(data))
    return found


def selected(
    repository: Git, revs: Iterable[str], *, has_index: bool = True, paths: Iterable[str] | None = None
) -> tuple[list[tuple[str, Pointer]], list[tuple[str, FormatError]]]:
    """Return every version of every pointer in the commits that `revs` select (in Git's words), in HEAD and Git's index.

    `paths`: only of these tracked paths. Those that can't be read come second, with the reason: not left out in silence.
    """
    names = None if paths is None else [f"{path}{SUFFIX}" for path in paths]
    blobs: set[tuple[str, str]] = set()
    if git.has_commits(repository):
        if names is None:
            blobs |= {(blob, name) for blob, name in git.blobs_in(repository, revs, SUFFIX).items()}
        for name in names or ():
            blobs |= {(blob, name) for blob in git.blobs_of(repository, revs, name)}
        if has_index:
            blobs |= {(blob, name) for name, blob in git.blobs_at(repository, "HEAD", SUFFIX).items()}
    if has_index:
        blobs |= {(blob, name) for name, blob in git.index_blobs(repository, SUFFIX).items()}
    wanted = sorted((name, blob) for blob, name in blobs if names is None or name in names)
    contents = dict(git.read_blobs(repository, (blob for _, blob in wanted)))
    found, broken = [], []
    for name, blob in wanted:
        tracked = name.removesuffix(SUFFIX)
        if b"\n" not in contents[blob]:  # a symbolic link of such a name, or an empty file
            continue
        try:
            check_path(tracked)
            found.append((tracked, pointer.decode(contents[blob], name)))
        except FormatError as exc:
            broken.append((tracked, exc))
    return found, broken
