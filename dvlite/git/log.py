"""Git's history as people read it: which commits changed a file, who made them, when and why."""

from collections.abc import Iterator
from typing import NamedTuple

from dvlite.git.call import Git, literal, pathspec, run, split

_SHAPE = "--format=%x01%H%x02%aI%x02%an%x02%ae%x02%s"


class Commit(NamedTuple):
    """One commit; the date is the author's, as ISO 8601."""

    id: str
    date: str
    author: str
    email: str
    subject: str


class Touched(NamedTuple):
    """A file as a commit left it; `blob` is empty where it removed it, `is_new` where no parent had it.

    `old_blob`: as the first parent had it.
    """

    commit: Commit
    path: str
    blob: str
    is_new: bool
    old_blob: str = ""


def touched(git: Git, rev: str, path: str) -> Iterator[Touched]:
    """Yield how commits that a rev reaches changed one file, newest first; merges only where they made a version of their own."""
    return _touched(git, rev, *literal([path]))


def touched_with_suffix(git: Git, revs: str, suffix: str) -> Iterator[Touched]:
    """Yield the same of all files that end so, in the commits that `revs` selects (`A..B`, too)."""
    return _touched(git, revs, pathspec(suffix))


def _touched(git: Git, rev: str, pathspec: str) -> Iterator[Touched]:
    options = [
        "-c",
        "--raw",
        "-z",
        "--no-follow",
        "--no-show-signature",
        "--no-renames",
        "--abbrev=64",
        "--root",
        "--date-order",
    ]
    output = run(git, "log", _SHAPE, *options, "--end-of-options", rev, "--", pathspec)
    commit = None
    parts = iter(split(output))
    for part in parts:
        text = part.lstrip("\n")
        if text.startswith("\x01"):
            commit = Commit(*text[1:].split("\x02", 4))
        elif text.startswith(":") and commit:
            fields = text.lstrip(":").split(" ")
            sides = len(text) - len(text.lstrip(":"))
            blob, states = fields[2 * sides + 1], fields[-1]
            is_file, was_file = fields[sides].startswith("100"), fields[0].startswith("100")
            old = fields[sides + 1] if was_file else ""
            yield Touched(commit, next(parts), blob if is_file else "", set(states) == {"A"}, old)


def commit_days(git: Git, revs: str) -> list[tuple[str, str]]:
    """Return the commits that `revs` selects, newest first, each with its author's day."""
    output = run(
        git, "log", "--no-show-signature", "--date-order", "--format=%H %as", "--end-of-options", revs
    ).decode()
    return [(line[:-11], line[-10:]) for line in output.splitlines()]


def time_of(git: Git, commit: str) -> int:
    """Return when a commit was made, in seconds since the epoch."""
    return int(run(git, "show", "-s", "--no-show-signature", "--format=%ct", commit))


def came_from(git: Git, commit: str, path: str, suffix: str) -> str:
    """Return what a file was called before a commit, by Git's own judgement of likeness; empty where it was new."""
    rows = split(run(git, "diff-tree", "-r", "--raw", "-z", "-M", "--no-commit-id", commit, "--", pathspec(suffix)))
    parts = iter(rows)
    for row in parts:
        state = row.rpartition(" ")[2]
        if row.startswith(":") and state[:1] in "RC":
            old, new = next(parts), next(parts)
            if new == path and state[0] == "R":
                return old
    return ""


def names_ever_below(git: Git, folder: str) -> set[str]:
    """Return the names of what lies right in a folder, in any commit of any ref."""
    paths = split(run(git, "log", "--all", "--format=", "--name-only", "--no-renames", "-z", "--", *literal([folder])))
    return {path.lstrip("\n")[len(folder) + 1 :].partition("/")[0] for path in paths}
