"""Verify a remote: every object against its oid, packs against their indexes, that all is there; heal it from what is here.

Everything is downloaded once and thrown away, or with a sample only a part, in turns.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dvlite import config, files, git, hashing, pack, refs, transfer
from dvlite.errors import CorruptError, DvliteError, FormatError
from dvlite.oid import Oid
from dvlite.ops import where
from dvlite.ops.fsck import FsckResult, Problem
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores import packs
from dvlite.stores.local import audit, tombs
from dvlite.stores.remote import RemoteStore, sweep
from dvlite.stores.remote.drivers.base import UNTOLD
from dvlite.stores.remote.listing import Listing

_AUDITED = "audited"


class _Bad(NamedTuple):
    """A file of the remote that is not as it must be: its bad objects, and those that are good in it with their bytes' places."""

    name: str
    what: str
    bad: set[Oid]
    good: set[Oid]


def fsck_remote(
    repo: Repo, remote: str = "", *, share: float = 1.0, is_repairing: bool = False, progress: Progress = SILENT
) -> FsckResult:
    """Verify a remote. `share`: only so much of it, beginning where the last such audit ended."""
    store = repo.remote(remote)
    result = FsckResult(store.remote.name)
    with repo.writing("fsck --remote"):
        if is_repairing and store.mend_marker():
            result.problems.append(Problem("corrupt", config.MARKER, healed="its own bytes"))
        progress.phase("look")
        listing = store.look(progress=progress)
        if config.MARKER not in listing:
            if not store.is_known:
                result.notes.append("nothing was ever pushed there")
                return result
            said = f"all of '{store.bucket.url}': it is empty or not there, and this clone has seen data there"
            result.problems.append(Problem("missing", said))
        _verify_claims(store, result, is_repairing)
        if is_repairing and (mended := sweep.mend_indexes(store)):
            result.problems += [Problem("missing", f"the index of {name}", healed="its own end") for name in mended]
            listing = store.look()
        _note_cut_off(store, result)
        bad = _verify(store, result, share, progress)
        lost = {oid for one in bad for oid in one.bad}
        result.problems += [
            Problem("corrupt", f"{one.name}: {one.what}", str(oid)) for one in bad for oid in sorted(one.bad)
        ] + [Problem("corrupt", f"{one.name}: {one.what}") for one in bad if not one.bad]
        missing = _incomplete(repo, store, result) if share >= 1 else set()
        found = where.places(repo, lost | missing, repo.store, store) if lost | missing else {}
        graves = {str(oid) for oid in store.purged() | tombs.oids(repo.store.root)}
        for problem in result.problems:
            if problem.kind == "missing" and problem.oid in graves:
                problem.kind = "purged"
            problem.places = next((places for oid, places in found.items() if str(oid) == problem.oid), [])
        if is_repairing and (bad or missing):
            store.refuse_read_only()
            _repair(repo, store, result, bad, missing, progress)
    return result


def _verify_claims(store: RemoteStore, result: FsckResult, is_repairing: bool) -> None:
    """Read what clones said that they push; a damaged claim keeps nothing, and is written anew by that clone's next push."""
    for name in store.listing.below("claims/") if store.listing else ():
        try:
            sweep.decode_claim(name, store.read_small(name))
        except FormatError:
            if is_repairing:
                store.bucket.remove(name)
            healed = "nothing: it is taken away, and the next push there writes it" if is_repairing else ""
            result.problems.append(Problem("corrupt", name, healed=healed))


def _note_cut_off(store: RemoteStore, result: FsckResult) -> None:
    """Say what uploads left that were cut off: packs and indexes without each other."""
    names = store.listing.below("packs/") if store.listing else []
    packed = [name for name in names if name.endswith((".pack", ".idx"))]
    stray = [name for name in packed if name[len("packs/") :].partition(".")[0] not in store.live]
    if stray:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        result.notes.append(
            f"'{stray[0]}'{more}: a pack or an index without the other, of an upload that was cut off, or that was lost"
            " (--repair mends what is whole, 'dvlite gc --remote' takes packs that aren't)"
        )


# ---- verifying ------------------------------------------------------------------------------------------------------


def _verify(store: RemoteStore, result: FsckResult, share: float, progress: Progress) -> list[_Bad]:
    listing = _told(store)
    names = sorted(name for name in listing if name.startswith(("packs/", "objects/", "indexes/")))
    chosen = names
    cursor = store.folder / _AUDITED
    if share < 1:
        after = cursor.read_text() if cursor.exists() else ""
        chosen = audit.take_turn([(name, listing[name].size) for name in names], after, share)
    progress.phase("fsck", files=len(chosen), size=sum(listing[name].size for name in chosen))
    store.tmp.mkdir(parents=True, exist_ok=True)
    bad = []

    def check(name: str) -> _Bad | None:
        found = _check(store, listing, name, result)
        progress.advance(files=1, size=listing[name].size)
        return found

    with ThreadPoolExecutor(store.bucket.jobs) as pool:
        for found in pool.map(check, chosen):
            result.files += 1
            if found:
                bad.append(found)
    result.size = sum(listing[name].size for name in chosen)
    if share < 1 and chosen:
        files.write_atomic(cursor, chosen[-1].encode(), is_synced=False)
    return bad


def _told(store: RemoteStore) -> Listing:
    """Return the last listing, with the sizes that it didn't tell."""
    listing = store.listing or Listing()
    untold = [name for name, one in listing.items() if one.size == UNTOLD]
    listing.add(store.bucket.infos(untold))
    return listing


def _check(store: RemoteStore, listing: Listing, name: str, result: FsckResult) -> _Bad | None:
    """Download one file and verify it; None where it is as it must be."""
    if name.endswith(".pack"):
        return _check_pack(store, listing, name, result)
    if name.startswith("objects/"):
        return _check_object(store, listing, name, result)
    try:
        if name.startswith("packs/") and listing[name].size > pack.MAX_TAIL:
            raise FormatError("it is too large for an index")
        data = store.bucket.get(name)
        id_ = name.rpartition("/")[2].removesuffix(".idx")
        if name.startswith("indexes/"):
            pack.decode_merged(data, id_)
        elif pack.decode_index(data).id != id_:
            raise CorruptError("it is another pack's index")
    except (CorruptError, FormatError) as exc:
        return _Bad(name, exc.message, set(), set())
    return None


def _check_pack(store: RemoteStore, listing: Listing, name: str, result: FsckResult) -> _Bad | None:
    id_ = name[len("packs/") : -len(".pack")]
    if f"packs/{id_}.idx" not in listing:
        return None  # an upload that was cut off: it does not exist yet
    known: set[Oid] = set()
    with contextlib.suppress(DvliteError, OSError):
        known = set(store.index_of(id_).places)
    path = files.temporary(store.tmp)
    try:
        store.bucket.get_file(name, path, listing[name].size)
        index = packs.read_index(path)
        if index.id != id_:
            return _Bad(name, "it is another pack", known, set())
        result.objects += len(index)
        if bad := packs.bad_objects(path, index):
            return _Bad(name, f"{len(bad)} of its objects are corrupt", bad, set(index.places) - bad)
    except (CorruptError, FormatError) as exc:
        good = _good_in(path, store.index_of(id_)) if known else set()
        return _Bad(name, exc.message.replace(str(path), name), known - good, good)
    finally:
        path.unlink(missing_ok=True)
    return None


def _good_in(path: Path, index: pack.PackIndex) -> set[Oid]:
    """Return the objects of a damaged pack that are whole."""
    if not path.exists():
        return set()
    return {oid for oid, data in packs.read_objects(path, index.places) if hashing.oid_of(oid.algorithm, data) == oid}


def _check_object(store: RemoteStore, listing: Listing, name: str, result: FsckResult) -> _Bad | None:
    _, algorithm, head, rest = name.split("/")
    path = files.temporary(store.tmp)
    try:
        oid = Oid(algorithm, bytes.fromhex(head + rest))
        result.objects += 1
        store.bucket.get_file(name, path, listing[name].size)
        if hashing.oid_of_file(algorithm, path) != oid:
            return _Bad(name, "it is not what its name says", {oid}, set())
    except ValueError:
        return _Bad(name, "its name is no oid", set(), set())
    finally:
        path.unlink(missing_ok=True)
    return None


def _incomplete(repo: Repo, store: RemoteStore, result: FsckResult) -> set[Oid]:
    """Return what commits name that Git's remotes have and the data remote lacks."""
    revs = ["--remotes", "--tags"] if git.remotes(repo.git) else ["--all"]
    found, broken = refs.selected(repo.git, revs, has_index=False)
    result.problems += [Problem("pointer", error.message) for _, error in broken]
    reach = transfer.named([item.oid for _, item in found if not item.is_elsewhere], repo.store, store)
    wanted = {*reach.trees, *reach.blobs, *reach.missing}
    known = {one.oid for one in result.problems}
    missing = {oid for oid in wanted - store.find(wanted).keys() if str(oid) not in known}
    result.problems += [Problem("missing", f"remote '{store.remote.name}'", str(oid)) for oid in sorted(missing)]
    return missing


# ---- healing --------------------------------------------------------------------------------------------------------


def _repair(
    repo: Repo, store: RemoteStore, result: FsckResult, bad: list[_Bad], missing: set[Oid], progress: Progress
) -> None:
    """Send anew what is bad or missing there and good here, then take the bad files away, a pack's index first."""
    wanted = missing | {oid for one in bad for oid in one.bad}
    here = repo.store.find(wanted)
    good = {oid for one in bad for oid in one.good}
    healed: set[str] = set()
    for one in bad:
        if one.name.endswith(".idx"):
            _heal_index(store, one.name)
    # A pack goes in any case, once what is good in it is safe: what is bad in it hides copies that others may send.
    doomed = [
        one for one in bad if one.name.endswith(".pack") or (one.bad <= here.keys() and not one.name.endswith(".idx"))
    ]
    for one in doomed:  # what is bad must not count as there while its content is sent
        if one.name.endswith(".pack"):
            _fetch_good(repo, store, one)
    sizes = repo.store.find({*wanted, *good})
    for one in doomed:
        if one.name.endswith(".pack"):
            store.bucket.remove(f"{one.name.removesuffix('.pack')}.idx")
        store.bucket.remove(one.name)
    store.look()
    lacking = transfer.absent(sizes, store)
    report = transfer.copy(repo.store, store, lacking, jobs=store.remote.jobs, progress=progress)
    store.look()
    present = store.find(wanted).keys()
    healed = {str(oid) for oid in wanted & sizes.keys() & present if oid not in report.failed}
    names = {one.name for one in doomed}
    for problem in result.problems:
        is_whole = not problem.oid and problem.what.partition(":")[0] not in {
            one.name for one in bad if one.name not in names
        }
        if problem.oid in healed or (
            problem.kind == "corrupt" and (is_whole or problem.what.partition(":")[0].endswith(".idx"))
        ):
            problem.healed = "the local store"


def _heal_index(store: RemoteStore, name: str) -> None:
    """Write a pack's index anew from the pack; a merged one is only a help, and goes."""
    if name.startswith("indexes/"):
        store.bucket.remove(name)
        return
    id_ = name[len("packs/") : -len(".idx")]
    with contextlib.suppress(DvliteError, KeyError):
        tail = store.indexes.tail_of(id_, store.listing or Listing())
        if pack.decode_index(tail).id == id_:
            store.bucket.put(name, tail)
            store.indexes.keep(id_, tail)


def _fetch_good(repo: Repo, store: RemoteStore, one: _Bad) -> None:
    """Bring here what is good in a bad pack, so that it can be sent anew; what is bad and nowhere here is kept as it is."""
    places = store.index_of(one.name[len("packs/") : -len(".pack")]).places if one.good else {}
    lacking = one.good - repo.store.find(one.good).keys()
    with repo.store.open_batch(is_synced=True) as batch:
        for oid in sorted(lacking):
            data = store.bucket.get(one.name, places[oid].offset, places[oid].offset + places[oid].size)
            if hashing.oid_of(oid.algorithm, data) == oid:
                batch.put(data, oid.algorithm)
    if one.bad - repo.store.find(one.bad).keys():
        aside = repo.store.root / "quarantine" / f"{files.token(4)}-{one.name.replace('/', '-')}"
        aside.parent.mkdir(exist_ok=True)
        store.bucket.get_file(one.name, aside, (store.listing or Listing())[one.name].size)
