"""Which packs hold all that a tree reaches, remembered from push to push, so that a push costs what changed.

A pack never changes, so this is true for as long as its packs are there, and that a fresh listing must say each time; and nothing
else may have been purged, as what was purged need not be there. Deletable without loss: what isn't known is walked.
"""

import contextlib
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing
from dvlite.oid import DIGEST_SIZE, Oid
from dvlite.reach import AT_ONCE, Below, Reach
from dvlite.tree import Slot

_MAGIC = b"DVLCOVR2"
_ROW = struct.Struct(">32sQI")  # key, objects, number of packs; then that many numbers
_HEAD = struct.Struct(">8s32sI")  # magic, the mark of what was purged, number of packs; then their ids
_NUMBER = struct.Struct(">I")
_MOST = (1 << 64) - 1
_MUCH = 1 << 21  # bytes


class Cover(NamedTuple):
    """The packs that hold a tree and all that it reaches, and how many objects that is, one that comes twice counted twice."""

    packs: frozenset[str]
    objects: int


class Memory(NamedTuple):
    """Covers by key, and the mark of what was purged when they were found."""

    covers: dict[bytes, Cover]
    mark: bytes


def mark_of(purged: Iterable[Oid]) -> bytes:
    """Return what is another when something else was purged."""
    return hashing.digest("sha256", repr(sorted(map(str, purged))).encode())


def key(slot: Slot) -> bytes:
    """Return what names a tree in its place: all that was checked of it there is true wherever this is the same."""
    return hashing.digest("sha256", repr(tuple(slot)).encode())


class Named(NamedTuple):
    """What one tree object names: trees and pages, and the packs of its blobs and of itself; None where one is in no pack."""

    trees: list[Oid]
    blobs: int
    packs: frozenset[str] | None


def resolve(named: Mapping[Oid, Named], known: Mapping[Oid, Cover]) -> Iterator[tuple[Oid, Cover]]:
    """Yield the covers of all trees that have one; `known` are those found earlier."""
    found: dict[Oid, Cover | None] = dict(known)

    def cover(oid: Oid) -> Cover | None:
        if oid not in found:
            found[oid] = None  # also for a tree that would reach itself
            one = named.get(oid)
            if one and one.packs is not None:
                below = [cover(sub) for sub in one.trees]
                if all(below):
                    whole = one.packs.union(*(each.packs for each in below if each))
                    objects = 1 + one.blobs + sum(each.objects for each in below if each)
                    found[oid] = Cover(whole, min(objects, _MOST))
        return found[oid]

    for oid in named:
        if (one := cover(oid)) and oid not in known:
            yield oid, one


def find(
    reach: Reach,
    known: Mapping[bytes, Cover],
    purged: Collection[Oid],
    packs_of: Callable[[Collection[Oid]], Mapping[Oid, str]],
) -> dict[bytes, Cover]:
    """Return the covers of all trees reached that have one and are not `known`, by key; `packs_of` says where objects lie."""
    trees = {oid: below for oid, below in reach.trees.items() if oid not in reach.missing}
    named: dict[Oid, Named] = {}
    for some in _in_parts(trees):
        packs = packs_of({oid for whole in some for oid in (whole, *trees[whole].blobs)})
        for oid in some:
            blobs = [one for one in trees[oid].blobs if one not in purged]
            its = {packs.get(one, "") for one in (oid, *blobs)}
            named[oid] = Named(trees[oid].trees, len(blobs), frozenset(its) if "" not in its else None)
    skipped = {oid: known[name] for oid, slot in reach.skipped.items() if (name := key(slot)) in known}
    return {key(trees[oid].slot): one for oid, one in resolve(named, skipped)}


def _in_parts(trees: Mapping[Oid, Below]) -> Iterator[list[Oid]]:
    """Yield trees, of so many objects at once as should be held together."""
    some, count = [], 0
    for oid, below in trees.items():
        some.append(oid)
        count += 1 + len(below.blobs)
        if count >= AT_ONCE:
            yield some
            some, count = [], 0
    yield some


def encode(covers: Mapping[bytes, Cover], mark: bytes) -> bytes:
    """Return covers by key, and a mark, as bytes, with the xxh3-128 of all before at the end."""
    ids = sorted(frozenset[str]().union(*(one.packs for one in covers.values())))
    number = {id_: position for position, id_ in enumerate(ids)}
    parts = [_HEAD.pack(_MAGIC, mark, len(ids)), bytes.fromhex("".join(ids))]
    for name in sorted(covers):
        packs, objects = covers[name]
        parts.append(_ROW.pack(name, objects, len(packs)))
        parts += [_NUMBER.pack(number[id_]) for id_ in sorted(packs)]
    body = b"".join(parts)
    return body + hashing.checksum(body)


def decode(data: bytes) -> Memory:
    """Read covers; nothing where anything is wrong."""
    body = data[:-16]
    if len(body) < _HEAD.size or hashing.checksum(body) != data[-16:] or not body.startswith(_MAGIC):
        return Memory({}, b"")
    _, mark, count = _HEAD.unpack_from(body)
    at = _HEAD.size
    ids = [body[at + one * DIGEST_SIZE : at + (one + 1) * DIGEST_SIZE].hex() for one in range(count)]
    at += count * DIGEST_SIZE
    covers = {}
    same: dict[bytes, frozenset[str]] = {}  # few sets, each of many trees
    while at < len(body):
        name, objects, size = _ROW.unpack_from(body, at)
        at += _ROW.size
        numbers = body[at : at + size * _NUMBER.size]
        at += len(numbers)
        if numbers not in same:
            same[numbers] = frozenset(ids[one] for (one,) in _NUMBER.iter_unpack(numbers))
        covers[name] = Cover(same[numbers], objects)
    return Memory(covers, mark)


def read(path: Path) -> Memory:
    """Return the covers in a file; none where it isn't there or is damaged."""
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error):
        return Memory({}, b"")


def write(path: Path, found: Mapping[bytes, Cover], earlier: Mapping[bytes, Cover], mark: bytes, folder: Path) -> None:
    """Replace the file of covers by those found now, and earlier ones while that is not much; it is memory, so it may fail."""
    data = encode({**earlier, **found}, mark)
    with contextlib.suppress(OSError):
        files.write_atomic(path, data if len(data) <= _MUCH else encode(found, mark), folder=folder, is_synced=False)


def packs_of(covers: Iterable[Cover]) -> set[str]:
    """Return all packs that some covers rest on."""
    return set().union(*(one.packs for one in covers))
