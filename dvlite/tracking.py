"""`dvlite.experiment()`: what a script says of itself while it runs, in the folder of an experiment."""

import json
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvlite import git
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
        self._params |= {**(values or {}), **more}
        self._write(PARAMS, self._params)

    def metrics(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Note metrics; the last value of a name counts."""
        self._metrics |= {**(values or {}), **more}
        self._write(METRICS, self._metrics)

    def log(self, step: float, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Note values of one step, for 'dvlite exp plot'."""
        with (self.folder / STEPS).open("a") as file:
            file.write(json.dumps({"step": step, **(values or {}), **more}) + "\n")

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Store what is in the folder, whatever happened; 'dvlite exp run' does so itself."""
        if self._is_ours:
            result = experiments.keep(self._repo, self.path)
            for failure in result.failures:
                raise failure.error


def experiment(
    name: str = "", *, params: Mapping[str, Any] | None = None, repo: str | os.PathLike[str] = "."
) -> Running:
    """Begin an experiment (for a with statement) in the repository that a folder lies in; under 'dvlite exp run' it is that one.

    UsageError where there is no repository, or an experiment of that name.
    """
    opened = Repo(git.discover(Path(repo).resolve()))
    given = os.environ.get(ENVIRONMENT)
    path = opened.in_repo(given, opened.root) if given else experiments.new(opened, name)
    running = Running(opened, path, is_ours=not given)
    if params:
        running.params(params)
    return running
