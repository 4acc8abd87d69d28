"""Paths that were part of others, or have become so: what goes makes room, and what is the user's stays."""

import os
import shutil

import pytest


@pytest.fixture
def turned(project):
    """A tracked file that becomes a folder on another branch; `switch` moves Git alone."""
    project.write({"p": "file"})
    project.dv("add", "p")
    project.commit("file")
    project.git("branch", "folder")
    project.switch = lambda branch: project.git("-c", "core.hooksPath=/dev/null", "switch", "-q", branch)
    project.switch("folder")
    project.dv("rm", "p", "--data", "-q")
    project.write({"x": "in", "y": "too"}, "p")
    project.dv("add", "p")
    project.commit("folder")
    project.settle()
    return project


def test_a_part_of_a_folder_where_an_old_file_lies_leaves_that_outdated(turned):
    """Else the next add took the old file for the user's."""
    turned.switch("main")
    turned.dv("checkout")
    turned.switch("folder")
    turned.dv("checkout", "p/x", "p/y", code=14)
    assert turned.json("status")["paths"][0]["changes"][0]["kind"] == "outdated"
    turned.dv("add", "p")
    assert turned.git("diff", "--cached", "--name-only") == ""
    turned.dv("checkout")
    assert turned.read("p") == {"x": b"in", "y": b"too"}


def test_a_part_of_a_folder_that_becomes_a_file_is_still_what_was_put_there(turned):
    shutil.rmtree(turned.root / "p")
    for name in ("index.db", "followed"):
        (turned.root / ".git/dvlite" / name).unlink(missing_ok=True)
    turned.dv("checkout", "p/x")
    turned.dv("hooks", "install")
    turned.git("switch", "-q", "main")  # data follows, as far as there was some
    turned.dv("checkout")
    assert (turned.root / "p").read_text() == "file"


@pytest.fixture
def swapped(project):
    """A tracked file that on another branch is a folder with a tracked file in it; data follows each switch."""
    project.write({"df": "file", "same": "s"})
    project.dv("add", "df", "same")
    project.commit("file")
    project.git("branch", "folder")
    project.switch = lambda branch: project.git("-c", "core.hooksPath=/dev/null", "switch", "-q", branch)
    project.switch("folder")
    project.dv("rm", "df", "--data", "-q")
    project.write({"df/x": "in"})
    project.dv("add", "df/x")
    project.git("add", "-A")
    project.commit("folder")
    project.settle()
    return project


def test_a_path_that_was_part_of_another_makes_room_for_it_and_the_other_way(swapped):
    for _ in range(2):
        swapped.switch("main")
        swapped.dv("checkout")
        assert (swapped.root / "df").read_text() == "file"
        assert swapped.dv("status").startswith("clean")
        swapped.switch("folder")
        swapped.dv("checkout")
        assert (swapped.root / "df/x").read_text() == "in"
        assert swapped.dv("status").startswith("clean")


@pytest.mark.parametrize("what", ["df/x", "df/mine"])
def test_what_is_the_users_makes_no_room(swapped, what):
    swapped.write({what: "edited"})
    swapped.switch("main")
    swapped.dv("checkout", code=14)
    assert (swapped.root / what).read_text() == "edited"


def test_what_was_put_together_is_left_alone(project):
    """Single files were tracked; now their folder is, and it is the same files: none of them goes for a moment."""
    project.write({"a": "1", "b": "2"}, "data")
    project.dv("add", "data/a", "data/b")
    project.commit("one by one")
    project.git("rm", "-q", "data/a.dvlite", "data/b.dvlite", "data/.gitignore")
    project.dv("add", "data")
    project.commit("together")
    inodes = {path.name: path.stat().st_ino for path in (project.root / "data").iterdir()}
    project.dv("checkout")
    assert {path.name: path.stat().st_ino for path in (project.root / "data").iterdir()} == inodes
    assert project.dv("status").startswith("clean")


def test_folders_that_data_leaves_empty_go_with_it_as_gits_do(project):
    project.write({"code.py": "c"})
    project.commit("none")
    project.write({"a/b/one": "1"})
    project.dv("add", "a/b/one")
    project.commit("one")
    project.write({"a/mine": "m"})
    project.git("-c", "core.hooksPath=/dev/null", "checkout", "-q", "HEAD~1")
    project.dv("checkout")
    assert not (project.root / "a/b").exists() and (project.root / "a/mine").exists()


def test_the_folder_in_which_the_shell_is_stays_also_when_a_hook_is_called(project):
    project.write({"a/b/one": "1"})
    project.dv("add", "a/b/one")
    project.commit("one")
    project.dv("hooks", "install")
    project.git("rm", "-q", "a/b/one.dvlite", "a/b/.gitignore")
    project.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "gone")
    project.dv("checkout")
    assert not (project.root / "a").exists()
    project.git("switch", "-q", "--detach", "HEAD~1")
    project.dv("checkout")
    assert project.git_run("-C", "a/b", "switch", "-q", "-").returncode == 0
    assert os.listdir(project.root / "a/b") == []


def test_the_folder_in_which_the_command_is_given_stays(project):
    project.write({"a/b/one": "1"})
    project.dv("add", "a/b/one")
    project.commit("one")
    project.git("rm", "-q", "a/b/one.dvlite", "a/b/.gitignore")
    assert project.run("checkout", folder=project.root / "a/b").returncode == 0
    assert os.listdir(project.root / "a/b") == []
