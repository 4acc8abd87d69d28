"""What a command is called with: the folder, how much to say, and how paths of the user become paths of the repository."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvlite.cli import render
from dvlite.cli.bars import Bars
from dvlite.errors import UsageError
from dvlite.progress import SILENT, Progress

if TYPE_CHECKING:
    from dvlite.cli.trace import Trace
    from dvlite.repo import Repo

Paths = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH]…", help="Tracked paths, pointers, paths inside, globs.")
]
SomePaths = Annotated[list[str], typer.Argument(metavar="PATH…", help="Files, folders or globs.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON (see 'dvlite help json').")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what took how long.")]
Rev = Annotated[str | None, typer.Option("--rev", metavar="REV", help="Of another commit, branch or tag.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, max=256, help="Transfers at once.")]
LimitRate = Annotated[
    str | None, typer.Option("--limit-rate", metavar="SIZE", help="Bytes a second at most, like '5 MB'.")
]
RemoteName = Annotated[str, typer.Option("--remote", "-r", metavar="NAME", help="Another remote than the default.")]


@dataclass(slots=True)
class Session:
    """The options that all commands share."""

    folder: Path
    is_quiet: bool = False
    is_verbose: bool = False
    is_json: bool = False
    trace: Trace | None = None
    after_dashes: int | None = None  # how many arguments stand after '--', which the parser takes away

    @property
    def has_dashes(self) -> bool:
        """Whether '--' was given."""
        return self.after_dashes is not None

    def is_after_dashes(self, left: int) -> bool:
        """Tell whether the next argument, with so many left, stands after '--'."""
        return self.after_dashes is not None and left <= self.after_dashes

    def open(self, *, asks_hooks: bool = True) -> Repo:
        """Open the repository; a clone without hooks is told of once, or gets them where the user wants that."""
        from dvlite.repo import open_repo

        repo = open_repo(self.folder)
        repo.waiting = render.note
        if asks_hooks and not self.is_quiet and not self.is_json and not repo.hooks_note.exists():
            _settle_hooks(repo)
        return repo

    def paths(self, repo: Repo, given: Sequence[str] | None) -> list[str]:
        """Return in-repo paths of what the user named, relative to the folder."""
        return [repo.in_repo(path, self.folder) for path in given or ()]

    def here(self, repo: Repo, path: str) -> str:
        """Return an in-repo path as the user would write it from the folder."""
        above, slash, name = path.rpartition("/")
        folder = _shown(repo.root, above, self.folder) if slash else ""
        return f"{folder}/{name}" if folder and folder != "." else render.relative(repo.root / path, self.folder)

    def cache(self) -> Path:
        """Return the folder for what can be had again: clones of other repositories, and their listings."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dvlite"  # as in dvlite.filesystem

    def progress(self) -> Progress:
        """Return bars, for a terminal; or lines with times, when asked; else nothing."""
        has_bars = self.is_verbose or (sys.stderr.isatty() and not self.is_quiet and not self.is_json)
        shown: Progress = Bars(is_verbose=self.is_verbose) if has_bars else SILENT
        if self.trace:
            from dvlite.cli.trace import Traced  # seldom

            return Traced(shown, self.trace)
        return shown

    def finish(self, progress: Progress) -> None:
        """Take the bars away."""
        if close := getattr(progress, "close", None):
            close()


@functools.lru_cache(1024)  # listings are long, and their folders few
def _shown(root: Path, path: str, folder: Path) -> str:
    return render.relative(root / path, folder)


def _settle_hooks(repo: Repo) -> None:
    from dvlite.ops import hooks

    if repo.flag("autohooks", default=False):
        hooks.install(repo)
        render.note("installed Git's hooks for dvlite (dvlite.autohooks)")
    else:
        render.note("Git's hooks are not installed in this clone: 'dvlite hooks install' keeps data in step with Git")
        hooks.mark(repo, "told")


def session(ctx: typer.Context, *, json: bool = False, quiet: bool = False, verbose: bool = False) -> Session:
    """Return the session with a command's own options put in."""
    found: Any = ctx.find_root().obj
    assert isinstance(found, Session)
    found.is_json = json
    found.is_quiet |= quiet
    found.is_verbose |= verbose
    return found


def rate(text: str | None) -> int:
    """Return bytes a second; 0 for no limit."""
    from dvlite import config

    return config.parse_size(text) if text else 0


def ask_trust(repo: Repo, name: str) -> None:
    """Ask once, on a terminal, whether credentials may go to an endpoint that the clone brought."""
    from dvlite import remotes

    name = name or remotes.default_name(repo.config, repo.settings)
    if not name or not sys.stdin.isatty() or name not in remotes.names(repo.config, repo.settings):
        return
    endpoint = remotes.untrusted_endpoint(name, repo.config, repo.settings)
    if endpoint and typer.confirm(
        f"Remote '{name}' is reached at {endpoint}. May your credentials go there?", err=True
    ):
        from dvlite.ops import remote

        remote.trust(repo, name)


def pairs(given: Sequence[str] | None) -> dict[str, str]:
    """Read KEY=VALUE words."""
    found = [one.partition("=") for one in given or ()]
    for key, separator, value in found:
        if not separator or not key.strip():
            raise UsageError(f"'{key}{separator}{value}' is not KEY=VALUE", "For example: owner=ana")
    return {key: value for key, _, value in found}
