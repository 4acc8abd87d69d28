"""Git's worktrees and the index of each: which files lie there, which are staged."""

import os
import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from dvlite.errors import DvliteError, UsageError
from dvlite.git.call import Git, begin, literal, pathspec, regular, run, split
from dvlite.git.commits import has_commits

_PATIENCE = 30  # tenths of a second
_ARGUMENTS = 300  # paths of one call: more are too long for a command line, and Git compares each with all that it has


def worktrees(git: Git) -> list[Git]:
    """Return all worktrees of a repository; UsageError for one that can't be reached."""
    found = [] if (main := _main_worktree(git)) is None else [main]
    for entry in sorted(git.common.glob("worktrees/*/gitdir")):  # what `git worktree list` goes by
        path = (entry.parent / entry.read_text().rstrip("\n")).parent
        if not path.exists():
            raise UsageError(
                f"the worktree '{path}' can't be reached",
                "Make it reachable, or forget it with 'git worktree prune' if it is gone for good.",
            )
        found.append(Git(path.resolve(), entry.parent, git.common))
    return found


def _main_worktree(git: Git) -> Git | None:
    """Return the worktree whose own folder is the shared one; None where there is none (a bare repository).

    Where it lies says core.worktree (submodules), else the folder's name; a folder elsewhere is known by the worktree alone.
    """
    own = Git(git.common, git.common, git.common)
    if (
        place := run(own, "config", "--get", "core.worktree", is_checked=False)
        .decode("utf-8", "surrogateescape")
        .rstrip("\n")
    ):
        return Git((git.common / place).resolve(), git.common, git.common)
    if run(own, "config", "--get", "core.bare", is_checked=False).strip() == b"true":
        return None
    if git.common.name == ".git":
        return Git(git.common.parent, git.common, git.common)
    if git.folder == git.common and git.root != git.common:  # opened by a worktree whose .git file leads here
        return git
    raise UsageError(
        f"where the worktree of '{git.common}' lies is written nowhere",
        "Write it down in that worktree: git config core.worktree FOLDER",
    )


def files_with_suffix(git: Git, suffix: str, *, has_ignored: bool = False) -> list[str]:
    """Return the files of the worktree that end so: those that Git tracks, and those that it doesn't ignore (or all)."""
    which = [] if has_ignored else ["--exclude-standard"]
    shape = ["-z", "--cached", "--others", *which, "--deduplicate"]
    return split(run(git, "ls-files", *shape, "--", pathspec(suffix)))


def not_ignored(git: Git, paths: Sequence[str]) -> list[str]:
    """Return those of some paths that Git doesn't ignore."""
    text = "\0".join(paths).encode("utf-8", "surrogateescape") + b"\0"
    ignored = set(split(run(git, "check-ignore", "--no-index", "-z", "--stdin", stdin=text, is_checked=False)))
    return [path for path in paths if path not in ignored]


def index_blobs(git: Git, suffix: str) -> dict[str, str]:
    """Return the regular files in Git's index that end so, each with its blob's id (of one side, in a merge)."""
    rows = split(run(git, "ls-files", "-z", "--stage", "--", pathspec(suffix)))
    return regular(rows, suffix, 1)


def staged_blobs(git: Git, suffix: str) -> list[tuple[str, str]]:
    """Return blob id and path of all files in Git's index that end so, of all sides in a merge."""
    rows = split(run(git, "ls-files", "-z", "--stage", "--", pathspec(suffix)))
    parts = [row.partition("\t") for row in rows]
    return [(head.split(" ")[1], path) for head, _, path in parts if head.startswith("100")]


def tracked_below(git: Git, paths: Iterable[str]) -> list[str]:
    """Return the files that Git tracks at or below some paths."""
    wanted = set(paths)
    if len(wanted) <= _ARGUMENTS:
        return split(run(git, "ls-files", "-z", "--", *literal(wanted))) if wanted else []
    return [name for name in split(run(git, "ls-files", "-z")) if _is_below(name, wanted)]


def _is_below(name: str, paths: Container[str]) -> bool:
    while name and name not in paths:
        name = name.rpartition("/")[0]
    return bool(name)


def changed_paths(git: Git) -> list[str]:
    """Return the files that differ from HEAD, are staged, or are in neither Git nor an ignore file."""
    rows = split(run(git, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames"))
    return [row[3:] for row in rows]


def files_at(git: Git, path: str) -> list[str]:
    """Return the files at and below a path that Git tracks, or would take."""
    return split(run(git, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *literal([path])))


def index_state(git: Git, suffix: str) -> bytes:
    """Return all that Git's index says of the files that end so; empty where the worktree has one of them otherwise."""
    differing = run(git, "diff-files", "--", pathspec(suffix))
    return b"" if differing else run(git, "ls-files", "-s", "-t", "--", pathspec(suffix))


def begin_changed(git: Git, suffix: str) -> Callable[[], dict[str, str]]:
    """Ask for the files that end so and differ from HEAD; return what waits for them: path to Git's two status letters."""
    arguments = ["--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=all", "--", pathspec(suffix)]
    asked = begin(git, *arguments)
    return lambda: _changed(split(asked()))


def _changed(parts: Sequence[str]) -> dict[str, str]:
    changed = {}
    position = 0
    while position < len(parts):
        letters, path = parts[position][:2], parts[position][3:]
        changed[path] = letters
        position += 2 if "R" in letters or "C" in letters else 1  # the old name follows
    return changed


class Staged(NamedTuple):
    """A file of Git's index that differs from a commit. `blob`: its id, of zeros where it is deleted or unmerged."""

    path: str
    state: str  # A, M, D, T or U
    mode: str
    blob: str


_STAGED = ("diff-index", "--cached", "--raw", "--no-renames", "--abbrev=64", "-z")


def staged(git: Git, commit: str = "") -> list[Staged]:
    """Return what Git's index has that a commit (HEAD without; nothing, before the first) doesn't have, or has otherwise."""
    return begin_staged(git, commit)()


def begin_staged(git: Git, commit: str = "") -> Callable[[], list[Staged]]:
    """Ask for the same; return what waits for it."""
    asked = begin(git, *_STAGED, commit or "HEAD")

    def wait() -> list[Staged]:
        try:
            output = asked()
        except DvliteError:
            if commit or has_commits(git):
                raise
            output = run(git, *_STAGED, _empty_tree(git))
        return _staged(split(output))

    return wait


def _staged(parts: Sequence[str]) -> list[Staged]:
    found = []
    for head, path in zip(parts[::2], parts[1::2], strict=True):
        _, mode, _, blob, state = head.split(" ")
        found.append(Staged(path, state, mode, blob))
    return found


def _empty_tree(git: Git) -> str:
    return run(git, "hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()


def blob_sizes(git: Git, blobs: Iterable[str]) -> dict[str, int]:
    """Return the sizes in bytes of Git blobs, of those that Git has."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return {}
    output = run(git, "cat-file", "--batch-check", stdin="\n".join(wanted).encode() + b"\n")
    rows = [line.split() for line in output.decode().split("\n") if line]
    return {row[0]: int(row[2]) for row in rows if len(row) == 3}


def unstaged(git: Git, paths: Iterable[str]) -> list[str]:
    """Return those files of the worktree that Git's index doesn't have as they are, in the order given."""
    names = list(dict.fromkeys(paths))
    if not names:
        return []
    some = literal(names) if len(names) <= _ARGUMENTS else []
    rows = split(run(git, "ls-files", "-z", "-t", "--cached", "--modified", "--", *some))
    kept = {row[2:] for row in rows if row[0] in "HS"} - {row[2:] for row in rows if row[0] not in "HS"}
    return [name for name in names if name not in kept and os.path.lexists(git.root / name)]


def stage(git: Git, paths: Iterable[str]) -> None:
    """Add files to Git's index as they are, also where an ignore rule would leave them out; those that are gone go."""
    names = list(dict.fromkeys(paths))
    if len(names) > _ARGUMENTS and not _is_sparse(git):
        there = [name for name in names if os.path.lexists(git.root / name)]
        _update(git, "--add", there)
        _update(git, "--remove", sorted(set(names).difference(there)))
        return
    wanted = literal(names)
    for at in range(0, len(wanted), _ARGUMENTS):
        _patiently(git, "add", "--force", "--", *wanted[at : at + _ARGUMENTS])


def _is_sparse(git: Git) -> bool:
    """Tell whether Git leaves out files of its index: `git add` refuses what would go there, and `update-index` doesn't."""
    return any(row.startswith("S ") for row in split(run(git, "ls-files", "-z", "-t")))


def _update(git: Git, option: str, names: Sequence[str]) -> None:
    """Do what `git add` does, with one look at the index for all."""
    if names:
        text = b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names)
        _patiently(git, "update-index", option, "--replace", "-z", "--stdin", stdin=text)


def _patiently(git: Git, *arguments: str, stdin: bytes | None = None) -> None:
    """Run a command that writes Git's index, which another one may hold locked for a moment."""
    for attempt in range(_PATIENCE + 1):
        try:
            run(git, *arguments, stdin=stdin)
            return
        except DvliteError as exc:
            if "index.lock" not in exc.message or attempt == _PATIENCE:
                raise
            time.sleep(0.1)
