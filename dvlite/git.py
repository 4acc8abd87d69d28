"""The only room that knows Git: the repository's folders, its index, its commits, its config, each as a small function.

Everything asks the `git` program: it knows every kind of repository, and a call costs 3 ms where importing a library costs
a hundred. Commands that print paths print them NUL-terminated; paths are in-repo POSIX strings.
"""

import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite.errors import DvliteError, UsageError

_PATIENCE = 30  # tenths of a second
_ARGUMENTS = 300  # paths of one call: the system limits the length of a command line


class Git(NamedTuple):
    """A Git worktree: its root, its own Git folder, and the one that all worktrees of the repository share."""

    root: Path
    folder: Path
    common: Path


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


def run(git: Git, *arguments: str, stdin: bytes | None = None, is_checked: bool = True) -> bytes:
    """Run a Git command at the root and return what it prints; DvliteError with Git's own words where it fails."""
    # Named, because the environment of a hook names another repository's.
    place = [f"--git-dir={git.folder}", f"--work-tree={git.root}"]
    command = ["git", *place, "--no-literal-pathspecs", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, cwd=git.root, input=stdin, capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise DvliteError("the program 'git' is not on the PATH", "Install Git.") from exc
    if done.returncode and is_checked:
        said = done.stderr.decode(errors="replace").strip().removeprefix("fatal: ").split("\n")[0]
        raise DvliteError(f"git {next(word for word in arguments if word[0] != '-')}: {said}")
    return done.stdout


def _names(output: bytes) -> list[str]:
    return [name.decode("utf-8", "surrogateescape") for name in output.split(b"\0") if name]


def _glob(suffix: str) -> str:
    return f":(glob)**/*{suffix}"


def _literal(paths: Iterable[str]) -> list[str]:
    return [f":(top,literal){path}" for path in paths]


def of_folder(folder: Path) -> Git:
    """Open a repository by the Git folder that its worktrees share; UsageError where there is none."""
    if not (folder / "HEAD").exists() or not (folder / "objects").is_dir():
        raise UsageError(f"there is no Git repository in '{folder}'")
    return Git(folder, folder, folder)


def worktrees(git: Git) -> list[Git]:
    """Return all worktrees of a repository; UsageError for one that can't be reached."""
    found = []
    for name in _names(run(git, "worktree", "list", "--porcelain").replace(b"\n", b"\0")):
        kind, _, place = name.partition(" ")
        if kind == "worktree":
            found.append(Path(place))
        elif kind == "bare":
            found.pop()
    for path in found:
        if not path.exists():
            raise UsageError(
                f"the worktree '{path}' can't be reached",
                "Make it reachable, or forget it with 'git worktree prune' if it is gone for good.",
            )
    return [discover(path.resolve()) for path in found]


# ---- worktree and index ---------------------------------------------------------------------------------------------


def files_with_suffix(git: Git, suffix: str) -> list[str]:
    """Return the files of the worktree that end so: those that Git tracks, and those that it doesn't ignore."""
    arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", _glob(suffix)]
    return _names(run(git, *arguments))


def index_blobs(git: Git, suffix: str) -> dict[str, str]:
    """Return the regular files in Git's index that end so, each with its blob's id (of one side, in a merge)."""
    rows = _names(run(git, "ls-files", "-z", "--stage", "--", _glob(suffix)))
    return _regular(rows, suffix, 1)


def _regular(rows: list[str], suffix: str, column: int) -> dict[str, str]:
    """Read rows of `mode … id … TAB path`; leaves out links, and a file that is named like the suffix alone."""
    found = {}
    for row in rows:
        head, _, path = row.partition("\t")
        fields = head.split(" ")
        if path.endswith(suffix) and path.rpartition("/")[2] != suffix and fields[0].startswith("100"):
            found[path] = fields[column]
    return found


def staged_blobs(git: Git, suffix: str) -> list[tuple[str, str]]:
    """Return blob id and path of all files in Git's index that end so, of all sides in a merge."""
    rows = _names(run(git, "ls-files", "-z", "--stage", "--", _glob(suffix)))
    parts = [row.partition("\t") for row in rows]
    return [(head.split(" ")[1], path) for head, _, path in parts if head.startswith("100")]


def tracked_below(git: Git, paths: Iterable[str]) -> list[str]:
    """Return the files that Git tracks at or below some paths."""
    wanted = _literal(paths)
    chunks = (wanted[at : at + _ARGUMENTS] for at in range(0, len(wanted), _ARGUMENTS))
    return [name for chunk in chunks for name in _names(run(git, "ls-files", "-z", "--", *chunk))]


def index_state(git: Git, suffix: str) -> bytes:
    """Return all that Git's index says of the files that end so; empty where the worktree has one of them otherwise."""
    differing = run(git, "diff-files", "--", _glob(suffix))
    return b"" if differing else run(git, "ls-files", "-s", "--", _glob(suffix))


def changed_with_suffix(git: Git, suffix: str) -> dict[str, str]:
    """Return the files that end so and differ from HEAD: path to Git's two status letters."""
    arguments = ["--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=all", "--", _glob(suffix)]
    parts = _names(run(git, *arguments))
    changed = {}
    position = 0
    while position < len(parts):
        letters, path = parts[position][:2], parts[position][3:]
        changed[path] = letters
        position += 2 if "R" in letters or "C" in letters else 1  # the old name follows
    return changed


class Staged(NamedTuple):
    """A file of Git's index that differs from a commit. `blob`: its id, of zeros where it is deleted or unmerged."""

    path: str
    state: str  # A, M, D, T or U
    mode: str
    blob: str


def staged(git: Git, commit: str = "") -> list[Staged]:
    """Return what Git's index has that a commit (HEAD without; nothing, before the first) doesn't have, or has otherwise."""
    arguments = ["diff-index", "--cached", "--raw", "--no-renames", "--abbrev=64", "-z"]
    try:
        parts = _names(run(git, *arguments, commit or "HEAD"))
    except DvliteError:
        if commit or has_commits(git):
            raise
        parts = _names(run(git, *arguments, _empty_tree(git)))
    found = []
    for head, path in zip(parts[::2], parts[1::2], strict=True):
        _, mode, _, blob, state = head.split(" ")
        found.append(Staged(path, state, mode, blob))
    return found


def _empty_tree(git: Git) -> str:
    return run(git, "hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()


def blob_sizes(git: Git, blobs: Iterable[str]) -> dict[str, int]:
    """Return the sizes in bytes of Git blobs, of those that Git has."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return {}
    output = run(git, "cat-file", "--batch-check", stdin="\n".join(wanted).encode() + b"\n")
    rows = [line.split() for line in output.decode().split("\n") if line]
    return {row[0]: int(row[2]) for row in rows if len(row) == 3}


def unstaged(git: Git, paths: Iterable[str]) -> list[str]:
    """Return those files that Git's index doesn't have as they are, in the order given."""
    names = list(dict.fromkeys(paths))
    wanted = _literal(names)
    chunks = (wanted[at : at + _ARGUMENTS] for at in range(0, len(wanted), _ARGUMENTS))
    listed = {
        name for chunk in chunks for name in _names(run(git, "ls-files", "-z", "--modified", "--others", "--", *chunk))
    }
    return [name for name in names if name in listed]


def stage(git: Git, paths: Iterable[str]) -> None:
    """Add files to Git's index, also where an ignore rule would leave them out."""
    wanted = _literal(paths)
    for at in range(0, len(wanted), _ARGUMENTS):
        _patiently(git, "add", "--force", "--", *wanted[at : at + _ARGUMENTS])


def _patiently(git: Git, *arguments: str) -> None:
    """Run a command that writes Git's index, which another one may hold locked for a moment."""
    for attempt in range(_PATIENCE + 1):
        try:
            run(git, *arguments)
            return
        except DvliteError as exc:
            if "index.lock" not in exc.message or attempt == _PATIENCE:
                raise
            time.sleep(0.1)


# ---- commits --------------------------------------------------------------------------------------------------------


def resolve(git: Git, rev: str) -> str:
    """Return the commit that a rev names; UsageError for one that doesn't exist."""
    found = run(git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", is_checked=False)
    if not found:
        raise UsageError(
            f"'{rev}' is not a commit, branch or tag here", "See 'git log' and 'git tag' for what there is."
        )
    return found.decode().strip()


def has_commits(git: Git) -> bool:
    """Tell whether HEAD is a commit yet."""
    return bool(run(git, "rev-parse", "--verify", "--quiet", "HEAD", is_checked=False))


def blobs_at(git: Git, commit: str, suffix: str) -> dict[str, str]:
    """Return the files of a commit that end so, each with its blob's id."""
    return _regular(_names(run(git, "ls-tree", "-r", "-z", "--full-tree", commit)), suffix, 2)


def blobs_in(git: Git, revs: Iterable[str], suffix: str) -> dict[str, str]:
    """Return all versions of files that end so, in all commits that the revs select: blob id to one of its paths."""
    found = _blobs(git, revs, _glob(suffix))
    return {blob: path for blob, path in found if path.rpartition("/")[2] != suffix}


def blobs_of(git: Git, revs: Iterable[str], path: str) -> list[str]:
    """Return the ids of all versions of one file, in all commits that the revs select."""
    return list(dict.fromkeys(blob for blob, _ in _blobs(git, revs, *_literal([path]))))


def _blobs(git: Git, revs: Iterable[str], pathspec: str) -> Iterator[tuple[str, str]]:
    """Yield the blobs that the commits brought, each with its path."""
    return ((blob, path) for _, blob, path in _brought(git, run(git, "rev-list", *revs), pathspec))


def _brought(git: Git, commits: bytes, pathspec: str) -> Iterator[tuple[str, str, str]]:
    """Yield commit, blob and path of all that commits (a line each) brought, in their order.

    Commit by commit against its parents: listing all objects of a pattern leaves out what lies in folders. Of a merge only what
    none of its parents has (-c): the rest came with them.
    """
    if not commits:
        return
    arguments = ["--stdin", "--root", "-r", "-c", "--raw", "--no-renames", "--abbrev=64", "-z"]
    parts = iter(_names(run(git, "diff-tree", *arguments, "--", pathspec, stdin=commits)))
    commit = ""
    for head in parts:
        if not head.startswith(":"):
            commit = head
            continue
        path = next(parts)
        fields = head.lstrip(":").split(" ")
        sides = len(head) - len(head.lstrip(":"))
        mode, blob = fields[sides], fields[2 * sides + 1]
        if mode.startswith("100"):
            yield commit, blob, path


def history(git: Git, revs: Iterable[str], suffix: str) -> list[tuple[int, str, str]]:
    """Return when (seconds), at which path and as which blob each version came of the files that end so, newest first."""
    rows = [
        line.split() for line in run(git, "rev-list", "--timestamp", "--date-order", *revs).decode().split("\n") if line
    ]
    times = {commit: int(when) for when, commit in rows}
    found = _brought(git, "\n".join([*times, ""]).encode(), _glob(suffix))
    return [(times[commit], path, blob) for commit, blob, path in found]


def versions(git: Git, revs: Iterable[str], suffix: str) -> set[tuple[str, str]]:
    """Return path and blob id of every version of the files that end so, in all commits that the revs select."""
    return {(path, blob) for blob, path in _blobs(git, revs, _glob(suffix))}


def commits_having(
    git: Git, revs: Iterable[str], wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], list[str]]:
    """Return for path and blob id the commits, of those that the revs select, that have just that; newest first."""
    pairs = {pair for pair in wanted if "\n" not in pair[0]}
    paths = sorted({path for path, _ in pairs})
    commits = run(git, "rev-list", *revs).decode().split()
    asked = [(commit, path) for commit in commits for path in paths]
    text = "".join(f"{commit}:{path}\n" for commit, path in asked).encode("utf-8", "surrogateescape")
    rows = (
        run(git, "cat-file", "--batch-check=%(objectname)", stdin=text).decode("utf-8", "surrogateescape").split("\n")
    )
    found: dict[tuple[str, str], list[str]] = {pair: [] for pair in pairs}
    for (commit, path), row in zip(asked, rows, strict=False):
        if (path, row) in found:
            found[path, row].append(commit)
    return found


def tags(git: Git) -> dict[str, str]:
    """Return all tags of commits: name to commit."""
    shape = "%(objecttype) %(objectname) %(*objectname) %(refname:strip=2)"
    rows = [
        row.split(" ", 3)
        for row in run(git, "for-each-ref", f"--format={shape}", "refs/tags").decode().split("\n")
        if row
    ]
    return {name: peeled or oid for kind, oid, peeled, name in rows if kind in ("commit", "tag")}


def file_at(git: Git, commit: str, path: str) -> bytes:
    """Return a file's content in a commit (or, without one, in Git's index); empty where it has none."""
    return run(git, "cat-file", "blob", f"{commit}:{path}", is_checked=False)


def changed_between(git: Git, old: str, new: str, suffix: str) -> dict[str, str]:
    """Return the files that end so and differ between two commits, with their states (A, M, D, T); `old` of zeros has none."""
    if not old.strip("0"):
        return dict.fromkeys(blobs_at(git, new, suffix), "A")
    arguments = ["diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new, "--", _glob(suffix)]
    parts = _names(run(git, *arguments))
    return dict(zip(parts[1::2], parts[::2], strict=True))


def has_commit(git: Git, commit: str) -> bool:
    """Tell whether Git has a commit (or a tag of one), and all that a walk from it needs to begin."""
    return bool(run(git, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", is_checked=False))


def read_blobs(git: Git, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the content of Git blobs by id, from one process; DvliteError for one that Git doesn't have."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return
    output = run(git, "cat-file", "--batch", stdin="\n".join(wanted).encode() + b"\n")
    at = 0
    for blob in wanted:
        end = output.index(b"\n", at)
        head = output[at:end].split()
        if len(head) != 3:
            raise DvliteError(f"Git has no object {blob}", "Run 'git fetch', or 'git fsck' to see what is missing.")
        at = end + 1 + int(head[2]) + 1
        yield blob, output[end + 1 : at - 1]


# ---- hooks and merges -----------------------------------------------------------------------------------------------


def hooks_folder(git: Git) -> Path:
    """Return where Git looks for hooks: as configured, else the folder that all worktrees share."""
    text = run(git, "rev-parse", "--git-path", "hooks").decode("utf-8", "surrogateescape").rstrip("\n")
    return git.root / text


_MARKS = ("*_HEAD", "rebase-merge/*", "rebase-apply/*")


def marks(git: Git) -> list[str]:
    """Return the commits that a worktree's unfinished business names: MERGE_HEAD, ORIG_HEAD, a rebase's beginning."""
    found = set()
    for path in (path for pattern in _MARKS for path in git.folder.glob(pattern) if path.is_file()):
        for word in path.read_bytes()[:4096].split():
            if len(word) in (40, 64) and set(word) <= set(b"0123456789abcdef"):
                found.add(word.decode())
    return sorted(commit for commit in found if has_commit(git, commit))


def tagged_trees(git: Git) -> list[str]:
    """Return the trees that refs name without a commit."""
    shape = "%(objecttype) %(objectname)%0a%(*objecttype) %(*objectname)"
    rows = run(git, "for-each-ref", f"--format={shape}").decode().split("\n")
    return [row.split(" ")[1] for row in rows if row.startswith("tree ")]


GATHERED = "refs/dvlite/gathered"


def remotes(git: Git) -> list[str]:
    """Return the names of Git's own remotes."""
    return run(git, "remote").decode().split()


def refuse_incomplete(git: Git) -> None:
    """Raise UsageError in a clone that doesn't have all commits of all branches, or gets objects when they are asked for."""
    hint = "Run this in a whole clone: 'git clone URL' without --depth, --filter and --single-branch."
    if run(git, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise UsageError("this clone is shallow", hint)
    settings_ = run(git, "config", "--get-regexp", r"^remote\..*\.(promisor|partialclonefilter)$", is_checked=False)
    if settings_:
        raise UsageError("this clone is partial", hint)
    for name in remotes(git):
        specs = run(git, "config", "--get-all", f"remote.{name}.fetch", is_checked=False).decode().split()
        if not any("refs/heads/*:" in spec or "refs/*:" in spec for spec in specs):
            raise UsageError(f"this clone does not have all branches of the Git remote '{name}'", hint)


def gather(git: Git) -> None:
    """Fetch all refs of all Git remotes into a place of their own; DvliteError where one can't be read."""
    for name in remotes(git):
        spec = f"+refs/*:{GATHERED}/{name}/*"
        run(git, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune", "--no-auto-gc", name, spec)


def scatter(git: Git) -> None:
    """Forget what was gathered."""
    names = run(git, "for-each-ref", "--format=delete %(refname)", GATHERED)
    if names:
        run(git, "update-ref", "--stdin", stdin=names)


def in_progress(git: Git, *names: str) -> bool:
    """Tell whether one of these marks of something unfinished (MERGE_HEAD, rebase-merge, …) is there."""
    return any((git.folder / name).exists() for name in names)


def merge_texts(folder: Path, ours: Path, base: Path, theirs: Path, *, marker_size: int = 7) -> tuple[bytes, bool]:
    """Merge three text files as Git does; return the text, and whether it has no conflict."""
    labels = ["-L", "ours", "-L", "base", "-L", "theirs", f"--marker-size={marker_size}"]
    command = ["git", "merge-file", "-p", *labels, str(ours), str(base), str(theirs)]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode < 0 or done.returncode > 127:
        raise DvliteError(f"git merge-file: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout, done.returncode == 0


SHARED = "core.sharedrepository"


# ---- config ---------------------------------------------------------------------------------------------------------


def settings(git: Git) -> list[tuple[str, str, str]]:
    """Return all `dvlite.*` settings, and whom Git shares with, of all config levels: level, key, value; later ones win."""
    pattern = rf"^(dvlite\.|{SHARED}$)"
    output = run(git, "config", "-z", "--show-scope", "--get-regexp", pattern, is_checked=False)
    parts = output.decode("utf-8", "surrogateescape").split("\0")
    found = []
    for level, text in zip(parts[::2], parts[1::2], strict=False):
        key, _, value = text.partition("\n")
        found.append((level, key, value))
    return found


def set_setting(git: Git, key: str, value: str, *, level: str = "local") -> None:
    """Write one setting to a Git config level."""
    run(git, "config", f"--{level}", key, value)


def add_setting(git: Git, key: str, value: str, *, level: str = "local") -> None:
    """Add a value to a setting that has several."""
    run(git, "config", f"--{level}", "--add", key, value)


def get_value(git: Git, key: str, *, level: str = "") -> str:
    """Return one value of Git's config, of all levels or one; empty where there is none."""
    where = [f"--{level}"] if level else []
    return run(git, "config", *where, "--get", key, is_checked=False).decode("utf-8", "surrogateescape").rstrip("\n")


def unset_section(git: Git, section: str, *, level: str = "local") -> None:
    """Remove a whole section of a Git config level, if it is there."""
    run(git, "config", f"--{level}", "--remove-section", section, is_checked=False)
