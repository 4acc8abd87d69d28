"""Show a pointer as the listing it stands for, so that a review of pointers is a review of data. Never uses the network."""

from collections.abc import Iterator

from dvlite import pointer, tree
from dvlite.errors import DvliteError, FormatError, MissingError
from dvlite.ops.base import reader
from dvlite.pointer import Pointer
from dvlite.repo import Repo
from dvlite.tree import Entry, Read

MAX_FILES = 10_000  # above that, a subfolder is one line
_KINDS = {tree.FILE: "", tree.EXECUTABLE: " executable", tree.SYMLINK: " link"}


def textconv(repo: Repo, data: bytes) -> Iterator[bytes]:
    """Yield the lines that stand for a pointer file's bytes; the bytes themselves where they are no pointer."""
    try:
        item = pointer.decode(data)
    except FormatError:
        yield data
        return
    yield _line(f"{'tree' if item.is_tree else 'blob'} {_facts(item.entry)}{_KINDS.get(item.entry.mode, '')}")
    if item.is_tree:
        yield from _listing(item, reader(repo))
    if item.rest:
        yield item.rest


def _listing(item: Pointer, read: Read) -> Iterator[bytes]:
    depth = 0 if item.files > MAX_FILES else tree.MAX_DEPTH
    try:
        yield from _below(item.entry, "", read, depth)
    except DvliteError as exc:
        yield _line(f"  {exc.message}")


def _below(folder: Entry, path: str, read: Read, depth: int) -> Iterator[bytes]:
    try:
        below = tree.entries(folder, read)
    except MissingError:
        yield _line(f"  {tree.escape(path)}… {folder.oid.short}: its listing is not here (run dvlite fetch)")
        return
    for entry in below:
        inner = f"{path}{entry.name}"
        if entry.is_tree and depth:
            yield from _below(entry, f"{inner}/", read, depth - 1)
        elif entry.is_tree:
            yield _line(f"  {tree.escape(inner)}/  {_facts(entry)}")
        else:
            yield _line(f"  {tree.escape(inner)}  {_facts(entry)}{_KINDS[entry.mode]}")


def _facts(entry: Entry) -> str:
    count = f", {entry.files:,} files" if entry.is_tree else ""
    return f"{entry.size:,} bytes{count}, {entry.oid.short}"


def _line(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\n"
