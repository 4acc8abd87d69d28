"""Run a command, store what it made, and record in the pointers how: command, inputs by oid, parameters, metrics, code.

Nothing is recorded of a command that fails, that doesn't make what it should, or that changes what it read.
"""

import contextlib
import json
import os
import shlex
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvlite import files, git, hashing, programs, refs, tree
from dvlite import recipe as recipes
from dvlite.errors import DvliteError, FormatError, MissingError, UnsavedError, UsageError, quote
from dvlite.locks import Lock
from dvlite.oid import Oid
from dvlite.ops.add import add
from dvlite.ops.base import Failure, Selection, algorithm_of, enclosing, folders_of, look, reader
from dvlite.ops.bring import bring
from dvlite.ops.checkout import checkout
from dvlite.ops.status import refuse_unsaved, status
from dvlite.ops.track import check_apart, check_trackable, refuse_tracked_by_git
from dvlite.pointer import SUFFIX
from dvlite.progress import SILENT, Progress
from dvlite.recipe import Input, Recipe
from dvlite.refs import Pointers
from dvlite.repo import Repo

_MOST = 16 << 20  # bytes of a file of parameters or metrics


@dataclass(slots=True)
class Made:
    """One output: what its pointer says now."""

    path: str
    oid: str
    size: int
    files: int
    is_changed: bool = True


@dataclass(slots=True)
class RunResult:
    """What a command made. `undeclared`: what else it changed; `to_stage` is left to the user."""

    command: list[str]
    exit_code: int = 0
    seconds: float = 0
    made: list[Made] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)


def run(
    repo: Repo,
    command: Sequence[str],
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    params: Sequence[str] = (),
    metrics: Sequence[str] = (),
    folder: str = "",
    meta: dict[str, str] | None = None,
    is_silent: bool = False,
    is_staged: bool = True,
    told: Callable[[str], object] = lambda _: None,
    progress: Progress = SILENT,
) -> RunResult:
    """Run a command in an in-repo folder. All paths are in-repo; `params` and `metrics` are small JSON or TOML files.

    What of the command's words is a file of Git's, its script for one, counts as input. Outputs that are stored are taken away
    before, and brought back where the command fails. `told` gets a line before the command runs.
    """
    if not command or not command[0]:
        raise UsageError("there is no command", "For example: dvlite run -i raw.csv -o clean.csv -- python clean.py")
    words = words_of(command)
    pointers = refs.in_worktree(repo.git)
    _check_outputs(repo, pointers, inputs, outputs)
    own = [*outputs, *metrics]
    recipe = begin(repo, pointers, words, inputs=inputs, own=own, params=params, folder=folder)
    recipe = recipe._replace(outputs=tuple(sorted(outputs)))
    result = RunResult(list(words))
    loose = _loose(repo, pointers, [one.path for one in recipe.inputs])
    result.notes += [f"'{path}' is in neither Git nor dvlite: nobody else has it" for path in loose]
    with _alone(repo, outputs):
        before = _state(repo, pointers, outputs)
        _clear(repo, pointers, outputs)
        try:
            told(shlex.join(words))
            start = time.monotonic()
            place = repo.root / folder if folder else repo.root
            place.mkdir(parents=True, exist_ok=True)
            result.exit_code = programs.run(words, place, is_silent=is_silent)
            result.seconds = round(time.monotonic() - start, 3)
            _check_made(repo, recipe, result, outputs, metrics, pointers)
            recipe = recipe._replace(metrics={path: values_of(repo, path) for path in metrics})
        except BaseException:
            _bring_back(repo, pointers, outputs)
            raise
        _keep(repo, pointers, outputs, recipe, meta, result, is_staged=is_staged, progress=progress)
    result.undeclared = sorted(path for path in _state(repo, pointers, outputs) - before if _is_code(path, own))
    return result


def _keep(
    repo: Repo,
    pointers: Pointers,
    outputs: Sequence[str],
    recipe: Recipe,
    meta: dict[str, str] | None,
    result: RunResult,
    *,
    is_staged: bool,
    progress: Progress,
) -> None:
    """Store what was made. Where that may not be, what was there before is back, and the new kept as saved/N."""
    added = add(repo, outputs, meta=meta, recipe=recipe, is_forced=True, is_staged=is_staged, progress=progress)
    result.made = [Made(one.path, one.oid, one.size, one.files, one.is_changed) for one in added.added]
    result.failures, result.staged, result.to_stage = added.failures, added.staged, added.to_stage
    refused = [path for path, error in added.failures if isinstance(error, UnsavedError) and path in pointers.found]
    if refused:
        back = checkout(repo, refused, is_forced=True)
        result.notes.append(
            f"{', '.join(refused)} is as before; what was made is kept: dvlite checkout --saved {back.saved}"
        )


@contextlib.contextmanager
def _alone(repo: Repo, outputs: Sequence[str]) -> Iterator[None]:
    """Keep others from making the same outputs meanwhile; LockedError where they do."""
    with contextlib.ExitStack() as stack:
        for path in sorted(outputs):
            name = hashing.checksum(path.encode("utf-8", "surrogateescape")).hex()[:16]
            lock = Lock(repo.git.folder / "dvlite" / "runs" / f"{name}.lock")
            stack.enter_context(lock.hold(is_exclusive=True, label=f"dvlite run -o {path}", wait_s=0))()
        yield


# ---- before ---------------------------------------------------------------------------------------------------------


def words_of(command: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command; one text with spaces in it is a line for the shell."""
    return ("sh", "-c", command[0]) if len(command) == 1 and " " in command[0] else tuple(command)


def begin(
    repo: Repo,
    pointers: Pointers,
    words: Sequence[str],
    *,
    inputs: Sequence[str],
    own: Sequence[str],
    params: Sequence[str],
    folder: str,
) -> Recipe:
    """Return what is known of a run before it: inputs as they are now, parameters, the code's commit. `own`: what it makes."""
    names = [*dict.fromkeys([*inputs, *_scripts(repo, pointers, words, folder, [*inputs, *own, *params])])]
    return Recipe(
        command=tuple(words),
        inputs=tuple(Input(path, measure(repo, pointers, path)) for path in sorted(names)),
        params={path: values_of(repo, path) for path in params},
        folder=folder,
        code=git.resolve(repo.git, "HEAD") if git.has_commits(repo.git) else "",
        is_dirty=any(_is_code(path, own) for path in git.changed_paths(repo.git)),
    )


def _check_outputs(repo: Repo, pointers: Pointers, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse outputs that can't be tracked, that are inputs too, or whose data is not stored: the command replaces it."""
    if not outputs:
        raise UsageError("no output is named", "Name what the command makes: -o PATH")
    in_git = git.tracked_below(repo.git, list(outputs))
    folders = folders_of(pointers)
    for path in outputs:
        if other := enclosing({one for one in outputs if one != path}, path):
            raise UsageError(f"'{path}' lies in the output '{other}'", f"Name '{other}' alone.")
        check_trackable(repo, path)
        refuse_tracked_by_git(path, in_git)
        check_apart(folders, path)
        if (owner := enclosing(pointers.found, path)) and owner != path:
            raise UsageError(
                f"'{path}' lies in '{owner}', which is tracked as a whole", f"Name that: -o {quote(owner)}"
            )
        for other in inputs:
            if path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/"):
                raise UsageError(f"'{path}' would be made from itself ('{other}')", "Make it another path.")
    refuse_unsaved(repo, [path for path in outputs if path in pointers.found], but=("deleted",))


def _scripts(repo: Repo, pointers: Pointers, words: Sequence[str], folder: str, known: Sequence[str]) -> list[str]:
    """Return the words of a command that are files of the repository and were not named otherwise; not what is ignored."""
    found = []
    for word in words:
        place = repo.root / folder / word if folder else repo.root / word
        if word and "\n" not in word and len(word) < 4096 and not word.startswith("-") and place.is_file():
            try:
                path = repo.in_repo(word, repo.root / folder if folder else repo.root)
            except UsageError:
                continue
            if not enclosing(known, path) and path.partition("/")[0] != ".git":
                found.append(path)
    free = set(git.not_ignored(repo.git, found)) if found else set()
    return [path for path in found if path in free or enclosing(pointers.found, path)]


def measure(repo: Repo, pointers: Pointers, path: str) -> Oid:
    """Return the oid of an input as it is now; MissingError where it isn't here, UnsavedError where it is not stored."""
    owner = enclosing(pointers.found, path)
    item = pointers.found[owner] if owner else None
    if item is None and (repo.root / path).is_dir():
        return _oid_of_folder(repo, path)
    data = look(repo, path, algorithm=algorithm_of(repo, item)).data
    if data is None:
        hint = f"Bring it here: dvlite pull {quote(path)}" if item else "See that its name is right."
        raise (
            MissingError(f"the input '{path}' is not here", hint) if item else UsageError(f"there is no '{path}'", hint)
        )
    if item:
        parts = path[len(owner) + 1 :].split("/") if path != owner else []
        known = tree.find(item.entry, parts, reader(repo)) if parts else item.entry
        if known is None or known.oid != data.oid:
            raise UnsavedError(
                f"the input '{path}' is not what its pointer says",
                f"Store it: dvlite add {quote(path)}. Or take the pointer's: dvlite checkout {quote(path)}",
            )
    return data.oid


def _oid_of_folder(repo: Repo, path: str) -> Oid:
    """Return an oid for a folder that dvlite doesn't track: of the names and contents of files that Git has or would take."""
    names = git.files_at(repo.git, path)
    if not names:
        raise UsageError(f"there is nothing in '{path}' that Git has", "Add it to Git, or to dvlite: dvlite add.")
    lines = []
    for name in sorted(names):
        place = repo.root / name
        if place.is_symlink():
            lines.append(f"{name}\0{place.readlink()}\n")
        elif place.is_file():
            lines.append(f"{name}\0{hashing.oid_of_file(repo.config.hash, place)}\n")
    return hashing.oid_of(repo.config.hash, "".join(lines).encode("utf-8", "surrogateescape"))


def _loose(repo: Repo, pointers: Pointers, paths: Sequence[str]) -> list[str]:
    free = [path for path in paths if not enclosing(pointers.found, path)]
    in_git = git.tracked_below(repo.git, free) if free else []
    return [path for path in free if not any(one == path or one.startswith(f"{path}/") for one in in_git)]


def values_of(repo: Repo, path: str) -> dict[str, Any]:
    """Return what stands in a JSON or TOML file of parameters or metrics: a table, of names to values."""
    place = repo.root / path
    try:
        data = files.read_start(place, _MOST + 1)
        found = tomllib.loads(data.decode()) if path.endswith(".toml") else json.loads(data)
        recipes.check_depth(found)
    except FileNotFoundError as exc:
        raise UsageError(f"there is no '{path}'", "See that its name is right.") from exc
    except IsADirectoryError as exc:
        raise UsageError(f"'{path}' is a folder", "Name a JSON or TOML file.") from exc
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"'{path}' can't be read: {exc}", "It must be JSON, or TOML where its name ends so.") from exc
    if not isinstance(found, dict) or len(data) > _MOST:
        raise FormatError(f"'{path}' must be a table of names and values, of 16 MiB at most")
    return found


def _is_code(path: str, own: Sequence[str]) -> bool:
    """Tell whether a path of the worktree is something else than pointers, ignore lines, and what the command makes."""
    if path.endswith(SUFFIX) or path.rpartition("/")[2] == ".gitignore":
        return False
    return not any(path == one or path.startswith(f"{one}/") for one in own)


def _state(repo: Repo, pointers: Pointers, outputs: Sequence[str]) -> set[str]:
    """Return the paths that differ from what is committed or stored, each with what it is where that can be told."""
    found = set(git.changed_paths(repo.git))
    others = [path for path in pointers.found if path not in outputs and (repo.root / path).exists()]
    for one in status(repo, others).paths if others else ():
        found |= {f"{one.path}/{change.path}" if change.path else one.path for change in one.changes}
    return found


def _clear(repo: Repo, pointers: Pointers, outputs: Sequence[str]) -> None:
    """Take away what is stored of the outputs, so that nothing of an earlier run is left among what this one makes.

    As a checkout does: nothing goes that is not on disk in the store, and what is ignored stays.
    """
    selection = Selection({}, [])
    for path in outputs:
        if path in pointers.found and os.path.lexists(repo.root / path):
            selection.add(path, "")
    done = bring(repo, Pointers({}, {}), selection)
    if done.kept or done.failures:
        _bring_back(repo, pointers, outputs)
        for failure in done.failures:
            raise failure.error
        raise UnsavedError(
            f"'{done.kept[0].path}' {done.kept[0].reason}, and the command would replace it",
            f"Store it: dvlite add {quote(done.kept[0].path)}",
        )


# ---- after ----------------------------------------------------------------------------------------------------------


def _check_made(
    repo: Repo, recipe: Recipe, result: RunResult, outputs: Sequence[str], metrics: Sequence[str], pointers: Pointers
) -> None:
    """Refuse to record a command that failed, that made not all it should, or that changed what it read."""
    words = shlex.join(result.command)
    if result.exit_code:
        raise CommandError(result.exit_code, f"the command failed with exit code {result.exit_code}: {words}")
    for path in [*outputs, *metrics]:
        place = repo.root / path
        if not place.is_symlink() and not place.exists():
            raise DvliteError(f"the command did not make '{path}': {words}", "Nothing was recorded.")
    for one in recipe.inputs:
        try:
            is_same = measure(repo, pointers, one.path) == one.oid
        except DvliteError:
            is_same = False
        if not is_same:
            raise DvliteError(
                f"the command changed its input '{one.path}': {words}",
                f"Nothing was recorded. To get it back: {_how_back(pointers, one.path)}",
            )


def _how_back(pointers: Pointers, path: str) -> str:
    tool = "dvlite checkout --force" if enclosing(pointers.found, path) else "git checkout --"
    return f"{tool} {quote(path)}"


class CommandError(DvliteError):
    """A user's command that failed; its exit code is ours."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(
            message,
            "Nothing was recorded, and outputs are as they were; see 'dvlite checkout --saved 0' for what it made.",
        )
        self.exit_code = code


def _bring_back(repo: Repo, pointers: Pointers, outputs: Sequence[str]) -> None:
    """Have outputs as they were; what a command made in their place is kept as saved/N."""
    known = [path for path in outputs if path in pointers.found]
    if known:
        checkout(repo, known, is_forced=True)
