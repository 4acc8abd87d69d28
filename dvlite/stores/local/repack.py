"""Write packs anew: small ones together, or without what nothing keeps. The old ones go only once the new ones are on disk."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from dvlite import files, hashing
from dvlite.errors import CorruptError
from dvlite.oid import Oid
from dvlite.stores import packs

if TYPE_CHECKING:
    from dvlite.stores.local import LocalStore


def rewrite(
    store: LocalStore,
    wanted: Mapping[str, Collection[Oid] | None],
    *,
    trees: Collection[Oid] = (),
    limit: int = 1 << 62,
) -> set[str]:
    """Write certain objects (None: all) of some packs into new ones of at most `limit` bytes, known trees apart.

    Return the packs that are done: what was wanted of them lies elsewhere, on disk and in place, no younger than it was. They are
    still there. One that turns out corrupt is set aside and not done. FileNotFoundError where one is gone.
    """
    writers = {is_tree: packs.PackWriter(store.tmp, limit) for is_tree in (False, True)}
    written: list[packs.Written] = []
    done: set[str] = set()
    youngest = 0
    try:
        seen: set[Oid] = set()
        for name, oids in wanted.items():
            age = (store.root / name).stat().st_mtime_ns
            try:
                datas = list(_read(store, name, oids, seen))
            except CorruptError:
                continue
            for oid, data in datas:
                if full := writers[oid in trees].add(oid, data):
                    written.append(full)
            seen.update(oid for oid, _ in datas)
            youngest = max(youngest, age)
            done.add(name)
        written += [last for writer in writers.values() if (last := writer.finish())]
        finals = _publish(store, written, youngest)
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        for one in written:
            one.path.unlink(missing_ok=True)
        raise
    return done - finals


def _read(
    store: LocalStore, name: str, oids: Collection[Oid] | None, seen: Collection[Oid]
) -> Iterator[tuple[Oid, bytes]]:
    path = store.root / name
    places = packs.read_index(path).places
    mine = {oid: places[oid] for oid in (places if oids is None else oids) if oid not in seen}
    for oid, data in packs.read_objects(path, mine):
        if hashing.digest(oid.algorithm, data) != oid.digest:
            raise store.corrupt(oid, path)
        yield oid, data


def _publish(store: LocalStore, written: list[packs.Written], age_ns: int) -> set[str]:
    for one in written:
        os.utime(one.path, ns=(age_ns, age_ns))
        files.sync(one.path)
    finals = {f"packs/{one.id}.pack" for one in written}
    for one in written:
        os.rename(one.path, store.pack_path(one.id))
    if finals:
        files.sync(store.root / "packs")
    for name in finals:
        store.seen.note(name, store.root / name)
    return finals


def drop(store: LocalStore, names: Collection[str]) -> None:
    """Delete packs whose objects all lie in others, on disk."""
    if names:
        store.let_go([os.path.basename(name).removesuffix(".pack") for name in names])
        with store.seen.leaving(names):
            for name in names:
                (store.root / name).unlink(missing_ok=True)
        store.refresh()
