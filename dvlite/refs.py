"""A rev to the pointers that live there: worktree, Git's index, one commit, or all commits that some revs select."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dvlite import git, pointer
from dvlite.errors import FormatError
from dvlite.git import Git
from dvlite.pointer import SUFFIX, Pointer


@dataclass(slots=True)
class Pointers:
    """The pointers of one place by tracked path; those that can't be read, with the reason."""

    found: dict[str, Pointer] = field(default_factory=dict)
    broken: dict[str, FormatError] = field(default_factory=dict)

    def take(self, name: str, data: bytes) -> None:
        """Read one pointer file."""
        try:
            self.found[name.removesuffix(SUFFIX)] = pointer.decode(data, name)
        except FormatError as exc:
            self.broken[name.removesuffix(SUFFIX)] = exc


def in_worktree(repository: Git) -> Pointers:
    """Return the pointers that lie in the worktree."""
    pointers = Pointers()
    for name in sorted(git.files_with_suffix(repository, SUFFIX)):
        path = repository.root / name
        if name == SUFFIX or path.name == SUFFIX or path.is_symlink() or not path.is_file():
            continue
        pointers.take(name, path.read_bytes()[: pointer.MAX_BYTES + 1])
    return pointers


def at(repository: Git, rev: str) -> Pointers:
    """Return the pointers of a commit."""
    return _read(repository, git.blobs_at(repository, git.resolve(repository, rev), SUFFIX))


def _read(repository: Git, blobs: dict[str, str]) -> Pointers:
    contents = dict(git.read_blobs(repository, blobs.values()))
    pointers = Pointers()
    for name, blob in blobs.items():
        pointers.take(name, contents[blob])
    return pointers


def selected(repository: Git, revs: Iterable[str], *, has_index: bool = True) -> list[tuple[str, Pointer]]:
    """Return every version of every pointer in the commits that `revs` select (in Git's words), and in Git's index.

    Raises FormatError for a pointer that can't be read: what it names would be left out in silence.
    """
    blobs: dict[str, str] = {}
    if git.has_commits(repository):
        blobs = {blob: name for name, blob in git.blobs_at(repository, "HEAD", SUFFIX).items()} if has_index else {}
        blobs |= git.blobs_in(repository, revs, SUFFIX)
    if has_index:
        blobs |= {blob: name for name, blob in git.index_blobs(repository, SUFFIX).items()}
    return [
        (blobs[blob].removesuffix(SUFFIX), pointer.decode(data, blobs[blob]))
        for blob, data in git.read_blobs(repository, blobs)
    ]
