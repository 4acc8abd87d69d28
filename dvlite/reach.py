"""All that roots reach: a walk over whole trees, level by level, which trusts nothing that it reads."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from dvlite import lines
from dvlite.oid import Oid
from dvlite.tree import BLOB_MODES, Entry, ReadMany, Slot, open_slot, root_slot, slots_below

AT_ONCE = 1 << 18  # files whose objects are held in memory together


class Below(NamedTuple):
    """What one tree object names, trees (and pages) and blobs; and the place where it was found first."""

    slot: Slot
    trees: list[Oid]
    blobs: list[Oid]


class Reach(NamedTuple):
    """All that some roots reach: trees in the order found with what they name, blobs with their sizes.

    `missing`: trees that could not be read, and name nothing here; `skipped`: those to be left out, with all below them.
    """

    trees: dict[Oid, Below]
    blobs: dict[Oid, int]
    missing: set[Oid]
    skipped: dict[Oid, Slot]

    def oids(self) -> list[Oid]:
        """Return all objects but those missing."""
        return [*(oid for oid in self.trees if oid not in self.missing and oid not in self.blobs), *self.blobs]


Skip = Callable[[Slot], bool]


def walk(roots: Iterable[Entry | Slot], read_many: ReadMany, skip: Skip | None = None) -> Reach:
    """Follow trees to all objects they name, but those to `skip`, a level at a time so that `read_many` can read in bulk."""
    reach = Reach({}, {}, set(), {})
    level: list[Slot] = []
    for root in roots:
        if isinstance(root, Slot):
            level.append(root)
        elif root.is_tree:
            level.append(root_slot(root))
        else:
            reach.blobs[root.oid] = root.size
    while level:
        wanted: dict[Oid, Slot] = {}
        for slot in level:
            if slot.oid not in reach.trees:
                (reach.skipped if skip and skip(slot) else wanted)[slot.oid] = slot
        reach.trees.update((oid, Below(slot, [], [])) for oid, slot in wanted.items())
        level = []
        for oid, data in read_many(list(wanted)):
            slot = wanted.pop(oid)
            below = reach.trees[oid]
            if (blobs := lines.blobs(slot, data)) is None:
                page = open_slot(slot, data)
                blobs = [(row[1], row[2]) for row in page.entries if row[0] in BLOB_MODES]
                level.extend(slots_below(slot, page))
                below.trees.extend([row.oid for row in page.entries if row.mode not in BLOB_MODES])
            reach.blobs.update(blobs)
            below.blobs.extend([blob for blob, _ in blobs])
        reach.missing.update(wanted)
    return reach


def portions(roots: Iterable[Entry], read_many: ReadMany, most: int, skip: Skip | None = None) -> Iterator[list[Slot]]:
    """Yield trees in their places, of at most so many files at once, until no more than that are left (often at the start).

    What lies above these trees is read, a level at a time, and left to be walked; so is what can't be read.
    """
    level = [root_slot(root) for root in roots if root.is_tree]
    some: list[Slot] = []
    seen: set[Oid] = set()
    count = 0
    while level:
        large: dict[Oid, Slot] = {}
        for slot in level:
            if slot.oid in seen or (skip and skip(slot)):
                continue
            seen.add(slot.oid)
            files = slot.files or 0
            if files > most:
                large[slot.oid] = slot
                continue
            if count + files > most:
                yield some
                some, count = [], 0
            some.append(slot)
            count += files
        level = [
            below
            for oid, data in read_many(list(large))
            for below in slots_below(large[oid], open_slot(large[oid], data))
        ]
