"""What tracking a path takes beside its data: a name that can be tracked, a pointer, an ignore line, both in Git's index."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from dvlite import files, git, pointer, refs, tree
from dvlite.errors import FormatError, UsageError, quote
from dvlite.ops.base import enclosing, folders_of
from dvlite.ops.init import add_lines
from dvlite.pointer import SUFFIX, Pointer
from dvlite.refs import Pointers
from dvlite.repo import Repo, pointer_path


def check_trackable(repo: Repo, path: str) -> None:
    """Refuse what is Git's or dvlite's own, another repository's, or reached by a link."""
    name = path.rpartition("/")[2]
    if not path or name.casefold() in refs.OWN:
        hint = "Name a folder or file with data." if path else "Name the folders in it, for example 'dvlite add data/'."
        raise UsageError(f"'{path or '.'}' can't be tracked", hint)
    try:
        refs.check_path(path)
    except FormatError as exc:
        raise UsageError(
            f"'{path}' can't be tracked: part of it is Git's, or is to some file systems", "Name data."
        ) from exc
    if len(tree.raw(f"{name}{SUFFIX}")) > 255:
        said = f"'{path}': name too long: its pointer's would have more than 255 bytes"
        raise UsageError(said, "Put it into a folder, and add the folder.")
    above = (repo.root / path).parent
    while above != repo.root:
        inner = above.relative_to(repo.root)
        if above.is_symlink():
            raise UsageError(f"'{path}' lies below the symbolic link '{inner}'", "Add it by its real path.")
        if (above / ".git").exists():
            raise UsageError(f"'{path}' lies in another Git repository", f"Add it there: 'dvlite -C {inner} add …'.")
        above = above.parent


def refuse_tracked_by_git(path: str, in_git: Iterable[str]) -> None:
    """Refuse a path that is, or has in it, one of the files that Git keeps."""
    for name in in_git:
        if name == path or name.startswith(f"{path}/"):
            raise UsageError(
                f"'{path}' is tracked by Git" if name == path else f"'{name}' in it is tracked by Git",
                f"Let Git forget it (the file stays): git rm -r --cached -- {quote(path)}",
            )


def check_apart(folders: Mapping[str, str], path: str) -> None:
    """Refuse a path that holds tracked ones; `folders` are what `folders_of` returns."""
    if below := folders.get(path):
        raise UsageError(
            f"'{path}' overlaps with '{below}', which is tracked already",
            f"Add what lies beside it, or move '{below}{SUFFIX}' away first.",
        )


def check_free(repo: Repo, pointers: Pointers, path: str, hint: str) -> None:
    """Refuse a new tracked path that can't be one, is, lies in or holds one, or where something is; `hint`: what else to do."""
    check_trackable(repo, path)
    if owner := enclosing([*pointers.found, *pointers.broken], path):
        raise UsageError(
            f"'{path}' is tracked already" if owner == path else f"'{path}' lies in '{owner}', which is tracked", hint
        )
    check_apart(folders_of(pointers), path)
    refuse_tracked_by_git(path, git.tracked_below(repo.git, [path]))
    for place in (repo.root / path, pointer_path(repo, path)):
        if os.path.lexists(place):
            raise UsageError(f"'{place.relative_to(repo.root)}' exists", "Name another place, or move it away.")
    if not (repo.root / path).parent.is_dir():
        folder = path.rpartition("/")[0]
        raise UsageError(f"'{folder}' is not a folder", f"Make it: mkdir -p {quote(folder)}")


def write(repo: Repo, tracked: str, new: Pointer, *, is_synced: bool = True) -> tuple[bool, list[str]]:
    """Write a pointer and its ignore line; tell whether the pointer changed, and which other file did."""
    is_changed = write_pointer(repo, tracked, new, is_synced=is_synced)
    name, line = ignoring(tracked)
    return is_changed, [name] if write_ignores(repo, name, [line], is_synced=is_synced) else []


def write_pointer(repo: Repo, tracked: str, new: Pointer, *, is_synced: bool = True) -> bool:
    """Write a pointer; tell whether it changed."""
    path = pointer_path(repo, tracked)
    data = pointer.encode(new)
    is_changed = not path.exists() or path.read_bytes() != data
    if is_changed:
        files.write_atomic(path, data, folder=repo.tmp(path.parent), is_synced=is_synced)
    return is_changed


def write_ignores(repo: Repo, name: str, lines: Iterable[str], *, is_synced: bool = True) -> bool:
    """Write ignore lines into a `.gitignore`; tell whether it changed."""
    path = repo.root / name
    return add_lines(path, lines, folder=repo.tmp(path.parent), is_synced=is_synced)


def ignore_line(name: str) -> str:
    """Return the `.gitignore` line for one name in the same folder, with what Git would read as a pattern escaped."""
    plain = name.rstrip(" ")
    escaped = re.sub(r"([\\*?\[\]!#])", r"\\\1", plain) + "\\ " * (len(name) - len(plain))
    return "/" + re.sub("[\n\r]", "[^ -~]", escaped)  # a line can't hold these: no printable character is the nearest


def unignore(repo: Repo, name: str, line: str) -> bool:
    """Take a line out of a `.gitignore`; one that has no other goes. Tell whether there was such a line."""
    path = repo.root / name
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    wanted = line.encode("utf-8", "surrogateescape")
    left = [one for one in lines if one.rstrip(b"\r\n") != wanted]
    if len(left) == len(lines):
        return False
    if left:
        files.write_atomic(path, b"".join(left), folder=repo.tmp(path.parent))
    else:
        path.unlink()
    return True


def ignore(repo: Repo, tracked: Iterable[str]) -> list[str]:
    """Write the ignore lines that tracked paths lack, where nothing else ignores them; return those paths.

    A pointer that was moved by Git has left its line behind.
    """
    texts: dict[str, set[bytes]] = {}
    lacking = []
    for one in tracked:
        name, line = ignoring(one)
        if name not in texts:
            path = repo.root / name
            texts[name] = set(path.read_bytes().splitlines()) if path.is_file() else set()
        if line.encode("utf-8", "surrogateescape") not in texts[name]:
            lacking.append(one)
    done = git.not_ignored(repo.git, lacking) if lacking else []
    if done:
        with repo.writing_pointers("checkout"):
            for name, lines in by_file(done).items():
                write_ignores(repo, name, lines.values())
    return done


def by_file(tracked: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the ignore lines of tracked paths, by `.gitignore` and path."""
    found: dict[str, dict[str, str]] = {}
    for one in tracked:
        name, line = ignoring(one)
        found.setdefault(name, {})[one] = line
    return found


def ignoring(tracked: str) -> tuple[str, str]:
    """Return the `.gitignore` of a tracked path, and its line there."""
    parent, _, name = tracked.rpartition("/")
    return f"{parent}/.gitignore" if parent else ".gitignore", ignore_line(name)


def stage(
    repo: Repo, tracked: Collection[str], written: Sequence[str], *, is_staged: bool
) -> tuple[list[str], list[str]]:
    """Stage what Git's index lacks of pointers and ignore lines, whoever wrote them: an earlier call may have been cut off.

    `written`: ignore files that were written just now. Returns what was staged, and what is left to the user.
    """
    ignores = dict(map(ignoring, tracked))
    lacking = git.unstaged(repo.git, [*(f"{one}{SUFFIX}" for one in tracked), *ignores])
    to_stage = [
        name
        for name in lacking
        if name not in ignores
        or name in written
        or ignores[name].encode("utf-8", "surrogateescape") not in git.file_at(repo.git, "", name).split(b"\n")
    ]
    if to_stage and is_staged and repo.flag("autostage", default=True):
        git.stage(repo.git, to_stage)
        return to_stage, []
    return [], to_stage
