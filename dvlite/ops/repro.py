"""Make again what is out of date, in the order of what is made from what; or look whether a command makes the same again.

What was made before with the same inputs is taken from history, not made again. Commands come from pointers, and so perhaps from
strangers: whoever calls says which may run.
"""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dvlite import files, git, hashing, pointer, recipe, refs, tree
from dvlite.errors import DvliteError, FormatError, MissingError, UsageError
from dvlite.oid import Oid
from dvlite.ops.base import Failure, enclosing, reader, select
from dvlite.ops.checkout import checkout
from dvlite.ops.fetch import fetch
from dvlite.ops.run import RunResult, measure, run, values_of
from dvlite.ops.status import refuse_unsaved
from dvlite.ops.track import stage, write
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.recipe import Input, Recipe
from dvlite.refs import Pointers
from dvlite.repo import Repo

_TRUSTED = "may run "


class Step(NamedTuple):
    """One command, and the tracked paths whose pointers say that it made them."""

    recipe: Recipe
    paths: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command as it is typed."""
        return shlex.join(self.recipe.command)


@dataclass(slots=True)
class Redone:
    """One step. `why` it was out of date.

    `state`: up to date, run, from history, out of date (not run); same or different, of a check.
    """

    paths: list[str]
    command: str
    state: str
    why: str = ""
    seconds: float = 0
    different: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ReproResult:
    """All steps that make the paths asked for, in order."""

    steps: list[Redone] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def steps(pointers: Pointers) -> list[Step]:
    """Return what the pointers record, but not of paths that were moved since; FormatError where one can't be read."""
    found: dict[bytes, tuple[Recipe, list[str]]] = {}
    for tracked, item in pointers.found.items():
        made = recipe.of(item, f"{tracked}{SUFFIX}")
        if made and (not made.outputs or tracked in made.outputs):
            found.setdefault(recipe.encode(made), (made, []))[1].append(tracked)
    return [Step(made, tuple(paths)) for made, paths in found.values()]


def _by_place(known: Sequence[Step]) -> dict[str, list[Step]]:
    """Return the steps that make what lies at, or below, each path."""
    found: dict[str, list[Step]] = {}
    for step in known:
        for path in step.paths:
            for place in (path, *tree.heads(path)):
                found.setdefault(place, []).append(step)
    return found


def _above(step: Step, makers: Mapping[str, list[Step]]) -> Iterator[Step]:
    """Yield the steps that make what a step reads: the path itself, what lies in it, or the folder that it lies in."""
    for one in step.recipe.inputs:
        yield from (other for other in makers.get(one.path, ()) if other is not step)
        for head in tree.heads(one.path):
            yield from (other for other in makers.get(head, ()) if head in other.paths and other is not step)


def in_order(wanted: Sequence[Step], known: Sequence[Step]) -> list[Step]:
    """Return steps and all that they rest on, each after what it reads; UsageError where they go in a circle."""
    makers = _by_place(known)
    done: dict[tuple[str, ...], Step] = {}
    for start in wanted:
        under_way: dict[tuple[str, ...], Iterator[Step]] = {}
        stack = [start]
        while stack:
            step = stack[-1]
            if step.paths in done:
                stack.pop()
                continue
            above = under_way.setdefault(step.paths, _above(step, makers))
            following = next((one for one in above if one.paths not in done), None)
            if following is None:
                done[step.paths] = step
                stack.pop()
            elif following.paths in under_way:
                names = [one.paths[0] for one in stack]
                circle = " -> ".join([*names[names.index(following.paths[0]) :], following.paths[0]])
                raise UsageError(f"what is made goes in a circle: {circle}", "Run one of them anew with other inputs.")
            else:
                stack.append(following)
    return list(done.values())


def trust(repo: Repo, words: Sequence[str], folder: str) -> None:
    """Remember that a command may run in a folder of this clone."""
    repo.index.set_note(_TRUSTED + _spell(words, folder), "yes")


def is_trusted(repo: Repo, step: Step) -> bool:
    """Tell whether a command was run, or allowed, in that folder of this clone before."""
    return repo.index.note(_TRUSTED + _spell(step.recipe.command, step.recipe.folder)) == "yes"


def _spell(words: Sequence[str], folder: str) -> str:
    return hashing.checksum("\0".join([folder, *words]).encode("utf-8", "surrogateescape")).hex()


def repro(
    repo: Repo,
    paths: Sequence[str] = (),
    *,
    may_run: Callable[[Step], bool],
    is_dry_run: bool = False,
    is_forced: bool = False,
    is_silent: bool = False,
    told: Callable[[str], object] = lambda _: None,
    progress: Progress = SILENT,
) -> ReproResult:
    """Make in-repo paths (all that were made, without) as their pointers say, where inputs, parameters or scripts are others now.

    `may_run` is asked about each command that is to run; `is_forced`: run all of them. Stops at the first that fails.
    """
    result = ReproResult()
    pointers = refs.in_worktree(repo.git)
    result.failures += [Failure(path, error) for path, error in pointers.broken.items()]
    known = steps(pointers)
    wanted = wanted_steps(repo, pointers, known, paths, result)
    stale: set[str] = set()
    for step in in_order(wanted, known):
        one = Redone(list(step.paths), step.command, "up to date")
        result.steps.append(one)
        try:
            is_done = _redo(repo, step, one, stale, result, may_run, is_dry_run, is_forced, is_silent, told, progress)
        except GoesOnError as exc:
            one.state = "out of date"
            result.failures.append(Failure(step.paths[0], exc.error))
            stale.update(step.paths)
            continue
        if not is_done:
            break
    return result


class GoesOnError(Exception):
    """A step that can't be looked at, or made; those that don't rest on it go on."""

    def __init__(self, error: DvliteError) -> None:
        super().__init__(error.message)
        self.error = error


def _redo(
    repo: Repo,
    step: Step,
    one: Redone,
    stale: set[str],
    result: ReproResult,
    may_run: Callable[[Step], bool],
    is_dry_run: bool,
    is_forced: bool,
    is_silent: bool,
    told: Callable[[str], object],
    progress: Progress,
) -> bool:
    """Look at one step, and make it again where it is out of date; False where nothing more should be done."""
    pointers = refs.in_worktree(repo.git)
    try:
        now = _current(repo, pointers, step.recipe)
    except DvliteError as exc:
        raise GoesOnError(exc) from exc
    rests = [f"{each.path} is out of date" for each in now.inputs if enclosing(stale, each.path)]
    one.why = "asked for" if is_forced else ", ".join([*filter(None, [_why(step.recipe, now)]), *rests])
    if not one.why:
        return True
    one.state = "out of date"
    if is_dry_run or rests:
        stale.update(step.paths)
        return True
    _refuse_others(pointers, step)
    refuse_unsaved(repo, step.paths, but=("deleted",))
    if not is_forced and _from_history(repo, step, now, result, progress):
        one.state = "from history"
        return True
    if not may_run(step):
        raise UsageError(
            f"'{step.paths[0]}' is out of date, and its command was not allowed to run: {step.command}",
            "If it may: dvlite repro --yes",
        )
    trust(repo, step.recipe.command, step.recipe.folder)
    done = _run(repo, step, is_silent=is_silent, told=told, progress=progress)
    one.state, one.seconds = ("run" if not done.failures else "out of date"), done.seconds
    result.failures += done.failures
    result.notes += done.notes
    return not done.failures


def _refuse_others(pointers: Pointers, step: Step) -> None:
    """Refuse to run a command that would also make what was made otherwise since: by hand, or by another command."""
    for path in step.recipe.outputs:
        if path not in step.paths and path in pointers.found:
            raise UsageError(
                f"the command of '{step.paths[0]}' also makes '{path}', which was made otherwise since",
                f"Run the command anew with 'dvlite run' if that may go, or take '{path}' out of Git's index and dvlite's.",
            )


def wanted_steps(
    repo: Repo, pointers: Pointers, known: Sequence[Step], paths: Sequence[str], result: ReproResult
) -> list[Step]:
    """Return the steps that make some in-repo paths (all, without); paths that none makes become failures."""
    if not paths:
        return list(known)
    selection = select(pointers, paths, repo.store.read)
    result.failures += selection.failures
    wanted = [step for step in known if any(path in selection.parts for path in step.paths)]
    for path in selection.parts:
        if not any(path in step.paths for step in wanted):
            error = UsageError(f"'{path}' was not made by 'dvlite run'", "See 'dvlite lineage' for what was.")
            result.failures.append(Failure(path, error))
    return wanted


def _current(repo: Repo, pointers: Pointers, recipe: Recipe) -> Recipe:
    """Return a recipe with inputs and parameters as they are now; data that isn't here counts as its pointer says."""
    inputs = tuple(Input(one.path, _oid_now(repo, pointers, one.path)) for one in recipe.inputs)
    return recipe._replace(inputs=inputs, params={path: values_of(repo, path) for path in recipe.params})


def _oid_now(repo: Repo, pointers: Pointers, path: str) -> Oid:
    owner = enclosing(pointers.found, path)
    if owner and not (repo.root / path).exists() and not (repo.root / path).is_symlink():
        inner = path[len(owner) + 1 :]
        found = tree.find(pointers.found[owner].entry, inner.split("/") if inner else [], reader(repo))
        if found is None:
            raise MissingError(f"'{owner}' has no '{inner}' any more, which is an input", "See 'dvlite log'.")
        return found.oid
    return measure(repo, pointers, path)


def _why(before: Recipe, now: Recipe) -> str:
    old = {one.path: one.oid for one in before.inputs}
    said = [f"{one.path} changed" for one in now.inputs if old[one.path] != one.oid]
    said += [f"{path} changed" for path, new in now.params.items() if not recipe.is_same(before.params[path], new)]
    return ", ".join(said)


def _run(repo: Repo, step: Step, *, is_silent: bool, told: Callable[[str], object], progress: Progress) -> RunResult:
    made = step.recipe
    return run(
        repo,
        made.command,
        inputs=[one.path for one in made.inputs],
        outputs=made.outputs or step.paths,
        params=list(made.params),
        metrics=list(made.metrics),
        folder=made.folder,
        is_silent=is_silent,
        told=told,
        progress=progress,
    )


# ---- what was made before -------------------------------------------------------------------------------------------


class History:
    """All versions that any commit has of pointers, each read when it is asked for."""

    def __init__(self, repo: Repo) -> None:
        self._git = repo.git
        self._blobs: dict[str, list[str]] = {}
        for name, blob in sorted(git.versions(repo.git, ["--all"], SUFFIX)) if git.has_commits(repo.git) else ():
            self._blobs.setdefault(name.removesuffix(SUFFIX), []).append(blob)

    def of(self, tracked: str) -> Iterator[Pointer]:
        """Yield the versions of one tracked path that can be read."""
        for _, data in git.read_blobs(self._git, self._blobs.get(tracked, ())):
            with contextlib.suppress(FormatError):
                yield pointer.decode(data)


def _made_before(repo: Repo, step: Step, now: Recipe) -> tuple[str, dict[str, Pointer]] | None:
    """Return the newest commit below HEAD that has all outputs of just this work, of one run, with their pointers."""
    if not git.has_commits(repo.git):
        return None
    for touched in git.touched(repo.git, "HEAD", f"{step.paths[0]}{SUFFIX}"):
        found: dict[str, Pointer] = {}
        for path in step.paths:
            data = git.file_at(repo.git, touched.commit.id, f"{path}{SUFFIX}")
            with contextlib.suppress(FormatError):
                item = pointer.decode(data) if data else None
                made = recipe.of(item) if item else None
                if item and made and made.work == now.work:
                    found[path] = item
        if found.keys() == set(step.paths):
            return touched.commit.id, found
    return None


def _from_history(repo: Repo, step: Step, now: Recipe, result: ReproResult, progress: Progress) -> bool:
    """Take outputs that were made before of just this, if all of their data can be had, and the metrics that came with them."""
    before = _made_before(repo, step, now)
    if before is None:
        return False
    commit, found = before
    old = {path: refs.in_worktree(repo.git).found[path] for path in step.paths}
    with repo.writing_pointers("repro"):
        written = [name for path, item in found.items() for name in write(repo, path, item)[1]]
    fetched = None
    try:
        fetched = fetch(repo, list(step.paths), progress=progress)
    except DvliteError as exc:
        result.notes.append(f"what was made before can't be had: {exc.message}")
    if fetched is None or fetched.missing or fetched.failures:
        with repo.writing_pointers("repro"):
            for path, item in old.items():
                write(repo, path, item)
        return False
    done = checkout(repo, list(step.paths), progress=progress)
    result.failures += done.failures
    with repo.writing_pointers("repro"):
        stage(repo, list(step.paths), written, is_staged=True)
    for path in (recipe.of(found[step.paths[0]]) or now).metrics:
        _bring_metrics(repo, commit, path, result)
    return True


def _bring_metrics(repo: Repo, commit: str, path: str, result: ReproResult) -> None:
    """Have a file of metrics as it was when the outputs were made, unless it holds what Git doesn't have."""
    data = git.file_at(repo.git, commit, path)
    place = repo.root / path
    if not data or (place.is_file() and place.read_bytes() == data):
        return
    known = git.file_at(repo.git, "HEAD", path)
    if place.is_file() and place.read_bytes() != known:
        result.notes.append(f"'{path}' has other metrics than what was made before, and is in no commit: it stays")
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(place, data, folder=repo.tmp(place.parent))
