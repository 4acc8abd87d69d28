"""Before Git pushes commits: send what they name and the remote lacks, whichever branch is checked out; or say why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dvlite import config, git, refs, registry, remotes, transfer
from dvlite.errors import DvliteError, FormatError, UsageError, quote
from dvlite.ops.push import missing_error, push_all
from dvlite.ops.send import PushResult
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import Silent
from dvlite.repo import Repo

LARGE = 10**9  # bytes; a server may drop the connection that Git holds open meanwhile


class Update(NamedTuple):
    """One ref that Git is about to push: the commit (or tag) here, and what the other side has; `target`: its name there."""

    name: str
    here: str
    there: str
    target: str = ""


class _Announcing(Silent):
    """Says once how much is sent, if it is much."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        if name == "push" and size > LARGE:
            self._announce(size)


@dataclass(slots=True)
class PrepushResult:
    """What was sent, to each remote; `notes` for the user. Nothing where the commits name no data."""

    pushes: list[PushResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def open_for(repository: git.Git, commits: Sequence[str]) -> Repo | None:
    """Open a repository for a push, with the settings of the commits where the worktree's branch has none."""
    repo = Repo(repository)
    if (repo.root / config.FILE).exists():
        return repo
    for commit in commits:
        if commit.strip("0") and (text := git.file_at(repository, commit, config.FILE)):
            repo.config = config.decode(text)
            return repo
    return None


def before_push(
    repo: Repo,
    remote: str,
    updates: Sequence[Update],
    *,
    announce: Callable[[int], None] = lambda _: None,
) -> PrepushResult:
    """Push the data of the commits that Git is about to push to a Git remote. Raises where the Git push must not go on.

    `announce` is called with the bytes to send when they are many.
    """
    refuse_overwrite(updates)
    revs = _revs(repo, remote, updates)
    tips = list(dict.fromkeys(update.here for update in updates if update.here.strip("0")))
    return _before(repo, revs, announce, tips) if revs else PrepushResult()


def refuse_overwrite(updates: Sequence[Update]) -> None:
    """Refuse a push that would change or delete a registry's tag on the other side."""
    for one in updates:
        tag = one.target.removeprefix("refs/tags/")
        is_other = bool(one.there.strip("0")) and one.there != one.here
        if one.target.startswith("refs/tags/") and is_other and registry.is_tag(tag):
            what = "changed" if one.here.strip("0") else "deleted"
            raise UsageError(
                f"'{tag}' is registered on the other side, and can't be {what}",
                "What is registered stays: register the next version ('dvlite help registry').",
            )


def before_any_push(
    repo: Repo, tips: Sequence[str] = (), *, announce: Callable[[int], None] = lambda _: None
) -> PrepushResult:
    """Push the data of all branches, tags and `tips` that no Git remote has yet: for callers that are not told."""
    known = [tip for tip in tips if tip.strip("0") and git.has_commit(repo.git, tip)]
    return _before(repo, ["--branches", "--tags", *known, "--not", "--remotes"], announce, known)


def _before(repo: Repo, revs: list[str], announce: Callable[[int], None], tips: Sequence[str] = ()) -> PrepushResult:
    result = PrepushResult()
    found, broken = refs.selected(repo.git, revs, has_index=False)
    known = [] if found or broken else _at_tips(repo, tips)
    if not found and not broken and not known:
        return result
    if not remotes.default_name(repo.config, repo.settings):
        raise UsageError(
            "these commits name data, and there is no dvlite remote to push it to",
            "Add one with 'dvlite remote add origin URL', or push the commits alone with 'git push --no-verify'.",
        )
    if known and not _lacks(repo, known):
        return result
    result.pushes = push_all(repo, revs=revs, tips=tips, progress=_Announcing(announce))
    for one in result.pushes:
        _judge(repo, one, result.notes)
    return result


def _at_tips(repo: Repo, tips: Sequence[str]) -> list[tuple[str, Pointer]]:
    commits = [tip for tip in tips if git.has_commit(repo.git, tip)]
    return [one for commit in commits for one in refs.at(repo.git, commit).found.items()]


def _lacks(repo: Repo, items: Sequence[tuple[str, Pointer]]) -> bool:
    """Tell whether a fresh listing of the remote lacks something of commits that Git has pushed before, hooks or not."""
    routes = remotes.routes(repo.config, repo.settings)
    by_remote: dict[str, list[Pointer]] = {}
    for path, item in items:
        if item.is_elsewhere:
            continue
        by_remote.setdefault(routes.of(path), []).append(item)
    for name, its in by_remote.items():
        reach = transfer.reach([item.entry for item in its], repo.store)
        if transfer.absent(dict.fromkeys(reach.trees, 0) | reach.blobs, repo.remote(name)):
            return True
    return False


def _revs(repo: Repo, remote: str, updates: Sequence[Update]) -> list[str]:
    """Return what selects the commits that the other side lacks, in Git's words; empty where there is none."""
    new = [update.here for update in updates if update.here.strip("0")]
    if not new:
        return []
    known = [update.there for update in updates if update.there.strip("0") and git.has_commit(repo.git, update.there)]
    return [*new, "--not", *known, f"--remotes={remote}"]


def _judge(repo: Repo, result: PushResult, notes: list[str]) -> None:
    error: DvliteError | None = None
    if result.failures:
        path, error = result.failures[0]
        if len(result.failures) > 1:
            notes.append(f"{len(result.failures)} objects or pointers failed, the first: {path}")
    elif result.missing:
        error = missing_error(result)
    if error is None:
        return
    is_unreadable = bool(result.failures) and all(isinstance(one.error, FormatError) for one in result.failures)
    if (not result.failures or is_unreadable) and repo.flag("allowincompletepush", default=False):
        notes.append(f"{error.message}; pushed all the same (dvlite.allowIncompletePush)")
        return
    if is_unreadable:
        error.hint += f" A commit that is to be pushed has it so (git log -p -- {quote(path + SUFFIX)})."
    if is_unreadable or (result.missing and not result.failures):
        error.hint += " Or let such commits pass: git config dvlite.allowIncompletePush true"
    raise error
