"""What is disturbed: each scenario makes a repository, names the command, and says what must hold when it was run to its end."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dvlite import hashing, refs, transfer
from dvlite.repo import open_repo
from tests.conftest import tree_of

SMALL = {f"d{n % 3}/f{n}.txt": f"content {n}\n" * 20 for n in range(12)} | {"empty": ""}


@dataclass(frozen=True)
class Scenario:
    """`make` prepares a folder (with `project`, perhaps `remote` and `clone`); `where` the command runs in it."""

    name: str
    make: Callable
    command: tuple
    check: Callable
    where: str = "project"
    is_hook: bool = False


def write(root, files):
    for name, text in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root, message):
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)


def begin(place, run):
    project = place / "project"
    project.mkdir(parents=True)
    git(project, "init", "-q", "-b", "main")
    run(project, "init", "-q", "--no-hooks")
    run(project, "remote", "add", "origin", "../remote")
    commit(project, "begin")
    return project


def big(seed):
    return (bytes(range(256)) * 40 + seed.encode()) * 120  # over 1 MiB


def make_added(place, run):
    project = begin(place, run)
    write(project, {f"data/{name}": text for name, text in SMALL.items()} | {"big.bin": big("one")})
    run(project, "add", "-q", "data", "big.bin")
    commit(project, "one")
    return project


def make_two(place, run):
    """Two versions, the second checked out; pushed."""
    project = make_added(place, run)
    write(project, {"data/d0/f0.txt": "second", "data/new/x": "new", "big.bin": big("two")})
    Path(project, "data/d1/f1.txt").unlink()
    run(project, "add", "-q", "data", "big.bin")
    commit(project, "two")
    run(project, "push", "-q")
    return project


def make_pulled(place, run):
    make_two(place, run)
    subprocess.run(["git", "clone", "-q", place / "project", place / "clone"], check=True, capture_output=True)


def make_older(place, run):
    """The pointers of the first version, the data of the second."""
    project = make_two(place, run)
    git(project, "checkout", "-q", "HEAD~1")


def make_fresh(place, run):
    project = make_two(place, run)
    subprocess.run(["rm", "-rf", project / "data", project / "big.bin"], check=True)


def make_garbage(place, run):
    project = make_two(place, run)
    write(project, {"data/garbage": os.urandom(3000), "big.bin": big("garbage")})
    run(project, "add", "-q", "data", "big.bin")
    git(project, "reset", "-q", "--hard")
    run(project, "checkout", "-q", "--force")
    for path in (project / ".git/dvlite/saved").glob("*"):
        path.unlink()
    old = time.time() - 30 * 86400
    for path in [*(project / ".git/dvlite/packs").iterdir(), *(project / ".git/dvlite/objects").rglob("*")]:
        if path.is_file():
            os.utime(path, (old, old))


def make_remote_garbage(place, run):
    project = make_two(place, run)
    write(project, {"data/garbage": os.urandom(3000), "big.bin": big("garbage")})
    run(project, "add", "-q", "data", "big.bin")
    commit(project, "given up")
    run(project, "push", "-q")
    git(project, "reset", "-q", "--hard", "HEAD~1")
    git(project, "reflog", "expire", "--expire=now", "--all")
    (project / ".git/ORIG_HEAD").unlink()
    run(project, "checkout", "-q", "--force")
    old = time.time() - 100 * 86400
    for path in (place / "remote").rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))
    run(project, "gc", "-q", "--remote")
    old = time.time() - 15 * 86400
    for path in (place / "remote/doomed").iterdir():
        os.utime(path, (old, old))


def make_stale(place, run):
    project = make_added(place, run)
    write(project, {"data/d0/f0.txt": "changed", "code.py": "code"})
    git(project, "add", "code.py")


def make_merge(place, run):
    project = make_added(place, run)
    git(project, "switch", "-q", "-c", "side")
    write(project, {"data/d0/f0.txt": "side"})
    run(project, "add", "-q", "data")
    commit(project, "side")
    git(project, "switch", "-q", "main")
    run(project, "checkout", "-q")
    write(project, {"data/d1/f1.txt": "main"})
    run(project, "add", "-q", "data")
    commit(project, "main")
    for name, rev in (("base", "HEAD~1"), ("ours", "HEAD"), ("theirs", "side")):
        (place / name).write_text(git(project, "show", f"{rev}:data.dvlite"))


def make_edited(place, run):
    """The second version, with unsaved edits over it that are to go."""
    project = make_two(place, run)
    write(project, {"data/d0/f3.txt": "edited", "big.bin": big("edited")})


def make_torn(place, run):
    """Objects that are not what they should be, a pack cut short among them; all of it is on the remote."""
    project = make_two(place, run)
    store = project / ".git/dvlite"
    for path in [*(store / "objects").rglob("*"), *(store / "packs").glob("*.pack")]:
        if path.is_file():
            path.chmod(0o644)
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
            path.chmod(0o444)


def make_new(place, files):
    def make(_, run):
        write(begin(_, run), files)

    return make


# ---- what must hold -------------------------------------------------------------------------------------------------


def data_of(root):
    return {name: data for name, data in tree_of(root).items() if not name.startswith(".git/")}


def check_worktree(place, run):
    """The whole worktree, and all that every version reaches, read and hashed."""
    repo = open_repo(place / "project")
    items, _ = refs.selected(repo.git, ["--all"])
    reach = transfer.reach([item.entry for _, item in items], repo.store)
    assert not reach.missing
    for oid in reach.blobs:
        path = repo.store.path_of(oid)
        assert (
            hashing.oid_of_file(oid.algorithm, path) if path else hashing.oid_of(oid.algorithm, repo.store.read(oid))
        ) == oid
    return data_of(place / "project"), sorted(reach.blobs)


def check_saved(place, run):
    """The version is there, and the edits are in the store."""
    store = open_repo(place / "project").store
    edits = [hashing.oid_of("sha256", data) for data in (b"edited", big("edited"))]
    assert set(store.find(edits)) == set(edits)
    return check_worktree(place, run)


def check_clone(place, run):
    return data_of(place / "clone")


def check_remote(place, run):
    run(place / "project", "fsck", "--remote")
    return check_worktree(place, run)


def check_commit(place, run):
    project = place / "project"
    run(project, "add", "-q", "data")  # stages a pointer that was written and not staged, which 'git status' shows
    git(project, "commit", "-q", "-m", "the commit")
    return git(project, "show", "HEAD:data.dvlite"), run(
        project, "cat", "data/d0/f0.txt", "--rev", "HEAD", is_quiet=True
    )


def check_merge(place, run):
    return (place / "ours").read_text(), data_of(place / "project")


HOOK = ("hook", "pre-commit")
DRIVER = ("merge-driver", "../base", "../ours", "../theirs", "7", "data.dvlite")
SCENARIOS = (
    Scenario(
        "add, small files",
        make_new(None, {f"data/{name}": text for name, text in SMALL.items()}),
        ("add", "-q", "data"),
        check_worktree,
    ),
    Scenario("add, a large file", make_new(None, {"big.bin": big("one")}), ("add", "-q", "big.bin"), check_worktree),
    Scenario("checkout, fresh", make_fresh, ("checkout", "-q"), check_worktree),
    Scenario("checkout, update", make_older, ("checkout", "-q"), check_worktree),
    Scenario("checkout --force over edits", make_edited, ("checkout", "-q", "--force"), check_saved),
    Scenario("push", make_added, ("push", "-q"), check_remote),
    Scenario("pull", make_pulled, ("pull", "-q"), check_clone, where="clone"),
    Scenario("gc", make_garbage, ("gc", "-q"), check_worktree),
    Scenario("fsck --repair", make_torn, ("fsck", "-q", "--repair"), check_worktree),
    Scenario("gc --remote", make_remote_garbage, ("gc", "-q", "--remote"), check_remote),
    Scenario("commit through the hook", make_stale, HOOK, check_commit, is_hook=True),
    Scenario("merge driver", make_merge, DRIVER, check_merge, is_hook=True),
)
