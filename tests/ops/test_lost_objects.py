"""Objects that have left the store behind dvlite's back: nothing claims that they are there, and every hint leads on."""

import os
import shutil

import pytest


@pytest.fixture
def lossy(project):
    project.write({"a": "one\n" * 50, "sub/b": "two"}, "data")
    project.write({"big": os.urandom(1 << 20)})
    project.dv("remote", "add", "origin", "../remote")
    project.settle()
    project.dv("add", "data", "big")
    project.commit()
    assert project.json("status")["is_clean"]
    return project


@pytest.mark.parametrize("gone", ["packs", "objects", ""])
def test_what_is_gone_from_the_store_is_missing_and_add_stores_it_anew(lossy, gone):
    shutil.rmtree(lossy.root / ".git/dvlite" / gone)
    seen = lossy.json("status")
    assert not seen["is_clean"]
    assert sum(one["missing_here"] for one in seen["paths"]) > 0
    lossy.dv("add", "data", "big")
    assert lossy.json("status")["is_clean"]
    lossy.dv("push")
    clone = lossy.clone()
    clone.dv("pull")
    assert clone.read("data") == lossy.read("data")


def test_a_push_that_finds_a_loss_makes_add_look_again(lossy):
    shutil.rmtree(lossy.root / ".git/dvlite/packs")
    assert "dvlite add" in lossy.dv("push", code=10)
    lossy.dv("add", "data")
    lossy.dv("push")


def test_another_store_that_has_nothing_yet_is_not_clean(lossy):
    lossy.dv("config", "store", "../elsewhere")
    assert not lossy.json("status")["is_clean"]
    lossy.dv("add", "data", "big")
    assert lossy.json("status")["is_clean"]


def test_data_whose_earlier_listings_are_gone_can_be_added_by_force(lossy):
    shutil.rmtree(lossy.root / ".git/dvlite/packs")
    lossy.write({"a": "changed"}, "data")
    assert "dvlite add --force data" in lossy.dv("add", "data", code=10)
    lossy.dv("add", "--force", "data")
    assert lossy.json("status")["is_clean"]


def test_status_reads_listings_that_are_not_here_from_the_remote(lossy):
    lossy.write({"sub/big": os.urandom(1 << 20)}, "data")
    lossy.dv("add", "data")
    lossy.commit()
    lossy.dv("push")
    clone = lossy.clone()
    clone.dv("pull", "data/a")
    assert clone.json("status", "data", "--remote")["paths"][0]["missing_there"] == 0
    shutil.rmtree(lossy.root.parent / "remote/objects")
    assert clone.json("status", "data", "--remote")["paths"][0]["missing_there"] == 1


def test_a_missing_rev_is_fetched_by_its_hint(lossy):
    lossy.write({"a": "second"}, "data")
    lossy.dv("add", "data")
    lossy.commit()
    lossy.dv("push")
    clone = lossy.clone()
    clone.dv("pull")
    assert "dvlite fetch --rev HEAD~1" in clone.dv("checkout", "data", "--rev", "HEAD~1", code=10)
    clone.dv("fetch", "--rev", "HEAD~1")
    clone.dv("checkout", "data", "--rev", "HEAD~1")
    assert clone.read("data")["a"] == b"one\n" * 50


def test_a_path_that_is_nowhere_is_a_typing_error_to_all(lossy):
    lossy.dv("push")
    for command in ("status", "push", "checkout", "pull", "ls", "add"):
        assert "data/nothere" in lossy.dv(command, "data/nothere", code=2)


def test_what_could_not_be_staged_is_staged_by_the_next_add(lossy):
    lossy.write({"a": "more"}, "data")
    lossy.write({"x": "new"}, "other")
    lossy.dv("add", "--no-stage", "data", "other")
    assert lossy.git("diff", "--cached", "--name-only") == ""
    assert lossy.json("add", "--no-stage", "data")["to_stage"] == ["data.dvlite"]
    assert lossy.json("add", "data", "other")["staged"] == ["data.dvlite", "other.dvlite", ".gitignore"]
    assert lossy.git("status", "--short", "data.dvlite", "other.dvlite", ".gitignore").count("M ") == 2
    assert lossy.json("add", "data", "other")["staged"] == []


def test_an_ignore_file_that_the_user_edits_is_left_to_the_user(lossy):
    with (lossy.root / ".gitignore").open("a") as file:
        file.write("mine\n")
    lossy.dv("add", "data")
    assert lossy.git("diff", "--cached", "--name-only") == ""


def test_a_name_too_long_for_its_pointer_is_refused_by_name(lossy):
    lossy.write({"n" * 250: "x"})
    assert "put it into a folder" in lossy.dv("add", "n" * 250, code=2).lower()
    lossy.write({"n" * 255: "x"}, "folder")
    lossy.dv("add", "folder")


def test_a_reader_that_has_seen_enough_is_no_failure(lossy):
    import subprocess
    import sys

    lossy.write({f"{'a long name ' * 8}{n}": "" for n in range(3000)}, "data")  # more than a pipe holds
    command = f"set -o pipefail; {sys.executable} -m dvlite status --all | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=lossy.root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("which", ["contents", "trees", "all"])
def test_packs_that_a_hand_took_away_are_missed_and_stored_again(project, which):
    project.write({"sub/1": "1", "sub/2": "2", "a": "a"}, "data")
    project.dv("add", "-q", "data")
    project.commit()
    project.settle()
    assert "clean" in project.dv("status") and "clean" in project.dv("status")
    for path in project.packs():
        if which == "all" or (b"dvlite-tree" in path.read_bytes()) == (which == "trees"):
            path.unlink()
    assert "missing in the store" in project.dv("status")
    project.dv("add", "data")
    assert "clean" in project.dv("status")
    project.dv("fsck")
    before = project.read("data")
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert project.read("data") == before


def test_add_itself_misses_packs_that_a_hand_took_away(project):
    project.write({"sub/1": "1", "a": "a"}, "data")
    project.dv("add", "-q", "data")
    project.commit()
    project.settle()
    project.dv("status")
    for path in project.packs():
        path.unlink()
    project.dv("add", "data")
    project.dv("fsck")
