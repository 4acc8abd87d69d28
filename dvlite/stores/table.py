"""Which pack has an object: one derived, sorted, memory-mapped table over many packs' indexes.

Deletable without loss: it is rebuilt from the indexes. The table covers most packs; the few that came since are held in
memory, and the table is rewritten when they are many, so that the cost follows what changed.
"""

import mmap
import os
import struct
from collections.abc import Callable, Collection, Container, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.pack import PackIndex, Place

_MAGIC = b"DVLTABL1"
_HEAD = struct.Struct(">8sQQI")  # magic, packs, rows, bits of the fan-out
_ROW = struct.Struct(">32sBIQQ")  # digest, algorithm, pack, offset, size
_SMALL = 1 << 16
_MAX_LOOSE_PACKS = 16


class Found(NamedTuple):
    """An object's pack, and its place there."""

    pack: str
    place: Place


class Table:
    """Looks oids up over the packs that `load` can read the indexes of."""

    def __init__(self, path: Path, load: Callable[[str], PackIndex]) -> None:
        self._path = path
        self._load = load
        self._live: set[str] = set()
        self._recent: dict[str, PackIndex] = {}
        self._clear()

    def _clear(self) -> None:
        self._packs: list[str] = []
        self._rows = self._start = self._bits = 0
        self._map: mmap.mmap | bytes = b""
        self._fan: tuple[int, ...] = ()

    def refresh(self, live: Collection[str], *, may_write: bool = True) -> None:
        """Make the table answer for exactly these packs; reads only indexes that it doesn't cover."""
        self._live = set(live)
        if not self._packs:
            self._open()
        covered = set(self._packs)
        for gone in self._recent.keys() - (self._live - covered):
            del self._recent[gone]
        for id_ in sorted(self._live - covered - self._recent.keys()):
            self._recent[id_] = self._load(id_)
        recent = sum(len(index.places) for index in self._recent.values())
        is_many = len(self._recent) > _MAX_LOOSE_PACKS or recent > max(4096, self._rows // 4)
        if may_write and (is_many or len(covered - self._live) > len(covered) // 2):
            self._rewrite()

    def drop(self, id_: str) -> None:
        """Answer for a pack no more."""
        self._live.discard(id_)
        self._recent.pop(id_, None)

    def _open(self) -> None:
        try:
            with self._path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            magic, packs, rows, bits = _HEAD.unpack_from(data)
            ids_end = _HEAD.size + packs * DIGEST_SIZE
            start = ids_end + 4 * ((1 << bits) + 1)
            is_whole = magic == _MAGIC and start + rows * _ROW.size + 16 == len(data)
            with memoryview(data) as view:
                if not is_whole or hashing.checksum(view[:-16]) != data[-16:]:
                    return
        except (OSError, ValueError, struct.error):
            return
        ids = data[_HEAD.size : ids_end]
        self._packs = [ids[at : at + DIGEST_SIZE].hex() for at in range(0, len(ids), DIGEST_SIZE)]
        self._fan = struct.unpack(f">{(1 << bits) + 1}I", data[ids_end:start])
        self._rows, self._start, self._bits, self._map = rows, start, bits, data

    def _rewrite(self) -> None:
        ids = sorted(self._live)
        number = {id_: position for position, id_ in enumerate(ids)}
        rows = [
            _ROW.pack(digest, algorithm, number[self._packs[pack]], offset, size)
            for digest, algorithm, pack, offset, size in self._all_rows()
            if self._packs[pack] in number
        ]
        for id_, index in self._recent.items():
            at = number[id_]
            rows.extend(
                _ROW.pack(oid.digest, ALGORITHMS.index(oid.algorithm), at, place.offset, place.size)
                for oid, place in index.places.items()
            )
        rows.sort()
        bits = 16 if len(rows) > _SMALL else 8
        counts = [0] * ((1 << bits) + 1)
        for row in rows:
            counts[(int.from_bytes(row[:2]) >> (16 - bits)) + 1] += 1
        for position in range(1, len(counts)):
            counts[position] += counts[position - 1]
        head = _HEAD.pack(_MAGIC, len(ids), len(rows), bits) + bytes.fromhex("".join(ids))
        head += struct.pack(f">{len(counts)}I", *counts)
        body = b"".join([head, *rows])
        files.write_atomic(self._path, body + hashing.checksum(body), is_synced=False)
        self._clear()
        self._recent = {}
        self._open()

    def _all_rows(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        if self._rows:
            yield from _ROW.iter_unpack(memoryview(self._map)[self._start : self._start + self._rows * _ROW.size])

    def find(self, oid: Oid, skip: Container[str] = ()) -> Found | None:
        """Return where an object lies, or None; not in the packs to `skip`."""
        if self._rows and (found := self._find_row(oid, skip)):
            return found
        for id_, index in self._recent.items():
            if (place := index.places.get(oid)) and id_ not in skip:
                return Found(id_, place)
        return None

    def _find_row(self, oid: Oid, skip: Container[str]) -> Found | None:
        bucket = int.from_bytes(oid.digest[:2]) >> (16 - self._bits)
        width = _ROW.size
        at = self._start + self._fan[bucket] * width
        end = self._start + self._fan[bucket + 1] * width
        while (at := self._map.find(oid.digest, at, end)) >= 0:
            if (at - self._start) % width == 0:
                _, algorithm, pack, offset, size = _ROW.unpack_from(self._map, at)
                id_ = self._packs[pack]
                if ALGORITHMS[algorithm] == oid.algorithm and id_ in self._live and id_ not in skip:
                    return Found(id_, Place(offset, size))
            at += 1
        return None

    def oids(self) -> Iterator[Oid]:
        """Yield every object of the live packs; one that lies in several comes several times."""
        for digest, algorithm, pack, _, _ in self._all_rows():
            if self._packs[pack] in self._live:
                yield Oid(ALGORITHMS[algorithm], digest)
        for index in self._recent.values():
            yield from index.places

    def of_pack(self, id_: str) -> dict[Oid, Place]:
        """Return what is remembered of a pack, also of one that is not live any more."""
        if id_ in self._recent:
            return dict(self._recent[id_].places)
        if id_ not in self._packs:
            return {}
        number = self._packs.index(id_)
        return {
            Oid(ALGORITHMS[algorithm], digest): Place(offset, size)
            for digest, algorithm, pack, offset, size in self._all_rows()
            if pack == number
        }

    def holds_nothing(self) -> bool:
        """Tell whether there is nothing to look up."""
        return not self._live


def list_ids(folder: Path, suffix: str) -> list[str]:
    """Return the ids of the files `<id><suffix>` in a folder; none where there is no folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name[: -len(suffix)] for name in names if name.endswith(suffix) and len(name) == 64 + len(suffix)]
