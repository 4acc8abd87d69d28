"""Data out of dvlite: as plain files anywhere, with their checksums; and data compared with what it should be, byte by byte."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import config, files, hashing, tree
from dvlite.errors import UsageError
from dvlite.ops.get import get
from dvlite.ops.source import Source
from dvlite.progress import SILENT, Progress
from dvlite.stores.remote.bucket import Bucket

SUMS = "SHA256SUMS"


@dataclass(slots=True)
class ExportResult:
    """What was written where; `SHA256SUMS` is not counted."""

    path: str
    target: str
    commit: str
    oid: str = ""
    files: int = 0
    size: int = 0


def export(source: Source, path: str, target: str, base: Path, *, options: dict[str, object] | None = None,
           progress: Progress = SILENT) -> ExportResult:  # fmt: skip
    """Write a tracked path as plain files below `target` (a folder, or a URL that a remote may have), with SHA256SUMS.

    Names of that kind that are there are replaced on a URL, which gets no symbolic links; a folder must not have them.
    """
    is_local = config.check_url(target) == "file"
    place = base / Path(target.removeprefix("file://")).expanduser()
    name = path.strip("/").removesuffix(".dvlite").rpartition("/")[2]
    source.find(path)
    if name == SUMS:
        raise UsageError(f"'{path}' has the name of the list of checksums", "Use 'dvlite get' for it.")
    if is_local and os.path.lexists(place) and not place.is_dir():
        raise UsageError(f"'{place}' is a file", "Export to a folder.")
    stage = files.temporary(place if is_local and place.is_dir() else base)
    if is_local:
        place.mkdir(parents=True, exist_ok=True)
        for one in (place / name, place / SUMS):
            if os.path.lexists(one):
                raise UsageError(f"'{one}' exists", "Export to another folder, or move it away.")
        stage = files.temporary(place)
    stage.mkdir(0o700)
    try:
        got = get(source, path, stage / name, progress=progress)
        (stage / SUMS).write_bytes(b"".join(_line(digest, one) for one, digest in _sums(stage, name)))
        if is_local:
            (stage / name).rename(place / name)
            (stage / SUMS).rename(place / SUMS)
        else:
            bucket = Bucket(target, options or {})
            sent = [one.relative_to(stage).as_posix() for one in sorted(stage.rglob("*")) if _is_plain(one)]
            progress.phase("export", files=len(sent), size=got.size)
            bucket.many(lambda one: bucket.put_file(one, stage / one, lambda size: progress.advance(size=size)), sent)
    finally:
        files.remove_folder(stage)
    return ExportResult(path, target, got.commit, got.oid, got.files, got.size)


def _sums(stage: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield the regular files at and below a name, with their SHA-256, in order of their names."""
    top = stage / name
    paths = [top] if _is_plain(top) else sorted(one for one in top.rglob("*") if _is_plain(one))
    for one in paths:
        yield one.relative_to(stage).as_posix(), hashing.oid_of_file("sha256", one).digest.hex()


def _is_plain(path: Path) -> bool:
    """Tell whether this is a file itself: a link may lead to anything on this machine."""
    return path.is_file() and not path.is_symlink()


def _line(digest: str, path: str) -> bytes:
    """Return a line as sha256sum writes it: what has a backslash or a line break is escaped, and marked by a backslash."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return ("\\" if escaped != path else "").encode() + f"{digest}  ".encode() + tree.raw(escaped) + b"\n"


# ---- verify ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class VerifyResult:
    """Files that are as they should be, and those that are not: path to changed, missing, mode or extra."""

    path: str
    files: int = 0
    size: int = 0
    wrong: dict[str, str] = field(default_factory=dict)


def verify(source: Source, path: str, folder: Path, *, progress: Progress = SILENT) -> VerifyResult:
    """Read all that lies at `folder` and compare it with a tracked path of a source, whatever any index says."""
    tracked, entry = source.find(path)
    wanted = dict(_files(entry, "", source.reading(tracked)))
    progress.phase("verify", files=len(wanted), size=entry.size)
    result = VerifyResult(path)
    there = set(_here(folder)) if entry.is_tree else {""} & ({""} if os.path.lexists(folder) else set())
    for inner, one in wanted.items():
        place = folder / inner if inner else folder
        if inner not in there:
            result.wrong[inner] = "missing"
        elif not _is_same(place, one):
            result.wrong[inner] = "changed"
        elif one.mode != tree.SYMLINK and (one.mode == tree.EXECUTABLE) != bool(place.stat().st_mode & 0o100):
            result.wrong[inner] = "mode"
        else:
            result.files += 1
            result.size += one.size
        progress.advance(files=1, size=one.size)
    result.wrong |= dict.fromkeys(sorted(there - wanted.keys()), "extra")
    return result


def _files(entry: tree.Entry, path: str, read: tree.Read) -> Iterator[tuple[str, tree.Entry]]:
    if not entry.is_tree:
        yield path, entry
        return
    tree.check_depth(path)
    for child in tree.entries(entry, read):
        yield from _files(child, f"{path}/{child.name}" if path else child.name, read)


def _here(folder: Path) -> Iterator[str]:
    for where, names, found in os.walk(folder):
        links = [name for name in names if Path(where, name).is_symlink()]
        yield from (Path(where, name).relative_to(folder).as_posix() for name in [*found, *links])


def _is_same(place: Path, entry: tree.Entry) -> bool:
    if entry.mode == tree.SYMLINK:
        return place.is_symlink() and hashing.oid_of(entry.oid.algorithm, os.fsencode(place.readlink())) == entry.oid
    try:
        return not place.is_symlink() and hashing.oid_of_file(entry.oid.algorithm, place) == entry.oid
    except OSError:
        return False


def verify_sums(folder: Path, sums: Path, *, progress: Progress = SILENT) -> VerifyResult:
    """Read all files that a list of SHA-256 names (as sha256sum writes it), below a folder, and compare."""
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder", "Name the one that the list's names are relative to.")
    result = VerifyResult(str(folder))
    for line in sums.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        head, separator, name = line.lstrip(b"\\").partition(b" ")
        if len(head) != 64 or not separator or name[:1] not in (b" ", b"*"):
            raise UsageError(
                f"'{sums}' is no list of SHA-256: {line[:60]!r}", "Make one with sha256sum, or 'dvlite export'."
            )
        path = os.fsdecode(name[1:])
        if line.startswith(b"\\"):
            path = path.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
        place = folder / path
        if not place.is_file():
            result.wrong[path] = "missing"
        elif hashing.oid_of_file("sha256", place).digest.hex() != head.decode().lower():
            result.wrong[path] = "changed"
        else:
            result.files += 1
            result.size += place.stat().st_size
        progress.advance(files=1)
    return result
