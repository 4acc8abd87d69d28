"""Which pack has an object: one derived, sorted, memory-mapped table over many packs' indexes.

Deletable without loss: it is rebuilt from the indexes. The table covers most packs; the few that came since are held in
memory, and the table is rewritten when they are many, so that the cost follows what changed.
"""

import mmap
import os
import struct
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence, Set
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.pack import PackIndex, Place, recall

_MAGIC = b"DVLTABL1"
_HEAD = struct.Struct(">8sQQI")  # magic, packs, rows, bits of the fan-out
_ROW = struct.Struct(">32sBIQQ")  # digest, algorithm, pack, offset, size
_BITS = (8, 16)  # of few rows, of more than `_SMALL`
_SMALL = 1 << 16
_FEW = 4096
_DENSE = 8  # one object of so many rows is found sooner by a look at all rows
_MAX_LOOSE_PACKS = 16


class Found(NamedTuple):
    """An object's pack, and its place there."""

    pack: str
    place: Place


class Table:
    """Looks oids up over the packs that `load` can read the indexes of. For several threads."""

    def __init__(self, path: Path, load: Callable[[str], PackIndex]) -> None:
        self._path = path
        self._load = load
        self._lock = threading.RLock()
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
        with self._lock:
            self._refresh(live, may_write)

    def _refresh(self, live: Collection[str], may_write: bool) -> None:
        self._live = set(live)
        if not self._packs:
            self._open()
        covered = set(self._packs)
        for gone in self._recent.keys() - (self._live - covered):
            del self._recent[gone]
        recent = sum(map(len, self._recent.values()))
        packed: dict[str, bytes] = {}  # what goes straight to the table: a million places as objects need much memory
        number = self._numbers()  # also of packs that are dropped meanwhile
        for id_ in sorted(self._live - covered - self._recent.keys()):
            index = self._load(id_)
            recent += len(index)
            if may_write and recent > max(_FEW, self._rows // 4):
                packed[id_] = _rows_of(index, number[id_])
            else:
                self._recent[id_] = index
        is_many = packed or len(self._recent) > _MAX_LOOSE_PACKS or recent > max(_FEW, self._rows // 4)
        if may_write and (is_many or len(covered - self._live) > len(covered) // 2):
            self._rewrite(number, packed)

    def drop(self, id_: str) -> None:
        """Answer for a pack no more."""
        with self._lock:
            self._live.discard(id_)
            self._recent.pop(id_, None)

    def _open(self) -> None:
        try:
            with self._path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            magic, packs, rows, bits = _HEAD.unpack_from(data)
            if bits not in _BITS:
                return
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

    def _numbers(self) -> dict[str, int]:
        """Number the live packs, in order; those of the table keep their numbers, unless one of them is gone."""
        known = self._packs if self._live.issuperset(self._packs) else []
        return {id_: number for number, id_ in enumerate([*known, *sorted(self._live.difference(known))])}

    def _rewrite(self, number: Mapping[str, int], packed: dict[str, bytes]) -> None:
        """Write the table for numbered packs: what it has, what is recent, and some packs' rows that are packed already.

        Held are the rows that are new; those of the table go from file to file.
        """
        new = [*packed.values(), *(_rows_of(index, number[id_]) for id_, index in self._recent.items())]
        packed.clear()
        count = self._rows + sum(map(len, new)) // _ROW.size
        bits = _BITS[count > _SMALL]
        counts = [0] * ((1 << bits) + 1)
        for data in (*new, *self._by_first_byte(number)):
            for (first, second), some in Counter(zip(data[:: _ROW.size], data[1 :: _ROW.size], strict=True)).items():
                counts[((first << 8 | second) >> (16 - bits)) + 1] += some
        counts = list(accumulate(counts))
        head = _HEAD.pack(_MAGIC, len(number), counts[-1], bits) + bytes.fromhex("".join(number))
        head += struct.pack(f">{len(counts)}I", *counts)
        files.write_atomic(self._path, _checked(head, _merged(self._by_first_byte(number), new)), is_synced=False)
        self._clear()
        self._recent = {}
        self._open()  # perhaps another process's, of a moment ago
        for id_ in self._live - set(self._packs):
            self._recent[id_] = self._load(id_)

    def _by_first_byte(self, number: Mapping[str, int]) -> Iterator[bytes]:
        """Yield the table's rows of numbered packs, under those numbers: for each first byte of a digest its rows, in order."""
        numbers = [number.get(id_, -1) for id_ in self._packs]
        is_same = numbers == list(range(len(numbers)))
        step = 1 << max(0, self._bits - 8)
        for first in range(256):
            start, end = (self._fan[at] if self._rows else 0 for at in (first * step, (first + 1) * step))
            data = self._map[self._start + start * _ROW.size : self._start + end * _ROW.size]
            yield data if is_same else b"".join([
                _ROW.pack(digest, algorithm, numbers[pack], offset, size)
                for digest, algorithm, pack, offset, size in _ROW.iter_unpack(data)
                if numbers[pack] >= 0
            ])  # fmt: skip

    def _all_rows(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        end = self._start + self._rows * _ROW.size
        return _ROW.iter_unpack(memoryview(self._map)[self._start : end]) if self._rows else iter(())

    def find(self, oid: Oid, skip: Container[str] = ()) -> Found | None:
        """Return where an object lies, or None; not in the packs to `skip`."""
        with self._lock:
            if self._rows and (found := self._find_row(oid, skip)):
                return Found(found[0], Place(*found[1:]))
            return self._find_recent(oid, skip)

    def _find_recent(self, oid: Oid, skip: Container[str]) -> Found | None:
        for id_, index in self._recent.items():
            if (place := index.places.get(oid)) and id_ not in skip:
                return Found(id_, place)
        return None

    def by_pack(self, oids: Collection[Oid]) -> tuple[dict[str, dict[Oid, Place]], list[Oid]]:
        """Return where objects lie, pack by pack, each in one of them; and those that lie nowhere."""
        found: dict[str, dict[Oid, Place]] = {}
        seen: set[Oid] = set()
        with self._lock:
            decoded = self._decoded(oids)
            for oid, pack, offset, size in self._rows_of(oids, decoded):
                if oid not in seen:
                    seen.add(oid)
                    found.setdefault(pack, {})[oid] = Place(offset, size)
        for id_, places in _within(decoded, oids):
            is_new = seen.isdisjoint(places)
            if new := places if is_new else {oid: place for oid, place in places.items() if oid not in seen}:
                found[id_] = dict(new)
                seen.update(new)
        return found, _others(oids, seen)

    def share(self, oids: Collection[Oid]) -> tuple[dict[str, list[Oid]], list[Oid]]:
        """Return which objects lie in which pack, each in one; and those that lie nowhere. Less than their places."""
        found: dict[str, list[Oid]] = {}
        its = self.packs_of(oids)
        for oid, id_ in its.items():
            found.setdefault(id_, []).append(oid)
        return found, _others(oids, its)

    def places(self, id_: str, oids: Collection[Oid]) -> Mapping[Oid, Place]:
        """Return where objects lie in one pack, without those that don't."""
        with self._lock:
            decoded = self._recent.get(id_) or recall(id_)
            if not decoded and self._is_sparse(oids, len(self._packs)):  # no step for each pack: there may be many
                rows = ((oid, self._find_row(oid, only=id_)) for oid in oids)
                if found := {oid: Place(*row[1:]) for oid, row in rows if row}:
                    return found
        places = (decoded or self._load(id_)).places
        return {oid: places[oid] for oid in oids if oid in places}

    def sizes(self, oids: Collection[Oid]) -> tuple[dict[Oid, int], list[Oid]]:
        """Return the sizes of objects, in bytes, and those that lie nowhere."""
        with self._lock:
            decoded = self._decoded(oids)
            sizes = {oid: size for oid, _, _, size in self._rows_of(oids, decoded)}
        for _, places in _within(decoded, oids):
            sizes.update({oid: place[1] for oid, place in places.items()})
        return sizes, _others(oids, sizes)

    def packs_of(self, oids: Collection[Oid]) -> dict[Oid, str]:
        """Return the packs that objects lie in, without those that lie nowhere."""
        with self._lock:
            decoded = self._decoded(oids)
            its = {oid: pack for oid, pack, _, _ in self._rows_of(oids, decoded)}
        for id_, places in _within(decoded, oids):
            its.update(dict.fromkeys(places, id_))
        return its

    def _is_sparse(self, oids: Collection[Oid], packs: int = 1) -> bool:
        """Tell whether few objects are asked for, of all rows or of one pack's share of them."""
        return len(oids) * _DENSE * packs < self._rows

    def _decoded(self, oids: Collection[Oid]) -> dict[str, PackIndex]:
        """Return the indexes to look many objects up in: of packs that came since, and such as were decoded lately."""
        if self._is_sparse(oids):
            return dict(self._recent)
        return {id_: index for id_ in self._packs if id_ in self._live and (index := recall(id_))} | self._recent

    def _rows_of(self, oids: Collection[Oid], decoded: Container[str]) -> Iterator[tuple[Oid, str, int, int]]:
        """Yield objects of other packs, with those, offsets and sizes; of one in several packs, any one comes last."""
        live = [id_ if id_ in self._live and id_ not in decoded else "" for id_ in self._packs]
        if self._is_sparse(oids):
            yield from ((oid, *one) for oid in oids if (one := self._find_row(oid)))
        elif any(live):
            by_name: dict[str, dict[bytes, Oid]] = {name: {} for name in ALGORITHMS}
            for oid in oids:
                by_name[oid[0]][oid[1]] = oid
            wanted = [by_name[name].get for name in ALGORITHMS]
            for digest, algorithm, pack, offset, size in self._all_rows():
                if (known := wanted[algorithm](digest)) and live[pack]:
                    yield known, live[pack], offset, size

    def _find_row(self, oid: Oid, skip: Container[str] = (), only: str = "") -> tuple[str, int, int] | None:
        """Return an object's pack (one alone, if that is given), offset and size by the table."""
        name, digest = oid
        bucket = (digest[0] << 8 | digest[1]) >> (16 - self._bits)
        start, width = self._start, _ROW.size
        at, end = start + self._fan[bucket] * width, start + self._fan[bucket + 1] * width
        while (at := self._map.find(digest, at, end)) >= 0:
            if (at - start) % width == 0:
                _, algorithm, pack, offset, size = _ROW.unpack_from(self._map, at)
                id_ = self._packs[pack]
                if ALGORITHMS[algorithm] == name and id_ in self._live and id_ not in skip and only in ("", id_):
                    return id_, offset, size
            at += 1
        return None

    def oids(self) -> Iterator[Oid]:
        """Yield every object of the live packs; one that lies in several comes several times."""
        with self._lock:  # they belong together, and all may change meanwhile
            rows, packs, live, recent = self._all_rows(), self._packs, self._live, list(self._recent.values())
        for digest, algorithm, pack, _, _ in rows:
            if packs[pack] in live:
                yield Oid(ALGORITHMS[algorithm], digest)
        for index in recent:
            yield from index.places

    def of_pack(self, id_: str) -> dict[Oid, Place]:
        """Return what is remembered of a pack, also of one that is not live any more."""
        if recent := self._recent.get(id_):
            return dict(recent.places)
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


def _others(oids: Collection[Oid], known: Collection[Oid]) -> list[Oid]:
    return [oid for oid in oids if oid not in known] if len(known) < len(oids) else []


def _within(decoded: Mapping[str, PackIndex], oids: Collection[Oid]) -> Iterator[tuple[str, Mapping[Oid, Place]]]:
    """Yield packs with the places of those objects that lie in them."""
    known = oids if isinstance(oids, (Set, Mapping)) else set(oids)
    for id_, index in decoded.items():
        places = index.places
        if len(known) < len(places):
            yield id_, {oid: places[oid] for oid in known if oid in places}
        else:
            is_all = all(map(known.__contains__, places))
            yield id_, places if is_all else {oid: places[oid] for oid in places if oid in known}


def _rows_of(index: PackIndex, number: int) -> bytes:
    """Return a pack's rows under a number, in order."""
    numbers, digests, starts, sizes = index.columns
    return b"".join(sorted(map(_ROW.pack, digests, numbers, repeat(number), starts, sizes)))


def _merged(old: Iterable[bytes], sources: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the rows of all sources in order, those with one first byte at a time, as `old` yields its own."""
    width = _ROW.size
    starts = [0] * len(sources)
    for first, data in enumerate(old):
        rows: list[bytes] = []
        for position, source in enumerate(sources):
            places = range(starts[position], len(source), width)
            end = starts[position] + width * bisect_right(places, first, key=source.__getitem__)
            rows += [source[at : at + width] for at in range(starts[position], end, width)]
            starts[position] = end
        if rows:
            rows += [data[at : at + width] for at in range(0, len(data), width)]
        yield b"".join(sorted(rows)) if rows else data


def _checked(head: bytes, body: Iterable[bytes]) -> Iterator[bytes]:
    """Yield all parts of a file, and their checksum."""
    work = hashing.checksummer()
    for part in chain([head], body):
        work.update(memoryview(part))
        yield part
    yield work.digest()


def list_ids(folder: Path, suffix: str) -> list[str]:
    """Return the ids of the files `<id><suffix>` in a folder; none where there is no folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name[: -len(suffix)] for name in names if name.endswith(suffix) and len(name) == 64 + len(suffix)]
