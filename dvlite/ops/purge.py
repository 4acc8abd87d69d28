"""Remove content for good: a leaked secret, data that the law wants gone. What it breaks is shown first.

Tombstones tell it from a loss, here and on the remote, and keep it from coming back unasked.

Git keeps the pointers, and other clones their copies: those are said. Listings stay, so that names can still be told.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import files, hashing, pack, refs, transfer, tree
from dvlite.errors import CorruptError, DvliteError, FormatError, UsageError, quote
from dvlite.oid import Oid, parse
from dvlite.ops import where
from dvlite.ops.registry import pointer_of, read
from dvlite.ops.where import Place
from dvlite.reach import walk
from dvlite.repo import Repo
from dvlite.stores import packs
from dvlite.stores.base import Store, loose_name
from dvlite.stores.local import collect, tombs
from dvlite.stores.local.repack import drop, rewrite
from dvlite.stores.remote import RemoteStore
from dvlite.stores.remote.listing import Listing


@dataclass(slots=True)
class PurgeResult:
    """The objects, and every commit and version that they break; `worktree`: files that still have the content."""

    oids: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    size: int = 0
    remote: str = ""
    is_done: bool = False
    worktree: list[str] = field(default_factory=list)


def plan(repo: Repo, what: str, *, remote: str | None = None) -> PurgeResult:
    """Return what purging an oid, or all versions of an in-repo path, would break. `remote`: also look there for listings."""
    stores: list[Store] = [repo.store, *([repo.remote(remote)] if remote is not None else [])]
    is_oid = what.partition(":")[0] in ("sha256", "blake3")
    oids = _below(parse(what), stores) if is_oid else _of_path(repo, what, stores)
    if not oids:
        raise UsageError(f"no version has '{what}'", f"See 'dvlite ls {quote(what)}', or name an oid.")
    found = where.places(repo, oids, *stores)
    result = PurgeResult([str(oid) for oid in sorted(oids)], [place for oid in sorted(found) for place in found[oid]])
    result.places += where.elsewhere(repo, oids, *stores)
    result.size = sum(repo.store.find(oids).values())
    result.worktree = sorted(
        {place.path for place in result.places if place.is_here and (repo.root / place.path).exists()}
    )
    return result


def _below(oid: Oid, stores: Sequence[Store]) -> set[Oid]:
    """Return an object, or what a listing names: the listing itself has no content, and keeps the rest reachable."""
    reach = transfer.named([oid], *stores)
    return set(reach.blobs) if oid in reach.trees else {oid}


def _of_path(repo: Repo, path: str, stores: Sequence[Store]) -> set[Oid]:
    """Return the blobs at or below a path in all versions."""
    items = [one for kept in refs.kept(repo.git) for one in kept.pointers]

    def read(oid: Oid) -> bytes:
        for store in stores:
            for _, data in store.read_many([oid]):
                return data
        raise FormatError("a listing is nowhere")

    found: set[Oid] = set()
    for tracked, item in items:
        inner = path[len(tracked) + 1 :] if path.startswith(f"{tracked}/") else "" if path == tracked else None
        if inner is None:
            continue
        with contextlib.suppress(FormatError, CorruptError):
            entry = tree.find(item.entry, inner.split("/"), read) if inner else item.entry
            if entry:
                found |= _blobs(entry, read)
    return found


def _blobs(entry: tree.Entry, read: tree.Read) -> set[Oid]:
    reach = walk([entry], lambda oids: ((oid, read(oid)) for oid in oids))
    return set(reach.blobs)


def purge(repo: Repo, result: PurgeResult, *, remote: str | None = None, has_registered: bool = False) -> PurgeResult:
    """Do it: here, and on a remote too where one is named (empty: the default one).

    UsageError for what a registered version has, unless that may go too (`has_registered`).
    """
    oids = {parse(text) for text in result.oids}
    registered = _registered(repo, oids)
    if registered and not has_registered:
        raise UsageError(
            f"that is the data of {', '.join(registered[:5])}",
            "Take the version back with 'dvlite registry deregister', or purge it all the same with --registered.",
        )
    if remote is not None:
        store = repo.remote(remote)
        store.refuse_read_only()
        result.remote = store.remote.name
        _purge_remote(store, oids)
    with repo.collecting("purge"):
        tombs.note(repo.store.root, oids)  # first, so that an interrupted purge is told from a loss
        _purge_local(repo, oids)
    result.is_done = True
    return result


def _registered(repo: Repo, oids: Collection[Oid]) -> list[str]:
    """Return the registered versions, of those that are offered, that some objects belong to."""
    found = []
    for model in read(repo.git).values():
        for one in model.versions.values():
            with contextlib.suppress(DvliteError):
                entry = pointer_of(repo, one)[1].entry
                if not one.is_deregistered and not transfer.seen([entry], repo.store).blobs.keys().isdisjoint(oids):
                    found.append(one.tag)
    return found


def _purge_local(repo: Repo, oids: Collection[Oid]) -> None:
    store = repo.store
    if _take_out(repo, oids) and (
        left := _take_out(repo, oids)
    ):  # what is good in a damaged pack has one of its own by now
        raise CorruptError(
            f"'{store.root / left[0]}' can't be written anew without the content", "Run 'dvlite fsck --repair'."
        )
    for folder in ("trash", "quarantine", "tmp"):
        for path in (store.root / folder).rglob("*") if (store.root / folder).is_dir() else ():
            if path.is_file() and _may_hold(path, path.relative_to(store.root / folder).as_posix(), oids):
                path.unlink()


def _take_out(repo: Repo, oids: Collection[Oid]) -> list[str]:
    """Take objects out of the files that hold them; return the files that can't be read whole."""
    store = repo.store
    wanted: dict[str, list[Oid] | None] = {}
    gone = set()
    for held in collect.held(store):
        if held.objects.keys() & oids:
            gone.add(held.name)
            if left := [oid for oid in held.objects if oid not in oids]:
                wanted[held.name] = left
    done = rewrite(store, wanted, limit=store.pack_size) if wanted else set()
    store.raise_generation()
    drop(store, {name for name in gone if name not in wanted or name in done})
    return sorted(wanted.keys() - done)


def _may_hold(path: Path, name: str, oids: Collection[Oid]) -> bool:
    """Tell whether a file outside the store proper may have some content: a whole object, a pack, or what can't be told."""
    if any(name.endswith(loose_name(oid)) or oid.hex[2:] in path.name for oid in oids):
        return True
    with contextlib.suppress(CorruptError, FormatError, OSError):
        return not packs.read_index(path).places.keys().isdisjoint(oids)
    return "packs" in name.split("/") or path.suffix == ".pack"


def _purge_remote(store: RemoteStore, oids: Collection[Oid]) -> None:
    """Write packs anew without the content before the old ones go, an index before its pack."""
    store.look()
    for oid in oids:
        store.bucket.put(f"{tombs.FOLDER}/{tombs.name(oid)}", b"\n")
    store.tmp.mkdir(parents=True, exist_ok=True)
    for name in sorted(name for name in store.listing or () if name.startswith("packs/") and name.endswith(".pack")):
        _purge_pack(store, name[len("packs/") : -len(".pack")], oids)
    for oid in oids:
        store.bucket.remove(loose_name(oid))


def _purge_pack(store: RemoteStore, id_: str, oids: Collection[Oid]) -> None:
    """Write a pack anew without the content, also one that is damaged or has no index, with all that is good in it."""
    places: Mapping[Oid, pack.Place] = {}
    with contextlib.suppress(DvliteError, OSError):
        places = store.index_of(id_).places
    if places and places.keys().isdisjoint(oids):
        return
    path = files.temporary(store.tmp)
    writer = packs.PackWriter(store.tmp, 1 << 62)
    try:
        store.bucket.get_file(f"packs/{id_}.pack", path, (store.listing or Listing())[f"packs/{id_}.pack"].size)
        with contextlib.suppress(CorruptError, FormatError):
            places = packs.read_index(path).places
        if places and places.keys().isdisjoint(oids):
            return
        for oid, data in packs.read_objects(path, {oid: places[oid] for oid in places if oid not in oids}):
            if hashing.oid_of(oid.algorithm, data) == oid:
                writer.add(oid, data)
        if written := writer.finish():
            try:
                store.upload_pack(written.path, written.id, written.tail)
            finally:
                written.path.unlink()
    finally:
        path.unlink(missing_ok=True)
    if f"packs/{id_}.idx" in (store.listing or {}):
        store.bucket.remove(f"packs/{id_}.idx")
    store.bucket.remove(f"packs/{id_}.pack")


def lift(repo: Repo, what: str, *, remote: str | None = None) -> list[str]:
    """Allow content to come back that was purged; return the oids."""
    oids = [parse(what)]
    with repo.collecting("purge --lift"):
        if remote is not None:
            store = repo.remote(remote)
            for oid in oids:
                store.bucket.remove(f"{tombs.FOLDER}/{tombs.name(oid)}")
        tombs.lift(repo.store.root, oids)
    return [str(oid) for oid in oids]
