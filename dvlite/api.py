"""What `import dvlite` offers: any version of any data as a file, and the operations as functions. Nothing here prints.

Paths of operations are in-repo POSIX strings; errors are those of `dvlite.errors`.
"""

import io
import os
from pathlib import Path
from typing import IO, Any, Literal, overload

from dvlite import git
from dvlite.errors import UsageError
from dvlite.filesystem import DvliteFileSystem, cache_folder, escape
from dvlite.ops.add import add
from dvlite.ops.checkout import checkout
from dvlite.ops.diff import diff
from dvlite.ops.experiments import read as read_experiments
from dvlite.ops.fetch import fetch, pull
from dvlite.ops.get import get
from dvlite.ops.imports import import_data, import_url, update
from dvlite.ops.lineage import lineage
from dvlite.ops.log import log
from dvlite.ops.push import push
from dvlite.ops.read import ls
from dvlite.ops.registry import find as find_version
from dvlite.ops.registry import pointer_of, promote, register
from dvlite.ops.repro import repro
from dvlite.ops.run import run
from dvlite.ops.source import Source, open_source
from dvlite.ops.status import status
from dvlite.repo import Repo
from dvlite.stores.base import loose_name
from dvlite.tracking import Running, experiment

__all__ = [
    "DvliteFileSystem",
    "Repository",
    "Running",
    "Source",
    "add",
    "checkout",
    "diff",
    "experiment",
    "fetch",
    "find_version",
    "get",
    "import_data",
    "import_url",
    "lineage",
    "log",
    "ls",
    "open",
    "promote",
    "pull",
    "push",
    "read",
    "read_experiments",
    "register",
    "repro",
    "run",
    "source",
    "status",
    "update",
    "url",
]

Place = str | os.PathLike[str]


class Repository(Repo):
    """A repository of dvlite that a folder lies in; what the operations take first. UsageError where there is none."""

    def __init__(self, folder: Place = ".") -> None:
        super().__init__(git.discover(Path(folder).resolve()))
        self.config  # noqa: B018  (says at once when it is missing or malformed)


def source(repo: Place = ".", rev: str | None = None) -> Source:
    """Open any repository (a folder, or a URL that Git takes) at a rev, for `get` and `import_data`.

    None is the worktree's pointers as they lie there; empty is HEAD.
    """
    return open_source(os.fspath(repo), rev, cache_folder(), Path.cwd())


@overload
def open(
    path: str = "", repo: Place | None = None, rev: str | None = None, mode: Literal["rb"] = "rb", *, model: str = ""
) -> IO[bytes]: ...
@overload
def open(
    path: str = "",
    repo: Place | None = None,
    rev: str | None = None,
    *,
    mode: Literal["r"],
    encoding: str = "utf-8",
    model: str = "",
) -> IO[str]: ...
def open(
    path: str = "",
    repo: Place | None = None,
    rev: str | None = None,
    mode: str = "rb",
    encoding: str = "utf-8",
    *,
    model: str = "",
) -> Any:
    """Open a file of a repository (here without) at a rev (as the worktree's pointers say without), without a checkout.

    `model` names a registered version instead of path and rev: "churn@v1.2.0", "churn@production".
    Mode "rb" gives bytes, "r" text. FileNotFoundError where it isn't tracked, dvlite.errors.DvliteError where it can't be had.
    """
    if mode not in ("rb", "r", "rt"):
        raise ValueError(f"mode {mode!r}: versions can only be read")
    if bool(path) == bool(model):
        raise ValueError("name a path, or a model of the registry")
    if model:
        opened = source(repo or ".", "").repo
        version = find_version(opened.git, model)
        path, rev = pointer_of(opened, version)[0], version.commit
    file = _fs(repo, rev).open(escape(path), "rb")
    return file if mode == "rb" else io.TextIOWrapper(file, encoding=encoding)


def read(path: str, repo: Place | None = None, rev: str | None = None) -> bytes:
    """Return a file's bytes, verified."""
    return _fs(repo, rev).cat_file(escape(path))


def url(path: str, repo: Place | None = None, rev: str | None = None) -> str:
    """Return where a file's bytes lie on the remote, as a URL of their own; UsageError where they share a pack with others."""
    opened = _fs(repo, rev).source
    tracked, entry = opened.find(path)
    for store in opened.stores(tracked):
        found = getattr(store, "bucket", None)
        if found and store.find([entry.oid]):
            if entry.oid in store.share([entry.oid])[1]:  # type: ignore[attr-defined]
                return f"{found.url.rstrip('/')}/{loose_name(entry.oid)}"
            raise UsageError(
                f"'{path}' lies in a pack with others", "Read it with dvlite.open, or get it with 'dvlite get'."
            )
    raise UsageError(f"'{path}' is on no remote", "Push it: 'dvlite push'.")


def _fs(repo: Place | None, rev: str | None) -> DvliteFileSystem:
    return DvliteFileSystem(repo=repo or "", rev=rev)
