"""How what is remembered of a folder's files is packed: names, stats and oids as columns, and their fingerprint.

Columns are compared, put together and counted whole, without a Python object for each file. Format: docs/index.md.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dvlite import hashing
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.statkey import StatKey

_STAT = struct.Struct("=QQqqQ")
OID_SIZE = DIGEST_SIZE + 1


class Row(NamedTuple):
    """What is remembered of one folder (or of one tracked file, whose one entry has no name).

    `fingerprint` is empty while an entry is too young to be trusted; `subs` is the checksum of the subfolders' oids that
    `oid` holds for; `state` is the store's state under which every object was seen there, or empty.
    """

    fingerprint: bytes
    subs: bytes
    oid: Oid
    size: int
    files: int
    state: str
    stats: bytes
    names: bytes
    oids: bytes


class Files(NamedTuple):
    """A folder's files, or a page of them, packed as in a row."""

    names: bytes
    stats: bytes
    oids: bytes


def pack_stats(keys: Sequence[StatKey]) -> bytes:
    """Return stat keys as bytes, in order: five words of eight bytes each, in the machine's order."""
    pack = _STAT.pack
    try:
        return b"".join([pack(*key) for key in keys])
    except struct.error:  # a time after 2262
        return b"".join([pack(*(one if one < 1 << 63 else one - (1 << 64) for one in key[:4]), key[4]) for key in keys])


def unpack_stats(packed: bytes) -> list[StatKey]:
    """Return stat keys from their bytes."""
    return list(map(StatKey._make, _STAT.iter_unpack(packed)))


def each_stat(packed: bytes) -> list[bytes]:
    """Return the bytes of each stat key."""
    return [packed[at : at + _STAT.size] for at in range(0, len(packed), _STAT.size)]


def total_size(packed: bytes) -> int:
    """Return the bytes of all files whose stat keys these are."""
    return sum(memoryview(packed).cast("Q")[1::5])


def newest(packed: bytes) -> int:
    """Return the youngest mtime of all files whose stat keys these are, in nanoseconds; 0 where there are none."""
    return max(memoryview(packed).cast("q")[2::5], default=0)


def pack_names(names: Iterable[str]) -> bytes:
    """Return names as bytes, in order."""
    return "\0".join(names).encode("utf-8", "surrogateescape")


def pack_oids(oids: Iterable[Oid]) -> bytes:
    """Return oids as bytes, in order."""
    return b"".join([bytes([ALGORITHMS.index(one.algorithm)]) + one.digest for one in oids])


def each_oid(packed: bytes) -> list[bytes]:
    """Return the bytes of each oid."""
    return [packed[at : at + OID_SIZE] for at in range(0, len(packed), OID_SIZE)]


def fingerprint(names: bytes, stats: bytes, subs: Iterable[str]) -> bytes:
    """Return the fingerprint of a folder's stat listing; subfolders enter by name only."""
    return hashing.checksum(b"\0\0".join([names, stats, pack_names(subs)]))


def unpack(row: Row) -> dict[str, tuple[StatKey, Oid]]:
    """Return a row's entries by name."""
    if not row.stats:
        return {}
    names, keys = unpack_names(row), unpack_stats(row.stats)
    return dict(zip(names, zip(keys, map(unpack_oid, each_oid(row.oids)), strict=True), strict=True))


def is_same(known: StatKey, now: StatKey) -> bool:
    """Tell whether a file still has the stat that is remembered of it; that of a link into the store has no ctime."""
    return known == now or (not known.ctime_ns and known == now._replace(ctime_ns=0))


Packed = dict[str, tuple[bytes, bytes]]


def split(row: Row | Files) -> Packed:
    """Return a row's entries by name as they are packed: stat, oid."""
    names = unpack_names(row) if row.stats else []
    return dict(zip(names, zip(each_stat(row.stats), each_oid(row.oids), strict=True), strict=True))


def unpack_names(row: Row | Files) -> list[str]:
    """Return a row's names, in order; it must have some."""
    return row.names.decode("utf-8", "surrogateescape").split("\0")


def pack(names: Sequence[str], packed: Packed) -> Files:
    """Return some entries as columns."""
    some = [packed[name] for name in names]
    return Files(pack_names(names), b"".join([stats for stats, _ in some]), b"".join([oids for _, oids in some]))


def join_pages(pages: Iterable[Files]) -> Files:
    """Put the pages of a folder together, in the order of a row: that of names, where pages have that of their bytes."""
    some = sorted(page for page in pages if page.stats)
    joined = Files(b"\0".join([one.names for one in some]), *(b"".join([one[at] for one in some]) for at in (1, 2)))
    if joined.names.isascii():
        return joined
    packed = split(joined)
    return pack(sorted(packed), packed)


def join(row: Row, packed: Packed, subs: Iterable[str]) -> Row:
    """Return a row with other entries, and the fingerprint that a folder with just these has."""
    names, stats, oids = pack(sorted(packed), packed)
    return row._replace(fingerprint=fingerprint(names, stats, subs), names=names, stats=stats, oids=oids)


def unpack_stat(packed: bytes) -> StatKey:
    """Return a stat key from its bytes."""
    return StatKey._make(_STAT.unpack(packed))


def unpack_oid(packed: bytes) -> Oid:
    """Return an oid from its bytes."""
    return Oid(ALGORITHMS[packed[0]], packed[1:])


def pack_entry(key: StatKey, one: Oid) -> tuple[bytes, bytes]:
    """Return one entry as it is packed."""
    return pack_stats([key]), pack_oids([one])


def checked(row: Row) -> Packed:
    """Return the same as `split` of a row that may be damaged; ValueError or TypeError where it is."""
    if len(row.stats) % _STAT.size or len(row.oids) % OID_SIZE:
        raise ValueError("columns end in the middle")
    if not set(row.oids[::OID_SIZE]) <= set(range(len(ALGORITHMS))):
        raise ValueError("an unknown algorithm")
    return split(row)
