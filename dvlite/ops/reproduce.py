"""Run recorded commands once more, aside, and tell whether they make the same again: with the code and inputs that they had."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dvlite import files, git, programs, recipe, refs, tree
from dvlite.errors import DvliteError, MissingError, UsageError
from dvlite.ops.base import enclosing, look, pointers_at, reader
from dvlite.ops.checkout import checkout
from dvlite.ops.fetch import fetch
from dvlite.ops.repro import History, Redone, ReproResult, Step, steps, trust, wanted_steps
from dvlite.ops.run import measure, values_of
from dvlite.ops.track import write
from dvlite.pointer import SUFFIX, Pointer
from dvlite.recipe import Input
from dvlite.refs import Pointers
from dvlite.repo import Repo, open_repo


def check(
    repo: Repo,
    paths: Sequence[str],
    *,
    rev: str | None = None,
    may_run: Callable[[Step], bool],
    is_silent: bool = False,
    told: Callable[[str], object] = lambda _: None,
) -> ReproResult:
    """Run commands once more, aside, with the inputs, parameters and code they had, and compare what they make by oid.

    The commands are those of the pointers here, or of a rev's.
    """
    result = ReproResult()
    pointers = pointers_at(repo, rev)
    for step in wanted_steps(repo, pointers, steps(pointers), paths, result):
        if not may_run(step):
            raise UsageError(
                f"the command of '{step.paths[0]}' was not allowed to run: {step.command}",
                "If it may: dvlite repro --yes",
            )
        trust(repo, step.recipe.command, step.recipe.folder)
        code = _code_of(repo, step, rev or "HEAD", result)
        expected = {path: pointers.found[path] for path in step.paths}
        different = _different(repo, step, code, expected, is_silent=is_silent, told=told)
        state = "different" if different else "same"
        result.steps.append(Redone(list(step.paths), step.command, state, different=different))
    return result


def _different(
    repo: Repo,
    step: Step,
    code: str,
    expected: dict[str, Pointer],
    *,
    is_silent: bool,
    told: Callable[[str], object],
) -> list[str]:
    """Return the paths that the command, of a commit's code, makes otherwise."""
    made = step.recipe
    place = files.temporary(repo.tmp(repo.root))
    git.add_worktree(repo.git, place, code)
    try:
        aside = open_repo(place)
        for one in made.inputs:
            _place_input(repo, aside, one)
        for path, values in made.params.items():
            _place_params(aside, path, values)
        for path in expected:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
        told(step.command)
        folder = place / made.folder if made.folder else place
        folder.mkdir(parents=True, exist_ok=True)
        if exit_code := programs.run(made.command, folder, is_silent=is_silent):
            raise DvliteError(f"the command failed with exit code {exit_code}: {step.command}")
        data = {path: look(aside, path, algorithm=item.oid.algorithm).data for path, item in expected.items()}
        return [path for path, item in expected.items() if (root := data[path]) is None or root.oid != item.oid]
    finally:
        git.remove_worktree(repo.git, place)
        files.remove_folder(place)


def _code_of(repo: Repo, step: Step, rev: str, result: ReproResult) -> str:
    """Return the commit to take the code from: the one that was noted; where it wasn't all, the one that brought the pointer."""
    made = step.recipe
    if not git.has_commits(repo.git):
        raise UsageError("there is no commit yet, so there is no code to run aside", "Make one: git commit.")
    if made.code and not made.is_dirty and git.has_commit(repo.git, made.code):
        return made.code
    name = f"{step.paths[0]}{SUFFIX}"
    code, now = rev, git.file_at(repo.git, rev, name)
    for one in git.touched(repo.git, rev, name):
        if git.file_at(repo.git, one.commit.id, name) != now:
            break
        code = one.commit.id
    result.notes.append(
        f"not all of the code of '{step.paths[0]}' was committed when it was made: taken as commit {code[:10]} has it"
    )
    return code


def _place_input(repo: Repo, aside: Repo, wanted: Input) -> None:
    """Have an input aside as it was: a file of Git's, or data by a version of its pointer that has it."""
    there, here = refs.in_worktree(aside.git), refs.in_worktree(repo.git)
    owner = enclosing(there.found.keys() | here.found.keys(), wanted.path)
    if not owner:
        if not (aside.root / wanted.path).exists() or measure(aside, there, wanted.path) != wanted.oid:
            raise MissingError(
                f"the input '{wanted.path}' can't be had as it was: neither the commit nor dvlite has it",
                "Make the data anew with 'dvlite repro'.",
            )
        return
    inner = wanted.path[len(owner) + 1 :]
    for item in _known(repo, owner, there, here):
        try:
            found = tree.find(item.entry, inner.split("/") if inner else [], reader(repo))
        except MissingError:
            continue
        if found and found.oid == wanted.oid:
            write(aside, owner, item, is_synced=False)
            came = fetch(repo, [wanted.path], pointers=Pointers({owner: item}, {}))
            for failure in came.failures:
                raise failure.error
            checkout(aside, [wanted.path])
            if measure(aside, refs.in_worktree(aside.git), wanted.path) != wanted.oid:
                break
            return
    raise MissingError(
        f"no commit has the input '{wanted.path}' as it was ({wanted.oid.short})", "See 'dvlite log' for what there is."
    )


def _known(repo: Repo, tracked: str, *places: Pointers) -> Iterator[Pointer]:
    """Yield the versions of a tracked path: those at hand first, for history is long."""
    yield from (one.found[tracked] for one in places if tracked in one.found)
    yield from History(repo).of(tracked)


def _place_params(aside: Repo, path: str, values: object) -> None:
    """Have a file of parameters aside with the values that it had."""
    place: Path = aside.root / path
    if place.exists() and recipe.is_same(values_of(aside, path), values):
        return
    if path.endswith(".toml"):
        raise DvliteError(
            f"the parameters in '{path}' were others, which no commit has", "Commit them, then run it anew."
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(values, indent=2) + "\n")
