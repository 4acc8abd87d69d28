"""Random walks over two clones and a remote: whatever a user does with Git, no byte is lost, and a clean status is true."""

import hashlib
import os
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dvlite import refs, tree
from dvlite.reach import walk
from tests.conftest import make_project
from tests.git.conftest import FILES, Hooked

NAMES = ["a", "b", "sub/c", "sub/d", "new", "deep/er/e"]
STEPS = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(NAMES), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.sampled_from(["add", "commit", "commit all", "stash", "pop", "merge", "push", "pull", "rebase", "reset"]), st.just(""), st.just(0)),
    st.tuples(st.sampled_from(["branch", "switch"]), st.sampled_from(["main", "one", "two"]), st.just(0)),
    st.tuples(st.just("other clone"), st.just(""), st.just(0)),
)  # fmt: skip
COMMANDS = {
    "stash": ["stash", "-q"],
    "pop": ["stash", "pop", "-q"],
    "branch": ["switch", "-q", "-c"],
    "switch": ["switch", "-q"],
    "push": ["push", "-q", "origin", "HEAD"],
    "reset": ["reset", "-q", "--hard"],
}


class Walk:
    """Two clones of one Git remote, with one dvlite remote between them; remembers every byte that was ever added."""

    def __init__(self, folder):
        self.folder = Path(folder)
        first = Hooked(make_project(self.folder / "one").root)
        first.dv("hooks", "install", "-q")
        first.dv("remote", "add", "-q", "origin", self.folder / "data")
        first.write(FILES, "data")
        first.dv("add", "-q", "data")
        first.git("add", "-A")
        first.git("commit", "-q", "-m", "start")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.folder / "bare"], check=True)
        first.git("remote", "add", "origin", str(self.folder / "bare"))
        first.git("push", "-q", "-u", "origin", "main")
        second = Hooked(self.folder / "two")
        subprocess.run(["git", "clone", "-q", self.folder / "bare", second.root], check=True)
        second.dv("hooks", "install", "-q")
        second.dv("pull", "-q")
        self.clones = [first, second]
        self.added = {}  # content -> the clone that has it
        self.typed = set()  # what the user wrote or deleted since
        self.counter = 0

    @property
    def here(self):
        return self.clones[0]

    def remember(self):
        """Note what is stored now: all that pointers in commits and the index name."""
        for clone in self.clones:
            repo = clone.repo
            found, _ = refs.selected(repo.git, ["--all"])
            for _, item in found:
                reach = walk([item.entry], repo.store.read_many)
                for oid in reach.blobs:
                    self.added.setdefault(oid, set()).add(clone.root)

    def step(self, kind, name, number):
        here = self.here
        before = here.data()
        path = here.root / "data" / name
        self.counter += 1
        if kind == "edit":
            if not path.parent.is_file() and not path.is_dir():
                here.write({name: f"{number}"}, "data")
        elif kind == "delete":
            path.unlink(missing_ok=True) if path.is_file() else None
        elif kind == "other clone":
            self.clones.reverse()
        else:
            self.git_step(kind, name)
            self.check_nothing_destroyed(kind, before)
        self.remember()
        self.check()

    def git_step(self, kind, name):
        here = self.here
        if kind in ("commit", "commit all"):
            here.write({f"notes/{self.counter}": here.root.name})
            here.git("add", "notes")
            here.try_git("commit", "-q", *(["-a"] if kind == "commit all" else []), "-m", kind)
        elif kind in ("merge", "rebase"):
            if here.try_git(kind, *(["-m", "m"] if kind == "merge" else []), "main").returncode:
                self.settle_conflict(kind)
        elif kind == "pull":
            if here.try_git("pull", "-q", "--no-rebase", "origin", "main").returncode:
                self.settle_conflict("merge")
            here.run("pull", "-q")
        elif kind == "add":
            here.run("add", "-q", "data")
        elif here.try_git(*COMMANDS[kind], *([name] if name else [])).returncode and kind == "pop":
            here.try_git("checkout", "-q", "--ours", ".")
            here.try_git("reset", "-q")

    def settle_conflict(self, kind):
        here = self.here
        broken = refs.in_worktree(here.repo.git).broken
        if kind == "merge" and broken and self.counter % 2:
            here.run("checkout", "--theirs", "data")
            here.try_git("add", "-A")
            if here.try_git("commit", "-q", "-m", "resolved").returncode == 0:
                return
        here.try_git(kind, "--abort")

    def check_nothing_destroyed(self, kind, before):
        """What lay in the worktree and is gone now must be in the store."""
        after = self.here.data()
        store = self.here.repo.store
        for path, content in before.items():
            if after.get(path) != content:
                oid = _oid(content)
                assert store.find([oid]), f"{kind} destroyed {path!r} with {content!r}"

    def check(self):
        for oid, roots in self.added.items():
            for root in roots:
                store = Hooked(root).repo.store
                assert dict(store.read_many([oid])).keys() == {oid}
        for clone in self.clones:
            if clone.json("status")["is_clean"]:
                for tracked, item in refs.in_worktree(clone.repo.git).found.items():
                    assert tracked == "data"
                    assert _listing(clone, item) == {path: _oid(data) for path, data in clone.data().items()}


def _oid(content):
    from dvlite.oid import Oid

    return Oid("sha256", hashlib.sha256(content.encode()).digest())


def _listing(clone, item):
    found = {}
    read = clone.repo.store.read

    def walk(entry, path):
        for child in tree.entries(entry, read):
            if child.is_tree:
                walk(child, f"{path}{child.name}/")
            else:
                found[f"{path}{child.name}"] = child.oid

    walk(item.entry, "")
    return found


@settings(max_examples=int(os.environ.get("DVLITE_WALKS", "8")), print_blob=True)
@given(steps=st.lists(STEPS, min_size=8, max_size=25))
def test_no_byte_is_lost_on_any_walk(steps, tmp_path_factory):
    walk = Walk(tmp_path_factory.mktemp("walk"))
    for step in steps:
        walk.step(*step)
