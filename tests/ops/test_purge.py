"""Freeing local copies, and removing content for good."""

import os
import time

import pytest

from dvlite import hashing


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
    assert len(three.json("purge", what, "--remote", "--yes")["oids"]) == versions
    for root in (three.root / ".git/dvlite", three.root.parent / "remote"):
        for path in root.rglob("*"):
            assert not path.is_file() or content[:500] not in path.read_bytes(), path
    assert {one["kind"] for one in three.json("fsck")["problems"]} == {"purged"}
    assert {one["kind"] for one in three.json("fsck", "--remote")["problems"]} == {"purged"}
    assert "still has it" in three.dv("purge", what, "--yes")
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
    three.dv("purge", oid, "--remote", "--yes")
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
