"""What a commit or an add leaves that was refused, or that Git gave up: nothing is lost by it, and nothing forgotten."""

import shutil

import pytest


@pytest.fixture
def two(work):
    """Branch x has another version of data/a than main; the edit of data/a here is stored nowhere."""
    work.git("switch", "-q", "-c", "x")
    work.write({"a": "X"}, "data")
    work.dv("add", "-q", "data")
    work.git("commit", "-q", "-m", "x")
    work.git("switch", "-q", "main")
    work.write({"a": "unsaved"}, "data")
    return work


@pytest.mark.parametrize("refused", ["commit", "add"])
@pytest.mark.parametrize("then", [["switch", "-q", "main"], ["reset", "-q", "--hard", "main"]])
def test_an_edit_is_not_taken_for_saved_because_an_add_was_refused(two, refused, then):
    two.git("switch", "-q", "x")
    assert (two.root / "data/a").read_text() == "unsaved"
    if refused == "commit":
        two.write({"code": "f"})
        two.git("add", "code")
        two.git("commit", "-q", "-m", "f")
    else:
        two.dv("add", "data", code=14)
    two.git(*then)
    assert (two.root / "data/a").read_text() == "unsaved"
    assert "a" in two.dv("status") and "clean" not in two.dv("status")


def test_a_folder_with_a_file_of_the_users_follows_again_after_a_round_trip(work):
    work.git("switch", "-q", "-c", "tf")
    work.write({"nd/1": "1"})
    work.dv("add", "-q", "nd")
    work.git("commit", "-q", "-m", "nd")
    work.write({"nd/2": "unsaved"})
    work.git("switch", "-q", "main")
    assert not (work.root / "nd/1").exists() and (work.root / "nd/2").exists()
    work.git("switch", "-q", "tf")
    assert "new: 2" in work.dv("status", "nd")
    work.git("commit", "-q", "--allow-empty", "-m", "x")
    work.git("switch", "-q", "main")
    assert not (work.root / "nd/1").exists()
    work.git("switch", "-q", "tf")
    assert work.read("nd") == {"1": b"1", "2": b"unsaved"}


def test_a_pointer_that_git_threw_away_with_its_index_is_in_the_next_commit(work):
    work.write({"a": "new"}, "data")
    done = work.try_git("commit", "-am", "only data")
    assert done.returncode == 1  # Git looked before the hook
    work.write({"code": "c"})
    work.git("add", "code")
    work.git("commit", "-q", "-m", "code and data")
    assert work.git("status", "--porcelain") == "" and work.dv("status").startswith("clean")
    work.write({"a": "newer"}, "data")
    work.try_git("commit", "-am", "only data")
    work.git("commit", "-qam", "again")
    assert work.git("status", "--porcelain") == ""


def test_pointers_that_a_commit_of_some_paths_left_are_in_the_next_one(work):
    work.write({"one.bin": "1"})
    work.dv("add", "-q", "one.bin")
    work.git("commit", "-q", "-m", "one")
    work.write({"a": "new"}, "data")
    work.write({"one.bin": "2"})
    work.try_git("commit", "-m", "data", "data.dvlite")
    work.git("commit", "-q", "-m", "data", "data.dvlite")
    assert work.git("status", "--porcelain").strip() == "M one.bin.dvlite"
    work.git("commit", "-q", "--allow-empty", "-m", "next")
    assert work.git("status", "--porcelain") == ""


def test_too_much_to_read_blocks_only_what_it_is_about(work):
    with (work.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\nstale_max_size = "2 B"\n')
    work.git("commit", "-qam", "policy")
    work.git("switch", "-q", "-c", "side")
    work.write({"s": "s"})
    work.git("add", "s")
    work.git("commit", "-q", "-m", "s")
    work.git("switch", "-q", "main")
    work.write({"m": "m"})
    work.git("add", "m")
    work.git("commit", "-q", "-m", "m")
    work.write({"a": "much more"}, "data")
    work.write({"m": "2"})
    assert "is not looked at" in work.git("commit", "-m", "part", "m")
    assert "is not looked at" in work.git("merge", "-m", "m", "side")
    work.write({"m": "3"})
    work.git("add", "m")
    assert work.try_git("commit", "-m", "all").returncode == 1


def test_data_that_is_gone_is_told_how_to_come_back(work):
    before = work.data()
    shutil.rmtree(work.root / "data")
    said = work.dv("status")
    assert "to bring it back: dvlite checkout data" in said and "dvlite add" not in said
    work.dv("checkout", "data")
    assert work.data() == before


def test_hooks_that_went_dead_are_a_finding(work):
    work.dv("doctor")
    work.git("config", "core.hooksPath", ".husky/_")
    assert "dvlite hooks install" in work.dv("doctor", code=1)


@pytest.mark.parametrize("text", ["garbage\n", None])
def test_nothing_is_added_inside_of_a_folder_whose_pointer_is_broken_or_gone(work, text):
    if text:
        (work.root / "data.dvlite").write_text(text)
    else:
        (work.root / "data.dvlite").unlink()
    said = work.dv("add", "data/a", code=2 if text is None else 1)
    assert "data.dvlite" in said and not (work.root / "data/a.dvlite").exists()


def test_a_name_with_a_dash_can_be_pasted(work):
    work.write({"-dash": "1"})
    work.dv("add", "-q", "--", "-dash")
    work.git("commit", "-q", "-m", "dash")
    work.write({"-dash": "2"})
    assert "dvlite add ./-dash" in work.dv("status")
    work.dv("add", "./-dash")


def test_a_pointer_that_git_moved_gets_its_ignore_line_with_its_data(work):
    work.write({"f.bin": "1", "other.log": "2"})
    work.dv("add", "-q", "f.bin")
    work.git("commit", "-q", "-m", "f")
    work.git("mv", "f.bin.dvlite", "g.bin.dvlite")
    assert "g.bin" in work.dv("checkout")
    assert "/g.bin" in (work.root / ".gitignore").read_text().splitlines()
    assert (work.root / "g.bin").exists() and "g.bin\n" not in work.git("status", "--porcelain").replace(
        "g.bin.dvlite", ""
    )
    before = (work.root / ".gitignore").read_bytes()
    work.dv("checkout")
    assert (work.root / ".gitignore").read_bytes() == before


def test_what_is_ignored_by_another_line_gets_none(work):
    (work.root / ".gitignore").write_text("data*\n!*.dvlite\n")
    work.dv("checkout")
    assert (work.root / ".gitignore").read_text() == "data*\n!*.dvlite\n"


def test_a_commit_of_some_paths_says_nothing_of_data_that_nobody_would_replace(work):
    work.write({"code": "1"})
    work.git("add", "code")
    work.git("commit", "-q", "-m", "code")
    work.write({"a": "changed"}, "data")
    work.write({"code": "2"})
    said = work.git("commit", "-m", "part", "code")
    assert "not in this commit: data" in said and "kept" not in said


def test_what_a_pull_brings_without_its_data_is_said_in_one_line(work):
    work.write({"one.bin": "1"})
    work.dv("add", "-q", "one.bin")
    work.git("commit", "-q", "-m", "one")
    work.dv("remote", "add", "-q", "origin", "../remote")
    work.git("commit", "-qam", "remote")
    work.dv("push")
    clone = work.clone()
    clone.dv("hooks", "install", "-q")
    clone.dv("pull")
    work.write({"data/new/x": "2", "one.bin": "2"})
    work.dv("add", "-q", "data", "one.bin")
    work.git("commit", "-q", "-m", "both")
    work.dv("push")
    assert clone.git("pull").count("not here yet") == 1
