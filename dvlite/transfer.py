"""Two stores and the wanted oids: find what is missing, copy it, report. Knows no paths of a repository.

Order is what makes an interrupted transfer harmless: contents first, then the trees that name them. Coming in, trees come
first, because they say what else is wanted; the pointer already stands.
"""

import contextlib
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from dvlite import machine, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError
from dvlite.oid import Oid
from dvlite.progress import SILENT, FilesOnly, Progress
from dvlite.reach import AT_ONCE as AT_ONCE
from dvlite.reach import Reach, Skip, walk
from dvlite.reach import portions as _portions
from dvlite.stores.base import Report, Store
from dvlite.tree import Entry, ReadMany, Slot

_MANY = 1 << 13
WAITING = 4 * AT_ONCE  # contents that may wait until more of their pack is wanted


def copy(source: Store, target: Store, wanted: Mapping[Oid, int], *, jobs: int, progress: Progress = SILENT) -> Report:
    """Copy objects (with their sizes) that `target` is known to lack; one that fails does not stop the others."""
    report = Report(wanted)
    if not wanted:
        return report
    if len(wanted) > _MANY:
        machine.give_memory_back()  # packs and their indexes come and go, several at once
    try:
        batch = target.batch(progress)
    except DvliteError as exc:
        report.fail(wanted.keys(), exc)
        return report
    try:
        with batch:
            source.send(wanted, batch, report, FilesOnly(progress) if batch.tells else progress, jobs)
    except DvliteError as exc:
        for oid in batch.unpublished() & report.copied.keys():
            del report.copied[oid]
        report.fail(wanted.keys() - report.copied.keys() - report.failed.keys(), exc)
    lost = [oid for oid in wanted if oid not in report.copied and oid not in report.failed]
    report.fail(lost, MissingError(f"{len(lost)} objects did not arrive", "Run the same command again."))
    for oid, size in wanted.items():
        if size and report.copied.get(oid, size) != size:
            report.fail(
                [oid],
                FormatError(f"object {oid.short} has {report.copied.pop(oid)} bytes, not {size} as its tree says"),
            )
    return report


def reach(
    roots: Iterable[Entry | Slot],
    here: Store,
    there: Store | None = None,
    *,
    jobs: int = 4,
    skip: Skip | None = None,
) -> Reach:
    """Return all that some roots reach, by the trees `here`; those that lack are copied from `there` first, if given."""
    return walk(roots, _reader(here, there, jobs), skip)


def portions(
    roots: Iterable[Entry],
    here: Store,
    there: Store | None = None,
    *,
    jobs: int = 4,
    skip: Skip | None = None,
) -> Iterator[list[Slot]]:
    """Yield trees to walk before `roots` are, where those have more files than should be held at once."""
    return _portions(roots, _reader(here, there, jobs), AT_ONCE, skip)


def reaches(roots: Collection[Entry], here: Store, there: Store | None = None, *, jobs: int = 4) -> Iterator[Reach]:
    """Yield all that some roots reach in portions, each of no more than should be held at once."""
    done: set[Slot] = set()
    for slots in portions(roots, here, there, jobs=jobs):
        yield reach(slots, here, there, jobs=jobs)
        done.update(slots)
    yield reach(roots, here, there, jobs=jobs, skip=done.__contains__ if done else None)


def _reader(here: Store, there: Store | None, jobs: int) -> ReadMany:
    def read_many(oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        lacking = set(oids) - here.find(oids).keys()
        if lacking and there:
            report = copy(there, here, dict.fromkeys(lacking, 0), jobs=jobs)
            for error in report.failed.values():
                if not isinstance(error, MissingError):
                    raise error
        yield from here.read_many(oids)

    return read_many


def who_wants(roots: Iterable[tuple[str, Entry]], here: Store, oids: Collection[Oid]) -> dict[Oid, str]:
    """Return for each object the label of the first root that reaches it, by the trees `here`; of those that can be walked."""
    found: dict[Oid, str] = {}
    left = set(oids)
    for label, root in roots:
        if not left:
            break
        with contextlib.suppress(CorruptError, FormatError):
            for one in reaches([root], here):
                its = {oid for oid in left if oid in one.trees or oid in one.blobs or oid in one.missing}
                found.update(dict.fromkeys(its, label))
                left -= its
    return found


def seen(roots: Iterable[Entry], *stores: Store) -> Reach:
    """Return all that some roots reach, each tree read from the first store that has it; nothing is copied."""

    def read_many(oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        left = set(oids)
        for store in stores:
            for oid, data in store.read_many(left) if left else ():
                left = left - {oid}
                yield oid, data

    return walk(roots, read_many)


class Named(NamedTuple):
    """What roots may reach: trees, blobs, and what could be a tree and is in none of the stores."""

    trees: set[Oid]
    blobs: set[Oid]
    missing: set[Oid]


def named(roots: Iterable[Oid], *stores: Store, known: Container[Oid] = ()) -> Named:
    """Follow all that some roots may reach, except what is `known`; unchecked, so that nothing is left out.

    A root that turns out to be no tree counts as a blob. A corrupt tree counts as missing.
    """
    found = Named(set(), set(), set())
    level = {oid for oid in roots if oid not in known}
    while level:
        below: set[Oid] = set()
        left = set(level)
        for store in stores:
            for oid, data in _readable(store, left):
                trees, blobs = tree.named(data)
                (found.trees if trees or blobs or data.startswith(b"dvlite-tree ") else found.blobs).add(oid)
                below.update(trees)
                found.blobs.update(one for one in blobs if one not in known)
                left = left - {oid}
        found.missing.update(left)
        level = {oid for oid in below if oid not in found.trees and oid not in found.missing and oid not in known}
    return found


_TREE_BYTES = 1 << 23  # no page of a tree is longer


def _readable(store: Store, oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
    sizes = store.find(oids) if oids else {}
    for oid, size in sizes.items():
        if size > _TREE_BYTES:
            yield oid, b""
    wanted = [oid for oid, size in sizes.items() if size <= _TREE_BYTES]
    try:
        yield from store.read_many(wanted) if wanted else ()
    except CorruptError:
        for oid in wanted:
            with contextlib.suppress(CorruptError):
                yield from store.read_many([oid])


def absent(wanted: Mapping[Oid, int], store: Store) -> dict[Oid, int]:
    """Return what a remote lacks, or has with another size than it should have; 0 stands for a size that isn't known."""
    found = store.find(wanted.keys())
    return {oid: size for oid, size in wanted.items() if oid not in found or (size and found[oid] != size)}


def lacking(wanted: Mapping[Oid, int], store: Store) -> dict[Oid, int]:
    """Return what a store that verifies all it takes in lacks; there, a size that differs is the tree's lie."""
    found = store.find(wanted.keys())
    return {oid: size for oid, size in wanted.items() if oid not in found}
