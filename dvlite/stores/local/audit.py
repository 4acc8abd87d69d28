"""Read every file of a local store and compare it with the oids it claims to hold, on all cores; or a part of them, in turns."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dvlite import files, hashing
from dvlite.errors import CorruptError, FormatError
from dvlite.oid import Oid
from dvlite.stores import packs
from dvlite.stores.base import loose_name
from dvlite.stores.local import LocalStore, collect
from dvlite.stores.table import list_ids

_PARALLEL = 1 << 26  # below so many bytes other processes are not worth their start


class Verdict(NamedTuple):
    """What was found in one file: its size, how many objects, and those that are not what their oids say.

    `bad` is None where the file as a whole can't be read, or a pack's index isn't one.
    """

    name: str
    size: int
    objects: int
    bad: list[Oid] | None


def names(store: LocalStore) -> list[str]:
    """Return the files that hold objects, in order."""
    found = [f"packs/{id_}.pack" for id_ in list_ids(store.root / "packs", ".pack")]
    return sorted([*found, *(loose_name(oid) for oid, _ in collect.loose(store))])


def take_turn(listed: Sequence[tuple[str, int]], after: str, share: float) -> list[str]:
    """Return the files (of names and sizes, in order) that come next after a name, with at least a share of all bytes."""
    total = sum(size for _, size in listed)
    start = next((at for at, (name, _) in enumerate(listed) if name > after), 0)
    chosen: list[str] = []
    size = 0
    for name, one in [*listed[start:], *listed[:start]]:
        if size >= share * total and chosen:
            break
        chosen.append(name)
        size += one
    return chosen


def verify(root: Path, chosen: Sequence[str]) -> Iterator[Verdict]:
    """Yield a verdict on each file, in any order; one that is gone meanwhile is left out."""
    tasks = [(root, name) for name in chosen]
    size = sum(_size(root / name) for name in chosen)
    workers = min(os.cpu_count() or 1, len(tasks))
    if workers < 2 or size < _PARALLEL:
        yield from _found(map(_verify, tasks))
        return
    import multiprocessing  # needs 20 ms
    from concurrent.futures import ProcessPoolExecutor

    # Processes, not threads: hashing small objects holds Python's lock. The largest come first, so that all end together.
    tasks.sort(key=lambda task: -_size(task[0] / task[1]))
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from _found(pool.map(_verify, tasks))


def _found(verdicts: Iterable[Verdict | None]) -> Iterator[Verdict]:
    yield from (one for one in verdicts if one)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _verify(task: tuple[Path, str]) -> Verdict | None:
    root, name = task
    path = root / name
    size = _size(path)
    try:
        if name.startswith("packs/"):
            index = packs.read_index(path)
            if f"packs/{index.id}.pack" != name:
                return Verdict(name, size, 0, None)
            return Verdict(name, size, len(index), sorted(packs.bad_objects(path, index)))
        _, algorithm, head, rest = name.split("/")
        oid = Oid(algorithm, bytes.fromhex(head + rest))
        is_bad = hashing.oid_of_file(algorithm, path) != oid
        return Verdict(name, size, 1, [oid] if is_bad else [])
    except FileNotFoundError:
        return None
    except (CorruptError, FormatError, OSError):
        return Verdict(name, size, 0, None)


def wrong_files(root: Path, claims: Sequence[tuple[str, Oid]]) -> list[str]:
    """Return the paths below `root` whose files are not what is claimed of them, on all cores."""
    tasks = [(root, path, oid) for path, oid in claims]
    size = sum(_size(root / path) for path, _ in claims)
    workers = min(os.cpu_count() or 1, len(tasks))
    if workers < 2 or size < _PARALLEL:
        return [path for path in map(_wrong, tasks) if path]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        return [path for path in pool.map(_wrong, tasks) if path]


def _wrong(task: tuple[Path, str, Oid]) -> str:
    root, path, oid = task
    try:
        fd = files.open_regular(root / path)
    except OSError:
        return ""
    try:
        return "" if hashing.oid_of_open_file(oid.algorithm, fd) == oid else path
    finally:
        os.close(fd)
