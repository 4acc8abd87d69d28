"""Two stores and the wanted oids: find what is missing, copy it, report. Knows no paths of a repository.

Order is what makes an interrupted transfer harmless: contents first, then the trees that name them. Coming in, trees come
first, because they say what else is wanted; the pointer already stands.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from dvlite import tree
from dvlite.errors import DvliteError, FormatError, MissingError
from dvlite.oid import Oid
from dvlite.progress import SILENT, Progress
from dvlite.stores.base import Report, Store
from dvlite.tree import Entry, Reach


def copy(source: Store, target: Store, wanted: Mapping[Oid, int], *, jobs: int, progress: Progress = SILENT) -> Report:
    """Copy objects (with their sizes) that `target` is known to lack; one that fails does not stop the others."""
    report = Report()
    if not wanted:
        return report
    try:
        batch = target.batch()
    except DvliteError as exc:
        report.fail(wanted.keys(), exc)
        return report
    try:
        with batch:
            source.send(wanted, batch, report, progress, jobs)
    except DvliteError as exc:
        for oid in batch.unpublished() & report.copied.keys():
            del report.copied[oid]
        report.fail(wanted.keys() - report.copied.keys() - report.failed.keys(), exc)
    lost = wanted.keys() - report.copied.keys() - report.failed.keys()
    report.fail(lost, MissingError(f"{len(lost)} objects did not arrive", "Run the same command again."))
    for oid, size in wanted.items():
        if size and report.copied.get(oid, size) != size:
            report.fail(
                [oid],
                FormatError(f"object {oid.short} has {report.copied.pop(oid)} bytes, not {size} as its tree says"),
            )
    return report


def reach(roots: Iterable[Entry], here: Store, there: Store | None = None, *, jobs: int = 4) -> Reach:
    """Return all that some roots reach, by the trees `here`; those that lack are copied from `there` first, if given."""

    def read_many(oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        lacking = set(oids) - here.find(oids).keys()
        if lacking and there:
            report = copy(there, here, dict.fromkeys(lacking, 0), jobs=jobs)
            for error in report.failed.values():
                if not isinstance(error, MissingError):
                    raise error
        yield from here.read_many(oids)

    return tree.walk(roots, read_many)


def seen(roots: Iterable[Entry], *stores: Store) -> Reach:
    """Return all that some roots reach, each tree read from the first store that has it; nothing is copied."""

    def read_many(oids: Collection[Oid]) -> Iterator[tuple[Oid, bytes]]:
        left = set(oids)
        for store in stores:
            for oid, data in store.read_many(left) if left else ():
                left = left - {oid}
                yield oid, data

    return tree.walk(roots, read_many)


def absent(wanted: Mapping[Oid, int], store: Store) -> dict[Oid, int]:
    """Return what a remote lacks, or has with another size than it should have; 0 stands for a size that isn't known."""
    found = store.find(wanted.keys())
    return {oid: size for oid, size in wanted.items() if oid not in found or (size and found[oid] != size)}


def lacking(wanted: Mapping[Oid, int], store: Store) -> dict[Oid, int]:
    """Return what a store that verifies all it takes in lacks; there, a size that differs is the tree's lie."""
    found = store.find(wanted.keys())
    return {oid: size for oid, size in wanted.items() if oid not in found}
