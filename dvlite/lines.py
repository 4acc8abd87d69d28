"""A folder's listing by its lines as they are: what differs between two, and which are folders, without decoding them.

So the cost follows what differs, not what is listed. A listing is checked as a whole before its lines are trusted.
"""

import operator
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from dvlite import tree
from dvlite.oid import DIGEST_SIZE, Oid, make_many
from dvlite.tree import BLOB_MODES, TREE, Entry, Read, Slot

_TREE = TREE.encode()
_BLOBS = frozenset(mode.encode() for mode in BLOB_MODES)
_ORDINARY = bytes(one for one in range(9, 127) if one in b"\t\n" or one >= 32 and one not in b"%/")
_FIELDS = bytes(one for one in range(256) if one not in b"\t\n")  # what is between separators
_HEX = b"0123456789abcdef"


def may_have_folders(data: bytes) -> bool:
    """Tell whether a page has a subfolder, by a quick look that trusts it."""
    return b"\n%b " % _TREE in data


def folders(root: Entry, read: Read) -> list[Entry]:
    """Return the subfolders alone, which costs little where a folder has many files and few of them."""
    lines = (line for slot, data in tree.pages(root, read) for line in _lines(slot, data))
    return [_entry(line) for line in lines if line.startswith(_TREE)]


def differing(one: Entry | None, two: Entry | None, *others: Entry | None, read: Read) -> list[dict[str, Entry]]:
    """Return folders' entries by name, those alone in which the first two differ.

    So the cost of comparing two grows with what differs, not with what is listed: pages that they share are not read, and lines
    that they share are compared as bytes.
    """
    roots = [tree.root_slot(root) if root else None for root in (one, two, *others)]
    leaves = {slot: list(tree.leaves(slot, read)) if slot else [] for slot in set(roots)}
    shared = {slot.oid for slot, _ in leaves[roots[0]]} & {slot.oid for slot, _ in leaves[roots[1]]}
    listed: dict[Oid, list[bytes]] = {}
    lines = {}
    for root, slots in leaves.items():
        for slot, data in slots:
            if slot.oid not in shared and slot.oid not in listed:
                listed[slot.oid] = _lines(slot, data or read(slot.oid))
        lines[root] = {line for slot, _ in slots for line in listed.get(slot.oid, ())}
    first, second = lines[roots[0]], lines[roots[1]]
    wanted = [first - second, second - first]
    names = {line.partition(b"\t")[2] for line in (*wanted[0], *wanted[1])}
    for root in roots[2:]:
        is_first = root == roots[0]
        wanted.append(wanted[0] if is_first else {one for one in lines[root] if one.partition(b"\t")[2] in names})
    return [{entry.name: entry for entry in map(_entry, found)} for found in wanted]


def _entry(line: bytes) -> Entry:
    """Decode one line of a listing that was checked as a whole."""
    found = tree.LINE.match(line)
    assert found is not None
    mode, named, digits, size, files, field = found.groups()
    return Entry(
        mode.decode(), Oid(named.decode(), bytes.fromhex(digits.decode())), int(size), int(files), tree.unescape(field)
    )


def _lines(slot: Slot, data: bytes) -> list[bytes]:
    """Return the lines of a level-0 page, all of it checked."""
    if not tree.is_checked(slot):
        if not _is_plain(slot, data):
            tree.open_slot(slot, data)
        tree.note_checked(slot)
    return data.split(b"\n")[1:-1]


def blobs(slot: Slot, data: bytes) -> list[tuple[Oid, int]] | None:
    """Return the oids and sizes of a whole folder that has ordinary files alone; None where it must be decoded to tell."""
    columns = None if may_have_folders(data) else _columns(slot, data)
    if columns is None:
        return None
    algorithm = slot.oid.algorithm
    digests = bytes.fromhex(b"".join(columns.oids).replace(f"{algorithm}:".encode(), b"").decode())
    each = [digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE)]
    return list(zip(make_many(repeat(algorithm), each), map(int, columns.sizes), strict=True))


class _Columns(NamedTuple):
    oids: list[bytes]
    sizes: list[bytes]


def _is_plain(slot: Slot, data: bytes) -> bool:
    return _columns(slot, data) is not None


def _columns(slot: Slot, data: bytes) -> _Columns | None:
    """Return what a whole folder of ordinary names has, if it is as it must be by checks that go over all of it at once.

    None tells nothing: then it is decoded. So this must be at least as strict as `decode` and `open_slot`.
    """
    is_ordinary = data.isascii() and not data.translate(None, _ORDINARY) and b"git" not in data.lower()
    count = data.count(b"\n") - 1
    if (
        slot.level is not None
        or slot.depth > tree.MAX_DEPTH
        or not 0 < count <= tree.UNPAGED_ENTRIES
        or not is_ordinary
        or not (data.startswith(tree.LEVEL_0) and data.endswith(b"\n"))
        or data.translate(None, _FIELDS) != b"\n" + b"\t\n" * count  # one tab a line
    ):
        return None
    parts = data[len(tree.LEVEL_0) :].replace(b"\n", b"\t").split(b"\t")
    heads, names = parts[:-1:2], parts[1::2]
    if {head.count(b" ") for head in heads} != {3}:
        return None
    fields = b" ".join(heads).split(b" ")
    modes, oids, sizes, files = (fields[column::4] for column in range(4))
    is_right = (
        sum(map(modes.count, _BLOBS)) + modes.count(_TREE) == count
        and _are_oids(oids, slot.oid.algorithm)
        and _are_numbers(sizes)
        and _are_numbers(files)
        and (slot.size is None or sum(map(int, sizes)) == slot.size)
        and (slot.files is None or sum(map(int, files)) == slot.files)
        and (
            files.count(b"1") == count
            or all(one == b"1" or mode == _TREE for mode, one in zip(modes, files, strict=True))
        )
        and names[0] != b""
        and all(map(operator.lt, names, names[1:]))
        and b"." not in names
        and b".." not in names
    )
    return _Columns(oids, sizes) if is_right else None


def _are_oids(fields: Sequence[bytes], algorithm: str) -> bool:
    prefix = f"{algorithm}:".encode()
    width, text = len(prefix) + 2 * DIGEST_SIZE, b"".join(fields)
    starts = [text[at::width] for at in range(len(prefix))]
    return (
        set(map(len, fields)) == {width}
        and starts == [prefix[at : at + 1] * len(fields) for at in range(len(prefix))]
        and len(text.translate(None, _HEX)) == len(fields) * len(prefix.translate(None, _HEX))
    )


def _are_numbers(fields: Sequence[bytes]) -> bool:
    """Tell whether all are numbers of 19 digits at most, without a needless zero."""
    lengths = set(map(len, fields))
    return (
        min(lengths) > 0
        and max(lengths) <= 19
        and b"".join(fields).isdigit()
        and all(field == b"0" for field in fields if field < b"1")
    )
