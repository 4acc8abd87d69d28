"""The pack: one file that holds many small objects, and an index of them; and the merged index of several packs.

A pack is never changed once published. Its id is the sha256 of its index, so it commits to every byte by way of the oids.
Readers check that the ranges tile the file: no gaps, no overlaps. Format: docs/pack.md.
"""

import functools
import operator
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

from dvlite import hashing
from dvlite.errors import CorruptError, FormatError
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid, make_many

MAGIC = b"DVLPACK1"
MERGED_MAGIC = b"DVLINDX1"
# algorithm, encoding (0 = raw), digest, offset, stored length, length
_ROW = struct.Struct(">BB32sQQQ")
_NAME_SIZE = 2 + DIGEST_SIZE  # algorithm, encoding, digest: what rows are ordered by
# offset of the index, its length, number of objects, xxh3-128 of the index, magic
_FOOTER = struct.Struct(">QQQ16s8s")
_MERGED_HEAD = struct.Struct(">8sQ")
_MERGED_ROW = struct.Struct(">32sQ")
FOOTER_SIZE = _FOOTER.size
MAX_OBJECTS = 1 << 18
MAX_TAIL = MAX_OBJECTS * _ROW.size + FOOTER_SIZE  # bytes of an index with its footer: what a reader need hold in memory
_LATELY = 1 << 17  # objects in indexes that are kept decoded: what was written or read is soon asked for again
_INDEX = 8  # an index itself takes as much as so many objects in it
_NUMBER = {name: number for number, name in enumerate(ALGORITHMS)}


class Place(NamedTuple):
    """Where an object lies in a pack, in bytes."""

    offset: int
    size: int


class Columns(NamedTuple):
    """A pack's objects in the order of its index: numbers of algorithms, digests, offsets and sizes in bytes."""

    numbers: Sequence[int]
    digests: Sequence[bytes]
    starts: Sequence[int]
    sizes: Sequence[int]


class PackIndex:
    """A pack's contents. `size` is that of the whole pack file in bytes. An index that was decoded makes oids only when asked."""

    __slots__ = ("_columns", "_places", "id", "size")

    def __init__(
        self, id_: str, size: int, places: Mapping[Oid, Place] | None = None, columns: Columns | None = None
    ) -> None:
        self.id = id_
        self.size = size
        self._places = places
        self._columns = columns

    def __len__(self) -> int:
        columns = self._columns
        return len(columns.digests if columns else self.places)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackIndex) and (self.id, self.size) == (other.id, other.size)

    @property
    def places(self) -> Mapping[Oid, Place]:
        """Where each object lies."""
        columns = self._columns
        if columns:
            places = map(functools.partial(tuple.__new__, Place), zip(columns.starts, columns.sizes, strict=True))
            self._places = dict(zip(_oids(columns), places, strict=True))
            self._columns = None  # after the places: another thread may ask, too
        return self._places or {}

    @property
    def columns(self) -> Columns:
        """The same, with no objects made for it; in any order."""
        if columns := self._columns:
            return columns
        places = self.places
        starts, sizes = zip(*places.values(), strict=True) if places else ((), ())
        return Columns([_NUMBER[oid[0]] for oid in places], [oid[1] for oid in places], starts, sizes)

    @property
    def sizes(self) -> dict[Oid, int]:
        """The size of each object in bytes, as less than its place."""
        columns = self.columns
        return dict(zip(_oids(columns), columns.sizes, strict=True))


def _oids(columns: Columns) -> Iterator[Oid]:
    return make_many(map(ALGORITHMS.__getitem__, columns.numbers), columns.digests)


class _Lately:
    """The indexes that were decoded last, by id, which commits to all of one; seventy megabytes at most."""

    def __init__(self) -> None:
        self._indexes: dict[str, PackIndex] = {}
        self._objects = 0
        self._lock = threading.Lock()

    def get(self, id_: str) -> PackIndex | None:
        return self._indexes.get(id_)

    def put(self, index: PackIndex) -> PackIndex:
        with self._lock:
            if index.id not in self._indexes and len(index) < _LATELY:
                self._indexes[index.id] = index
                self._objects += len(index) + _INDEX
                while self._objects > _LATELY:
                    self._objects -= len(self._indexes.pop(next(iter(self._indexes)))) + _INDEX
        return index


_lately = _Lately()
_decoding = threading.Lock()  # one at a time is as fast as several, and takes the memory of one


def encode_index(objects: Iterable[tuple[Oid, int]]) -> tuple[str, bytes]:
    """Return a pack's id and its tail (index and footer), from its objects' oids and sizes in file order.

    The tail alone is also the content of the `.idx` file.
    """
    listed = list(objects)
    ends = list(accumulate((size for _, size in listed), initial=len(MAGIC)))
    rows = sorted(
        _ROW.pack(_NUMBER[oid.algorithm], 0, oid.digest, offset, size, size)
        for (oid, size), offset in zip(listed, ends, strict=False)
    )
    index = b"".join(rows)
    tail = index + _FOOTER.pack(ends[-1], len(index), len(rows), hashing.checksum(index), MAGIC)
    return hashing.digest("sha256", index).hex(), tail


def tail_range(footer: bytes, file_size: int) -> tuple[int, int]:
    """Return where the tail starts and ends, from the last FOOTER_SIZE bytes of a pack file of `file_size` bytes."""
    offset, length, _, _, magic = _unpack_footer(footer)
    if magic != MAGIC or offset + length + FOOTER_SIZE != file_size:
        raise CorruptError("pack is cut short, or has no footer")
    if length + FOOTER_SIZE > MAX_TAIL:
        raise FormatError("pack has too many objects")
    return offset, file_size


def _unpack_footer(footer: bytes) -> tuple[int, int, int, bytes, bytes]:
    if len(footer) < FOOTER_SIZE:
        raise CorruptError("pack is cut short, or has no footer")
    return _FOOTER.unpack(footer[-FOOTER_SIZE:])


def identify(tail: bytes) -> tuple[str, int, int]:
    """Return the id of a pack, its size in bytes and the number of its objects, from its tail, which isn't decoded."""
    offset, length, count, checksum, magic = _unpack_footer(tail)
    index = tail[:-FOOTER_SIZE]
    if magic != MAGIC or length != len(index) or length != count * _ROW.size or hashing.checksum(index) != checksum:
        raise CorruptError("pack index is cut short or changed")
    return hashing.digest("sha256", index).hex(), offset + len(tail), count


def remember(index: PackIndex) -> PackIndex:
    """Keep an index, so that who reads it soon need not decode it; return it."""
    return _lately.put(index)


def recall(id_: str) -> PackIndex | None:
    """Return an index that was decoded lately."""
    return _lately.get(id_)


def decode_index(tail: bytes) -> PackIndex:
    """Read a pack's tail, or an `.idx` file; refuses what is cut, changed, out of order, or does not tile the pack."""
    id_, size, _ = identify(tail)
    with _decoding:
        if (known := _lately.get(id_)) and known.size == size:
            return known
        return remember(_decoded(id_, size, tail))


def _decoded(id_: str, size: int, tail: bytes) -> PackIndex:
    index, offset = tail[:-FOOTER_SIZE], size - len(tail)
    length = len(index)
    numbers, encodings, digests, starts, stored, sizes = _columns(tail)
    names = [index[at : at + _NAME_SIZE] for at in range(0, length, _ROW.size)]
    if any(encodings) or stored != sizes:
        raise FormatError("pack has an encoding that this version does not know", "Update dvlite.")
    if not all(map(operator.lt, names, names[1:])):
        raise FormatError("pack index is not in order, or has an object twice")
    if numbers and max(numbers) >= len(ALGORITHMS):
        raise FormatError("pack has a hash algorithm that this version does not know", "Update dvlite.")
    _check_tiling(starts, sizes, offset)
    return PackIndex(id_, size, columns=Columns(numbers, digests, starts, sizes))


def _columns(tail: bytes) -> list[tuple[Any, ...]]:
    return list(zip(*_ROW.iter_unpack(tail[:-FOOTER_SIZE]), strict=True)) or [()] * 6


class InOrder(NamedTuple):
    """What a pack holds, in file order: algorithms, digests, and where each object ends, from where the first one starts."""

    algorithms: list[str]
    digests: list[bytes]
    ends: list[int]


def in_order(tail: bytes) -> InOrder:
    """Return what a tail names that was decoded before; for those who verify the pack, and need no objects for it."""
    numbers, _, digests, starts, _, sizes = _columns(tail)
    order = sorted(range(len(starts)), key=starts.__getitem__)
    ends = list(accumulate((sizes[at] for at in order), initial=len(MAGIC)))
    return InOrder([ALGORITHMS[numbers[at]] for at in order], [digests[at] for at in order], ends)


def _check_tiling(starts: Sequence[int], sizes: Sequence[int], end: int) -> None:
    # Where each object starts that another ends, but for the first, and no two do at one place, they are one chain.
    after, begins = set(map(operator.add, starts, sizes)), set(starts)
    if (
        0 not in sizes
        and len(after) == len(begins) == len(starts)
        and (begins - after, after - begins) == ({len(MAGIC)}, {end})
    ):
        return
    ranges = sorted(zip(starts, sizes, strict=True))
    ends = list(accumulate(map(itemgetter(1), ranges), initial=len(MAGIC)))
    if list(map(itemgetter(0), ranges)) != ends[:-1]:
        raise FormatError("pack has a gap or an overlap")
    if ends[-1] != end:
        raise FormatError("pack's objects do not reach its index")


def encode_merged(tails: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the id and bytes of one file that holds the tails of many packs, by pack id."""
    ids = sorted(tails)
    head = _MERGED_HEAD.pack(MERGED_MAGIC, len(ids))
    rows = b"".join(_MERGED_ROW.pack(bytes.fromhex(id_), len(tails[id_])) for id_ in ids)
    body = head + rows + b"".join(tails[id_] for id_ in ids)
    return hashing.digest("sha256", body).hex(), body + hashing.checksum(body)


def decode_merged(data: bytes, id_: str = "") -> dict[str, bytes]:
    """Read a merged index (of a known id) into the tails of its packs, by pack id; the tails are not decoded yet."""
    body = data[:-16]
    is_right = not id_ or hashing.digest("sha256", body).hex() == id_
    if len(body) < _MERGED_HEAD.size or hashing.checksum(body) != data[-16:] or not is_right:
        raise CorruptError("merged index is cut short or changed")
    magic, count = _MERGED_HEAD.unpack_from(body)
    at = _MERGED_HEAD.size + count * _MERGED_ROW.size
    if magic != MERGED_MAGIC or at > len(body):
        raise FormatError("not a merged index of version 1")
    tails = {}
    for digest, length in _MERGED_ROW.iter_unpack(body[_MERGED_HEAD.size : at]):
        tails[digest.hex()] = body[at : at + length]
        at += length
    if at != len(body) or list(tails) != sorted(tails) or len(tails) != count:
        raise FormatError("merged index does not fit its packs")
    return tails
