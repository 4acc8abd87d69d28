"""`dvlite.experiment()`: what a script says of itself while it runs, in the folder of an experiment."""

import json
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvlite import git
from dvlite.errors import UsageError
from dvlite.ops import experiments
from dvlite.ops.experiments import ENVIRONMENT, METRICS, PARAMS, STEPS
from dvlite.repo import Repo


class Running:
    """An experiment that a script is in: `folder` takes what it writes; at the end all of it is stored, and staged for Git."""

    def __init__(self, repo: Repo, path: str, *, is_ours: bool) -> None:
        self.path = path
        self.folder: Path = repo.root / path
        self._repo, self._is_ours = repo, is_ours
        self._params: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}

    def params(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Note parameters; what was noted before stays."""
        self._params = self._write(PARAMS, {**self._params, **(values or {}), **more})

    def metrics(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Note metrics; the last value of a name counts."""
        self._metrics = self._write(METRICS, {**self._metrics, **(values or {}), **more})

    def log(self, step: float, /, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Note values of one step, for 'dvlite exp plot'."""
        with (self.folder / STEPS).open("a") as file:
            file.write(json.dumps({**(values or {}), **more, "step": step}) + "\n")

    def _write(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Write values and return them; TypeError for what is no JSON, and then nothing is changed."""
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (self.folder / name).write_bytes(text.encode("utf-8", "replace"))
        return values

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Store what is in the folder, whatever happened; 'dvlite exp run' does so itself."""
        if self._is_ours:
            result = experiments.keep(self._repo, self.path)
            for failure in result.failures if error is None else ():  # the script's own error comes first
                raise failure.error


def experiment(
    name: str = "", *, params: Mapping[str, Any] | None = None, repo: str | os.PathLike[str] = "."
) -> Running:
    """Begin an experiment (for a with statement) in the repository that a folder lies in; under 'dvlite exp run' it is that one.

    UsageError where there is no repository, or an experiment of that name.
    """
    opened = Repo(git.discover(Path(repo).resolve()))
    given = os.environ.get(ENVIRONMENT)
    inside = opened.in_repo(given, opened.root) if given else ""
    if given and inside.rpartition("/")[0] != experiments.FOLDER:
        raise UsageError(f"{ENVIRONMENT} is '{given}', which is no experiment's folder", "'dvlite exp run' sets it.")
    path = inside or experiments.new(opened, name)
    running = Running(opened, path, is_ours=not given)
    if params:
        running.params(params)
    return running
