"""What else a repository has: hooks, marks of unfinished business, Git's own remotes, merges of texts."""

from pathlib import Path

from dvlite.errors import DvliteError, UsageError
from dvlite.git.call import Git, program, run
from dvlite.git.commits import has_commit


def hooks_folder(git: Git) -> Path:
    """Return where Git looks for hooks: as configured, else the folder that all worktrees share."""
    text = run(git, "rev-parse", "--git-path", "hooks").decode("utf-8", "surrogateescape").rstrip("\n")
    return git.root / text


# The refs that each worktree has for itself: `--all` shows them only from there.
_OWN_REFS = ("refs/worktree/**/*", "refs/bisect/**/*", "refs/rewritten/**/*")
_MARKS = ("*_HEAD", "rebase-merge/*", "rebase-apply/*", *_OWN_REFS)


def marks(git: Git) -> list[str]:
    """Return the commits that a worktree's unfinished business names: MERGE_HEAD, ORIG_HEAD, a rebase's beginning."""
    found = set()
    for path in (path for pattern in _MARKS for path in git.folder.glob(pattern) if path.is_file()):
        for word in path.read_bytes()[:4096].split():
            if len(word) in (40, 64) and set(word) <= set(b"0123456789abcdef"):
                found.add(word.decode())
    return sorted(commit for commit in found if has_commit(git, commit))


def stashes(git: Git) -> list[str]:
    """Return the commits of all stashes."""
    return run(git, "stash", "list", "--format=%H", is_checked=False).decode().split()


def tagged(git: Git, max_bytes: int) -> tuple[list[str], list[str]]:
    """Return the trees, and the blobs of at most so many bytes, that refs name without a commit, through tags of tags too."""
    rows = run(git, "for-each-ref", "--format=%(objecttype) %(objectname)").decode().splitlines()
    names = [row.split(" ")[1] for row in rows if not row.startswith("commit ")]
    asked = "".join(f"{name}^{{}}\n" for name in names).encode()
    shape = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    found = [row.split(" ") for row in run(git, "cat-file", shape, stdin=asked).decode().splitlines()] if names else []
    trees = [name for name, kind, *_ in found if kind == "tree"]
    return trees, [name for name, kind, size in found if kind == "blob" and int(size) <= max_bytes]


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


def add_worktree(git: Git, place: Path, commit: str) -> None:
    """Check a commit out at another place, on no branch, without hooks."""
    run(git, "worktree", "prune")  # what was killed left its entry
    run(git, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(place), commit)


def remove_worktree(git: Git, place: Path) -> None:
    """Remove such a place, whatever lies there."""
    run(git, "worktree", "remove", "--force", "--force", str(place), is_checked=False)


def in_progress(git: Git, *names: str) -> bool:
    """Tell whether one of these marks of something unfinished (MERGE_HEAD, rebase-merge, …) is there."""
    return any((git.folder / name).exists() for name in names)


def merge_texts(folder: Path, ours: Path, base: Path, theirs: Path, *, marker_size: int = 7) -> tuple[bytes, bool]:
    """Merge three text files as Git does; return the text, and whether it has no conflict."""
    labels = ["-L", "ours", "-L", "base", "-L", "theirs", f"--marker-size={marker_size}"]
    command = ["git", "merge-file", "-p", *labels, str(ours), str(base), str(theirs)]
    done = program(folder, command)
    if done.returncode < 0 or done.returncode > 127:
        raise DvliteError(f"git merge-file: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout, done.returncode == 0
