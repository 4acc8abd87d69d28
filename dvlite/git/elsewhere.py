"""Other repositories, named by a path or a URL: bare clones of them without file contents, kept up to date.

Git's own transports and credentials are used; those that run a command named in the URL are not: it may be a stranger's.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dvlite.errors import DvliteError, quote
from dvlite.git.call import Git, literal, program, regular, run, split

_SAFE = ["-c", "protocol.ext.allow=never", "-c", "protocol.fd.allow=never"]
_LOGIN = re.compile(
    r"(?<=http://)[^/@\s]+@|(?<=https://)[^/@\s]+@|(?<=://)[^/@\s]*:[^/@\s]*@"
)  # passwords and tokens in URLs
_ALL = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]


def without_login(url: str) -> str:
    """Return a URL without the password or token in it, and the name that it is for."""
    return _LOGIN.sub("", url)


def clone_bare(url: str, folder: Path) -> None:
    """Clone a repository without a worktree, and without the contents of files where its server can do so."""
    command = ["git", *_SAFE, "clone", "--quiet", "--bare", "--filter=blob:none", "--", url, str(folder)]
    _run(folder.parent, command, url)


def refresh(git: Git, url: str) -> None:
    """Get all branches and tags of a clone anew, and which branch is its default."""
    command = ["git", *_SAFE, f"--git-dir={git.folder}"]
    _run(git.root, [*command, "fetch", "--quiet", "--prune", "--force", "origin", *_ALL], url)
    for line in _run(git.root, [*command, "ls-remote", "--symref", "origin", "HEAD"], url).decode().splitlines():
        if line.startswith("ref: refs/heads/"):
            run(git, "symbolic-ref", "HEAD", line[5:].split("\t")[0])


def _run(folder: Path, command: list[str], url: str) -> bytes:
    done = program(folder, command)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().split("\n")
        reason = next((line for line in said if line.startswith(("fatal:", "error:", "ERROR:"))), said[-1])
        shown = without_login(url)
        raise DvliteError(
            f"can't get the repository '{shown}': {without_login(reason.removeprefix('fatal: '))}",
            f"Try it by hand: git ls-remote {quote(shown)}",
        )
    return done.stdout


def fetch_blobs(git: Git, commit: str, suffix: str) -> None:
    """Get the files of a commit that end so into a clone without contents, in one request, not one for each."""
    mark = git.folder / "dvlite" / "fetched"
    if mark.exists() and mark.read_text() == commit:
        return
    blobs = sorted(set(regular(split(run(git, "ls-tree", "-r", "-z", "--full-tree", commit)), suffix, 2).values()))
    command = [
        *_SAFE,
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--filter=blob:none",
        "--stdin",
        "origin",
    ]
    if len(blobs) > 1:  # where the server can't do so, they come one by one
        run(git, *command, stdin="".join(f"{blob}\n" for blob in blobs).encode(), is_checked=False)
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(commit)


def kind_at(git: Git, commit: str, path: str) -> str:
    """Return what a path is in a commit: blob, tree, or nothing (empty)."""
    return run(git, *_SAFE, "cat-file", "-t", f"{commit}:{path}", is_checked=False).decode().strip()


def unpack(git: Git, commit: str, path: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield all files at and below a path of a commit, as Git keeps them: path, kind (file, executable, link), content."""
    rows = split(run(git, *_SAFE, "ls-tree", "-r", "-z", "--full-tree", commit, "--", *literal([path])))
    kinds = {"100644": "file", "100755": "executable", "120000": "link"}
    for row in rows:
        head, _, name = row.partition("\t")
        mode, _, blob = head.split(" ")[:3]
        if mode in kinds:
            yield name, kinds[mode], run(git, *_SAFE, "cat-file", "blob", blob)
