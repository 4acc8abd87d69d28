"""All that roots reach: a walk over whole trees, level by level, which trusts nothing that it reads."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dvlite import lines
from dvlite.oid import Oid
from dvlite.tree import BLOB_MODES, Entry, ReadMany, Slot, open_slot, root_slot, slots_below


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


def walk(roots: Iterable[Entry], read_many: ReadMany, skip: Callable[[Slot], bool] | None = None) -> Reach:
    """Follow trees to all objects they name, but those to `skip`, a level at a time so that `read_many` can read in bulk."""
    reach = Reach({}, {}, set(), {})
    level: list[Slot] = []
    for root in roots:
        if root.is_tree:
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
