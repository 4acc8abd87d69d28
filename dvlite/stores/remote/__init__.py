"""A store on a remote: packs with their indexes, large objects as files, and the claims of those who push.

Layout and write order: docs/remote.md. A remote is listed, never asked object by object; pack indexes are immutable, so each
is downloaded once. What is remembered in `folder` is only ever a copy of immutable files.
"""

import contextlib
import errno
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from dvlite import config, files, hashing, pack
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, RemoteError, explain, quote
from dvlite.oid import ALGORITHMS, DIGEST_SIZE, Oid
from dvlite.pack import Place
from dvlite.progress import SILENT, Progress
from dvlite.stores import packs
from dvlite.stores.base import Batch, Report, Store, loose_name
from dvlite.stores.local import tombs
from dvlite.stores.remote.batch import RemoteBatch
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.table import Table, list_ids

_RANGE_GAP = 1 << 18  # a gap this small is cheaper read over than asked around
_RANGE_STEP = 1 << 24
_WHOLE_FRACTION = 2  # a pack is taken whole when at least 1/2 of it is wanted
_MANY_INDEXES = 4  # so many are got one by one; more, by merged indexes where there are any


_SMALL_FILE = 1 << 26  # no marker, claim or list of ours is larger

_ID = re.compile(r"[0-9a-f]{64}")


def _ids(listing: Iterable[str], folder: str, suffix: str) -> set[str]:
    """Return the ids of the files `<folder><id><suffix>`; a listing comes from strangers, and ids become file names here."""
    inner = (name[len(folder) : -len(suffix)] for name in listing if name.startswith(folder) and name.endswith(suffix))
    return {id_ for id_ in inner if _ID.fullmatch(id_)}


class RemoteStore(Store):
    """Objects below a remote's root. `folder` (local) holds copies of pack indexes, and unfinished transfers."""

    def __init__(self, remote: config.Remote, folder: Path, *, pack_size: int = 1 << 26) -> None:
        self.name = f"remote '{remote.name}'"
        self.remote = remote
        self.pack_size = pack_size
        self.bucket = Bucket(remote.url, remote.options, jobs=remote.jobs)
        self.tmp = folder / "tmp"
        self.folder = folder
        self.listing: dict[str, int] | None = None
        self.times: dict[str, int] = {}
        self.live: set[str] = set()
        self.was_emptied = False  # this clone has seen a remote there before, and there was nothing left
        self.is_fresh = False  # the listing was made for the look-up to come
        self._table = Table(folder / "table", self._load_index)

    # ---- the listing, and which packs count ----

    def look(self) -> dict[str, int]:
        """List the remote anew, and get the pack indexes that aren't here yet."""
        found = self.bucket.list()
        self.times = {name: one.time_ns for name, one in found.items()}
        self.listing = listing = {name: one.size for name, one in found.items()}
        self.was_emptied |= not listing and self.is_known
        if config.MARKER in listing:
            self._check_marker(listing)
        elif any(name.startswith(("packs/", "objects/")) for name in listing):
            raise RemoteError(
                f"'{self.bucket.url}' has data, but no '{config.MARKER}'",
                f"Check the url: this may be another tool's folder. If it is dvlite's, {self._mend}.",
            )
        indexed = _ids(listing, "packs/", ".idx")
        packed = _ids(listing, "packs/", ".pack")
        self._get_indexes(indexed & packed)
        self.live = live = {id_ for id_ in indexed & packed if self._is_whole(id_)}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._table.refresh(live)
        return listing

    def _is_whole(self, id_: str) -> bool:
        """Tell whether a listed pack and its listed index have the sizes that the index here implies."""
        listing = self.listing or {}
        tail_size, pack_size = self._sizes(id_)
        return listing[f"packs/{id_}.idx"] == tail_size and listing[f"packs/{id_}.pack"] == pack_size

    def _check_marker(self, listing: Mapping[str, int]) -> None:
        copy = self.folder / "marker"
        with contextlib.suppress(OSError, FormatError):  # a copy that is torn is got anew
            if len(copy.read_bytes()) == listing[config.MARKER]:
                config.decode_marker(copy.read_bytes())
                return
        try:
            data = self.read_small(config.MARKER)
            config.decode_marker(data)
        except FormatError as exc:
            raise FormatError(
                f"{self.name}: {exc.message}",
                exc.hint or f"Check the url with 'dvlite remote list'; if it is right, {self._mend}.",
            ) from exc
        files.write_atomic(copy, data, folder=self.tmp, is_synced=False)

    def read_small(self, name: str) -> bytes:
        """Return a listed file that must fit into memory; FormatError where it is larger than any of ours."""
        if (self.listing or {}).get(name, 0) > _SMALL_FILE:
            raise FormatError(f"'{name}' is too large")
        return self.bucket.get(name)

    @property
    def is_known(self) -> bool:
        """Tell whether this clone has seen a remote there before."""
        return (self.folder / "marker").exists()

    def emptied(self) -> RemoteError:
        """Return the error that says that all is gone."""
        return RemoteError(
            f"'{self.bucket.url}' is empty, and this clone has seen a dvlite remote there before",
            "Look whether its disk is mounted. To fill it anew: dvlite push --all, in each clone that has data.",
        )

    @property
    def _mend(self) -> str:
        return f"'dvlite fsck --remote-name {quote(self.remote.name)} --repair' writes it anew"

    def mend_marker(self) -> bool:
        """Write the marker anew where it is gone or damaged and what lies there is dvlite's; tell whether it was."""
        listing = self.bucket.list()
        if config.MARKER in listing:
            try:
                config.decode_marker(self.bucket.get(config.MARKER))
                return False
            except FormatError as exc:
                if exc.hint:  # another format: not to be written over
                    raise
        elif not listing and not self.is_known:
            return False
        if listing and not any(name.startswith("repos/") and name.endswith(".json") for name in listing):
            raise RemoteError(
                f"'{self.bucket.url}' doesn't look like a dvlite remote: no repository ever said that it pushes there",
                "Check the url with 'dvlite remote list'.",
            )
        self.refuse_read_only()
        self.bucket.put(config.MARKER, config.encode_marker())
        return True

    def _index_path(self, id_: str) -> Path:
        return self.folder / "packs" / f"{id_}.idx"

    def purged(self) -> set[Oid]:
        """Return what was purged there, by the last listing."""
        found = set()
        for name in self.listing or ():
            if name.startswith(f"{tombs.FOLDER}/"):
                with contextlib.suppress(FormatError):
                    found.add(tombs.parse(name[len(tombs.FOLDER) + 1 :]))
        return found

    def index_of(self, id_: str) -> pack.PackIndex:
        """Return the index of a live pack."""
        return self._load_index(id_)

    def _load_index(self, id_: str) -> pack.PackIndex:
        try:
            return pack.decode_index(self._index_path(id_).read_bytes())
        except (CorruptError, FormatError):  # the copy here is damaged: get another
            self._index_path(id_).unlink()
            self._get_index(id_)
            return pack.decode_index(self._index_path(id_).read_bytes())

    def _sizes(self, id_: str) -> tuple[int, int]:
        """Return the size of an index that is here, and of the pack that it implies."""
        try:
            with self._index_path(id_).open("rb") as file:
                tail_size = file.seek(0, 2)
                file.seek(-pack.FOOTER_SIZE, 2)
                footer = file.read()
        except OSError:
            return -1, -1
        if not footer.endswith(pack.MAGIC):  # torn: to be got anew
            return -1, -1
        return tail_size, int.from_bytes(footer[:8]) + tail_size

    def keep_index(self, id_: str, tail: bytes) -> None:
        """Remember a pack's index, if it is what its id says."""
        if pack.decode_index(tail).id != id_:
            raise CorruptError(f"the index of pack {id_[:12]} on {self.name} is another pack's")
        files.write_atomic(self._index_path(id_), tail, folder=self.tmp, is_synced=False)

    def _get_indexes(self, ids: Collection[str]) -> None:
        listing = self.listing or {}
        here = set(list_ids(self.folder / "packs", ".idx"))
        lacking = {id_ for id_ in ids if id_ not in here or self._sizes(id_)[0] != listing[f"packs/{id_}.idx"]}
        if len(lacking) > _MANY_INDEXES:
            lacking -= self._get_merged(lacking)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.bucket.jobs) as pool:
            list(pool.map(self._get_index, lacking))

    def _get_index(self, id_: str) -> None:
        if (self.listing or {}).get(f"packs/{id_}.idx", 0) > pack.MAX_TAIL:
            return  # none of ours; without it the pack doesn't count
        try:
            self.keep_index(id_, self.bucket.get(f"packs/{id_}.idx"))
        except (CorruptError, FormatError):
            # The pack has it too. One that is cut short does not count all the same, and is sent anew.
            with contextlib.suppress(CorruptError, FormatError):
                self.keep_index(id_, self.tail_of(id_))

    def tail_of(self, id_: str) -> bytes:
        """Return a listed pack's index and footer, from the pack itself."""
        size = (self.listing or {})[f"packs/{id_}.pack"]
        start = max(0, size - pack.FOOTER_SIZE)
        at, end = pack.tail_range(self.bucket.get(f"packs/{id_}.pack", start, size), size)
        return self.bucket.get(f"packs/{id_}.pack", at, end)

    def merged_ids(self) -> list[str]:
        """Return the listed merged indexes, largest first."""
        listing = self.listing or {}
        return sorted(_ids(listing, "indexes/", ".idx"), key=lambda id_: -listing[f"indexes/{id_}.idx"])

    def _covered_path(self, id_: str) -> Path:
        return self.folder / "indexes" / id_

    def covered(self) -> set[str]:
        """Return the packs that the listed merged indexes name, as far as those were read here."""
        return set().union(*map(self.names_covered, self.merged_ids()))

    def note_covered(self, id_: str, ids: Iterable[str]) -> None:
        """Remember which packs a merged index names."""
        files.write_atomic(self._covered_path(id_), "\n".join(sorted(ids)).encode(), folder=self.tmp, is_synced=False)

    def names_covered(self, id_: str) -> set[str]:
        """Return the packs that one merged index names, as far as it was read here."""
        with contextlib.suppress(OSError):
            return set(self._covered_path(id_).read_text().split())
        return set()

    def upload_pack(self, path: Path, id_: str, tail: bytes) -> None:
        """Upload a pack, then its index: a pack without one does not exist yet."""
        self.bucket.put_file(f"packs/{id_}.pack", path)
        self.bucket.put(f"packs/{id_}.idx", tail)
        self.keep_index(id_, tail)

    def merge_indexes(self, *, at_least: int, is_whole: bool = False) -> None:
        """Upload one index of all packs of the last listing that none covers (or of all), if they are so many."""
        here = set(list_ids(self.folder / "packs", ".idx"))
        known = set() if is_whole else self.covered()
        listed = {id_ for id_ in here - known if f"packs/{id_}.idx" in (self.listing or {})}
        if len(listed) >= at_least:
            tails = {id_: (self.folder / "packs" / f"{id_}.idx").read_bytes() for id_ in listed}
            id_, data = pack.encode_merged(tails)
            self.bucket.put(f"indexes/{id_}.idx", data)
            self.note_covered(id_, tails)

    def _get_merged(self, lacking: set[str]) -> set[str]:
        got: set[str] = set()
        listing = self.listing or {}
        most = 2 * sum(size for name, size in listing.items() if name.startswith("packs/") and name.endswith(".idx"))
        for id_ in self.merged_ids():
            is_of_ours = listing[f"indexes/{id_}.idx"] <= most + _SMALL_FILE  # packs that it names may be gone
            if lacking <= got or not is_of_ours or self._covered_path(id_).exists():
                continue
            with contextlib.suppress(
                CorruptError, FormatError, RemoteError
            ):  # only a help, and perhaps replaced meanwhile
                tails = pack.decode_merged(self.bucket.get(f"indexes/{id_}.idx"), id_)
                for one in (lacking - got) & tails.keys():
                    self.keep_index(one, tails[one])
                    got.add(one)
                self.note_covered(id_, tails)
        return got

    # ---- looking and reading ----

    def find(self, oids: Collection[Oid]) -> dict[Oid, int]:
        """List the remote, then look every oid up in the listing and the pack indexes."""
        listing = self.listing if self.is_fresh and self.listing is not None else self.look()
        self.is_fresh = False
        return {oid: size for oid in oids if (size := self._size_of(oid, listing)) is not None}

    def _size_of(self, oid: Oid, listing: Mapping[str, int]) -> int | None:
        if found := self._table.find(oid):
            return found.place.size
        return listing.get(loose_name(oid))

    def _group(self, oids: Collection[Oid]) -> tuple[dict[str, dict[Oid, Place]], list[Oid], list[Oid]]:
        listing = self.listing if self.listing is not None else self.look()
        by_pack: dict[str, dict[Oid, Place]] = {}
        loose, absent = [], []
        for oid in oids:
            if found := self._table.find(oid):
                by_pack.setdefault(found.pack, {})[oid] = found.place
            elif loose_name(oid) in listing:
                loose.append(oid)
            else:
                absent.append(oid)
        return by_pack, loose, absent

    def read_many(self, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        """Yield by coalesced ranges, then whole files."""
        by_pack, loose, _ = self._group(oids)
        for id_, places in by_pack.items():
            yield from self.read_of_pack(id_, places)
        for oid in loose:
            data = self.bucket.get(loose_name(oid))
            yield self._checked(oid, data)

    def read_of_pack(self, id_: str, places: Mapping[Oid, Place]) -> Iterator[tuple[Oid, bytes]]:
        """Yield objects of one pack, verified."""
        for group in packs.coalesce(places, gap=_RANGE_GAP, step=_RANGE_STEP):
            yield from self._get_range(id_, group)

    def whole_in(self, id_: str, places: Mapping[Oid, Place]) -> set[Oid]:
        """Read objects of one pack; return those that are what their oids say, there and nowhere else."""
        groups = packs.coalesce(places, gap=_RANGE_GAP, step=_RANGE_STEP)
        read = (one for group in groups for one in self._range(id_, group))
        return {oid for oid, data in read if hashing.digest(oid.algorithm, data) == oid.digest}

    def _get_range(self, id_: str, group: list[tuple[Oid, Place]]) -> Iterator[tuple[Oid, bytes]]:
        for oid, data in self._range(id_, group):
            yield self._checked(oid, data, id_)

    def _range(self, id_: str, group: list[tuple[Oid, Place]]) -> Iterator[tuple[Oid, bytes]]:
        start, end = group[0][1].offset, group[-1][1].offset + group[-1][1].size
        data = self.bucket.get(f"packs/{id_}.pack", start, end) if end > start else b""
        for oid, (offset, size) in group:
            yield oid, data[offset - start : offset - start + size]

    def _checked(self, oid: Oid, data: bytes, pack: str = "") -> tuple[Oid, bytes]:
        """Return what came (from a pack, or a file of its own) if it is what its oid says, else another copy."""
        if hashing.digest(oid.algorithm, data) == oid.digest:
            return oid, data
        for other in self._copies(oid, {pack}):
            if hashing.digest(oid.algorithm, other) == oid.digest:
                return oid, other
        raise self._corrupt(oid)

    def _copies(self, oid: Oid, skip: set[str]) -> Iterator[bytes]:
        """Yield an object's bytes from each pack that isn't skipped, then from its own file, as far as they can be read."""
        while found := self._table.find(oid, skip):
            skip.add(found.pack)
            with contextlib.suppress(DvliteError):
                start = found.place.offset
                yield self.bucket.get(f"packs/{found.pack}.pack", start, start + found.place.size)
        if loose_name(oid) in (self.listing or {}):
            with contextlib.suppress(DvliteError):
                yield self.bucket.get(loose_name(oid))

    def _corrupt(self, oid: Oid) -> CorruptError:
        return CorruptError(
            f"object {oid.short} is corrupt on {self.name}",
            f"Nothing of it was kept. In a clone that still has it: dvlite fsck --remote-name {quote(self.remote.name)} --repair",
        )

    def oids(self) -> Iterator[Oid]:
        """Yield what the packs have, then large objects, by a fresh listing."""
        listing = self.look()
        known: set[Oid] = set()
        for oid in self._table.oids():
            if oid not in known:
                known.add(oid)
                yield oid
        for name in listing:
            parts = name.split("/")
            if (
                len(parts) == 4
                and parts[0] == "objects"
                and parts[1] in ALGORITHMS
                and len(parts[2] + parts[3]) == 2 * DIGEST_SIZE
            ):
                oid = Oid(parts[1], bytes.fromhex(parts[2] + parts[3]))
                if oid not in known:
                    yield oid

    # ---- sending ----

    def send(
        self,
        oids: Mapping[Oid, int],
        target: Batch,
        report: Report,
        progress: Progress = SILENT,
        jobs: int = 4,
    ) -> None:
        """Send whole packs where most of one is wanted, ranges where not, and large objects as files."""
        by_pack, loose, absent = self._group(oids)
        for oid in absent:
            report.fail([oid], MissingError(f"object {oid.short} is not on {self.name}"))
        self.tmp.mkdir(parents=True, exist_ok=True)
        files.sweep(self.tmp)
        waiting = []
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(jobs) as pool:
            for id_, places in by_pack.items():
                if (
                    sum(place.size for place in places.values()) * _WHOLE_FRACTION
                    >= (self.listing or {})[f"packs/{id_}.pack"]
                ):
                    waiting.append(pool.submit(self._send_pack, id_, places, target, report, progress))
                else:
                    for group in packs.coalesce(places, gap=_RANGE_GAP, step=_RANGE_STEP):
                        waiting.append(pool.submit(self._send_group, id_, group, target, report, progress))
            for oid in loose:
                waiting.append(pool.submit(self._send_file, oid, target, report, progress))
        for one in waiting:
            one.result()

    def _send_pack(
        self, id_: str, places: Mapping[Oid, Place], target: Batch, report: Report, progress: Progress
    ) -> None:
        path = files.temporary(self.tmp)
        try:
            name = f"packs/{id_}.pack"
            self.bucket.get_file(name, path, (self.listing or {})[name])
            came = set(target.put_pack(path, is_given=True))
            report.add({oid: place.size for oid, place in places.items() if oid in came}, progress)
            report.fail(places.keys() - came, CorruptError(f"pack {id_[:12]} on {self.name} is another pack"))
        except (CorruptError, FormatError):  # take what is good in it
            for group in packs.coalesce(places, gap=-1, step=0):
                self._send_group(id_, group, target, report, progress)
        except (DvliteError, OSError) as exc:
            report.fail(places, _as_error(exc, path))
        finally:
            path.unlink(missing_ok=True)

    def _send_group(
        self, id_: str, group: list[tuple[Oid, Place]], target: Batch, report: Report, progress: Progress
    ) -> None:
        try:
            done = {}
            for oid, data in self._get_range(id_, group):
                target.put(data, oid.algorithm)
                done[oid] = len(data)
            report.add(done, progress)
        except CorruptError as exc:
            if len(group) == 1:
                report.fail([group[0][0]], exc)
            else:
                for one in group:
                    self._send_group(id_, [one], target, report, progress)
        except (DvliteError, OSError) as exc:
            report.fail([oid for oid, _ in group], _as_error(exc, id_))

    def _send_file(self, oid: Oid, target: Batch, report: Report, progress: Progress) -> None:
        path = files.temporary(self.tmp)
        name = loose_name(oid)
        place = self.bucket.local_path(name)
        try:
            if place:  # copied once, and hashed meanwhile
                taken = target.put_file(place, oid.algorithm, oid=oid)
            else:
                self.bucket.get_file(name, path, (self.listing or {})[name])
                taken = target.put_file(path, oid.algorithm, oid=oid, is_given=True)
            report.add({oid: taken.status.st_size}, progress)
        except CorruptError:
            report.fail([oid], self._corrupt(oid))
        except files.Moved:
            report.fail([oid], RemoteError(f"object {oid.short} changed on {self.name} while it was read"))
        except (DvliteError, OSError) as exc:
            is_full = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
            report.fail([oid], _as_error(exc, path if is_full or not place else place))
        finally:
            path.unlink(missing_ok=True)

    # ---- coming in ----

    def batch(self) -> Batch:
        """Open a batch that uploads; what is uploaded counts once its index is there."""
        self.refuse_read_only()
        return RemoteBatch(self)

    @property
    def is_read_only(self) -> bool:
        """Whether it is only read from."""
        return self.remote.is_read_only or self.bucket.protocol == "https"

    def refuse_read_only(self) -> None:
        """Raise RemoteError for a remote that is only read from."""
        if self.is_read_only:
            raise RemoteError(f"{self.name} is read-only", "Push to another remote with 'dvlite push --remote NAME'.")


def _as_error(exc: DvliteError | OSError, path: str | Path) -> DvliteError:
    return explain(exc, path, "can't write") if isinstance(exc, OSError) else exc
