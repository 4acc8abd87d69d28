"""A folder's listing as bytes, cut into pages where it is long; and ways through trees of such listings.

Exactly one valid encoding for each listing. `decode` and the ways trust nothing: a tree comes from strangers. Reading is
the caller's: they are handed a function from oids to bytes. Format: docs/tree.md.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from dvlite import hashing
from dvlite.errors import FormatError
from dvlite.oid import DIGEST_SIZE, Oid, make_many

FILE, EXECUTABLE, SYMLINK, TREE, PAGE = "100644", "100755", "120000", "040000", "040001"
BLOB_MODES = frozenset({FILE, EXECUTABLE, SYMLINK})

UNPAGED_ENTRIES = 1024  # a listing up to this long is one object
PAGE_ENTRIES = 2048  # a page is cut here at the latest
PAGE_MASK = 0xFF  # and after a name whose boundary hash has these bits zero
MAX_DEPTH = 64  # folders below a tracked path; a walk refuses more

LINE = re.compile(
    rb"^(100644|100755|120000|04000[01]) (sha256|blake3):([0-9a-f]{64}) (0|[1-9][0-9]{0,18}) (0|[1-9][0-9]{0,18})\t([^\n]+)$",
    re.MULTILINE,
)
_HEADER = re.compile(rb"dvlite-tree 1 (0|[1-9])\n")
LEVEL_0 = b"dvlite-tree 1 0\n"
_MODES = {mode.encode(): mode for mode in (FILE, EXECUTABLE, SYMLINK, TREE, PAGE)}
_UNSAFE = re.compile("[\x00-\x1f\x7f%\udc80-\udcff]")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
# What HFS+ leaves out when it compares names.
_IGNORABLE = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


class Entry(NamedTuple):
    """One line of a listing. `size` in bytes and `files` count all that is below, 1 for a file or link."""

    mode: str
    oid: Oid
    size: int
    files: int
    name: str

    @property
    def is_tree(self) -> bool:
        """Whether this is a folder."""
        return self.mode == TREE


class Page(NamedTuple):
    """One tree object: at level 0 entries of a folder, above a list of pages with their last names."""

    level: int
    entries: list[Entry]


class Slot(NamedTuple):
    """A place where a tree object is expected, and all that is known of what it must hold."""

    oid: Oid
    size: int | None = None
    files: int | None = None
    level: int | None = None  # of a page; None for the root of a folder, which may have any
    after: bytes = b""  # the last name of the page before
    last: bytes | None = None  # the page's own last name
    is_final: bool = True  # no page follows
    depth: int = 0


Read = Callable[[Oid], bytes]
ReadMany = Callable[[Collection[Oid]], Iterable[tuple[Oid, bytes]]]


def raw(name: str) -> bytes:
    """Return a name's bytes on disk."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise FormatError(f"name {name!r} has no bytes on any file system") from exc


def escape(name: str) -> str:
    """Return the one spelling of a name in a listing (also fit to be shown to people)."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def unescape(field: bytes) -> str:
    """Return the name that a listing spells so; ValueError for any spelling but the one."""
    name = field.decode("utf-8")
    if "%" in name or _UNSAFE.search(name):
        plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), field)
        name = plain.decode("utf-8", "surrogateescape")
        if escape(name).encode() != field:
            raise ValueError("needless or missing escape")
    return name


def heads(path: str) -> list[str]:
    """Return the folders above a path, the outermost first."""
    return [path[:at] for at, letter in enumerate(path) if letter == "/"]


def check_depth(path: str) -> None:
    """Refuse a path below a tracked one that leads through more folders than a tree may have."""
    if path.count("/") > MAX_DEPTH:
        raise FormatError(f"'{escape(path[:60])}…' lies more than {MAX_DEPTH} folders deep")


def check_name(name: str) -> None:
    """Refuse a name that could lead out of its folder or into `.git`, on any file system."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FormatError(f"name '{escape(name)}' could lead out of its folder")
    if name.isascii() and "git" not in name.lower():
        return
    folded = name.translate(_IGNORABLE).lower().partition(":")[0].rstrip(". ")
    if folded in (".git", "git~1"):
        raise FormatError(f"name '{escape(name)}' stands for .git on some file systems")


def check_names(names: Sequence[str]) -> None:
    """Refuse any name that `check_name` refuses; ordinary ones are looked at all at once."""
    joined = "\0".join(names)
    is_ordinary = joined.isascii() and "/" not in joined and "git" not in joined.lower()
    if not is_ordinary or joined.count("\0") >= len(names) or not {"", ".", ".."}.isdisjoint(names):
        for name in names:
            check_name(name)


# ---- one object -----------------------------------------------------------------------------------------------------


def encode(page: Page) -> bytes:
    """Return the bytes of one tree object; entries must be in order."""
    names = "".join([entry.name for entry in page.entries])
    spell = str if names.isascii() and names.isprintable() and "%" not in names else escape
    lines = [
        f"{mode} {algorithm}:{digest.hex()} {size} {files}\t{spell(name)}\n"
        for mode, (algorithm, digest), size, files, name in page.entries
    ]
    return f"dvlite-tree 1 {page.level}\n{''.join(lines)}".encode()


def decode(data: bytes, algorithm: str) -> Page:
    """Read one tree object of the given algorithm; refuses every other spelling of the same listing."""
    header = _HEADER.match(data)
    if not header:
        raise FormatError("not a tree of version 1", "It may be written by a newer dvlite.")
    rows = LINE.findall(data, header.end())
    if len(rows) != data.count(b"\n") - 1 or not data.endswith(b"\n"):
        raise FormatError("malformed line in tree")
    level = int(header[1])
    if not rows:
        return Page(level, [])
    modes, named, digits, sizes, counts, fields = zip(*rows, strict=True)
    if other := set(named) - {algorithm.encode()}:
        raise FormatError(f"tree of {algorithm} names an object of {other.pop().decode()}")
    digests = bytes.fromhex(b"".join(digits).decode())
    oids = make_many(repeat(algorithm), [digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE)])
    names = _names(fields)
    # By columns, as a folder may have many entries.
    columns = map(_MODES.__getitem__, modes), oids, map(int, sizes), map(int, counts), names
    entries = list(map(Entry._make, zip(*columns, strict=True)))
    if level or counts.count(b"1") < len(rows) or not BLOB_MODES.issuperset(map(bytes.decode, set(modes))):
        for entry in entries:
            _check_entry(level, entry)
    check_names(names)
    raws = [raw(name) for name in names] if b"%" in data else fields
    if not all(map(operator.lt, raws, raws[1:])):
        raise FormatError("tree is not in order, or has a name twice")
    return Page(level, entries)


def _check_entry(level: int, entry: Entry) -> None:
    if (entry.mode == PAGE) != (level > 0):
        raise FormatError(f"'{escape(entry.name)}' is out of place at level {level} of a tree")
    if entry.files != 1 and entry.mode in BLOB_MODES:
        raise FormatError(f"'{escape(entry.name)}' in tree counts as {entry.files} files")


def _names(fields: Sequence[bytes]) -> list[str]:
    try:
        names = b"\n".join(fields).decode()
        if names.isascii() and names.replace("\n", "").isprintable() and "%" not in names:
            return names.split("\n")
        return [unescape(field) for field in fields]
    except ValueError as exc:
        raise FormatError("malformed name in tree") from exc


# ---- one folder -----------------------------------------------------------------------------------------------------


class Folder(NamedTuple):
    """A folder's listing, encoded: the root's oid, totals, and all its tree objects, pages before lists."""

    oid: Oid
    size: int
    files: int
    objects: list[tuple[Oid, bytes]]


_CHECKED = 1 << 14
_checked: set[Slot] = set()  # what a place asks for and names by its oid need not be checked again


def note_checked(slot: Slot) -> None:
    """Remember that what an oid names fits into a place."""
    if len(_checked) >= _CHECKED:
        _checked.clear()
    _checked.add(slot)


def is_checked(slot: Slot) -> bool:
    """Tell whether what an oid names was seen to fit into a place."""
    return slot in _checked


def build(algorithm: str, entries: Iterable[Entry]) -> Folder:
    """Encode a whole folder, in any order of entries, cut into pages by the rule."""
    level = 0
    rows = sorted(entries, key=lambda entry: raw(entry.name))
    check_names([row.name for row in rows])
    size, files = sum([row.size for row in rows]), sum([row.files for row in rows])
    objects = []
    while len(rows) > UNPAGED_ENTRIES:
        upper = []
        for page in _cut(rows, level):
            data = encode(Page(level, page))
            oid = hashing.oid_of(algorithm, data)
            objects.append((oid, data))
            upper.append(Entry(PAGE, oid, sum(row.size for row in page), sum(row.files for row in page), page[-1].name))
        rows, level = upper, level + 1
    data = encode(Page(level, rows))
    oid = hashing.oid_of(algorithm, data)
    note_checked(Slot(oid, size, files))
    return Folder(oid, size, files, [*objects, (oid, data)])


def _cut(rows: list[Entry], level: int) -> Iterator[list[Entry]]:
    page: list[Entry] = []
    for row in rows:
        page.append(row)
        if len(page) == PAGE_ENTRIES or _ends_page(row, level):
            yield page
            page = []
    if page:
        yield page


def _ends_page(row: Entry, level: int) -> bool:
    return not hashing.boundary(raw(row.name), level) & PAGE_MASK


def root_slot(entry: Entry) -> Slot:
    """Return the slot of a folder's root tree."""
    return Slot(entry.oid, entry.size, entry.files)


def open_slot(slot: Slot, data: bytes) -> Page:
    """Decode a tree object and check that it is what its place calls for."""
    page = decode(data, slot.oid.algorithm)
    rows = page.entries
    wrong = ""
    if slot.depth > MAX_DEPTH:
        wrong = f"lies more than {MAX_DEPTH} folders deep"
    elif slot.size is not None and slot.size != sum(row.size for row in rows):
        wrong = "has another size than its parent says"
    elif slot.files is not None and slot.files != sum(row.files for row in rows):
        wrong = "has another number of files than its parent says"
    elif slot.level is None:
        wrong = "is too long for one object" if len(rows) > UNPAGED_ENTRIES else ""
    else:
        wrong = _wrong_page(slot, page)
    if wrong:
        raise FormatError(f"tree {slot.oid.short} {wrong}")
    return page


def _wrong_page(slot: Slot, page: Page) -> str:
    rows = page.entries
    if page.level != slot.level:
        return f"is at level {page.level}, not {slot.level}"
    if not rows or raw(rows[0].name) <= slot.after or raw(rows[-1].name) != slot.last:
        return "does not lie between its neighbours"
    if any(_ends_page(row, page.level) for row in rows[:-1]) or len(rows) > PAGE_ENTRIES:
        return "is not cut where pages are cut"
    if not slot.is_final and len(rows) < PAGE_ENTRIES and not _ends_page(rows[-1], page.level):
        return "is not cut where pages are cut"
    return ""


def slots_below(slot: Slot, page: Page) -> Iterator[Slot]:
    """Yield where the trees and pages that a page names must fit in."""
    after = slot.after
    final = len(page.entries) - 1
    for position, (mode, oid, size, files, name) in enumerate(page.entries):
        if mode == PAGE:
            last = raw(name)
            is_final = slot.is_final and position == final
            yield Slot(oid, size, files, page.level - 1, after, last, is_final, slot.depth)
            after = last
        elif mode == TREE:
            yield Slot(oid, size, files, depth=slot.depth + 1)


def leaves(slot: Slot, read: Read) -> Iterator[tuple[Slot, bytes]]:
    """Yield a folder's level-0 pages in order, itself where it has no others; with its bytes where they were read."""
    data = read(slot.oid)
    if slot.level == 0 or data.startswith(LEVEL_0):
        yield slot, data
        return
    for child in slots_below(slot, open_slot(slot, data)):
        if child.level == 0:
            yield child, b""
        else:
            yield from leaves(child, read)


def pages(root: Entry, read: Read) -> Iterator[tuple[Slot, bytes]]:
    """Yield a folder's pages of entries in order, unchecked, with the slots that they must fit in."""
    for slot, data in leaves(root_slot(root), read):
        yield slot, data or read(slot.oid)


def entries(root: Entry, read: Read) -> list[Entry]:
    """Return a whole folder's entries, its pages put together."""
    return [row for slot, data in pages(root, read) for row in open_slot(slot, data).entries]


def find(root: Entry, parts: Sequence[str], read: Read) -> Entry | None:
    """Return the entry at a path below `root`, reading only the pages on the way; None where there is none."""
    here = root
    for part in parts:
        if not here.is_tree:
            return None
        found = _find_name(root_slot(here), raw(part), read)
        if found is None:
            return None
        here = found
    return here


def _find_name(slot: Slot, name: bytes, read: Read) -> Entry | None:
    page = open_slot(slot, read(slot.oid))
    if page.level == 0:
        return next((row for row in page.entries if raw(row.name) == name), None)
    child = next((child for child in slots_below(slot, page) if name <= (child.last or b"")), None)
    return _find_name(child, name, read) if child else None


Grafts = Mapping[tuple[str, ...], Entry | None]


def graft(root: Entry | None, grafts: Grafts, read: Read) -> tuple[Entry | None, list[tuple[Oid, bytes]]]:
    """Put entries (None: nothing) at paths below `root`; return the new root and the tree objects that it needs.

    Folders on the way are made as needed, and only they are read; a folder that becomes empty stays.
    """
    if () in grafts:
        new = grafts[()]
        return (new._replace(name=root.name) if new and root else new), []
    below: dict[str, dict[tuple[str, ...], Entry | None]] = {}
    for parts, new in grafts.items():
        below.setdefault(parts[0], {})[parts[1:]] = new
    rows = {row.name: row for row in entries(root, read)} if root and root.is_tree else {}
    before = dict(rows)
    objects = []
    for name, inner in below.items():
        child, more = graft(rows.get(name), inner, read)
        objects += more
        if child:
            rows[name] = child._replace(name=name)
        else:
            rows.pop(name, None)
    if rows == before:
        return root, []
    algorithm = next(entry.oid.algorithm for entry in (root, *rows.values()) if entry)
    folder = build(algorithm, rows.values())
    return Entry(TREE, folder.oid, folder.size, folder.files, root.name if root else ""), [*objects, *folder.objects]


def named(data: bytes) -> tuple[list[Oid], list[Oid]]:
    """Return the trees (pages too) and the blobs that bytes name, if they are a tree; unchecked, for those who keep things."""
    trees: list[Oid] = []
    blobs: list[Oid] = []
    if _HEADER.match(data):
        for mode, algorithm, digits, _, _, _ in LINE.findall(data):
            (trees if mode[:1] == b"0" else blobs).append(Oid(algorithm.decode(), bytes.fromhex(digits.decode())))
    return trees, blobs
