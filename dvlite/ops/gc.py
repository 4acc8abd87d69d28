"""Take out of the local store what nothing keeps and nobody put there lately: into the trash, for another grace period.

What is kept: all that any repository of this store names (see `roots`), and what is young. Small packs are put together. With
the lock held alone, so that nobody is between a look-up and the pointer that rests on it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dvlite import files, statkey
from dvlite.errors import UsageError
from dvlite.oid import Oid
from dvlite.ops import roots, saved
from dvlite.ops.roots import Keep
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.local import collect, trash
from dvlite.stores.local.collect import Held
from dvlite.stores.local.repack import drop, rewrite

GRACE_S = 14 * 86400
YOUNG, SHARING, UNCLEAR = "younger than the grace period", "in a pack of which most is kept", "a listing is nowhere"


@dataclass(slots=True)
class Stay:
    """How much stays for one reason; bytes of content."""

    reason: str
    objects: int = 0
    size: int = 0


@dataclass(slots=True)
class GcResult:
    """What went (or would go) to the trash, what stays and why, what was put together, and what left the trash for good.

    `unclear`: paths whose listings are nowhere; as long as that is so, nothing that could belong to them goes.
    """

    is_dry_run: bool = False
    objects: int = 0
    size: int = 0
    stays: list[Stay] = field(default_factory=list)
    merged_packs: int = 0
    emptied: int = 0
    emptied_size: int = 0
    unclear: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What to do with the store's files: which go whole, packs to write anew without what goes, small ones to put together."""

    doomed: list[str] = field(default_factory=list)
    rewritten: dict[str, list[Oid]] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    objects: dict[Oid, int] = field(default_factory=dict)
    stays: dict[str, Stay] = field(default_factory=dict)

    def stay(self, reason: str, size: int) -> None:
        """Count an object that stays."""
        one = self.stays.setdefault(reason, Stay(reason))
        one.objects += 1
        one.size += size


def gc(
    repo: Repo,
    *,
    grace_s: float = GRACE_S,
    is_dry_run: bool = False,
    is_forced: bool = False,
    progress: Progress = SILENT,
) -> GcResult:
    """Collect garbage. `is_forced`: also what may belong to versions whose listings are nowhere."""
    result = GcResult(is_dry_run)
    with repo.collecting("gc"):
        if not repo.store.state():
            return result
        repo.store.settle()
        progress.phase("look")
        keep = roots.keep(repo, roots.gather(repo, grace_s), may_ask_remote=True)
        result.notes = keep.notes
        result.unclear = sorted(set(keep.missing.values()))
        oldest_ns = statkey.stamp(repo.store.tmp) - int(grace_s * 10**9)
        spares = bool(keep.missing) and not is_forced
        plan = decide(collect.held(repo.store), keep, oldest_ns, pack_size=repo.store.pack_size, spares=spares)
        result.objects, result.size = len(plan.objects), sum(plan.objects.values())
        result.stays = list(plan.stays.values())
        result.merged_packs = len(plan.merged) if len(plan.merged) > 1 else 0
        old = [batch for batch in trash.batches(repo.store.root) if batch.time_ns < oldest_ns]
        result.emptied, result.emptied_size = sum(one.files for one in old), sum(one.size for one in old)
        if not is_dry_run:
            progress.phase("gc")
            _apply(repo, plan, keep)
            trash.empty(old)
            saved.expire(repo.git.common, grace_s)
    return result


def decide(held: Iterator[Held], keep: Keep, oldest_ns: int, *, pack_size: int, spares: bool) -> Plan:
    """Decide about each file. `spares`: what nothing names stays all the same."""
    plan = Plan()
    for one in held:
        is_old = one.mtime_ns < oldest_ns
        garbage = {oid: size for oid, size in one.objects.items() if oid not in keep.objects} if is_old else {}
        wasted = sum(garbage.values())
        goes = bool(garbage) and not spares and (len(garbage) == len(one.objects) or 2 * wasted >= one.size)
        for oid, size in one.objects.items():
            if oid in keep.objects:
                plan.stay(keep.reasons[keep.objects[oid]], size)
            elif not goes:
                plan.stay(YOUNG if not is_old else UNCLEAR if spares else SHARING, size)
        if goes:
            plan.objects.update(garbage)
            plan.doomed.append(one.name)
            if kept := [oid for oid in one.objects if oid not in garbage]:
                plan.rewritten[one.name] = kept
        elif one.is_pack and one.size < pack_size // 2 and one.objects.keys() <= keep.objects.keys():
            plan.merged.append(one.name)  # what is garbage, or will be, stays apart
    return plan


def _apply(repo: Repo, plan: Plan, keep: Keep) -> None:
    """First write what stays of the packs that go, then move; what can't be written anew stays as it is."""
    wanted: dict[str, list[Oid] | None] = {**plan.rewritten}
    if len(plan.merged) > 1:
        wanted |= dict.fromkeys(plan.merged)
    done = rewrite(repo.store, wanted, trees=keep.trees, limit=repo.store.pack_size) if wanted else set()
    collect.take_out(repo.store, [name for name in plan.doomed if name in done or name not in plan.rewritten])
    drop(repo.store, done & set(plan.merged))
    files.sweep(repo.store.tmp)


# ---- the trash ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TrashResult:
    """What was brought back, or deleted for good: files of the store, and their bytes.

    `left`: files that stay in the trash, because the store has others in their place.
    """

    files: int = 0
    size: int = 0
    left: int = 0


def restore(repo: Repo, *, is_dry_run: bool = False) -> TrashResult:
    """Bring back all that lies in the trash."""
    with repo.collecting("gc --restore"):
        if is_dry_run:
            found = trash.batches(repo.store.root)
            return TrashResult(sum(one.files for one in found), sum(one.size for one in found))
        back = trash.restore(repo.store.root)
        repo.store.refresh()
        left = sum(one.files for one in trash.batches(repo.store.root))
    return TrashResult(len(back), sum((repo.store.root / name).stat().st_size for name in back), left)


def empty(repo: Repo, *, is_dry_run: bool = False) -> TrashResult:
    """Delete for good all that lies in the trash."""
    with repo.collecting("gc --empty"):
        found = trash.batches(repo.store.root)
        if not is_dry_run:
            trash.empty(found)
    return TrashResult(sum(one.files for one in found), sum(one.size for one in found))


def parse_age(text: str) -> float:
    """Return the seconds of an age like 14d, 12h, 30m, 0."""
    units: Mapping[str, float] = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 86400, "w": 7 * 86400}
    number = text.rstrip("dhmsw")
    try:
        age = float(number) * units[text[len(number) :]]
        if not 0 <= age < math.inf:
            raise ValueError(text)
        return age
    except (ValueError, KeyError) as exc:
        raise UsageError(f"'{text}' is not an age", "Write it like 14d, 12h or 0.") from exc
