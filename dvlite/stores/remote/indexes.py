"""Pack indexes of a remote, as they are kept here: immutable, so each is downloaded once; a copy that is torn is got anew.

Deletable without loss. Merged indexes spare a fresh clone thousands of requests; they are only a help.
"""

import contextlib
import re
import struct
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

from dvlite import files, hashing, pack
from dvlite.errors import CorruptError, FormatError, RemoteError
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.base import UNTOLD, Listed
from dvlite.stores.remote.listing import Listing
from dvlite.stores.table import list_ids

SMALL_FILE = 1 << 26  # no marker, claim or list of ours is larger
_MANY = 4  # so many are got one by one; more, by merged indexes where there are any
_ID = re.compile(r"[0-9a-f]{64}")
_NOT_HERE = (-1, -1)
_SIZES = struct.Struct(">32sQQ")  # a pack's id, the size of its index, its own size in bytes
_WORTH = 64  # so many new sizes are noted at once


def ids(listing: Iterable[str], folder: str, suffix: str) -> set[str]:
    """Return the ids of the files `<folder><id><suffix>`; a listing comes from strangers, and ids become file names here."""
    inner = (name[len(folder) : -len(suffix)] for name in listing if name.startswith(folder) and name.endswith(suffix))
    return {id_ for id_ in inner if _ID.fullmatch(id_)}


def _read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Return what was noted of packs, by id; nothing where it isn't whole."""
    with contextlib.suppress(OSError, struct.error):
        data = path.read_bytes()
        if hashing.checksum(data[:-16]) == data[-16:]:
            return {id_.hex(): (index, pack_) for id_, index, pack_ in _SIZES.iter_unpack(data[:-16])}
    return {}


class Indexes:
    """Copies of a remote's pack indexes, in a local folder. `remote`: the remote's name, for errors."""

    def __init__(self, bucket: Bucket, folder: Path, remote: str) -> None:
        self.bucket = bucket
        self.folder = folder
        self.tmp = folder / "tmp"
        self.remote = remote
        self._noted = 0

    @cached_property
    def _known(self) -> dict[str, tuple[int, int]]:
        found = _read_sizes(self.folder / "sizes")
        self._noted = len(found)
        return found

    def _path(self, id_: str) -> Path:
        return self.folder / "packs" / f"{id_}.idx"

    def here(self) -> set[str]:
        """Return the packs whose indexes are here."""
        return set(list_ids(self.folder / "packs", ".idx"))

    def load(self, id_: str, listing: Listing) -> pack.PackIndex:
        """Read the index of a listed pack."""
        try:
            return pack.decode_index(self._path(id_).read_bytes())
        except (CorruptError, FormatError):  # the copy here is damaged: get another
            self._path(id_).unlink()
            self._get_one(id_, listing)
            return pack.decode_index(self._path(id_).read_bytes())

    def sizes(self, id_: str) -> tuple[int, int]:
        """Return the size of an index that is here, and of the pack that it implies: an id says all of a pack."""
        if known := self._known.get(id_):
            return known
        if (found := self._sizes_of(id_)) != _NOT_HERE:
            self._known[id_] = found
        return found

    def note_sizes(self, live: Collection[str]) -> None:
        """Remember the sizes of live packs, so that the next look need not open each index."""
        if len(self._known) - self._noted < _WORTH:
            return
        self._known = {id_: self._known[id_] for id_ in live if id_ in self._known}
        self._noted = len(self._known)
        rows = b"".join([_SIZES.pack(bytes.fromhex(id_), *its) for id_, its in self._known.items()])
        with contextlib.suppress(OSError):
            data = rows + hashing.checksum(rows)
            files.write_atomic(self.folder / "sizes", data, folder=self.tmp, is_synced=False)

    def _sizes_of(self, id_: str) -> tuple[int, int]:
        try:
            with self._path(id_).open("rb") as file:
                tail_size = file.seek(0, 2)
                file.seek(-pack.FOOTER_SIZE, 2)
                footer = file.read()
        except OSError:
            return _NOT_HERE
        if not footer.endswith(pack.MAGIC):  # torn: to be got anew
            return _NOT_HERE
        return tail_size, int.from_bytes(footer[:8]) + tail_size

    def is_whole(self, id_: str, listing: Listing) -> bool:
        """Tell whether a listed pack and its listed index have the sizes that the index here implies."""
        sizes = self.sizes(id_)
        return sizes != _NOT_HERE and all(
            (one := listing.get(name)) and one.size in (size, UNTOLD)
            for name, size in zip((f"packs/{id_}.idx", f"packs/{id_}.pack"), sizes, strict=True)
        )

    def tail(self, id_: str) -> bytes:
        """Return an index as its pack has it at its end."""
        return self._path(id_).read_bytes()

    def pack_size(self, id_: str) -> int:
        """Return the size of a pack whose index is here, in bytes."""
        return self.sizes(id_)[1]

    def keep(self, id_: str, tail: bytes, *, is_ours: bool = False) -> None:
        """Remember a pack's index, if it is what its id says; `is_ours`: that is known."""
        if not is_ours and pack.decode_index(tail).id != id_:
            raise CorruptError(f"the index of pack {id_[:12]} on {self.remote} is another pack's")
        files.write_atomic(self._path(id_), tail, folder=self.tmp, is_synced=False)
        self._known.pop(id_, None)

    # ---- getting them ----

    def get(self, wanted: Collection[str], listing: Listing) -> None:
        """Get the indexes of listed packs that aren't here yet."""
        here = self.here()
        lacking = {
            id_
            for id_ in wanted
            if id_ not in here or self.sizes(id_)[0] not in self._sizes_told(listing[f"packs/{id_}.idx"], id_)
        }
        for id_ in lacking:
            self._known.pop(id_, None)
        if len(lacking) > _MANY:
            lacking -= self._get_merged(lacking, listing)
        self.bucket.many(lambda id_: self._get_one(id_, listing), sorted(lacking))

    def _sizes_told(self, listed: Listed, id_: str) -> tuple[int, ...]:
        return (listed.size,) if listed.size != UNTOLD else tuple({self.sizes(id_)[0]} - {-1})

    def _get_one(self, id_: str, listing: Listing) -> None:
        name = f"packs/{id_}.idx"
        if name in listing and listing[name].size > pack.MAX_TAIL:
            return  # none of ours; without it the pack doesn't count
        try:
            self.keep(id_, self.read_small(name, listing))
        except (CorruptError, FormatError):
            # The pack has it too. One that is cut short does not count all the same, and is sent anew.
            with contextlib.suppress(CorruptError, FormatError):
                self.keep(id_, self.tail_of(id_, listing))

    def tail_of(self, id_: str, listing: Listing) -> bytes:
        """Return a listed pack's index and footer, from the pack itself."""
        name = f"packs/{id_}.pack"
        size = listing[name].size
        if size == UNTOLD:
            size = self.bucket.infos([name])[name].size
        start = max(0, size - pack.FOOTER_SIZE)
        at, end = pack.tail_range(self.bucket.get(name, start, size), size)
        return self.bucket.get(name, at, end)

    def read_small(self, name: str, listing: Listing) -> bytes:
        """Return a listed file that must fit into memory; FormatError where it is larger than any of ours."""
        listed = listing.get(name)
        size = listed.size if listed else 0
        if size == UNTOLD:
            size = self.bucket.infos([name])[name].size
        if size > SMALL_FILE:
            raise FormatError(f"'{name}' is too large")
        return self.bucket.get(name)

    # ---- merged ones ----

    def merged(self, listing: Listing) -> list[str]:
        """Return the listed merged indexes, largest first."""
        return sorted(ids(listing.names, "indexes/", ".idx"), key=lambda id_: -listing[f"indexes/{id_}.idx"].size)

    def _covered_path(self, id_: str) -> Path:
        return self.folder / "indexes" / id_

    def covered(self, listing: Listing) -> set[str]:
        """Return the packs that the listed merged indexes name, as far as those were read here."""
        return set().union(*map(self.names_covered, self.merged(listing)))

    def note_covered(self, id_: str, names: Iterable[str]) -> None:
        """Remember which packs a merged index names."""
        files.write_atomic(self._covered_path(id_), "\n".join(sorted(names)).encode(), folder=self.tmp, is_synced=False)

    def names_covered(self, id_: str) -> set[str]:
        """Return the packs that one merged index names, as far as it was read here."""
        with contextlib.suppress(OSError):
            return set(self._covered_path(id_).read_text().split())
        return set()

    def merge(self, listing: Listing, *, at_least: int, is_whole: bool = False) -> None:
        """Upload one index of all listed packs that none covers (or of all), if they are so many."""
        known = set() if is_whole else self.covered(listing)
        listed = {id_ for id_ in self.here() - known if f"packs/{id_}.idx" in listing}
        if len(listed) >= at_least:
            tails = {id_: self._path(id_).read_bytes() for id_ in listed}
            id_, data = pack.encode_merged(tails)
            self.bucket.put(f"indexes/{id_}.idx", data)
            self.note_covered(id_, tails)
            listing.add({f"indexes/{id_}.idx": Listed(len(data), 0)})  # the next batch needs no other

    def _get_merged(self, lacking: set[str], listing: Listing) -> set[str]:
        got: set[str] = set()
        sizes = (listing[name].size for name in listing.below("packs/") if name.endswith(".idx"))
        most = 2 * sum(max(size, 0) for size in sizes)
        for id_ in self.merged(listing):
            name = f"indexes/{id_}.idx"
            is_of_ours = listing[name].size <= most + SMALL_FILE  # packs that it names may be gone
            if lacking <= got or not is_of_ours or self._covered_path(id_).exists():
                continue
            # Only a help, and perhaps replaced meanwhile.
            with contextlib.suppress(CorruptError, FormatError, RemoteError):
                tails = pack.decode_merged(self.bucket.get(name), id_)
                for one in (lacking - got) & tails.keys():
                    self.keep(one, tails[one])
                    got.add(one)
                self.note_covered(id_, tails)
        return got
