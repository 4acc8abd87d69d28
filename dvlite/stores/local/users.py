"""Which repositories use a store that several share: a small file for each, so that gc can ask all of them."""

from pathlib import Path

from dvlite import files, hashing


def note(root: Path, repository: Path) -> None:
    """Note that a repository (its shared Git folder) uses the store at `root`; one that lies in it needs no note."""
    if root.parent == repository:
        return
    path = root / "users" / hashing.checksum(str(repository).encode("utf-8", "surrogateescape")).hex()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, str(repository).encode("utf-8", "surrogateescape") + b"\n")


def listed(root: Path) -> dict[Path, Path]:
    """Return the repositories that use a store, each with the file that says so: the one it lies in, and those noted."""
    found = {root.parent: root} if (root.parent / "HEAD").exists() else {}
    folder = root / "users"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found[Path(path.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n"))] = path
    return found
