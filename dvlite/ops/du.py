"""How much room data takes: as files, as distinct content, and of that what is in the local store. Reads listings alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dvlite import transfer
from dvlite.errors import DvliteError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, pointers_at, select
from dvlite.repo import Repo


@dataclass(frozen=True, slots=True)
class Usage:
    """One tracked path, or all together (an empty path). `distinct`: bytes of its content; `stored`: of that here.

    `is_whole`: all listings are here; else the numbers are of those that are.
    """

    path: str
    size: int
    files: int
    distinct: int
    stored: int
    is_whole: bool = True


@dataclass(slots=True)
class DuResult:
    """Tracked paths, the largest first, and their sum: content that they share counts once there."""

    paths: list[Usage] = field(default_factory=list)
    total: Usage = Usage("", 0, 0, 0, 0)
    failures: list[Failure] = field(default_factory=list)


def du(repo: Repo, paths: Sequence[str] = (), *, rev: str | None = None) -> DuResult:
    """Measure tracked in-repo paths (all without) of the worktree's pointers, or of a rev."""
    pointers = pointers_at(repo, rev)
    selection = select(pointers, paths, repo.store.read)
    result = DuResult(failures=selection.failures)
    everything: dict[Oid, int] = {}
    for tracked in sorted(selection.parts):
        item = pointers.found[tracked]
        try:
            reach = transfer.reach([item.entry], repo.store)
            lacking = transfer.lacking(reach.blobs, repo.store)
        except DvliteError as exc:
            result.failures.append(Failure(tracked, exc))
            continue
        everything |= reach.blobs
        distinct = sum(reach.blobs.values())
        stored = distinct - sum(lacking.values())
        result.paths.append(Usage(tracked, item.size, item.files, distinct, stored, not reach.missing))
    result.paths.sort(key=lambda one: (-one.size, one.path))
    distinct = sum(everything.values())
    stored = distinct - sum(transfer.lacking(everything, repo.store).values()) if everything else 0
    size, count = sum(one.size for one in result.paths), sum(one.files for one in result.paths)
    result.total = Usage("", size, count, distinct, stored, all(one.is_whole for one in result.paths))
    return result
