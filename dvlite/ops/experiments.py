"""Experiments: numbered folders with parameters and metrics as text in Git, and all that is large behind pointers.

Training code that writes `params.json` and `metrics.json` needs no change. What a folder has is all that there is to know:
nothing is kept anywhere else.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvlite import gate, git, programs, recipe, refs
from dvlite.errors import DvliteError, FormatError, UsageError
from dvlite.ops.add import add
from dvlite.ops.base import Failure
from dvlite.ops.run import begin, values_of, words_of
from dvlite.pointer import SUFFIX
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo

FOLDER = "experiments"
PARAMS, METRICS, LOG, STEPS = "params.json", "metrics.json", "log.txt", "steps.jsonl"
ENVIRONMENT = "DVLITE_EXPERIMENT"  # the folder of the experiment that runs, for its command
_TEXT = 1 << 20  # bytes; JSON of this size and more is data
_MOST = 16 << 20  # bytes of parameters or metrics that are read
_MANY = 500  # values; more are not recorded in pointers, their file is
_NUMBERED = re.compile(r"exp_(\d+)")


@dataclass(slots=True)
class Experiment:
    """One experiment: its in-repo folder, what was put in and what came out, by dotted names; `commit` is empty for one here."""

    name: str
    path: str
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    commit: str = ""


@dataclass(slots=True)
class ExperimentsResult:
    """Experiments in the order that was asked for."""

    experiments: list[Experiment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RunExperimentResult:
    """An experiment that was run: its folder, the command's exit code, and what is data in it."""

    path: str
    exit_code: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)


# ---- making one -----------------------------------------------------------------------------------------------------


def new(repo: Repo, name: str = "") -> str:
    """Make the folder of a new experiment and return its in-repo path: of two at once, each gets its own.

    Numbers go on from those in the worktree and in all commits of all branches here.
    """
    if name and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith(SUFFIX)):
        raise UsageError(f"'{name}' is no name for an experiment", "Use letters, digits, '.', '_' and '-'.")
    folder = repo.root / FOLDER
    _refuse_other(repo, folder)
    folder.mkdir(exist_ok=True)
    number = _last(repo) + 1
    while True:
        made = name or f"exp_{number:03d}"
        try:
            (folder / made).mkdir()
            return f"{FOLDER}/{made}"
        except FileExistsError as exc:
            if name:
                raise UsageError(f"'{FOLDER}/{name}' exists", "Name another.") from exc
            number += 1


def _refuse_other(repo: Repo, folder: Path) -> None:
    """Refuse where experiments can't be: a link or file of that name, or a folder that is tracked as a whole."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            f"'{FOLDER}' is not a folder of this repository", "Move it away; experiments are folders in it."
        )
    if (repo.root / f"{FOLDER}{SUFFIX}").exists():
        raise UsageError(
            f"'{FOLDER}' is tracked as a whole, so Git can't have its parameters and metrics as text",
            f"Let go of it (the data stays): dvlite rm {FOLDER}",
        )


def _last(repo: Repo) -> int:
    """Return the highest number that was ever given: here, in other worktrees, in any commit."""
    places = [worktree.root / FOLDER for worktree in git.worktrees(repo.git)]
    known = [entry.name for place in places if place.is_dir() for entry in os.scandir(place)]
    if git.has_commits(repo.git):
        known += git.names_ever_below(repo.git, FOLDER)
    return max((int(found[1]) for name in known if (found := _NUMBERED.fullmatch(name))), default=0)


def run(
    repo: Repo,
    command: Sequence[str],
    *,
    name: str = "",
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    params: Sequence[str] = (),
    folder: str = "",
    is_staged: bool = True,
    told: Callable[[str], object] = lambda _: None,
    progress: Progress = SILENT,
) -> RunExperimentResult:
    """Run a command as an experiment of its own. Paths are in-repo; `{exp}` in the command is the experiment's folder.

    `params` (else `params.json` where the command runs, if it is there) and the `metrics.json` that the command writes there go
    into the experiment; so do `outputs` from elsewhere, as copies. A command that fails leaves what it wrote, and its log.
    """
    place = repo.root / folder if folder else repo.root
    if not command or not command[0]:
        raise UsageError("there is no command", "For example: dvlite exp run -- python train.py")
    _refuse_outputs(outputs)
    before = {one: _state(place / one) for one in (PARAMS, METRICS)}
    made_before = {output: _state(repo.root / output) for output in outputs}
    given = list(params) or ([f"{folder}/{PARAMS}" if folder else PARAMS] if before[PARAMS] else [])
    own = [FOLDER, *outputs, f"{folder}/{METRICS}" if folder else METRICS]
    words = words_of(command)
    made = begin(repo, refs.in_worktree(repo.git), words, inputs=inputs, own=own, params=given, folder=folder)
    path = new(repo, name)
    inside = repo.root / path
    words = tuple(word.replace("{exp}", os.path.relpath(inside, place)) for word in words)
    made = made._replace(command=words)
    if given:
        values = recipe.merged(made.params) if len(given) > 1 else next(iter(made.params.values()))
        _write_json(inside / PARAMS, values)
    told(path)
    code = programs.run(words, place, log=inside / LOG, environment={ENVIRONMENT: str(inside)})
    result = RunExperimentResult(path, code)
    for one in (PARAMS, METRICS):
        state = _state(place / one)
        if state and state != before[one] and not (inside / one).exists() and (place / one).is_file():
            shutil.copyfile(place / one, inside / one)
    for output in outputs:
        _bring_in(repo, output, path, made_before[output], result)
    metrics = _metrics(repo, path, result)
    made = made._replace(exit_code=code, metrics=metrics if len(recipe.merged(metrics)) <= _MANY else {})
    result.metrics = recipe.merged(metrics)
    _keep(repo, path, made, result, is_staged=is_staged, progress=progress)
    return result


def _refuse_outputs(outputs: Sequence[str]) -> None:
    """Refuse outputs that would meet in the experiment's folder, or that hold it."""
    names: dict[str, str] = {}
    for output in outputs:
        name = output.rpartition("/")[2]
        if not output or f"{FOLDER}/".startswith(f"{output}/"):
            raise UsageError(f"'{output or '.'}' holds the experiments themselves", "Name what the command makes.")
        if name in (PARAMS, METRICS, LOG, STEPS, ".gitignore") and not output.startswith(f"{FOLDER}/"):
            raise UsageError(f"'{output}' would take the place of the experiment's own {name}", "Give it another name.")
        if name in names:
            raise UsageError(f"'{names[name]}' and '{output}' would meet in the experiment's folder", "Rename one.")
        names[name] = output


def _metrics(repo: Repo, path: str, result: RunExperimentResult) -> dict[str, Any]:
    """Return what the command measured; a file that can't be read is said, and kept."""
    if not (repo.root / path / METRICS).exists():
        return {}
    try:
        return {f"{path}/{METRICS}": values_of(repo, f"{path}/{METRICS}")}
    except DvliteError as exc:
        result.failures.append(Failure(f"{path}/{METRICS}", exc))
        return {}


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"
    path.write_bytes(text.encode("utf-8", "replace"))


def _bring_in(
    repo: Repo, output: str, path: str, before: tuple[int, int, int] | None, result: RunExperimentResult
) -> None:
    """Copy what the command made elsewhere into the experiment; what it didn't make is said."""
    source, target = repo.root / output, repo.root / path / output.rpartition("/")[2]
    state = _state(source)
    is_old = state == before and not source.is_dir()
    if state is None or is_old:
        said = "was there before, and the command did not make it" if state else "was not made by the command"
        result.failures.append(Failure(output, DvliteError(f"'{output}' {said}", "It is not part of the experiment.")))
        return
    if output.startswith(f"{path}/"):
        return
    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)
    except (OSError, shutil.Error) as exc:
        said = str(exc.args[0][0][2] if isinstance(exc, shutil.Error) else exc.strerror or exc)
        result.failures.append(
            Failure(output, DvliteError(f"'{output}' can't be copied: {said}", "See what lies in it."))
        )


def keep(repo: Repo, path: str, *, is_staged: bool = True, progress: Progress = SILENT) -> RunExperimentResult:
    """Store what is data in an experiment's folder, and stage what is text."""
    result = RunExperimentResult(path)
    _keep(repo, path, None, result, is_staged=is_staged, progress=progress)
    return result


def _keep(
    repo: Repo,
    path: str,
    made: recipe.Recipe | None,
    result: RunExperimentResult,
    *,
    is_staged: bool,
    progress: Progress,
) -> None:
    texts: list[str] = []
    data: list[str] = []
    for entry in sorted(os.scandir(repo.root / path), key=lambda one: one.name):
        inner = f"{path}/{entry.name}"
        if entry.name == ".gitignore" or entry.name.endswith(SUFFIX):
            continue
        is_text = entry.is_file() and entry.name.endswith((".json", ".md", ".toml")) and entry.stat().st_size < _TEXT
        (texts if is_text else data).append(inner)
    if data:
        recorded = made._replace(outputs=tuple(data)) if made else None
        added = add(repo, data, recipe=recorded, is_staged=is_staged, progress=progress)
        result.artifacts = [one.path for one in added.added]
        result.failures += added.failures
        result.staged = added.staged
    if texts and is_staged and repo.flag("autostage", default=True):
        git.stage(repo.git, texts)
        result.staged += texts


# ---- looking --------------------------------------------------------------------------------------------------------


def read(repo: Repo, *, rev: str = "", has_history: bool = False) -> ExperimentsResult:
    """Return the experiments of the worktree (or of a commit), by name; `has_history`: also those that only commits have."""
    result = ExperimentsResult()
    found = {one.name: one for one in (_at(repo, rev, result) if rev else _here(repo, result))}
    if has_history and git.has_commits(repo.git):
        for one in _ever(repo, result):
            found.setdefault(one.name, one)
    result.experiments = [found[name] for name in sorted(found, key=_order)]
    return result


def _order(name: str) -> tuple[int, int, str]:
    found = _NUMBERED.fullmatch(name)
    return (0, int(found[1]), name) if found else (1, 0, name)


def _here(repo: Repo, result: ExperimentsResult) -> Iterator[Experiment]:
    folder = f"{repo.root}/{FOLDER}"
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        texts = [_text(f"{folder}/{name}/{file}") for file in (PARAMS, METRICS)]
        if any(texts) or os.path.lexists(f"{folder}/{name}/{LOG}{SUFFIX}"):  # what Git took away leaves ignored files
            yield _experiment(name, texts, "", result)


def _text(path: str) -> bytes:
    """Return the bytes of a small file; nothing of what is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        status = os.fstat(fd)
        return os.read(fd, min(status.st_size, _MOST)) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(fd)


def _experiment(name: str, texts: Sequence[bytes], commit: str, result: ExperimentsResult) -> Experiment:
    tables: list[dict[str, Any]] = [{}, {}]
    for number, (file, text) in enumerate(zip((PARAMS, METRICS), texts, strict=True)):
        try:
            values = json.loads(text) if text else {}
            tables[number] = dict(recipe.flat(values)) if isinstance(values, dict) else {}
        except (ValueError, RecursionError) as exc:
            result.notes.append(f"'{FOLDER}/{name}/{file}' can't be read: {exc}")
    return Experiment(name, f"{FOLDER}/{name}", tables[0], tables[1], commit)


def _at(repo: Repo, rev: str, result: ExperimentsResult) -> Iterator[Experiment]:
    commit = git.resolve(repo.git, rev)
    blobs = {
        path: blob for one in (PARAMS, METRICS) for path, blob in git.blobs_at(repo.git, commit, f"/{one}").items()
    }
    yield from _of_blobs(repo, blobs, commit, result)


def _ever(repo: Repo, result: ExperimentsResult) -> Iterator[Experiment]:
    """Yield the newest version of each experiment that any commit has."""
    blobs: dict[str, str] = {}
    for one in (PARAMS, METRICS):
        for _, path, blob in git.history(repo.git, ["--all"], f"/{one}"):
            blobs.setdefault(path, blob)
    yield from _of_blobs(repo, blobs, "history", result)


def _of_blobs(repo: Repo, blobs: Mapping[str, str], commit: str, result: ExperimentsResult) -> Iterator[Experiment]:
    """Yield experiments from the files of commits: in-repo path to blob."""
    wanted = {path: blob for path, blob in blobs.items() if re.fullmatch(rf"{FOLDER}/[^/]+/[^/]+", path)}
    contents = dict(git.read_blobs(repo.git, wanted.values()))
    for name in sorted({path.split("/")[1] for path in wanted}):
        texts = [contents.get(wanted.get(f"{FOLDER}/{name}/{file}", ""), b"") for file in (PARAMS, METRICS)]
        yield _experiment(name, texts, commit, result)


def chosen(
    found: Sequence[Experiment], *, where: Sequence[str] = (), sort: str = "", is_descending: bool = False
) -> list[Experiment]:
    """Return the experiments that meet conditions (metrics.auc >= 0.9), sorted by a value; those that lack it come last."""
    gates = [gate.parse(one) for one in where]
    if wrong := next((one for one in gates if one.table == "meta"), None):
        raise FormatError(
            f"'{wrong.text}': an experiment has metrics and params", "Write it like 'metrics.auc >= 0.9'."
        )
    kept = [one for one in found if all(gate.is_met(each, _table(one, each.table)) for each in gates)]
    if not sort:
        return kept
    numbers = [one for one in kept if gate.is_number(value_of(one, sort))]
    texts = [one for one in kept if isinstance(value_of(one, sort), str | bool)]
    if kept and not numbers and not texts:
        raise UsageError(f"no experiment has '{sort}'", f"They have: {', '.join(columns(kept)[:20]) or 'nothing'}.")
    numbers.sort(key=lambda one: value_of(one, sort), reverse=is_descending)
    texts.sort(key=lambda one: str(value_of(one, sort)), reverse=is_descending)
    known = {one.name for one in (*numbers, *texts)}
    return [*numbers, *texts, *(one for one in kept if one.name not in known)]


def _table(one: Experiment, name: str) -> dict[str, Any]:
    return one.metrics if name == "metrics" else one.params


def value_of(one: Experiment, name: str) -> Any:
    """Return a value by its name: metrics.auc, params.lr, or auc where only one has it; None where there is none."""
    table, _, key = name.partition(".")
    if table in ("metrics", "params") and key in _table(one, table):
        return _table(one, table)[key]
    return one.metrics.get(name, one.params.get(name))


def columns(found: Sequence[Experiment]) -> list[str]:
    """Return the names of all values that some experiments have, metrics first."""
    names = [f"metrics.{key}" for one in found for key in one.metrics]
    names += [f"params.{key}" for one in found for key in one.params]
    return sorted(dict.fromkeys(names), key=lambda name: (not name.startswith("metrics."), name))


def find(found: Sequence[Experiment], name: str) -> Experiment:
    """Return an experiment by its name, its folder or its number; UsageError where there is none."""
    plain = name.rstrip("/").rpartition("/")[2]
    for one in found:
        is_number = plain.isascii() and plain.isdigit() and len(plain) < 10
        if one.name == plain or (is_number and _order(one.name)[:2] == (0, int(plain))):
            return one
    raise UsageError(f"there is no experiment '{name}'", "See 'dvlite exp list', with --all for those in history.")


def steps_of(repo: Repo, one: Experiment) -> list[dict[str, Any]]:
    """Return what an experiment logged step by step, as far as its file is here."""
    place = repo.root / one.path / STEPS
    rows = []
    for line in place.read_text(errors="replace").splitlines() if place.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
