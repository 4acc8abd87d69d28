"""What `--force` replaced, and what no commit names any more: stored roots, each under a number, kept from gc for a while."""

import time
from pathlib import Path

from dvlite import files, pointer, tree
from dvlite.pointer import Pointer
from dvlite.repo import Repo
from dvlite.tree import Entry


def folder_of(common: Path) -> Path:
    """Return the folder of what is saved, below a repository's shared Git folder."""
    return common / "dvlite" / "saved"


def path_of(common: Path, number: int) -> Path:
    """Return the file of one number."""
    return folder_of(common) / str(number)


def write(repo: Repo, tracked: str, root: Entry) -> int:
    """Give a stored root a number under which it can be brought back; return the number."""
    folder = folder_of(repo.git.common)
    folder.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0) + 1
    meta = {"path": tree.escape(tracked), "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    data = pointer.encode(pointer.with_meta(pointer.of(root), meta))
    files.write_atomic(folder / str(number), data)
    return number


def entries(repo: Repo) -> dict[int, tuple[str, Pointer]]:
    """Return what `--force` replaced: number to tracked path and pointer."""
    return in_folder(repo.git.common)


def in_folder(common: Path) -> dict[int, tuple[str, Pointer]]:
    """Return what is saved below a repository's shared Git folder."""
    folder = folder_of(common)
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.isdigit():
            item = pointer.decode(path.read_bytes(), f"saved/{path.name}")
            name = tree.unescape(str(item.tables["meta"]["path"]).encode())
            found[int(path.name)] = (name, item)
    return found


def expire(common: Path, grace_s: float) -> None:
    """Forget what was saved longer ago than a grace period."""
    for number in in_folder(common):
        if time.time() - path_of(common, number).stat().st_mtime >= grace_s:
            path_of(common, number).unlink(missing_ok=True)
