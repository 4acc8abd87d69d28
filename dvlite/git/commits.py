"""Git's commits, trees and blobs: what a rev names, what commits bring, what refs hold."""

from collections.abc import Collection, Iterable, Iterator

from dvlite.errors import DvliteError, UsageError
from dvlite.git.call import Git, literal, pathspec, regular, run, split, stream

_MOST = (1 << 20) + 1  # bytes of a blob that are read: no pointer is larger


def resolve(git: Git, rev: str) -> str:
    """Return the commit that a rev names; UsageError for one that doesn't exist."""
    found = run(git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", is_checked=False)
    if not found:
        raise UsageError(
            f"'{rev}' is not a commit, branch or tag here", "See 'git log' and 'git tag' for what there is."
        )
    return found.decode().strip()


def parent(git: Git, commit: str) -> str:
    """Return a commit's first parent; zeros where it has none."""
    found = run(git, "rev-parse", "--verify", "--quiet", f"{commit}^1", is_checked=False).decode().strip()
    return found or "0" * len(commit)


def commits_between(git: Git, old: str, new: str) -> set[str]:
    """Return the commits that one reaches and another does not."""
    return set(run(git, "rev-list", new, f"^{old}").decode().split())


def sizes_at(git: Git, commit: str) -> Iterator[tuple[str, int]]:
    """Yield all files of a commit with their sizes, in bytes."""
    for row in split(run(git, "ls-tree", "-r", "-l", "-z", "--full-tree", commit)):
        head, _, path = row.partition("\t")
        fields = head.split()
        if fields[1] == "blob" and fields[3].isdigit():
            yield path, int(fields[3])


def merge_base(git: Git, one: str, two: str) -> str:
    """Return the commit that two revs come from; DvliteError where they have none in common."""
    found = run(git, "merge-base", "--end-of-options", one, two, is_checked=False).decode().strip()
    if not found:
        raise UsageError(f"'{one}' and '{two}' have no commit in common", f"Compare them as they are: {one}..{two}")
    return found


def has_commits(git: Git) -> bool:
    """Tell whether HEAD is a commit yet."""
    return bool(run(git, "rev-parse", "--verify", "--quiet", "HEAD", is_checked=False))


def blobs_at(git: Git, commit: str, suffix: str) -> dict[str, str]:
    """Return the files of a commit that end so, each with its blob's id."""
    return regular(split(run(git, "ls-tree", "-r", "-z", "--full-tree", commit)), suffix, 2)


def blobs_in(git: Git, revs: Iterable[str], suffix: str) -> dict[str, str]:
    """Return all versions of files that end so, in all commits that the revs select: blob id to one of its paths."""
    found = _blobs(git, revs, pathspec(suffix))
    return {blob: path for blob, path in found if path.rpartition("/")[2] != suffix}


def blobs_of(git: Git, revs: Iterable[str], path: str) -> list[str]:
    """Return the ids of all versions of one file, in all commits that the revs select."""
    return list(dict.fromkeys(blob for blob, _ in _blobs(git, revs, *literal([path]))))


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
    parts = iter(split(run(git, "diff-tree", *arguments, "--", pathspec, stdin=commits)))
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
    found = _brought(git, "\n".join([*times, ""]).encode(), pathspec(suffix))
    return [(times[commit], path, blob) for commit, blob, path in found]


def versions(git: Git, revs: Iterable[str], suffix: str) -> set[tuple[str, str]]:
    """Return path and blob id of every version of the files that end so, in all commits that the revs select."""
    return {(path, blob) for blob, path in _blobs(git, revs, pathspec(suffix))}


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


def tags_since(git: Git, commit: str, path: str, blobs: Collection[str]) -> list[str]:
    """Return the tags of commits, from one on, at which a file is one of some blobs."""
    names = run(git, "tag", "--list", "--contains", commit).decode().split("\n")
    asked = "".join(f"refs/tags/{name}:{path}\n" for name in names if name).encode("utf-8", "surrogateescape")
    rows = run(git, "cat-file", "--batch-check=%(objectname)", stdin=asked).decode("utf-8", "replace").split("\n")
    return [name for name, row in zip(filter(None, names), rows, strict=False) if row in blobs]


def file_at(git: Git, commit: str, path: str) -> bytes:
    """Return a file's content in a commit (or, without one, in Git's index); empty where it has none."""
    return run(git, "cat-file", "blob", f"{commit}:{path}", is_checked=False)


def changed_between(git: Git, old: str, new: str, suffix: str) -> dict[str, str]:
    """Return the files that end so and differ between two commits, with their states (A, M, D, T); `old` of zeros has none."""
    if not old.strip("0"):
        return dict.fromkeys(blobs_at(git, new, suffix), "A")
    arguments = ["diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new, "--", pathspec(suffix)]
    parts = split(run(git, *arguments))
    return dict(zip(parts[1::2], parts[::2], strict=True))


def has_commit(git: Git, commit: str) -> bool:
    """Tell whether Git has a commit (or a tag of one), and all that a walk from it needs to begin."""
    return bool(run(git, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", is_checked=False))


def read_blobs(git: Git, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the content of Git blobs by id, from one process: of each at most what tells that it is too large for a pointer.

    DvliteError for one that Git doesn't have.
    """
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return
    with stream(git, "cat-file", "--batch", stdin="\n".join(wanted).encode() + b"\n") as output:
        for blob in wanted:
            head = output.readline().split()
            if len(head) != 3:
                raise DvliteError(f"Git has no object {blob}", "Run 'git fetch', or 'git fsck' to see what is missing.")
            left = int(head[2]) + 1
            data = output.read(min(left - 1, _MOST))
            left -= len(data)
            while left:
                left -= len(output.read(min(left, _MOST))) or left
            yield blob, data
