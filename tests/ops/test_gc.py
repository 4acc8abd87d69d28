"""Garbage collection: what nothing names goes, all else stays, and what went can be brought back."""

import os
import subprocess
import time

import pytest

from dvlite import hashing
from dvlite.ops.gc import gc
from tests.conftest import Project, make_project


def age(project, days=30, root=None):
    """Make all that the store has older."""
    when = time.time() - days * 86400
    root = root or project.root / ".git/dvlite"
    for folder in ("packs", "objects"):
        for path in (root / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (when, when))


def save(project, text, path="data/a.txt"):
    project.write({path: text, "data/same": "same " * 500})
    project.dv("add", "-q", "data")
    return project.commit(text[:20])


def text_at(project, rev):
    return project.dv("cat", "data/a.txt", "--rev", rev)


@pytest.fixture
def old(project):
    """A project of which one version is garbage: it was added and never committed."""
    save(project, "first")
    project.write({"a.txt": "garbage", "big": os.urandom(1 << 20)}, "data")
    project.dv("add", "-q", "data")
    project.git("reset", "-q", "--hard")
    project.dv("checkout", "--force", "-q", "data")
    for path in (project.root / ".git/dvlite/saved").glob("*"):
        path.unlink()
    age(project)
    return project


def test_what_nothing_names_goes_to_the_trash_and_comes_back(old):
    dry = old.json("gc", "--dry-run")
    before = set(old.repo.store.oids())
    assert dry["objects"] > 0
    assert set(old.repo.store.oids()) == before
    went = old.json("gc")
    assert (went["objects"], went["size"]) == (dry["objects"], dry["size"])
    assert len(before) - len(set(old.repo.store.oids())) == went["objects"]
    assert old.json("gc")["objects"] == 0
    old.dv("gc", "--restore")
    assert set(old.repo.store.oids()) == before
    age(old)
    old.dv("gc")
    assert "1.0 MB" in old.dv("gc", "--empty")
    assert old.dv("gc", "--restore").startswith("brought back: 0 files")
    assert text_at(old, "HEAD") == "first"


def test_what_is_young_stays(old):
    age(old, days=13)
    assert old.json("gc")["objects"] == 0
    assert old.json("gc", "--grace", "12d")["objects"] > 0


def test_a_clean_store_is_not_touched(project):
    save(project, "first")
    save(project, "second")
    age(project)
    before = {path: path.stat().st_mtime_ns for path in project.packs()}
    result = project.json("gc")
    assert result["objects"] == 0
    if not result["merged_packs"]:
        assert {path: path.stat().st_mtime_ns for path in project.packs()} == before


def named_by_branch(project):
    project.git("switch", "-q", "-c", "other")
    rev = save(project, "kept by a branch")
    project.git("switch", "-q", "main")
    return rev


def named_by_tag(project):
    project.git("switch", "-q", "--detach")
    rev = save(project, "kept by a tag")
    project.git("tag", "-a", "-m", "x", "data@v1.0.0")
    project.git("switch", "-q", "main")
    expire_reflog(project)
    return rev


def named_by_reflog(project):
    rev = save(project, "kept by the reflog")
    project.git("reset", "-q", "--hard", "HEAD~1")
    return rev


def named_by_stash(project):
    project.write({"data/a.txt": "kept by a stash"})
    project.dv("add", "-q", "data")
    project.git("stash", "-q")
    rev = project.git("rev-parse", "stash").strip()
    project.write({"data/a.txt": "another stash"})
    project.dv("add", "-q", "--force", "data")
    project.git("stash", "-q")
    return rev


def named_by_index(project):
    project.write({"data/a.txt": "kept by the index"})
    project.dv("add", "-q", "data")
    return ""


def named_by_another_worktree(project):
    project.git("worktree", "add", "-q", "--detach", "../tree")
    tree = Project(project.root.parent / "tree")
    tree.dv("checkout", "-q")
    rev = save(tree, "kept by a detached worktree")
    subprocess.run(["git", "-C", tree.root, "reflog", "expire", "--expire=now", "--all"], check=True)
    return rev


def named_by_the_index_of_another_worktree(project):
    project.git("worktree", "add", "-q", "--detach", "../tree")
    Project(project.root.parent / "tree").write({"data/a.txt": "kept by its index"})
    Project(project.root.parent / "tree").dv("add", "-q", "--force", "data")
    return ""


def named_by_a_pointer_that_was_never_staged(project):
    project.write({"data/a.txt": "kept by a pointer"})
    project.dv("add", "-q", "--no-stage", "data")
    return ""


def named_by_a_conflict(project):
    """Conflict markers in a commit: what can't be read as a pointer keeps what it names."""
    project.git("switch", "-q", "-c", "one")
    save(project, "one side")
    one = (project.root / "data.dvlite").read_text()
    project.git("switch", "-q", "main")
    project.dv("checkout", "-q")
    save(project, "other side")
    two = (project.root / "data.dvlite").read_text()
    project.git("branch", "-q", "-D", "one")
    (project.root / "data.dvlite").write_text(f"<<<<<<< a\n{one}=======\n{two}>>>>>>> b\n")
    project.git("commit", "-q", "-a", "-m", "both")
    expire_reflog(project)
    return ""


def named_by_a_rebase(project):
    rev = save(project, "kept by ORIG_HEAD")
    project.git("reset", "-q", "--hard", "HEAD~1")
    expire_reflog(project)
    assert (project.root / ".git/ORIG_HEAD").read_text().strip() == rev
    return rev


def named_in_a_folder(project):
    project.write({"deep/er/x/f": "kept in a folder"})
    project.dv("add", "-q", "deep/er/x")
    project.commit("in a folder")
    project.write({"deep/er/x/f": "its second version"})
    project.dv("add", "-q", "deep/er/x")
    project.commit("in a folder")
    return ""


def expire_reflog(project):
    project.git("reflog", "expire", "--expire=now", "--all")


KEEPERS = [value for name, value in list(globals().items()) if name.startswith("named_")]


@pytest.mark.parametrize("name_it", KEEPERS, ids=lambda one: one.__name__)
def test_whatever_git_names_is_kept(project, name_it):
    save(project, "first")
    name_it(project)
    before = set(project.repo.store.oids())
    age(project)
    result = project.json("gc")
    assert set(project.repo.store.oids()) == before, result
    assert result["objects"] == 0


def test_each_keeper_is_needed(project):
    """Without it the same data goes: the test above would fail if its place were not looked at."""
    save(project, "first")
    rev = named_by_branch(project)
    project.git("branch", "-q", "-D", "other")
    expire_reflog(project)
    project.dv("checkout", "-q")
    age(project)
    assert project.json("gc")["objects"] > 0
    assert "not in the local store" in project.dv("cat", "data/a.txt", "--rev", rev, code=10)


def test_what_another_repository_of_the_store_names_is_kept(project, tmp_path):

    other = make_project(tmp_path / "other")
    other.dv("config", "store", str(project.root / ".git/dvlite"))
    save(project, "first")
    save(other, "of the other")
    age(project)
    before = set(project.repo.store.oids())
    assert project.json("gc")["objects"] == 0
    assert other.json("gc")["objects"] == 0
    assert set(project.repo.store.oids()) == before
    (tmp_path / "other").rename(tmp_path / "moved")
    assert "rm " in project.dv("gc", code=2)
    moved = Project(tmp_path / "moved")
    moved.write({"x": "x"})
    moved.dv("add", "-q", "x")
    assert "can't be read" in project.dv("gc", code=2)


def test_a_worktree_that_cannot_be_reached_stops_gc(project):
    save(project, "first")
    project.git("worktree", "add", "-q", "--detach", "../tree")
    (project.root.parent / "tree").rename(project.root.parent / "away")
    assert "git worktree prune" in project.dv("gc", code=2)


def test_a_listing_that_is_nowhere_spares_what_may_belong_to_it(pushed):
    clone = pushed.clone()
    clone.dv("pull")
    pushed.write({"data/more/x": "never pushed"})
    pushed.dv("add", "-q", "data")
    pushed.commit("second")
    clone.git("pull", "-q")
    with clone.repo.store.open_batch(is_synced=True) as batch:
        batch.put(b"named by nothing" * 100, "sha256")
    age(clone)
    result = clone.json("gc")
    assert (result["objects"], result["unclear"]) == (0, ["data"])
    assert clone.json("gc", "--force")["objects"] > 0


def test_listings_that_are_not_here_are_read_on_the_remote(pushed):
    for number in range(3):
        pushed.write({"data/d0/f0.txt": f"version {number}"})
        pushed.dv("add", "-q", "data")
        pushed.commit(f"{number}")
        pushed.dv("push")
    clone = pushed.clone()
    clone.dv("pull")
    age(clone)
    result = clone.json("gc")
    assert (result["objects"], result["unclear"]) == (0, [])
    assert clone.dv("status").startswith("clean")


def test_small_packs_are_put_together_and_mostly_empty_ones_written_anew(project):
    for number in range(3):
        save(project, f"version {number} " * 100)
    with project.repo.store.open_batch(is_synced=True) as batch:
        for _ in range(50):
            batch.put(os.urandom(1000), "sha256")
        batch.put(b"version 0 " * 100, "sha256")
    before = len(project.packs())
    age(project)
    result = project.json("gc")
    assert result["objects"] == 50
    assert len(project.packs()) < before
    assert {path.stat().st_mode & 0o777 for path in project.packs()} == {0o444}
    for number in range(3):
        assert text_at(project, f"HEAD~{2 - number}") == f"version {number} " * 100
    assert project.dv("status").startswith("clean")


def test_an_add_after_gc_stores_anew_what_went(old):
    old.dv("gc")
    old.write({"a.txt": "garbage"}, "data")
    old.dv("add", "-q", "data")
    assert text_at(old, "HEAD") == "first"
    assert old.dv("cat", "data/a.txt") == "garbage"


def test_what_a_put_finds_counts_as_young_again(old):
    old.write({"again": "garbage"})
    old.dv("add", "-q", "again")
    old.git("rm", "-q", "--cached", "again.dvlite")
    (old.root / "again.dvlite").unlink()
    store = old.repo.store
    from dvlite import hashing

    old.dv("gc", "--force")
    assert store.find([hashing.oid_of("sha256", b"garbage")])


def test_gc_waits_for_writers_and_names_them(old):
    with old.repo.writing("add"):
        repo = old.repo
        said = []
        repo.patience_s, repo.waiting = 0.8, said.append
        from dvlite.errors import LockedError

        with pytest.raises(LockedError) as caught:
            gc(repo)
    assert f"process {os.getpid()}" in caught.value.message
    assert said and said[0].startswith("waiting for ")


def test_saved_data_stays_for_the_grace_period(project):
    save(project, "first")
    project.write({"data/a.txt": "forced away"})
    project.dv("checkout", "--force", "data")
    age(project)
    result = project.json("gc")
    assert result["objects"] == 0
    assert "saved/N" in {one["reason"] for one in result["stays"]}
    old = time.time() - 20 * 86400
    os.utime(project.root / ".git/dvlite/saved/1", (old, old))
    assert "saved/N" not in {one["reason"] for one in project.json("gc")["stays"]}
    assert "saved/1" not in project.dv("checkout", "--saved", "0")


def test_the_trash_is_emptied_after_its_grace_period(old):
    old.dv("gc")
    (batch,) = (old.root / ".git/dvlite/trash").iterdir()
    when = time.time() - 15 * 86400
    os.utime(batch, (when, when))
    assert old.json("gc")["emptied"] > 0
    assert not batch.exists()


# ---- roots that only Git's corners name -----------------------------------------------------------------------------


def forget(project):
    """Nothing is left but what is under test; everything is old."""
    project.git("reflog", "expire", "--expire=now", "--all")
    (project.root / ".git/ORIG_HEAD").unlink(missing_ok=True)
    (project.root / ".git/dvlite/index.db").unlink()  # it remembers what lay in the worktree, and keeps it
    for path in (project.root / ".git/dvlite").rglob("*"):
        if path.is_file() and path.parent.name != "saved":
            os.utime(path, (1, 1))


@pytest.fixture
def second(project):
    """Two commits; only the second has b."""
    project.write({"a": "a" * 50})
    project.dv("add", "-q", "a")
    project.commit("one")
    project.write({"b": "b" * 50})
    project.dv("add", "-q", "b")
    project.commit("two")
    return project


def replaced(project):
    project.git("branch", "x")
    project.git("reset", "-q", "--hard", "HEAD~1")
    project.git("replace", "x", "HEAD")


def tag_of_a_tag_of_a_tree(project):
    project.git("tag", "-a", "-m", "x", "t1", "HEAD^{tree}")
    project.git("tag", "-a", "-m", "x", "t2", "t1")
    project.git("tag", "-d", "t1")
    project.git("reset", "-q", "--hard", "HEAD~1")


def tag_of_a_pointer(project):
    project.git("tag", "pointer", "HEAD:b.dvlite")
    project.git("reset", "-q", "--hard", "HEAD~1")


def ignored_pointer(project):
    text = (project.root / "b.dvlite").read_text()
    project.git("reset", "-q", "--hard", "HEAD~1")
    (project.root / ".git/info/exclude").write_text("*.dvlite\n")
    (project.root / "b.dvlite").write_text(text)


@pytest.mark.parametrize("name", [replaced, tag_of_a_tag_of_a_tree, tag_of_a_pointer, ignored_pointer])
def test_what_git_itself_keeps_is_kept(second, name):
    name(second)
    forget(second)
    second.dv("gc", "-q", "--grace", "0")
    assert second.repo.store.find([hashing.oid_of("sha256", b"b" * 50)])


def submodule_of(project, folder):
    """Return a project as a submodule of another repository."""
    project.commit("begin")
    upper = folder / "super"
    subprocess.run(["git", "init", "-q", upper], check=True)
    allow = ["-c", "protocol.file.allow=always"]
    subprocess.run(["git", *allow, "submodule", "--quiet", "add", project.root, "s"], cwd=upper, check=True)
    return Project(upper / "s")


def test_in_a_submodule_its_own_index_and_pointers_are_roots(project, tmp_path):
    inner = submodule_of(project, tmp_path)
    inner.write({"staged": "staged" * 9, "unstaged": "unstaged" * 9})
    inner.dv("add", "-q", "staged")
    inner.dv("add", "-q", "--no-stage", "unstaged")
    for path in (tmp_path / "super/.git/modules/s/dvlite").rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    inner.dv("gc", "-q", "--grace", "0")
    wanted = [hashing.oid_of("sha256", text.encode() * 9) for text in ("staged", "unstaged")]
    assert set(inner.repo.store.find(wanted)) == set(wanted)


def test_a_submodule_that_shares_the_store_is_asked_where_its_worktree_is(project, tmp_path):
    inner = submodule_of(project, tmp_path)
    for one in (project, inner):
        one.git("config", "dvlite.store", str(tmp_path / "store"))
    inner.write({"staged": "staged" * 9})
    inner.dv("add", "-q", "staged")
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    (tmp_path / "super/.git/modules/s/dvlite/index.db").unlink()
    project.dv("gc", "-q", "--grace", "0")
    assert project.repo.store.find([hashing.oid_of("sha256", b"staged" * 9)])


def test_a_separate_git_folder_is_cleaned_by_what_its_worktree_names(tmp_path):
    subprocess.run(["git", "init", "-q", "--separate-git-dir", tmp_path / "gd", tmp_path / "r"], check=True)
    project = Project(tmp_path / "r")
    project.dv("init", "-q")
    project.write({"staged": "staged" * 9})
    project.dv("add", "-q", "staged")
    for path in (tmp_path / "gd/dvlite").rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))
    project.dv("gc", "-q", "--grace", "0")
    assert project.repo.store.find([hashing.oid_of("sha256", b"staged" * 9)])


@pytest.mark.parametrize("what", ["--empty", "--restore"])
def test_a_dry_run_leaves_the_trash_alone(second, what):
    second.git("reset", "-q", "--hard", "HEAD~1")
    second.dv("checkout", "-q", "--force")
    forget(second)
    for path in (second.root / ".git/dvlite/saved").glob("*"):
        path.unlink()
    second.dv("gc", "-q", "--grace", "0")
    trash = second.root / ".git/dvlite/trash"
    before = sorted(path for path in trash.rglob("*") if path.is_file())
    assert before
    assert "would be" in second.dv("gc", what, "--dry-run")
    assert sorted(path for path in trash.rglob("*") if path.is_file()) == before


def test_an_age_that_is_none_is_refused(project):
    for age in ("nan", "inf", "-1d", "soon"):
        project.dv("gc", f"--grace={age}", code=2)
