"""How objects leave a local store: whole packs as they are, large objects as files, the rest one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvlite import files
from dvlite.errors import CorruptError, DvliteError, MissingError, explain
from dvlite.oid import Oid
from dvlite.progress import Progress
from dvlite.stores import packs
from dvlite.stores.base import Batch, Report, loose_name

if TYPE_CHECKING:
    from dvlite.stores.local import LocalStore


class _Way(NamedTuple):
    """From where to where objects go, and who is told."""

    store: LocalStore
    target: Batch
    report: Report
    progress: Progress


def send(
    store: LocalStore, oids: Mapping[Oid, int], target: Batch, report: Report, progress: Progress, jobs: int
) -> None:
    """Send objects to a batch, `jobs` packs or files at a time; what fails goes to the report."""
    way = _Way(store, target, report, progress)
    shared, loose, absent = store.share(oids)
    for oid in absent:
        report.fail([oid], _absent(oid))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(jobs) as pool:
        # What lies where is forgotten with each pack: there may be millions of objects.
        waiting = [pool.submit(_send_pack, way, path, shared.pop(path)) for path in list(shared)]
        waiting += [pool.submit(_send_file, way, oid, path) for oid, path in loose.items()]
    for one in waiting:
        one.result()


def _absent(oid: Oid) -> MissingError:
    return MissingError(f"object {oid.short} is not in the local store")


def better_later(store: LocalStore, oids: Mapping[Oid, int]) -> set[Oid]:
    """Return the objects of packs that would be sent whole if all of each were wanted."""
    waiting: set[Oid] = set()
    for path, its in store.share(oids)[0].items():
        with contextlib.suppress(OSError, CorruptError):
            if not _is_small(store, path) and packs.count(path) > len(its):
                waiting.update(its)
    return waiting


def _is_small(store: LocalStore, path: Path) -> bool:
    # Small packs are put together into large ones on the way, so that many adds don't become many uploads.
    return path.stat().st_size < store.pack_size // 16


def _send_pack(way: _Way, path: Path, oids: Collection[Oid]) -> None:
    try:
        if not _is_small(way.store, path) and packs.count(path) == len(oids):
            sizes = way.target.put_pack(path)
            way.report.add({oid: sizes[oid] for oid in oids if oid in sizes}, way.progress)
            oids = [oid for oid in oids if oid not in sizes]  # the pack itself says what it has
    except CorruptError:
        way.store.verify(path)
    except FileNotFoundError:  # folded into another pack meanwhile
        way.store.refresh()
    except DvliteError as exc:
        way.report.fail(oids, exc)
        return
    try:
        _send_each(way, oids)
    except OSError as exc:
        way.report.fail([oid for oid in oids if oid not in way.report.copied], explain(exc, path, "can't read"))


def _send_each(way: _Way, oids: Collection[Oid]) -> None:
    """Send objects one by one; those that turn out corrupt are left out, and the others sent once more."""
    left = set(oids)
    while left:
        try:
            for oid, data in way.store.read_many(tuple(left)):
                way.target.put(data, oid.algorithm)
                way.report.add({oid: len(data)}, way.progress)
                left.discard(oid)
        except CorruptError:
            way.store.refresh()
            for oid in [oid for oid in left if not way.store.table.find(oid)]:
                way.report.fail(
                    [oid],
                    CorruptError(
                        f"object {oid.short} was corrupt in the local store",
                        "Run 'dvlite add' where you still have the data.",
                    ),
                )
                left.discard(oid)
            continue
        for oid in left:
            way.report.fail([oid], _absent(oid))
        return


def _send_file(way: _Way, oid: Oid, path: Path) -> None:
    checksum = way.store.checksum_of(path)
    try:
        taken = way.target.put_file(path, oid.algorithm, oid=oid, checksum=checksum)
        way.report.add({oid: taken.status.st_size}, way.progress)
        with contextlib.suppress(OSError):  # what can't be noted is read again
            way.store.seen.was_read(loose_name(oid), path)
    except CorruptError:
        # Perhaps only the checksum that was noted is wrong.
        if checksum and way.store.verify(path):
            _send_file(way, oid, path)
        else:
            way.report.fail([oid], way.store.corrupt(oid, path))
    except files.Moved:
        way.report.fail([oid], DvliteError(f"object {oid.short} changed in the local store while it was read"))
    except DvliteError as exc:
        way.report.fail([oid], exc)
    except OSError as exc:
        way.report.fail([oid], explain(exc, path, "can't read"))
