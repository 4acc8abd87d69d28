"""What `--force` replaced, and what no commit names any more: stored roots, each under a number, kept from gc for a while."""

import time

from dvlite import files, pointer, tree
from dvlite.pointer import Pointer
from dvlite.repo import Repo
from dvlite.tree import Entry


def write(repo: Repo, tracked: str, root: Entry) -> int:
    """Give a stored root a number under which it can be brought back; return the number."""
    folder = repo.git.common / "dvlite" / "saved"
    folder.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0) + 1
    meta = {"path": tree.escape(tracked), "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    data = pointer.encode(pointer.with_meta(pointer.of(root), meta))
    files.write_atomic(folder / str(number), data)
    return number


def entries(repo: Repo) -> dict[int, tuple[str, Pointer]]:
    """Return what `--force` replaced: number to tracked path and pointer."""
    folder = repo.git.common / "dvlite" / "saved"
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.isdigit():
            item = pointer.decode(path.read_bytes(), f"saved/{path.name}")
            name = tree.unescape(str(item.tables["meta"]["path"]).encode())
            found[int(path.name)] = (name, item)
    return found
