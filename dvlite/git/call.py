"""The call of the `git` program, on a repository's folders: the only place that starts a program."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from dvlite.errors import DvliteError, UsageError


class Git(NamedTuple):
    """A Git worktree: its root, its own Git folder, and the one that all worktrees of the repository share."""

    root: Path
    folder: Path
    common: Path
    options: tuple[str, ...] = ()

    def exact(self) -> "Git":
        """Return the same repository, without the replacements that refs/replace asks for."""
        return self._replace(options=("--no-replace-objects",))


def discover(start: Path, *, may_be_bare: bool = False) -> Git:
    """Find the worktree that `start` (absolute, without links) lies in, as Git does; UsageError where there is none.

    `may_be_bare`: `start` may be the folder of a repository without a worktree.
    """
    if may_be_bare and (start / "HEAD").exists() and (start / "objects").is_dir():
        return Git(start, start, start)
    for root in (start, *start.parents):
        entry = root / ".git"
        if entry.is_dir() and (entry / "HEAD").exists():
            return Git(root, entry, entry)
        if entry.is_file():  # a linked worktree, or a submodule
            text = entry.read_text().strip()
            folder = (root / text.removeprefix("gitdir:").strip()).resolve()
            shared = folder / "commondir"
            common = (folder / shared.read_text().strip()).resolve() if shared.exists() else folder
            return Git(root, folder, common)
    raise UsageError(f"'{start}' is not in a Git repository", "Make one with 'git init', then run 'dvlite init'.")


def _command(git: Git, arguments: Iterable[str]) -> list[str]:
    # Named, because the environment of a hook names another repository's.
    place = [f"--git-dir={git.folder}", f"--work-tree={git.root}"]
    return ["git", *place, "--no-literal-pathspecs", *git.options, "-c", "core.quotePath=false", *arguments]


def run(git: Git, *arguments: str, stdin: bytes | None = None, is_checked: bool = True) -> bytes:
    """Run a Git command at the root and return what it prints; DvliteError with Git's own words where it fails."""
    done = program(git.root, _command(git, arguments), stdin)
    if done.returncode and is_checked:
        raise _failed(arguments, done.stderr)
    return done.stdout


def _failed(arguments: Iterable[str], said: bytes) -> DvliteError:
    words = said.decode(errors="replace").strip().removeprefix("fatal: ").split("\n")[0]
    return DvliteError(f"git {next(word for word in arguments if word[0] != '-')}: {words}")


def begin(git: Git, *arguments: str, is_checked: bool = True) -> Callable[[], bytes]:
    """Start a Git command while something else goes on; return what waits for it, which returns and raises what `run` does."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            _command(git, arguments), cwd=git.root, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError as exc:
        raise _no_git() from exc

    def wait() -> bytes:
        printed, said = process.communicate()
        if process.returncode and is_checked:
            raise _failed(arguments, said)
        return printed

    return wait


@contextlib.contextmanager
def stream(git: Git, *arguments: str, stdin: bytes) -> Iterator[IO[bytes]]:
    """Run a Git command at the root and yield what it prints as a file; it ends with the context."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        _command(git, arguments), cwd=git.root, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin and process.stdout
        # Beside the reader, so that neither side waits for the other.
        threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
        try:
            yield process.stdout
        finally:
            process.kill()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(data)


def program(folder: Path, command: list[str], stdin: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Run the program in a folder and return how it ended."""
    try:
        return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise _no_git() from exc


def _no_git() -> DvliteError:
    return DvliteError("the program 'git' is not on the PATH", "Install Git.")


def split(output: bytes) -> list[str]:
    """Return what is NUL-terminated in an output."""
    return [name.decode("utf-8", "surrogateescape") for name in output.split(b"\0") if name]


def pathspec(suffix: str) -> str:
    """Return what Git calls all files that end so."""
    return f":(glob)**/*{suffix}"


def literal(paths: Iterable[str]) -> list[str]:
    """Return what Git calls exactly these paths."""
    return [f":(top,literal){path}" for path in paths]


def of_folder(folder: Path) -> Git:
    """Open a repository by the Git folder that its worktrees share; UsageError where there is none."""
    if not (folder / "HEAD").exists() or not (folder / "objects").is_dir():
        raise UsageError(f"there is no Git repository in '{folder}'")
    return Git(folder, folder, folder)


def regular(rows: list[str], suffix: str, column: int) -> dict[str, str]:
    """Read rows of `mode … id … TAB path`; leaves out links, and a file that is named like the suffix alone."""
    found = {}
    for row in rows:
        head, _, path = row.partition("\t")
        fields = head.split(" ")
        if path.endswith(suffix) and path.rpartition("/")[2] != suffix and fields[0].startswith("100"):
            found[path] = fields[column]
    return found
