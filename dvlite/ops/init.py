"""Make a Git repository one of dvlite's."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import config, files, git, oid
from dvlite.errors import UsageError
from dvlite.repo import Repo

ATTRIBUTES = "*.dvlite merge=dvlite diff=dvlite text eol=lf"
FOLDERS = ("raw_data", "processed_data", "models", "experiments")
_APPEND_ONLY = '\n[policy]\nappend_only = ["raw_data/**", "**/*_v[0-9]*"]\n'


@dataclass(frozen=True, slots=True)
class InitResult:
    """What was written, as in-repo paths; nothing where the repository was dvlite's already. `large`: files in Git."""

    root: str
    id: str
    written: list[str] = field(default_factory=list)


def init(
    start: Path, *, algorithm: str = oid.DEFAULT_ALGORITHM, has_layout: bool = False, is_staged: bool = True
) -> InitResult:
    """Write `dvlite.toml` and the `.gitattributes` line, and stage them; again it changes nothing."""
    if not oid.is_algorithm(algorithm):
        raise UsageError(f"unknown hash '{algorithm}'", f"Known are: {', '.join(oid.ALGORITHMS)}.")
    repo = Repo(git.discover(start.resolve()))
    written = []
    path = repo.root / config.FILE
    if not path.exists():
        if git.has_commits(repo.git) and git.file_at(repo.git, "HEAD", config.FILE):
            repo.config  # noqa: B018  (says that HEAD has it: another id would make another repository of this one)
        text = config.encode_new(files.token(16), algorithm)
        files.write_atomic(path, text + (_APPEND_ONLY.encode() if has_layout else b""), folder=repo.tmp(repo.root))
        written.append(config.FILE)
    if add_lines(repo.root / ".gitattributes", [ATTRIBUTES], folder=repo.tmp(repo.root)):
        written.append(".gitattributes")
    if has_layout:
        for name in FOLDERS:
            keep = repo.root / name / ".gitkeep"
            if not keep.parent.exists():
                keep.parent.mkdir()
                keep.touch()
                written.append(f"{name}/.gitkeep")
    if written and is_staged:
        git.stage(repo.git, written)
    return InitResult(str(repo.root), repo.config.id, written)


def add_lines(path: Path, lines: Iterable[str], *, folder: Path | None = None, is_synced: bool = True) -> bool:
    """Append the lines that a text file lacks, in one step; tell whether it changed. Foreign lines stay as they are.

    `folder` (same file system) takes the unfinished file, so that a kill leaves nothing among the user's.
    """
    data = path.read_bytes() if path.exists() else b""
    there = set(data.replace(b"\r\n", b"\n").split(b"\n"))
    new = [
        one for one in (line.encode("utf-8", "surrogateescape") for line in dict.fromkeys(lines)) if one not in there
    ]
    if not new:
        return False
    if data and not data.endswith(b"\n"):
        data += b"\n"
    files.write_atomic(path, data + b"\n".join(new) + b"\n", folder=folder, is_synced=is_synced)
    return True
