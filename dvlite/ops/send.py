"""Send what trees reach to a remote: contents, then the trees that name them; where there is very much, a portion at a time.

What a portion needs is held in memory, and what waits for the rest of its pack. A portion ends with its trees, as far as all
below them is there; what lies above all portions is sent last.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from dvlite import transfer
from dvlite.errors import CorruptError, FormatError, RemoteError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, once_each
from dvlite.progress import Progress
from dvlite.reach import Below, Reach
from dvlite.repo import Repo
from dvlite.stores.remote import RemoteStore, covers
from dvlite.stores.remote.covers import Cover
from dvlite.stores.remote.verify import Verified
from dvlite.tree import Entry, Slot


@dataclass(slots=True)
class PushResult:
    """What was sent: objects and bytes; `present` were there (one that is named twice may count twice).

    `missing`: objects that are nowhere, and who wants them; `purged`: how many of what was looked at are gone on purpose.
    `elsewhere`: paths whose data stays at its source, and was not sent (their listings were).
    `was_emptied`: what this clone has seen there before is gone. `by_path`: of a dry run, objects and bytes by path;
    `verified`: what was looked at once more, if that was asked for.
    """

    remote: str
    pointers: int = 0
    pushed: int = 0
    size: int = 0
    present: int = 0
    purged: int = 0
    is_dry_run: bool = False
    was_emptied: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    by_path: dict[str, tuple[int, int]] = field(default_factory=dict)
    verified: Verified | None = None
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class Sending:
    """A push under way. `known`: covers of trees that are there with all they reach; some `used`, some `fresh`: found by it.

    `handled`: trees that portions began with. Of what these reach, `trees` wait until the contents `left` have gone, and those
    `above` aren't there yet. `spoilt`: what can't be sent, and the trees above it. `may_note`: covers are found at all.
    """

    repo: Repo
    target: RemoteStore
    roots: dict[str, Entry]
    result: PushResult
    jobs: int
    progress: Progress
    known: dict[bytes, Cover]
    may_note: bool
    purged: set[Oid] = field(default_factory=set)
    used: dict[bytes, Cover] = field(default_factory=dict)
    fresh: dict[bytes, Cover] = field(default_factory=dict)
    handled: set[Slot] = field(default_factory=set)
    skipped: dict[Oid, Slot] = field(default_factory=dict)
    trees: dict[Oid, Below] = field(default_factory=dict)
    above: dict[Oid, int] = field(default_factory=dict)
    left: dict[Oid, int] = field(default_factory=dict)
    spoilt: set[Oid] = field(default_factory=set)

    def skips(self, slot: Slot) -> bool:
        """Tell whether all below a tree needs no look any more."""
        return slot in self.handled or (bool(self.known) and covers.key(slot) in self.known)

    def covers_of(self, reach: Reach) -> dict[bytes, Cover]:
        """Return the covers that earlier pushes noted of what was left out."""
        names = map(covers.key, reach.skipped.values()) if self.known else ()
        return {name: self.known[name] for name in names if name in self.known and name not in self.fresh}


def portions(sending: Sending) -> list[list[Slot]]:
    """Return what to send ahead of the rest; nothing where all can be held at once."""
    try:
        found = transfer.portions(
            sending.roots.values(), sending.repo.store, sending.target, jobs=sending.jobs, skip=sending.skips
        )
        return list(found)
    except (CorruptError, FormatError):  # whose it is, is said when the roots are walked
        return []


def send_ahead(sending: Sending, ahead: list[list[Slot]]) -> None:
    """Send what portions reach; stops where nothing can be read or sent, as that is said when the rest is."""
    slots = [slot for some in ahead for slot in some]
    sending.progress.phase("push", files=sum(one.files or 0 for one in slots), size=sum(one.size or 0 for one in slots))
    for some in ahead:
        try:
            reach = transfer.reach(some, sending.repo.store, sending.target, jobs=sending.jobs, skip=sending.skips)
        except (CorruptError, FormatError):
            return
        sending.target.is_fresh = True  # what went since the look is known
        failures = len(sending.result.failures)
        send(sending, reach, is_last=False)
        sending.handled.update(some)
        if any(isinstance(one.error, RemoteError) for one in sending.result.failures[failures:]):
            return


def reached(sending: Sending) -> Reach:
    """Walk all roots at once; where one can't be walked, each for itself, so that it stops no other."""
    store, target, jobs, skip = sending.repo.store, sending.target, sending.jobs, sending.skips
    try:
        return transfer.reach(sending.roots.values(), store, target, jobs=jobs, skip=skip)
    except (CorruptError, FormatError):
        total = Reach({}, {}, set(), {})
    for label, entry in list(sending.roots.items()):
        try:
            reach = transfer.reach([entry], store, target, jobs=jobs, skip=skip)
        except (CorruptError, FormatError) as exc:
            sending.result.failures.append(Failure(label, exc))
            del sending.roots[label]
            continue
        for whole, part in zip(total, reach, strict=True):
            whole.update(part)  # type: ignore[attr-defined]
    return total


def send(sending: Sending, reach: Reach, *, is_last: bool = True) -> None:
    """Send what `reach` has and the remote lacks, and what waits; unless it is the last, some of it may wait on."""
    repo, target, result, progress = sending.repo, sending.target, sending.result, sending.progress
    wanted = reach.oids()
    contents, found = reach.blobs, target.find(wanted)  # there may be many: no second list of them
    absent = reach.trees.keys() - found.keys() - contents.keys() - reach.missing - sending.purged
    above = sending.above | dict.fromkeys(absent, 0)
    there = {oid: size for oid, size in found.items() if contents.get(oid) in (0, size)}
    purged = sending.purged & contents.keys()
    again = sending.spoilt & contents.keys()  # said already
    for oid in [*purged, *there, *again]:
        contents.pop(oid, None)
    used = sending.covers_of(reach)
    sending.used |= used
    result.purged += len(purged)
    result.present += (
        len(wanted) - len(contents) - len(absent) - len(purged) - len(again) + sum(one.objects for one in used.values())
    )
    lost = transfer.lacking(contents, repo.store).keys() | reach.missing
    if lost:
        if not result.is_dry_run:
            repo.store.raise_generation()  # so that 'dvlite add' looks, and stores anew what lies in the worktree
        names = transfer.who_wants(sending.roots.items(), repo.store, lost)
        result.missing |= {str(oid): label for oid, label in names.items()}
        contents = {oid: size for oid, size in contents.items() if oid not in lost}
    if result.is_dry_run:
        result.pushed, result.size = len(contents) + len(above), sum(contents.values())
        result.by_path = _by_path(sending, contents | above)
        return
    if is_last and (contents or above or not sending.handled):
        progress.phase("push", files=len(contents), size=sum(contents.values()))
    elif there:
        progress.advance(files=len(there), size=sum(there.values()))
    contents |= sending.left
    later = set() if is_last else repo.store.better_later(contents)
    sending.left = {oid: contents.pop(oid) for oid in later} if len(later) <= transfer.WAITING else {}
    failed = _copy(sending, contents)
    trees = sending.trees | reach.trees
    waiting = _above(trees, sending.left.keys())
    sending.spoilt |= failed | lost
    sending.spoilt |= _above(trees, sending.spoilt)
    if failed := _copy(sending, {oid: 0 for oid in above if oid not in waiting and oid not in sending.spoilt}):
        sending.spoilt |= failed | _above(trees, failed)
    _note(sending, reach, {oid: trees[oid] for oid in trees if oid not in waiting and oid not in sending.spoilt})
    sending.trees = {oid: trees[oid] for oid in waiting}
    sending.above = {oid: 0 for oid in above if oid in waiting}


def _copy(sending: Sending, oids: dict[Oid, int]) -> set[Oid]:
    """Send objects; return those that failed, which are noted."""
    report = transfer.copy(sending.repo.store, sending.target, oids, jobs=sending.jobs, progress=sending.progress)
    sending.result.pushed += len(report.copied)
    sending.result.size += report.size
    if report.failed:
        names = transfer.who_wants(sending.roots.items(), sending.repo.store, report.failed)
        failures = [Failure(names.get(oid, ""), error) for oid, error in report.failed.items()]
        sending.result.failures = once_each([*sending.result.failures, *failures])
    return set(report.failed)


def _above(trees: Mapping[Oid, Below], oids: Set[Oid]) -> set[Oid]:
    """Return the trees that reach some objects: a tree goes up only after all that it names."""
    found: set[Oid] = set()
    if not oids:
        return found
    new = {oid for oid, below in trees.items() if not (oids.isdisjoint(below.trees) and oids.isdisjoint(below.blobs))}
    while new:
        found |= new
        new = {oid for oid, below in trees.items() if oid not in found and not found.isdisjoint(below.trees)}
    return found


def _note(sending: Sending, reach: Reach, trees: dict[Oid, Below]) -> None:
    """Find the covers of trees that are all there now."""
    sending.skipped |= reach.skipped
    if sending.may_note:
        done = Reach(trees, {}, reach.missing, sending.skipped)
        found = sending.target.covers_of(done, sending.known, sending.purged)
        sending.fresh |= found
        sending.known |= found


def _by_path(sending: Sending, absent: dict[Oid, int]) -> dict[str, tuple[int, int]]:
    """Return what each root would send, objects and bytes; what several reach counts for the first."""
    found: dict[str, tuple[int, int]] = {}
    for label, entry in sending.roots.items():
        if not absent:
            break
        reach = transfer.reach([entry], sending.repo.store)
        its = {oid: absent.pop(oid) for oid in {*reach.trees, *reach.blobs} & absent.keys()}
        if its:
            found[label] = (len(its), sum(its.values()))
    return found
