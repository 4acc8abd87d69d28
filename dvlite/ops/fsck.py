"""Verify that what is stored is what its names say, that nothing is gone, that the index doesn't lie; heal what can be healed.

Corrupt files go to quarantine at once, whatever is good in them stays. Healing takes the trash, files of the worktree that still
have the content, and all remotes. `fsck_remote` is the same for a remote (see `ops/fsck_remote`).
"""

import contextlib
from dataclasses import dataclass, field

from dvlite import files, git, hashing, refs, remotes, rows, statkey, transfer
from dvlite.errors import DvliteError
from dvlite.oid import Oid
from dvlite.ops import roots, where
from dvlite.ops.base import look
from dvlite.ops.gc import GRACE_S
from dvlite.ops.where import Place
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.local import audit, tombs, trash

SAMPLED = "audited"  # in the store: the file up to which the rolling audit has come


@dataclass(slots=True)
class Problem:
    """One thing that is wrong. `kind`: corrupt, missing, purged, index, aside, pointer or layout; `healed`: from where."""

    kind: str
    what: str
    oid: str = ""
    healed: str = ""
    places: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class FsckResult:
    """What was verified, what is wrong, and what is merely not here. `remote` is empty for the local store."""

    remote: str = ""
    files: int = 0
    objects: int = 0
    size: int = 0
    not_here: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 where all is well (again); 11 for what is corrupt, 10 for what is missing, else 1."""
        kinds = {one.kind for one in self.problems if not one.healed and one.kind != "purged"}
        return 11 if "corrupt" in kinds else 10 if "missing" in kinds else 1 if kinds else 0


def fsck(
    repo: Repo,
    *,
    share: float = 1.0,
    has_worktree: bool = True,
    is_repairing: bool = False,
    progress: Progress = SILENT,
) -> FsckResult:
    """Verify the local store. `share`: only so much of it, beginning where the last such audit ended."""
    result = FsckResult()
    with repo.writing("fsck"):
        result.problems += [Problem("index", reason, healed="begun anew") for reason in repo.index.check()]
        repo.store.state()  # verifies what a reboot may have torn
        lost = _verify_files(repo, result, share, progress)
        lost |= _gone_files(repo, result)
        if share >= 1:
            lost |= _incomplete(repo, result)
            if has_worktree:
                _verify_index(repo, result)
        _look_aside(repo, result)
        lost -= repo.store.find(lost).keys()
        if lost:
            repo.store.raise_generation()
        _name(repo, result, lost)
        # What a listing names is known once it is back.
        while is_repairing and lost and _repair(repo, result, lost, progress) and share >= 1:
            lost = _incomplete(repo, result)
            _name(repo, result, lost)
        if is_repairing and share >= 1 and not any(one.oid and not one.healed for one in result.problems):
            for problem in result.problems:  # a pack whose index can't be read, so that its objects have no names
                if problem.kind == "corrupt":
                    problem.healed = problem.healed or "other copies"
    return result


# ---- the store's files ----------------------------------------------------------------------------------------------


def _verify_files(repo: Repo, result: FsckResult, share: float, progress: Progress) -> set[Oid]:
    """Verify the files that hold objects; set bad ones aside. Return what was lost with them."""
    root = repo.store.root
    listed = []
    for name in audit.names(repo.store):
        with contextlib.suppress(FileNotFoundError):
            listed.append((name, (root / name).stat().st_size))
    cursor = root / SAMPLED
    chosen = [name for name, _ in listed]
    if share < 1:
        after = cursor.read_text() if cursor.exists() else ""
        chosen = audit.take_turn(listed, after, share)
    sizes = dict(listed)
    progress.phase("fsck", files=len(chosen), size=sum(sizes[name] for name in chosen))
    lost: set[Oid] = set()
    verdicts = []
    for verdict in audit.verify(root, chosen):
        result.files += 1
        result.objects += verdict.objects
        result.size += verdict.size
        progress.advance(files=1, size=verdict.size)
        if verdict.bad is None or verdict.bad:
            verdicts.append(verdict)
    for verdict in verdicts:  # once all are known: setting one aside looks at the others too
        bad = set(verdict.bad) if verdict.bad is not None else repo.store.objects_of(verdict.name)
        repo.store.verify(root / verdict.name)
        bad -= repo.store.find(bad).keys() if verdict.bad is None else set()
        lost |= bad
        whole = Problem("corrupt", verdict.name, healed="its own bytes" if (root / verdict.name).exists() else "")
        result.problems += [Problem("corrupt", verdict.name, str(oid)) for oid in sorted(bad)] or [whole]
    if share < 1 and chosen:
        files.write_atomic(cursor, chosen[-1].encode(), is_synced=False)
    return lost


def _gone_files(repo: Repo, result: FsckResult) -> set[Oid]:
    """Return what was in files that the store had and that somebody else took away."""
    repo.store.refresh()
    lost: set[Oid] = set()
    away = [name for name in repo.store.seen.names() if not (repo.store.root / name).exists()]
    contents = {name: repo.store.objects_of(name) for name in away}
    if away:
        repo.store.refresh()  # others may have folded them meanwhile: the new pack is there before an old one goes
    for name in away:
        gone = contents[name] - repo.store.find(contents[name]).keys()
        known = {one.oid for one in result.problems}
        gone = {oid for oid in gone if str(oid) not in known}
        result.problems += [Problem("missing", name, str(oid)) for oid in sorted(gone)]
        lost |= gone
    return lost


def _incomplete(repo: Repo, result: FsckResult) -> set[Oid]:
    """Return what the pointers here and unpushed commits name and the store lacks; count what is merely not here."""
    known = {one.oid or one.what for one in result.problems}
    broken = {f"{path}: {error.message}" for path, error in refs.in_worktree(repo.git).broken.items()}
    result.problems += [Problem("pointer", said) for said in sorted(broken - known)]
    everything = roots.keep(repo, roots.gather(repo, GRACE_S)).objects
    repo.store.refresh()  # what others have added meanwhile is stored by the time it is named
    absent = everything.keys() - repo.store.find(everything).keys()
    own, _ = refs.selected(repo.git, ["HEAD", "--branches", *git.stashes(repo.git), "--not", "--remotes"])
    items = [*(item for _, item in own), *refs.in_worktree(repo.git).found.values()]
    reach = transfer.named([item.oid for item in items if not item.is_elsewhere], repo.store)
    here = {oid for oid in absent & {*reach.trees, *reach.blobs, *reach.missing} if str(oid) not in known}
    said = "named by a pointer here, or by a commit that is not pushed"
    result.problems += [Problem("missing", said, str(oid)) for oid in sorted(here)]
    result.not_here = len(absent - here)
    return here


def _name(repo: Repo, result: FsckResult, oids: set[Oid]) -> None:
    """Say for each object which paths of which commits it belongs to, and what was taken out on purpose."""
    graves = {str(oid) for oid in tombs.oids(repo.store.root)}
    found = where.places(repo, oids) if oids else {}
    by_name = {str(oid): places for oid, places in found.items()}
    for problem in result.problems:
        problem.places = problem.places or by_name.get(problem.oid, [])
        if problem.kind == "missing" and problem.oid in graves:
            problem.kind = "purged"


# ---- the index, and what lies aside ---------------------------------------------------------------------------------


def _verify_index(repo: Repo, result: FsckResult) -> None:
    """Read every worktree file that the index takes for known; drop the rows that say what isn't so."""
    for tracked in refs.in_worktree(repo.git).found:
        wrong_rows = set()
        for folder, row in repo.index.rows(tracked).items():
            claims = []
            for name, (key, oid) in repo.index.entries(folder, row).items():
                path = f"{folder}/{name}" if name else folder
                with contextlib.suppress(OSError):
                    status = (repo.root / path).lstat()
                    if rows.is_same(key, statkey.of(status)):
                        claims.append((path, oid))
            for path in audit.wrong_files(repo.root, claims):
                said = f"'{path}' is not what it was, though nothing says that it changed"
                result.problems.append(Problem("index", said, healed="the index forgot it: see 'dvlite status'"))
                wrong_rows.add(folder)
        repo.index.save({}, wrong_rows)


def _look_aside(repo: Repo, result: FsckResult) -> None:
    """Find what a killed checkout had moved aside; what is stored goes, the rest is named."""
    folder = repo.git.folder / "dvlite" / "tmp"
    for path in sorted(folder.glob(f"*/*{files.ASIDE}")) if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            oids = [hashing.oid_of_file(algorithm, path) for algorithm in ("sha256", "blake3")]
            if repo.store.secured(repo.store.find(oids).keys()):
                path.unlink()
                continue
        result.problems.append(
            Problem("aside", f"'{path}' was moved aside by a checkout that was killed, and is stored nowhere")
        )


# ---- healing --------------------------------------------------------------------------------------------------------


def _repair(repo: Repo, result: FsckResult, lost: set[Oid], progress: Progress) -> bool:
    """Bring lost objects back: from the trash, from worktree files, from each remote in turn. Tell whether any came."""
    progress.phase("repair", files=len(lost))
    healed: dict[str, str] = {}
    before = set(lost)
    if trash.restore(repo.store.root, lost):
        repo.store.refresh()
    left = _note(repo, before, healed, "the trash")
    if left:
        _store_again(repo)
        left = _note(repo, left, healed, "the worktree")
    for name in remotes.names(repo.config, repo.settings):
        if left:
            with contextlib.suppress(DvliteError):
                transfer.copy(repo.remote(name), repo.store, dict.fromkeys(left, 0), jobs=4, progress=progress)
            left = _note(repo, left, healed, f"remote '{name}'")
    for problem in result.problems:
        problem.healed = problem.healed or healed.get(problem.oid, "")
    return bool(healed)


def _note(repo: Repo, lost: set[Oid], healed: dict[str, str], source: str) -> set[Oid]:
    found = repo.store.find(lost).keys()
    healed.update(dict.fromkeys(map(str, found), source))
    return lost - found


def _store_again(repo: Repo) -> None:
    """Store what lies in the worktree and is not in the store: its files, and the listings that its folders make."""
    repo.store.raise_generation()
    with repo.store.open_batch(is_synced=True) as batch:
        for tracked, item in refs.in_worktree(repo.git).found.items():
            with contextlib.suppress(DvliteError):
                look(repo, tracked, algorithm=item.oid.algorithm, batch=batch, has=batch.has)
