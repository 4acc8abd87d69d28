"""Other repositories, named by a path or a URL: bare clones of them without file contents, kept up to date.

Git's own transports and credentials are used; those that run a command named in the URL are not: it may be a stranger's.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dvlite.errors import DvliteError
from dvlite.git.call import Git, literal, program, run, stream

_SAFE = ["-c", "protocol.ext.allow=never", "-c", "protocol.fd.allow=never"]
_ALL = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]


def clone_bare(url: str, folder: Path) -> None:
    """Clone a repository without a worktree, and without the contents of files where its server can do so."""
    command = ["git", *_SAFE, "clone", "--quiet", "--bare", "--filter=blob:none", "--", url, str(folder)]
    _run(folder.parent, command, url)


def refresh(git: Git, url: str) -> None:
    """Get all branches and tags of a clone anew."""
    _run(
        git.root,
        ["git", *_SAFE, f"--git-dir={git.folder}", "fetch", "--quiet", "--prune", "--force", "origin", *_ALL],
        url,
    )


def _run(folder: Path, command: list[str], url: str) -> None:
    done = program(folder, command)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().split("\n")
        reason = next((line for line in said if line.startswith(("fatal:", "error:", "ERROR:"))), said[-1])
        raise DvliteError(
            f"can't get the repository '{url}': {reason.removeprefix('fatal: ')}",
            f"Try it by hand: git ls-remote {url}",
        )


def kind_at(git: Git, commit: str, path: str) -> str:
    """Return what a path is in a commit: blob, tree, or nothing (empty)."""
    return run(git, *_SAFE, "cat-file", "-t", f"{commit}:{path}", is_checked=False).decode().strip()


def unpack(git: Git, commit: str, path: str) -> Iterator[tuple[str, str, IO[bytes] | None, str]]:
    """Yield all files at and below a path of a commit: path, kind (file, executable, link), content, and a link's target."""
    with stream(git, *_SAFE, "archive", "--format=tar", commit, "--", *literal([path]), stdin=b"") as output:
        with tarfile.open(fileobj=output, mode="r|", errors="surrogateescape") as archive:
            for member in archive:
                if member.issym():
                    yield member.name, "link", None, member.linkname
                elif member.isreg():
                    yield member.name, "executable" if member.mode & 0o100 else "file", archive.extractfile(member), ""
