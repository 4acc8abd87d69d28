"""Freeing local copies, and removing content for good."""

import os
import time

import pytest

from dvlite import hashing
from tests.conftest import make_project


def save(project, text):
    project.write({"data/a.txt": text, "data/b.txt": f"b{text[::-1]}"})
    project.dv("add", "-q", "data")
    return project.commit(text[:20])


@pytest.fixture
def three(project):
    project.dv("remote", "add", "origin", "../remote")
    for number in range(3):
        save(project, f"version {number} " * 200)
    project.write({"model.bin": os.urandom(1 << 20)})
    project.dv("add", "-q", "model.bin")
    project.commit("model")
    project.git("tag", "-a", "-m", "x", "model@v1.0.0")
    return project


def test_local_copies_are_freed_only_where_the_remote_has_them(three):
    assert "dvlite push --all" in three.dv("gc", "--keep-last", "1", code=14)
    three.dv("push")
    before = len(set(three.repo.store.oids()))
    dry = three.json("gc", "--keep-last", "1", "--dry-run")
    assert len(set(three.repo.store.oids())) == before
    result = three.json("gc", "--keep-last", "1")
    assert (result["objects"], len(result["versions"])) == (dry["objects"], 2)
    assert len(set(three.repo.store.oids())) == before - result["objects"]
    assert three.dv("status").startswith("clean")
    three.dv("cat", "data/a.txt", "--rev", "HEAD~2", code=10)
    three.dv("fetch", "--rev", "HEAD~2")
    assert three.dv("cat", "data/a.txt", "--rev", "HEAD~2") == "version 1 " * 200


def test_one_path_is_freed_whole_or_of_one_rev(three):
    three.dv("push")
    path = three.repo.store.loose_path(hashing.oid_of_file("sha256", three.root / "model.bin"))
    three.dv("gc", "--drop", "model.bin")
    assert not path.exists()
    assert (three.root / "model.bin").exists()
    three.dv("gc", "--drop", "data/a.txt", "--rev", "HEAD~3")
    three.dv("cat", "data/a.txt", "--rev", "HEAD~3", code=10)
    assert three.dv("cat", "data/b.txt", "--rev", "HEAD~3") == "b" + ("version 0 " * 200)[::-1]
    three.dv("fetch")
    assert path.exists()


def test_by_force_what_is_on_no_remote_goes_to_the_trash(three):
    result = three.json("gc", "--drop", "model.bin", "--force")
    assert result["trashed"] == result["objects"] == 1
    three.dv("gc", "--restore")
    assert three.json("fsck")["problems"] == []


def test_old_versions_are_freed_by_age(three):
    three.dv("push")
    assert three.json("gc", "--older-than", "1d")["objects"] == 0
    time.sleep(1.1)
    assert len(three.json("gc", "--older-than", "1s")["versions"]) == 2


def test_purge_shows_what_it_breaks_and_asks(three):
    said = three.dv("purge", "model.bin", code=1)
    assert three.git("rev-parse", "HEAD").strip() in said
    assert "model@v1.0.0" in said
    assert "--yes" in said
    assert three.json("fsck")["problems"] == []


@pytest.mark.parametrize("what", ["data/a.txt", "model.bin"])
def test_purged_content_is_nowhere_and_told_from_a_loss(three, what):
    three.dv("push")
    content = (three.root / what).read_bytes()
    versions = 3 if what.startswith("data") else 1
    three.dv("gc", "--grace", "0")
    assert len(three.json("purge", what, "--remote", "--registered", "--yes")["oids"]) == versions
    for root in (three.root / ".git/dvlite", three.root.parent / "remote"):
        for path in root.rglob("*"):
            assert not path.is_file() or content[:500] not in path.read_bytes(), path
    assert {one["kind"] for one in three.json("fsck")["problems"]} == {"purged"}
    assert {one["kind"] for one in three.json("fsck", "--remote")["problems"]} == {"purged"}
    assert "still has it" in three.dv("purge", what, "--registered", "--yes")
    three.dv("push")
    clone = three.clone()
    assert "purged" in clone.dv("pull")
    assert not (clone.root / what).exists()
    assert (clone.root / "data/b.txt").read_text() == "b" + ("version 2 " * 200)[::-1]


def test_purged_content_does_not_come_back_unasked(three):
    three.dv("push")
    clone = three.clone()
    clone.dv("pull")
    oid = str(hashing.oid_of_file("sha256", three.root / "model.bin"))
    three.dv("purge", oid, "--remote", "--registered", "--yes")
    three.write({"copy.bin": (three.root / "model.bin").read_bytes()})
    assert "was purged" in three.dv("add", "copy.bin", code=2)
    assert clone.json("push", "--all")["purged"] == 1
    name = oid.partition(":")[2]
    assert not (three.root.parent / f"remote/objects/sha256/{name[:2]}/{name[2:]}").exists()
    three.dv("purge", "--lift", oid, "--remote")
    three.dv("add", "copy.bin")
    three.commit("copy")
    three.dv("push")
    assert (three.root.parent / f"remote/objects/sha256/{name[:2]}/{name[2:]}").exists()


def test_what_no_version_has_is_refused(three):
    three.dv("purge", "nothere", "--yes", code=2)


# ---- where content hides --------------------------------------------------------------------------------------------

SECRET = b"TOP SECRET " * 20


def holds(folder):
    return [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_bytes()]


@pytest.fixture
def leaked(project):
    project.dv("remote", "add", "origin", "../remote")
    project.write({"d/secret": SECRET, "d/other": b"other " * 500})
    project.dv("add", "-q", "d")
    project.commit("leak")
    project.dv("push", "-q")
    (project.root / "d/secret").unlink()
    return project


def alter(path, change):
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def test_content_in_a_pack_with_other_damage_is_removed(leaked):
    (pack,) = holds(leaked.root / ".git/dvlite/packs")
    alter(pack, lambda data: data.replace(b"other other", b"0ther other", 1))
    leaked.dv("purge", "d/secret", "-y")
    assert holds(leaked.root / ".git") == []


@pytest.mark.parametrize("how", ["cut", "no index", "cut, no index"])
def test_content_in_a_damaged_pack_of_a_remote_is_removed_and_the_rest_is_kept(leaked, how):
    remote = leaked.root.parent / "remote"
    (pack,) = holds(remote / "packs")
    if "cut" in how:
        alter(pack, lambda data: data[:-1])
    if "no index" in how:
        pack.with_suffix(".idx").unlink()
    leaked.dv("purge", "d/secret", "--remote", "-y")
    assert holds(remote) == holds(leaked.root / ".git") == []
    leaked.dv("push", "-q", "--all")
    clone = leaked.clone("fresh")
    clone.run("pull")
    assert (clone.root / "d/other").read_bytes() == b"other " * 500


def test_versions_that_only_an_index_or_another_worktree_names_are_removed_too(leaked, tmp_path):
    second, third = SECRET + b"second", SECRET + b"third"
    leaked.write({"d/secret": second})
    leaked.dv("add", "-q", "d")
    leaked.write({"d/secret": "harmless"})
    leaked.dv("add", "-q", "--no-stage", "d")
    leaked.git("worktree", "add", "-q", str(tmp_path / "wt"))
    other = type(leaked)(tmp_path / "wt")
    other.dv("checkout", "-q")
    other.write({"d/secret": third})
    other.dv("add", "-q", "--no-stage", "d")
    leaked.dv("purge", "d/secret", "-y")
    assert holds(leaked.root / ".git/dvlite") == []


def test_purging_a_listing_purges_what_it_names_and_gc_goes_on(leaked):
    oid = next(
        line.split('"')[1] for line in (leaked.root / "d.dvlite").read_text().split("\n") if line.startswith("oid")
    )
    leaked.dv("purge", oid, "-y", "--remote")
    assert holds(leaked.root / ".git/dvlite") == holds(leaked.root.parent / "remote") == []
    leaked.dv("gc", "-q")
    leaked.dv("gc", "-q", "--remote")


def test_what_breaks_in_repositories_that_share_the_store_is_shown(three, tmp_path):
    three.git("config", "dvlite.store", str(tmp_path / "store"))
    three.write({"secret": "s" * 100})
    three.dv("add", "-q", "secret")
    three.commit("secret")
    other = make_project(tmp_path / "other")
    other.git("config", "dvlite.store", str(tmp_path / "store"))
    other.write({"mine": "s" * 100})
    other.dv("add", "-q", "mine")
    commit = other.commit("mine too")
    result = three.json("purge", "secret", code=1)
    assert [(one["path"], one["repository"]) for one in result["places"]] == [
        ("secret", ""),
        ("mine", str(other.root)),
    ]
    said = three.dv("purge", "secret", code=1)
    assert f"mine of the repository '{other.root}': 1 commit" in said and commit in said
