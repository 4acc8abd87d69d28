"""A store on a remote: packs with their indexes, large objects as files, and the claims of those who push.

Layout and write order: docs/remote.md. A remote is listed, or asked by name where that is less; pack indexes are immutable, so
each is downloaded once. What is remembered in `folder` is only ever a copy of immutable files.
"""

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from dvlite import config, files, hashing, pack
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, RemoteError, explain, quote
from dvlite.oid import Oid
from dvlite.pack import Place
from dvlite.progress import SILENT, Progress
from dvlite.reach import Reach
from dvlite.stores import packs
from dvlite.stores.base import Batch, Report, Store, loose_name, refuse_other
from dvlite.stores.local import tombs
from dvlite.stores.remote import covers
from dvlite.stores.remote import listing as listings
from dvlite.stores.remote.batch import RemoteBatch
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.covers import Cover
from dvlite.stores.remote.download import Came, sweep_partial
from dvlite.stores.remote.indexes import Indexes, ids
from dvlite.stores.remote.listing import Listing
from dvlite.stores.table import Table

_RANGE_GAP = 1 << 18  # a gap this small is cheaper read over than asked around
_RANGE_STEP = 1 << 24
_MANY = 1 << 13  # from so many objects on, a process that helps to verify them pays
_WHOLE_FRACTION = 2  # a pack is taken whole when at least 1/2 of it is wanted
_MANY_PAGES = 5  # a listing of fewer is always made
_NOTHING = Listing()

_Known = TypeVar("_Known")


class RemoteStore(Store):
    """Objects below a remote's root. `folder` (local) holds copies of pack indexes, and unfinished transfers."""

    def __init__(self, remote: config.Remote, folder: Path, *, pack_size: int = 1 << 26) -> None:
        self.name = f"remote '{remote.name}'"
        self.remote = remote
        self.pack_size = pack_size
        self.bucket = Bucket(
            remote.url,
            remote.options,
            jobs=remote.jobs,
            rate=remote.limit_rate,
            timeout_s=remote.timeout_s,
            folder=folder,
        )
        self.tmp = folder / "tmp"
        self.folder = folder
        self.indexes = Indexes(self.bucket, folder, self.name)
        self.listing: Listing | None = None
        self.live: set[str] = set()
        self._sent: set[str] = set()  # packs that went up since the last look
        self.was_emptied = False  # this clone has seen a remote there before, and there was nothing left
        self.is_fresh = False  # the listing was made for the look-up to come
        self._is_whole = False  # it has been listed whole, and so it stays
        self._table = Table(folder / "table", self.index_of)

    # ---- the listing, and which packs count ----

    def look(
        self,
        *,
        is_whole: bool = True,
        names: Collection[str] = (),
        oids: Collection[Oid] = (),
        covered: Collection[str] = (),
        progress: Progress = SILENT,
    ) -> Listing:
        """Look at the remote anew, and get the pack indexes that aren't here yet.

        Narrow (not `is_whole`), large objects and claims are left out; `names` are looked at all the same. Where this clone
        knows where all of `oids` should lie, and that is less, those files alone are asked for, and the packs `covered`.
        """
        self._is_whole |= is_whole
        self._sent.clear()
        names = {config.MARKER, *names}
        found = None if self._is_whole else self._answers(names, oids, covered)
        if found is None:
            expected = self._expected()
            found = listings.look(
                self.bucket, is_whole=self._is_whole, expected=expected, wanted=names, progress=progress
            )
            self._expect(found)
        self.listing = listing = found
        self.was_emptied |= not listing and self.is_known
        if config.MARKER in listing:
            self._check_marker(listing)
        elif any(name.startswith(("packs/", "objects/")) for name in listing):
            raise RemoteError(
                f"'{self.bucket.url}' has data, but no '{config.MARKER}'",
                f"Check the url: this may be another tool's folder. If it is dvlite's, {self._mend}.",
            )
        both = ids(listing.names, "packs/", ".idx") & ids(listing.names, "packs/", ".pack")
        self.indexes.get(both, listing)
        self.live = live = {id_ for id_ in both if self.indexes.is_whole(id_, listing)}
        self.folder.mkdir(parents=True, exist_ok=True)
        if not listing.is_part:
            self.indexes.note_sizes(live)
        self._table.refresh(live, may_write=not listing.is_part)
        return listing

    def _expected(self) -> int:
        """Return how many names the remote's packs had when all were last seen from here."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "names").read_text())
        return 0

    def _expect(self, listing: Listing) -> None:
        count = sum(name.startswith("packs/") for name in listing.names)
        if count != self._expected():
            files.write_atomic(self.folder / "names", str(count).encode(), folder=self.tmp, is_synced=False)

    def _answers(self, names: Collection[str], oids: Collection[Oid], covered: Collection[str]) -> Listing | None:
        """Ask by name for the files that hold all of some oids, as far as is known here; None where to list is less."""
        pages = self._expected() // listings.PAGE
        if not (oids or covered) or pages < _MANY_PAGES:
            return None
        self._table.refresh(self.indexes.here(), may_write=False)
        shared, loose = self._table.share(oids)
        packed = shared.keys() | set(covered)
        if 2 * len(packed) + len(loose) > pages:
            return None
        wanted = {f"packs/{id_}{suffix}" for id_ in packed for suffix in (".pack", ".idx")}
        wanted |= {loose_name(oid) for oid in loose}
        listing = Listing(is_whole=False, is_part=True)
        self.bucket.list(listings.ALWAYS, listing.add)
        listings.ask(self.bucket, listing, wanted | set(names))
        return listing if wanted <= set(listing) else None  # what isn't there may be elsewhere

    def _know(self, ask: Callable[[], tuple[_Known, list[Oid]]]) -> tuple[_Known, list[Oid], Listing]:
        """Return what the table is asked for, what it doesn't know, and a listing that tells of the files that would have."""
        listing = self.listing if self.listing is not None else self.look(is_whole=False)
        known, left = ask()
        if not left or listing.is_whole or not listing.has_large:
            return known, left, listing
        other = {loose_name(oid) for oid in left if not listing.large(oid)}
        if other and listing.is_part:
            listing = self.look(is_whole=False)
            known, left = ask()
        listings.ask(self.bucket, listing, other)
        return known, left, listing

    def _check_marker(self, listing: Listing) -> None:
        copy = self.folder / "marker"
        with contextlib.suppress(OSError, FormatError):  # a copy that is torn is got anew
            if len(copy.read_bytes()) == listing[config.MARKER].size:
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
        return self.indexes.read_small(name, self.listing or _NOTHING)

    @property
    def is_known(self) -> bool:
        """Tell whether this clone has seen a remote there before."""
        return (self.folder / "marker").exists()

    @property
    def has_marker(self) -> bool:
        """Whether a dvlite remote lies there, by the last look."""
        return config.MARKER in (self.listing or _NOTHING)

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

    def purged(self) -> set[Oid]:
        """Return what was purged there, by the last listing."""
        found = set()
        for name in (self.listing or _NOTHING).below(f"{tombs.FOLDER}/"):
            with contextlib.suppress(FormatError):
                found.add(tombs.parse(name[len(tombs.FOLDER) + 1 :]))
        return found

    def index_of(self, id_: str) -> pack.PackIndex:
        """Return the index of a live pack."""
        return self.indexes.load(id_, self.listing or _NOTHING)

    # ---- what is remembered of trees ----

    @property
    def _covers_path(self) -> Path:
        return self.folder / "covers"

    def covers(self) -> covers.Memory:
        """Return what is remembered of trees that lie there with all they reach: true while their packs are there."""
        return covers.read(self._covers_path)

    def covers_of(self, reach: Reach, known: Mapping[bytes, Cover], purged: Collection[Oid]) -> dict[bytes, Cover]:
        """Return which packs hold trees that are all there now, but for what was `purged`; those `known` are left out."""
        self._table.refresh(self.live | self._sent, may_write=not self._is_part)
        return covers.find(reach, known, purged, self._table.packs_of)

    def note_covers(self, found: Mapping[bytes, Cover], known: Mapping[bytes, Cover], purged: Collection[Oid]) -> None:
        """Remember what was found by this push, and what was known and holds."""
        earlier = {name: one for name, one in known.items() if self._is_part or one.packs <= self.live}
        covers.write(self._covers_path, found, earlier, covers.mark_of(purged), self.tmp)

    @property
    def _is_part(self) -> bool:
        return self.listing is None or self.listing.is_part

    def upload_pack(self, content: Path | bytes, id_: str, tail: bytes, progress: Progress = SILENT) -> None:
        """Upload a pack (a file, or all its bytes), then its index: a pack without one does not exist yet."""
        name = f"packs/{id_}.pack"
        if isinstance(content, bytes):
            self.bucket.put(name, content, is_sampled=True)
            progress.advance(size=len(content))
        else:
            self.bucket.put_file(name, content, lambda size: progress.advance(size=size))
        self.bucket.put(f"packs/{id_}.idx", tail)
        self.indexes.keep(id_, tail, is_ours=True)
        self._sent.add(id_)

    # ---- looking and reading ----

    def find(self, oids: Collection[Oid]) -> dict[Oid, int]:
        """Look at the remote, then look every oid up in the listing and the pack indexes."""
        if not self.is_fresh or self.listing is None:
            self.look(is_whole=False, oids=oids)
        self.is_fresh = False
        sizes, left, listing = self._know(lambda: self._table.sizes(oids))
        sizes.update((oid, one.size) for oid in left if (one := listing.large(oid)))
        return sizes

    def share(self, oids: Collection[Oid]) -> tuple[dict[str, list[Oid]], list[Oid], list[Oid]]:
        """Return which objects lie in which pack, in files of their own, nowhere; by the last look."""
        shared, left, listing = self._know(lambda: self._table.share(oids))
        loose = [oid for oid in left if listing.large(oid)]
        absent = [oid for oid in left if not listing.large(oid)]
        return shared, loose, absent

    def read_many(self, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        """Yield by coalesced ranges, then whole files."""
        shared, loose, _ = self.share(oids)
        for id_, its in shared.items():
            yield from self.read_of_pack(id_, self._table.places(id_, its))
        for oid in loose:
            data = self.bucket.get(loose_name(oid))
            yield self._checked(oid, data)

    def read_range(self, oid: Oid, start: int, end: int) -> bytes:
        """Get no more than that of an object that has a file of its own."""
        if oid in self.share([oid])[1] and self.bucket.driver.has_ranges:
            return self.bucket.get(loose_name(oid), start, end) if end > start else b""
        return super().read_range(oid, start, end)

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
        listing = self.listing if self.listing is not None else _NOTHING
        listings.ask(self.bucket, listing, [loose_name(oid)])
        if loose_name(oid) in listing:
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
        yield from (oid for oid in listing.oids() if oid not in known)

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
        shared, loose, absent = self.share(oids)
        for oid in absent:
            report.fail([oid], MissingError(f"object {oid.short} is not on {self.name}"))
        self.tmp.mkdir(parents=True, exist_ok=True)
        files.sweep(self.tmp)
        sweep_partial(self.folder)
        waiting = []
        from concurrent.futures import ThreadPoolExecutor

        is_help_worth = len(shared) > 1 and len(oids) >= _MANY
        with packs.helped() if is_help_worth else contextlib.nullcontext(), ThreadPoolExecutor(jobs) as pool:
            for id_ in list(shared):
                its = shared.pop(id_)  # what lies where is forgotten with each pack: there may be millions of objects
                if not self.bucket.driver.has_ranges or self._is_most(id_, its, oids):
                    waiting.append(pool.submit(self._send_pack, id_, its, target, report, progress))
                    continue
                for group in packs.coalesce(self._table.places(id_, its), gap=_RANGE_GAP, step=_RANGE_STEP):
                    waiting.append(pool.submit(self._send_group, id_, group, target, report, progress))
            for oid in loose:
                waiting.append(pool.submit(self._send_file, oid, target, report, progress))
        self.bucket.rest()
        for one in waiting:
            one.result()

    def better_later(self, oids: Mapping[Oid, int]) -> set[Oid]:
        """Look at how much of each pack is asked for."""
        if not self.bucket.driver.has_ranges:
            return set()
        shared = self.share(oids)[0]
        return {oid for id_, its in shared.items() if not self._is_most(id_, its, oids) for oid in its}

    def _is_most(self, id_: str, oids: Collection[Oid], sizes: Mapping[Oid, int]) -> bool:
        """Tell whether objects are so much of a pack that it is taken whole; of trees nobody said a size."""
        least = self.indexes.pack_size(id_) / _WHOLE_FRACTION
        is_most = sum(map(sizes.__getitem__, oids)) >= least
        return is_most or sum(place.size for place in self._table.places(id_, oids).values()) >= least

    def _send_pack(self, id_: str, oids: list[Oid], target: Batch, report: Report, progress: Progress) -> None:
        path, size = files.temporary(self.tmp), self.indexes.pack_size(id_)
        came = Came(progress)
        try:  # there are many packs: few requests for each
            self.bucket.get_file(f"packs/{id_}.pack", path, size, came.tell, step=_RANGE_STEP)
            taken = target.put_pack(path, is_given=True)
            report.add({oid: taken[oid] for oid in oids if oid in taken}, progress, told=came.size)
            lost = [oid for oid in oids if oid not in taken]
            report.fail(lost, CorruptError(f"pack {id_[:12]} on {self.name} is another pack"))
        except (CorruptError, FormatError):  # take what is good in it
            progress.advance(size=-came.size)
            for group in packs.coalesce(self._table.places(id_, oids), gap=-1, step=0):
                self._send_group(id_, group, target, report, progress)
        except (DvliteError, OSError) as exc:
            report.fail(oids, _as_error(exc, path))
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
        came = Came(progress)
        try:
            if place:  # copied once, and hashed meanwhile
                taken = target.put_file(place, oid.algorithm, oid=oid)
            else:
                size, work = (self.listing or _NOTHING)[name].size, hashing.ContentHash(oid.algorithm)
                came.is_resumed = self.bucket.get_file(name, path, size, came.tell, work=work)
                refuse_other(work.content().oid, oid)
                taken = target.put_file(path, oid.algorithm, oid=oid, checksum=work.content().checksum, is_given=True)
            report.add({oid: taken.status.st_size}, progress, told=came.size)
        except CorruptError:
            progress.advance(size=-came.size)
            if came.is_resumed:  # what an earlier try left here may be what is bad
                self._send_file(oid, target, report, progress)
            else:
                report.fail([oid], self._corrupt(oid))
        except files.Moved:
            report.fail([oid], RemoteError(f"object {oid.short} changed on {self.name} while it was read"))
        except (DvliteError, OSError) as exc:
            is_full = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
            report.fail([oid], _as_error(exc, path if is_full or not place else place))
        finally:
            path.unlink(missing_ok=True)

    # ---- coming in ----

    def batch(self, progress: Progress = SILENT) -> Batch:
        """Open a batch that uploads, and tells how far it is; what is uploaded counts once its index is there."""
        self.refuse_read_only()
        return RemoteBatch(self, progress)

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
