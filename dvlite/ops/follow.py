"""Let data follow the pointers that Git has moved: those that are not what data was last brought in line with, and only those.

Git's hooks call this after Git has changed the worktree. Unsaved data stays, and is named; what was never asked for stays absent.
"""

import contextlib
from dataclasses import dataclass, field

from dvlite import files, git, hashing, refs, tree
from dvlite.errors import DvliteError, FormatError, MissingError
from dvlite.index import Base, spell
from dvlite.ops.base import Selection, enclosing, reader
from dvlite.ops.bring import CheckoutResult, bring
from dvlite.ops.checkout import add_left_behind
from dvlite.ops.fetch import fetch
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.worktree import plan as plans

_POINTERS = "pointers"


@dataclass(slots=True)
class FollowResult:
    """What followed. `at_rev`: paths whose data is another rev's, on purpose, and stays; `fetch_error`: why nothing came."""

    checkout: CheckoutResult = field(default_factory=CheckoutResult)
    at_rev: dict[str, str] = field(default_factory=dict)
    fetch_error: DvliteError | None = None


def follow(
    repo: Repo, *, old: str = "", new: str = "", may_fetch: bool = False, progress: Progress = SILENT
) -> FollowResult:
    """Check out what Git moved; between two commits, also tracked paths that came with the second.

    `may_fetch`: get missing objects from the default remote, if this clone has used it before.
    """
    result = FollowResult()
    here = refs.in_worktree(repo.git)
    changed = git.changed_between(repo.git, old, new, SUFFIX) if old and new else {}
    came = {name.removesuffix(SUFFIX) for name, state in changed.items() if state == "A"} | _new_here(repo, here)
    selection = _moved(repo, here, came, {name.removesuffix(SUFFIX) for name in changed}, result)
    add_left_behind(repo, here, selection)
    if selection.parts:
        bases = repo.index.bases()
        still = {one for one in selection.parts if one in here.found and _is_in_line(bases.get(one), here.found[one])}
        _bring(repo, here, selection, may_fetch, result, progress)
        kept = result.checkout.kept  # where no pointer moved nothing was about to be replaced
        result.checkout.kept = [one for one in kept if enclosing(still, one.path) == ""]
    remember_pointers(repo, here)
    if state := git.index_state(repo.git, SUFFIX):
        files.write_atomic(repo.index.followed, state, is_synced=False)
    else:
        repo.index.followed.unlink(missing_ok=True)
    return result


def _is_in_line(base: Base | None, item: Pointer) -> bool:
    return base is not None and base.pointer == spell(item.entry)


def _bring(
    repo: Repo, here: Pointers, selection: Selection, may_fetch: bool, result: FollowResult, progress: Progress
) -> None:
    result.checkout = bring(repo, here, selection, progress=progress)
    if result.checkout.missing and may_fetch:
        again = Selection({path: selection.parts[path] for path in _owners(selection, result.checkout.missing)}, [])
        try:
            fetch(repo, list(again.parts), is_by_hook=True, progress=progress)
        except DvliteError as exc:
            result.fetch_error = exc
        else:
            result.checkout = bring(repo, here, again, progress=progress)


def remember_pointers(repo: Repo, here: Pointers) -> None:
    """Remember which pointers there are: one that is there the next time and isn't among these was brought by Git."""
    repo.index.set_note(_POINTERS, "\n".join(["pointers:", *map(tree.escape, [*here.found, *here.broken])]))


def _new_here(repo: Repo, here: Pointers) -> set[str]:
    before = repo.index.note(_POINTERS)
    known = set(before.split("\n"))
    return {tracked for tracked in here.found if tree.escape(tracked) not in known} if before else set()


def _moved(repo: Repo, here: Pointers, came: set[str], changed: set[str], result: FollowResult) -> Selection:
    selection = Selection({}, [])
    bases = repo.index.bases()
    for tracked, item in here.found.items():
        base = bases.get(tracked)
        if base is None or base.entry is None or (tracked in came and not base.rev):
            if tracked in came or tracked in changed:  # whatever was here of it before, it is not what somebody deleted
                selection.add(tracked, "")
        elif _is_in_line(base, item):
            if base.rev:  # the pointer has come to where the data is
                repo.index.set_base(tracked, base._replace(rev=""), {})
        elif base.rev:
            result.at_rev[tracked] = base.rev
        elif base.is_partial:
            if paths := _files(repo, base):
                selection.parts[tracked] = plans.only(paths)
        else:
            selection.add(tracked, "")
    return selection


def _files(repo: Repo, base: Base) -> list[str]:
    """Return the paths of the files that a base has."""
    found: list[str] = []
    read = reader(repo)

    def walk(entry: tree.Entry, path: str) -> None:
        for child in tree.entries(entry, read):
            inner = f"{path}/{child.name}" if path else child.name
            if child.is_tree:
                walk(child, inner)
            else:
                found.append(inner)

    with contextlib.suppress(MissingError, FormatError):
        if base.entry and base.entry.is_tree:
            walk(base.entry, "")
    return found


def told(repo: Repo, missing: list[str]) -> bool:
    """Tell whether all of this was said to be missing at the same state, and remember it: one switch calls several hooks."""
    state = hashing.checksum(git.index_state(repo.git, SUFFIX)).hex() if missing else ""
    before, *said = repo.index.note("told missing").split("\n")
    if before == state and set(missing) <= set(said):
        return True
    repo.index.set_note("told missing", "\n".join([state, *sorted(missing)]))
    return False


def _owners(selection: Selection, missing: list[str]) -> list[str]:
    return [tracked for tracked in selection.parts if any(f"{path}/".startswith(f"{tracked}/") for path in missing)]
