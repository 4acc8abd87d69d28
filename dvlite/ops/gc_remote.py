"""Clean a remote in two phases: write down what nothing reaches; a grace period later, delete what still is so.

What reaches: all refs of this repository and, freshly fetched, of its Git remotes; all claims of those who push; what other
repositories name that were told. Small packs are put together on the way. See docs/remote.md.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import config, git, refs
from dvlite.errors import CorruptError, DvliteError, FormatError, UsageError
from dvlite.oid import Oid
from dvlite.ops import roots
from dvlite.ops.gc import GRACE_S, SHARING, Stay
from dvlite.ops.roots import Keep
from dvlite.progress import SILENT, Progress
from dvlite.refs import Kept
from dvlite.repo import Repo
from dvlite.stores import packs
from dvlite.stores.base import loose_name
from dvlite.stores.remote import RemoteStore, sweep
from dvlite.stores.remote.listing import Listing

_SMALL = 2  # a pack of less than half the full size is small
_MANY_SMALL = 16  # so many small packs are worth putting together
_WASTED = 2  # a pack of which less than half is reached is worth writing anew


@dataclass(slots=True)
class RemoteGcResult:
    """What was written down to go later, what was deleted, and how many small packs were put together."""

    remote: str
    is_dry_run: bool = False
    doomed: int = 0
    doomed_size: int = 0
    waiting: int = 0
    deleted: int = 0
    deleted_size: int = 0
    merged_packs: int = 0
    stays: list[Stay] = field(default_factory=list)


def gc_remote(
    repo: Repo,
    remote: str = "",
    *,
    grace_s: float = GRACE_S,
    others: Sequence[Path] = (),
    is_dry_run: bool = False,
    is_forced: bool = False,
    progress: Progress = SILENT,
) -> RemoteGcResult:
    """Clean a remote. `others`: folders of other repositories that push there; `is_forced`: go on without those not told."""
    store = repo.remote(remote)
    result = RemoteGcResult(store.remote.name, is_dry_run)
    if not is_dry_run:
        store.refuse_read_only()
    git.refuse_incomplete(repo.git)
    progress.phase("look")
    listing = store.look(progress=progress)
    if config.MARKER not in listing:
        return result
    _refuse_unknown(repo, store, others, is_forced)
    with repo.writing("gc --remote"):
        try:
            _clean(repo, store, result, grace_s, others, is_forced, progress)
        finally:
            git.scatter(repo.git)
    return result


def _refuse_unknown(repo: Repo, store: RemoteStore, others: Sequence[Path], is_forced: bool) -> None:
    """Refuse where something may name objects there that can't be asked."""
    told = {repo.config.id} | {config.decode((path / config.FILE).read_bytes()).id for path in others}
    unknown = sweep.repositories(store) - told
    if unknown and not is_forced:
        raise UsageError(
            f"{len(unknown)} other repositories push to '{store.remote.name}' ({', '.join(sorted(unknown))[:200]})",
            "Name a clone of each with --repo FOLDER, or rely on their claims of the last 90 days with --force.",
        )
    clones = {claim.clone for claim in sweep.claims(store) if claim.repository == repo.config.id} - {repo.clone_id}
    if clones and not git.remotes(repo.git) and not is_forced:
        raise UsageError(
            f"{len(clones)} other clones push to '{store.remote.name}', and there is no Git remote to learn of their commits",
            "Add the Git remote that they push to, or rely on their claims of the last 90 days with --force.",
        )


def _clean(
    repo: Repo,
    store: RemoteStore,
    result: RemoteGcResult,
    grace_s: float,
    others: Sequence[Path],
    is_forced: bool,
    progress: Progress,
) -> None:
    progress.phase("look")
    now = store.bucket.clock() if not result.is_dry_run else sweep.newest(store)
    oldest = now - int(grace_s * 10**9)
    due = [one for one in sweep.dooms(store) if one.time_ns < oldest]
    if due and not result.is_dry_run:
        _sweep(repo, store, due, result, others, is_forced)
        store.look()
    if not result.is_dry_run and sweep.mend_indexes(store):
        store.look()
    keep = _keep(repo, store, others, is_forced)
    progress.phase("gc")
    if not result.is_dry_run:
        result.merged_packs = _merge(store, keep)
    listing = store.look()
    waiting = {name for one in sweep.dooms(store) for name in one.doomed}
    unreached = _unreached(store, keep, result)
    redundant = _redundant(store, keep)
    doomed = {name for name in unreached if listing[name].time_ns < oldest or name in redundant} - waiting
    result.waiting = len(waiting & unreached)
    result.doomed, result.doomed_size = len(doomed), sum(listing[name].size for name in doomed)
    if not result.is_dry_run:
        sweep.doom(store, doomed)
        _clear(repo, store, oldest, is_forced)


def _claimed(repo: Repo, store: RemoteStore, is_forced: bool) -> list[Kept]:
    """Return what claims keep: those that hold, and old ones of other clones, whose commits may be where nobody here looks."""
    held, old = Kept("a claim", [], set()), Kept("an old claim of another clone (--force lets it go)", [], set())
    for claim in sweep.claims(store):
        if not sweep.is_expired(store, claim.name):
            held.named.update(claim.oids)
        elif claim.clone != repo.clone_id and not is_forced:
            old.named.update(claim.oids)
    return [held, old._replace(named=set(store.find(old.named)) if old.named else set())]


def _keep(repo: Repo, store: RemoteStore, others: Sequence[Path], is_forced: bool) -> Keep:
    """Return all that is reached, by refs fetched now and claims read now."""
    git.gather(repo.git)
    found: list[Kept] = list(refs.kept(repo.git))
    for path in others:
        one = git.discover(path.resolve())
        git.refuse_incomplete(one)
        git.gather(one)
        try:
            found += [kept.of_another(path) for kept in refs.kept(one)]
        finally:
            git.scatter(one)
    found += _claimed(repo, store, is_forced)
    keep = roots.keep(repo, found, repo.store, store)
    if keep.missing and not is_forced:
        paths = ", ".join(sorted(set(keep.missing.values()))[:5])
        raise DvliteError(
            f"the listings of some versions are neither here nor on '{store.remote.name}' ({paths})",
            "Push them from a clone that has them, or let go what may belong to them with --force.",
        )
    return keep


def _objects(store: RemoteStore, name: str) -> set[Oid]:
    if name.startswith("packs/"):
        return set(store.index_of(name[len("packs/") : -len(".pack")]).places)
    parts = name.split("/")
    return {Oid(parts[1], bytes.fromhex(parts[2] + parts[3]))}


def _names(store: RemoteStore) -> list[str]:
    """Return the files of the last listing that hold objects, packs without an index too."""
    if store.listing is None:
        return []
    packed = [name for name in store.listing.below("packs/") if name.endswith(".pack")]
    return [*packed, *map(loose_name, store.listing.oids())]


def _is_live(store: RemoteStore, name: str) -> bool:
    return not name.startswith("packs/") or name[len("packs/") : -len(".pack")] in store.live


def _unreached(store: RemoteStore, keep: Keep, result: RemoteGcResult | None = None) -> set[str]:
    """Return the files that nothing needs: no object in them is reached, or all that are lie in packs that stay."""
    unreached = _redundant(store, keep)
    stays: dict[str, Stay] = {}
    for name in _names(store):
        objects = _objects(store, name) if _is_live(store, name) else set()
        if not objects & keep.objects.keys():
            unreached.add(name)
        for oid in objects if name not in unreached else ():
            reason = keep.reasons[keep.objects[oid]] if oid in keep.objects else SHARING
            one = stays.setdefault(reason, Stay(reason))
            one.objects += 1
    if result:
        result.stays = list(stays.values())
    return unreached


def _redundant(store: RemoteStore, keep: Keep) -> set[str]:
    """Return packs whose reached objects all lie in others too; full packs come first and stay, then larger ones."""
    listing = store.listing or Listing()
    covered: set[Oid] = set()
    found = set()
    live = [name for name in _names(store) if name.startswith("packs/") and _is_live(store, name)]
    for name in sorted(live, key=lambda one: (_is_wasted(store, one, keep), -listing[one].size, one)):
        needed = _objects(store, name) & keep.objects.keys()
        if needed and needed <= covered:
            found.add(name)
        covered |= needed
    return found


def _is_wasted(store: RemoteStore, name: str, keep: Keep) -> bool:
    """Tell whether less than half of what a pack holds is reached."""
    places = store.index_of(name[len("packs/") : -len(".pack")]).places
    needed = sum(place.size for oid, place in places.items() if oid in keep.objects)
    return needed * _WASTED < sum(place.size for place in places.values())


# ---- the second phase -----------------------------------------------------------------------------------------------


def _sweep(
    repo: Repo,
    store: RemoteStore,
    due: Sequence[sweep.Doom],
    result: RemoteGcResult,
    others: Sequence[Path],
    is_forced: bool,
) -> None:
    mark = sweep.begin(store)
    until = time.monotonic() + sweep.SWEEP_S
    try:
        listing = store.look()  # from here on a push sees the mark; whoever did not has its claim in this listing
        keep = _keep(repo, store, others, is_forced)
        unreached = _unreached(store, keep)
        for one in due:
            names = {
                name for name, (size, at) in one.doomed.items() if name in unreached and listing.get(name) == (size, at)
            }
            names = _replaced(store, names, keep)
            gone = sweep.delete(store, names, until)
            result.deleted += len(gone)
            result.deleted_size += sum(listing[name].size for name in gone)
            if len(gone) == len(names):
                store.bucket.remove(one.name)
    finally:
        sweep.end(store, mark)


def _replaced(store: RemoteStore, names: set[str], keep: Keep) -> set[str]:
    """Leave out the packs of which something is reached that isn't whole, as it is read now, in the files that stay."""
    needed = {name: _objects(store, name) & keep.objects.keys() for name in names if _is_live(store, name)}
    wanted = set().union(*needed.values())
    whole: set[Oid] = set()
    listing = store.listing or Listing()
    for name in sorted(set(listing.below("packs/")) - names, key=lambda name: -listing[name].size):
        if not wanted - whole or not name.endswith(".pack") or not _is_live(store, name):
            continue
        id_ = name[len("packs/") : -len(".pack")]
        places = {oid: at for oid, at in store.index_of(id_).places.items() if oid in wanted and oid not in whole}
        whole |= store.whole_in(id_, places)
    return {name for name in names if needed.get(name, set()) <= whole}


def _clear(repo: Repo, store: RemoteStore, oldest: int, is_forced: bool) -> None:
    """Delete unfinished uploads that are old, claims that have expired, and merged indexes that a larger one replaces."""

    def old_claims() -> list[str]:
        claims = [name for name in (store.listing or Listing()).below("claims/") if sweep.is_expired(store, name)]
        return [name for name in claims if is_forced or name.split("/")[2] == repo.clone_id]

    if old_claims():
        mark = sweep.begin(store)
        try:
            store.look()  # whoever renews one from here on sees the mark, waits, and looks whether it is there
            for name in old_claims():
                store.bucket.remove(name)
        finally:
            sweep.end(store, mark)
    listing = store.listing or Listing()
    for name in listing.below("tmp/"):
        if listing[name].time_ns < oldest:
            store.bucket.remove(name)
    covered: set[str] = set()
    for id_ in store.indexes.merged(listing):
        names = store.indexes.names_covered(id_)
        if names and names & store.live <= covered:
            store.bucket.remove(f"indexes/{id_}.idx")
        covered |= names


# ---- small packs, and those that are mostly garbage -----------------------------------------------------------------


def _merge(store: RemoteStore, keep: Keep) -> int:
    """Put small packs together, and write anew those that are mostly garbage, without what nothing reaches; return how many.

    The doom list gets the old ones.
    """
    chosen = _to_merge(store, keep)
    if not chosen:
        return 0
    writers = {is_tree: packs.PackWriter(store.tmp, store.pack_size) for is_tree in (False, True)}
    seen: set[Oid] = set()
    store.tmp.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(store.bucket.jobs) as pool:
        for at in range(0, len(chosen), store.bucket.jobs):  # no more in memory at once
            for found in pool.map(lambda id_: _read_pack(store, id_, keep), chosen[at : at + store.bucket.jobs]):
                for oid, data in found.items():
                    if oid not in seen and (full := writers[oid in keep.trees].add(oid, data)):
                        _upload(store, full)
                seen.update(found)
    for writer in writers.values():
        if last := writer.finish():
            _upload(store, last)
    store.indexes.merge(store.look(), at_least=1, is_whole=True)
    return len(chosen)


def _to_merge(store: RemoteStore, keep: Keep) -> list[str]:
    listing = store.listing or Listing()
    redundant = _redundant(store, keep)
    small, wasted = [], []
    for id_ in sorted(store.live):
        name = f"packs/{id_}.pack"
        if name in redundant or not _objects(store, name) & keep.objects.keys():
            continue
        if listing[name].size < store.pack_size // _SMALL:
            small.append(id_)
        elif _is_wasted(store, name, keep):
            wasted.append(id_)
    return [*(small if len(small) >= _MANY_SMALL else []), *wasted]


def _read_pack(store: RemoteStore, id_: str, keep: Keep) -> dict[Oid, bytes]:
    """Return what is reached of a pack, by ranges; nothing of one that is corrupt, which stays as it is."""
    places = store.index_of(id_).places
    try:
        return dict(store.read_of_pack(id_, {oid: place for oid, place in places.items() if oid in keep.objects}))
    except (CorruptError, FormatError):
        return {}


def _upload(store: RemoteStore, written: packs.Written) -> None:
    try:
        store.upload_pack(written.path, written.id, written.tail)
    finally:
        written.path.unlink()
