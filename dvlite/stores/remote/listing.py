"""What a remote has, by name. Large objects, of which there may be a million, take ninety bytes each.

A narrow listing leaves out what only cleaning needs (large objects, claims, dooms); what is wanted of it is asked for by name.
"""

import bisect
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping

from dvlite.oid import ALGORITHMS, Oid
from dvlite.progress import SILENT, Progress
from dvlite.stores.base import loose_name
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.base import Listed, Page

_ROW = struct.Struct(">B32sqq")  # algorithm, digest, size, time
_OBJECT = re.compile(r"objects/([0-9a-z]+)/([0-9a-f]{2})/([0-9a-f]{62})")

SWEEPS = (
    "sweeps/"  # listed before all else: data seen after no mark was seen is what a sweep has left, or will see claimed
)
NARROW = ("indexes/", "packs/", "purged/", "repos/")
ALWAYS = ("purged/", SWEEPS)
WHOLE = ("claims/", "doomed/", *NARROW, "objects/", "tmp/")
_HEX = "0123456789abcdef"
_BY_NAME = 64
PAGE = 1000
MANY = 16_000  # so many names in one folder are asked for in sixteen parts at once


class Listing(Mapping[str, Listed]):
    """Files by name, as one look at a remote found them. `is_part`: only what was asked for by name.

    `has_large`: there may be large objects that are not listed here.
    """

    def __init__(self, *, is_whole: bool = True, is_part: bool = False) -> None:
        self.is_whole = is_whole
        self.is_part = is_part
        self.has_large = True
        self._files: dict[str, Listed] = {}
        self._has_unsized = False
        self._rows: list[bytes] = []
        self._is_sorted = True

    def add(self, page: Page) -> None:
        """Take a page in."""
        for name, one in page.items():
            found = _OBJECT.fullmatch(name) if name.startswith("objects/") else None
            if found and found[1] in ALGORITHMS and one.size >= 0:
                digest = bytes.fromhex(found[2] + found[3])
                self._rows.append(_ROW.pack(ALGORITHMS.index(found[1]), digest, one.size, one.time_ns))
                self._is_sorted = False
            else:
                self._files[name] = one
                self._has_unsized |= found is not None

    def _sort(self) -> None:
        if not self._is_sorted:
            self._rows.sort()
            self._is_sorted = True

    def __getitem__(self, name: str) -> Listed:
        if name in self._files:
            return self._files[name]
        if self._rows and (found := _OBJECT.fullmatch(name)):
            if one := self.large(Oid(found[1], bytes.fromhex(found[2] + found[3]))):
                return one
        raise KeyError(name)

    def large(self, oid: Oid) -> Listed | None:
        """Return an object's own file."""
        if self._has_unsized and (one := self._files.get(loose_name(oid))):
            return one
        if not self._rows:
            return None
        self._sort()
        key = bytes([ALGORITHMS.index(oid.algorithm)]) + oid.digest
        at = bisect.bisect_left(self._rows, key)
        if at < len(self._rows) and self._rows[at].startswith(key):
            _, _, size, time_ns = _ROW.unpack(self._rows[at])
            return Listed(size, time_ns)
        return None

    def __len__(self) -> int:
        return len(self._files) + len(self._rows)

    def __iter__(self) -> Iterator[str]:
        yield from self._files
        self._sort()
        for row in self._rows:
            algorithm, digest, _, _ = _ROW.unpack(row)
            digits = digest.hex()
            yield f"objects/{ALGORITHMS[algorithm]}/{digits[:2]}/{digits[2:]}"

    def oids(self) -> Iterator[Oid]:
        """Yield the large objects."""
        for row in self._rows:
            algorithm, digest, _, _ = _ROW.unpack(row)
            yield Oid(ALGORITHMS[algorithm], digest)

    @property
    def names(self) -> Collection[str]:
        """The names of all but large objects."""
        return self._files.keys()

    def below(self, prefix: str) -> list[str]:
        """Return the names with a prefix, sorted; not those of large objects."""
        return sorted(name for name in self._files if name.startswith(prefix))

    def newest(self) -> int:
        """Return the latest time of all, in nanoseconds; 0 where nothing tells one."""
        times = (one.time_ns for one in self._files.values())
        return max(max(times, default=0), max((_ROW.unpack(row)[3] for row in self._rows), default=0))


def look(
    bucket: Bucket, *, is_whole: bool, expected: int = 0, wanted: Collection[str] = (), progress: Progress = SILENT
) -> Listing:
    """List a remote. `expected`: how many names `packs/` had before; `wanted`: what a narrow listing must know all the same.

    A remote of a thousand names is one request. What a narrow listing still lacks is asked for by `ask`.
    """
    listing = Listing(is_whole=is_whole)

    def take(page: Page) -> None:
        listing.add(page)
        progress.advance(files=len(page))

    if bucket.driver.is_flat:
        page, is_all = bucket.first_page()
        if is_all:
            take(page)
            listing.is_whole = True
            return listing
        take({name: one for name, one in page.items() if "/" not in name})  # what lies in folders comes again
        bucket.list([SWEEPS], take)
        bucket.list(_parts(is_whole, expected), take)
    else:
        page, folders = bucket.top()
        take(page)
        place = bucket.local_path("objects")  # a link to a folder is not among the folders
        listing.has_large = "objects" in folders or place is None or place.exists()
        parts = WHOLE if is_whole else NARROW
        if SWEEPS.rstrip("/") in folders:
            bucket.list([SWEEPS], take)
        bucket.list(
            [f"{name}/" for name in folders if (is_whole and f"{name}/" != SWEEPS) or f"{name}/" in parts], take
        )
    ask(bucket, listing, wanted)
    return listing


def _parts(is_whole: bool, expected: int) -> list[str]:
    parts: list[str] = []
    for prefix in WHOLE if is_whole else NARROW:
        if prefix == "packs/" and expected >= MANY:
            parts += [f"{prefix}{digit}" for digit in _HEX]
        elif prefix == "objects/" and expected:
            parts += [f"{prefix}{algorithm}/{digit}" for algorithm in ALGORITHMS for digit in _HEX]
        else:
            parts.append(prefix)
    return parts


def ask(bucket: Bucket, listing: Listing, names: Iterable[str]) -> None:
    """Make a narrow listing know of some files, by name; of many, by what lies beside them."""
    if listing.is_whole:
        return
    if not listing.has_large:
        names = [name for name in names if not name.startswith("objects/")]
    lacking = {name for name in names if name not in listing}
    objects = {name for name in lacking if name.startswith("objects/")}
    if len(objects) > _BY_NAME:

        def take(page: Page) -> None:
            listing.add({name: one for name, one in page.items() if name in objects})

        # A folder's listing where the server lists folders; where it lists prefixes, a sixteenth of all.
        width = 2 if not bucket.driver.is_flat else 1
        bucket.list(sorted({name[: name.rindex("/") - 2 + width] for name in objects}), take)
        lacking -= objects
    listing.add(bucket.infos(sorted(lacking)))
