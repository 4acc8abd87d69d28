"""A checkout that ends in the middle: what it did is not taken for the user's changes, and nothing of theirs is gone."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from dvlite.errors import LockedError
from dvlite.index import Index
from dvlite.ops.checkout import checkout
from dvlite.repo import open_repo
from tests.conftest import tree_of

# Runs the command line, and does something at the N-th of an audited system call.
AT = """
import os, signal, sys
name, number, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
count = 0
def hook(event, values):
    global count
    if event == name and ("/dvlite/tmp/" in str(values)):
        count += 1
        if count == number:
            exec(what)
sys.addaudithook(hook)
from dvlite.cli.main import run
sys.exit(run(sys.argv[4:]))
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
INTERRUPT = "raise KeyboardInterrupt"


def run_at(project, event, number, what, *arguments):
    command = [sys.executable, "-c", AT, event, str(number), what, *arguments]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, timeout=60)


@pytest.fixture
def two(project):
    """A folder with two versions; the second is here, and hooks are installed."""
    project.dv("hooks", "install", "-q")
    for version in ("v1", "v2"):
        project.write({f"f{n}": f"{version} {n}" for n in range(9)} | {"sub/y": version, "sub/z": "same"}, "data")
        project.dv("add", "-q", "data")
        project.commit(version)
    return project


@pytest.mark.parametrize(("what", "code"), [(KILL, -9), (INTERRUPT, 130)])
@pytest.mark.parametrize("event", ["os.rename", "os.remove", "os.link"])
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_checkout_of_another_rev_that_is_cut_off_never_gets_into_a_commit(two, event, number, what, code):
    pointer = (two.root / "data.dvlite").read_bytes()
    done = run_at(two, event, number, what, "checkout", "data", "--rev", "HEAD~1")
    assert done.returncode == code, done.stderr
    two.write({"code.py": "code"})
    two.git("add", "code.py")
    two.git("commit", "-q", "-m", "only code")
    assert (two.root / "data.dvlite").read_bytes() == pointer
    assert two.git("show", "HEAD:data.dvlite").encode() == pointer
    seen = two.json("status")["paths"][0]
    assert [change for change in seen["changes"] if change["kind"] != "outdated"] == []
    if number > 1:
        assert seen["at"] == "HEAD~1"
    assert two.dv("add", "data").count("unchanged data") == 1
    two.dv("checkout", "data", "--rev", "HEAD~2")
    assert two.read("data") == {f"f{n}": f"v1 {n}".encode() for n in range(9)} | {"sub/y": b"v1", "sub/z": b"same"}
    two.dv("checkout", "data")
    assert two.read("data") == {f"f{n}": f"v2 {n}".encode() for n in range(9)} | {"sub/y": b"v2", "sub/z": b"same"}
    assert two.dv("status").startswith("clean")


@pytest.mark.parametrize("event", ["os.rename", "os.remove", "os.link"])
def test_what_force_had_taken_away_is_no_deletion(two, event):
    two.write({f"f{n}": "edited" for n in range(9)}, "data")
    assert run_at(two, event, 3, KILL, "checkout", "data", "--force").returncode == -9
    two.write({"code.py": "code"})
    two.git("add", "code.py")
    two.git("commit", "-q", "-m", "only code")
    listed = two.dv("ls", "-R", "data")
    assert all(f"f{n}" in listed for n in range(9))


@pytest.mark.parametrize("what", [KILL, INTERRUPT])
def test_what_two_checkouts_left_half_done_is_no_change_of_the_users(project, what):
    for version in ("v1", "v2", "v3"):
        project.write({f"f{n}": f"{version} {n}" for n in range(9)}, "data")
        project.dv("add", "-q", "data")
        project.commit(version)
        project.git("tag", version)
    project.settle()
    project.dv("status")
    for version, number in (("v1", 6), ("v2", 5)):
        project.git("checkout", "-q", version)
        assert run_at(project, "os.rename", number, what, "checkout").returncode in (-9, 130)
    assert len({text[:2] for text in project.read("data").values()}) > 1, "it was in the middle"
    (seen,) = project.json("status")["paths"]
    assert {change["kind"] for change in seen["changes"]} <= {"outdated", "absent"}
    project.dv("checkout")
    assert project.read("data") == {f"f{n}": f"v2 {n}".encode() for n in range(9)}
    assert project.dv("status").startswith("clean")


@pytest.fixture
def folder_to_file(project):
    """Data is a tracked folder and a folder in one; their pointers ask for files."""
    whole = {f"f{n}": f"v1 {n}" for n in range(4)} | {"sub/y": "v1"}
    project.write(whole, "t")
    project.write({f"in/{name}": text for name, text in whole.items()} | {"other": "same"}, "data")
    project.dv("add", "-q", "t", "data")
    project.commit("v1")
    for path in (project.root / "t", project.root / "data/in"):
        shutil.rmtree(path)
        path.write_text("v2")
    project.dv("add", "-q", "t", "data")
    project.commit("v2")
    project.git("checkout", "-q", "HEAD~1")
    project.dv("checkout")
    project.settle()
    project.dv("status")
    project.git("checkout", "-q", "-")
    return project


@pytest.mark.parametrize("number", range(1, 13, 2))
def test_a_folder_half_gone_where_a_file_will_lie_is_no_conflict(folder_to_file, number):
    project = folder_to_file
    assert run_at(project, "os.remove", number, KILL, "checkout").returncode == -9
    for one in project.json("status")["paths"]:
        assert {change["kind"] for change in one["changes"]} <= {"outdated", "absent"}, one
    project.dv("checkout")
    assert (project.root / "t").read_text() == (project.root / "data/in").read_text() == "v2"
    assert project.dv("status").startswith("clean")


def test_an_edit_in_a_folder_half_gone_stays(folder_to_file):
    project = folder_to_file
    assert run_at(project, "os.remove", 2, KILL, "checkout").returncode == -9
    left = project.root / "data/in"
    assert 0 < len(list(left.iterdir())) < 5, "it was in the middle"
    edited = next(left.glob("f*"))
    edited.write_text("mine")
    assert project.run("checkout").returncode == 14
    assert edited.read_text() == "mine"


@pytest.mark.parametrize("number", [2, 4])
def test_what_was_taken_from_a_folder_that_goes_is_no_deletion_when_one_turns_back(project, number):
    whole = {f"sub/f{n}": f"v1 {n}" for n in range(5)} | {"other": "same"}
    project.write(whole, "data")
    project.dv("add", "-q", "data")
    project.commit("v1")
    shutil.rmtree(project.root / "data/sub")
    project.dv("add", "-q", "data")
    project.commit("v2")
    project.git("checkout", "-q", "HEAD~1")
    project.dv("checkout")
    project.settle()
    project.dv("status")
    project.git("checkout", "-q", "-")
    assert run_at(project, "os.remove", number, KILL, "checkout").returncode == -9
    assert 0 < len(list((project.root / "data/sub").iterdir())) < 5, "it was in the middle"
    project.git("checkout", "-q", "-")
    for one in project.json("status")["paths"]:
        assert {change["kind"] for change in one["changes"]} <= {"absent"}, one
    assert "unchanged" in project.dv("add", "data")
    project.dv("checkout")
    assert project.read("data") == {name: text.encode() for name, text in whole.items()}


@pytest.fixture
def several(project):
    """Many tracked paths with two versions; data is the second, and pointers are the first."""
    names = [f"f{number}" for number in range(6)]
    for version in ("v1", "v2"):
        project.write({name: f"{version} {name}" for name in names})
        project.dv("add", "-q", *names)
        project.commit(version)
    project.settle()
    project.dv("status")
    project.git("checkout", "-q", "HEAD~1")
    return project


@pytest.mark.parametrize("what", [KILL, INTERRUPT])
@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_many_paths_that_are_cut_off_are_each_as_before_or_as_wanted(several, number, what):
    assert run_at(several, "os.rename", number, what, "checkout").returncode in (-9, 130)
    for one in several.json("status")["paths"]:
        assert {change["kind"] for change in one["changes"]} <= {"outdated"}, one
    several.write({"f5": "mine"})
    for version in ("v1", "v2"):
        several.dv("checkout", code=14)
        found = [(several.root / f"f{one}").read_text() for one in range(6)]
        assert found == [*(f"{version} f{one}" for one in range(5)), "mine"]
        several.git("checkout", "-q", "main")


REFUSED = "raise PermissionError(13, 'no')"


@pytest.mark.parametrize("number", [1, 4])
def test_what_can_not_be_written_for_all_is_written_for_each(several, number):
    done = run_at(several, "open", number, REFUSED, "checkout")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(several.root / f"f{one}").read_text() for one in range(6)] == [f"v1 f{one}" for one in range(6)]
    assert several.dv("status").startswith("clean")


@pytest.mark.parametrize("number", [1, 4, 6])
def test_one_of_many_paths_that_is_refused_stops_no_other(several, number):
    done = run_at(several, "os.rename", number, REFUSED, "checkout")
    assert done.returncode == 1
    assert f"can't check out 'f{number - 1}': permission denied" in done.stderr
    found = [(several.root / f"f{one}").read_text() for one in range(6)]
    assert found == [f"{'v2' if one == number - 1 else 'v1'} f{one}" for one in range(6)]
    (seen,) = [one for one in several.json("status")["paths"] if one["changes"]]
    assert [change["kind"] for change in seen["changes"]] == ["outdated"]
    several.dv("checkout")
    assert several.dv("status").startswith("clean")


class FullDisk(sqlite3.Connection):
    def execute(self, query, *values):
        if query == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(query, *values)


def test_what_can_not_be_noted_is_not_begun(several, monkeypatch):
    """Else what dvlite itself put there would count as the user's, and get into a commit."""
    bases = several.repo.index.bases()
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: real(*given, **options, factory=FullDisk))
    result = checkout(open_repo(several.root))
    assert [one.path for one in result.failures] == [f"f{one}" for one in range(6)]
    assert all("no space left" in one.error.message for one in result.failures)
    assert [(several.root / f"f{one}").read_text() for one in range(6)] == [f"v2 f{one}" for one in range(6)]
    monkeypatch.undo()
    assert open_repo(several.root).index.bases() == bases
    several.dv("checkout")
    assert [(several.root / f"f{one}").read_text() for one in range(6)] == [f"v1 f{one}" for one in range(6)]
    assert several.dv("status").startswith("clean")


@pytest.mark.parametrize("goes_on", ["other", "none"])
def test_what_came_first_before_a_kill_is_known_to_be_ours(project, goes_on):
    project.write({"code.py": "code"})
    project.commit("none")
    project.git("tag", "none")
    names = [f"f{number}" for number in range(8)]
    for version in ("first", "other"):
        project.write({name: f"{version} {name}" for name in names})
        project.dv("add", "-q", *names)
        project.commit(version)
        project.git("tag", version)
    project.git("checkout", "-q", "none")
    project.dv("checkout")
    assert not (project.root / "f0").exists()
    project.git("checkout", "-q", "first")
    assert run_at(project, "os.link", 6, KILL, "checkout").returncode == -9
    assert (project.root / "f3").exists()
    project.git("checkout", "-q", goes_on)
    project.dv("checkout")
    found = {name: (project.root / name).read_text() for name in names if (project.root / name).exists()}
    assert found == ({} if goes_on == "none" else {name: f"other {name}" for name in names})


@pytest.mark.parametrize("rev", [[], ["--rev", "v1"]])
def test_a_kill_elsewhere_changes_nothing_of_what_is_said_of_a_path(project, rev):
    for version in ("v1", "v2"):
        project.write({"a": version} | {f"data/f{n}": f"{version} {n}" for n in range(4)})
        project.dv("add", "-q", "a", "data")
        project.commit(version)
        project.git("tag", version)
    (project.root / "data/f3").unlink()
    project.write({"data/f1": "mine"})
    if not rev:
        project.git("checkout", "-q", "v1")
    assert run_at(project, "os.rename", 1, KILL, "checkout", *rev).returncode == -9
    project.git("checkout", "-q", "main")
    (seen,) = (one for one in project.json("status")["paths"] if one["path"] == "data")
    assert seen["at"] == ""
    assert {change["path"]: change["kind"] for change in seen["changes"]} == {"f1": "modified", "f3": "deleted"}


def test_an_edit_that_meets_an_interrupted_checkout_is_still_there(two):
    two.settle()
    done = subprocess.run(
        [sys.executable, "-c", AT.replace("if count == number:", "if False:").replace("global count", """global count
    if event == "os.rename" and "aside" in str(values) and not count:
        count = 1
        open("data/f0", "a").write("precious")
    elif event == "os.link" and "aside" in str(values):
        raise KeyboardInterrupt"""), "-", "0", "pass", "checkout", "data", "--rev", "HEAD~1"],
        cwd=two.root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    found = [*tree_of(two.root / "data").values(), *tree_of(two.root / ".git/dvlite/tmp").values()]
    assert any(b"precious" in data for data in found if isinstance(data, bytes))
    two.dv("checkout", "data", "--rev", "HEAD~1", code=14 if b"precious" in two.read("data").get("f0", b"") else 0)
    found = [*tree_of(two.root / "data").values(), *tree_of(two.root / ".git/dvlite/tmp").values()]
    assert any(b"precious" in data for data in found if isinstance(data, bytes))


def test_an_error_in_the_middle_names_the_path(two):
    done = run_at(two, "os.rename", 1, "raise PermissionError(13, 'no', 'f0')", "checkout", "data", "--rev", "HEAD~1")
    assert done.returncode == 1
    assert "can't check out 'data/f0': permission denied" in done.stderr


def test_what_was_begun_is_remembered_until_its_end_is(several, monkeypatch):
    """Where what is here now can't be noted, the next look still knows that dvlite put it there."""
    real, left = Index._write_once, [1]

    def once(index, query, values, gone):
        if "INTO bases" in query and left and values[0][0] == b"f2":
            left.clear()
            raise sqlite3.OperationalError("database or disk is full")
        return real(index, query, values, gone)

    monkeypatch.setattr(Index, "_write_once", once)
    assert not checkout(open_repo(several.root)).failures
    monkeypatch.undo()
    assert (several.root / "f2").read_text() == "v1 f2"
    several.git("checkout", "-q", "main")
    several.dv("checkout")
    assert [(several.root / f"f{one}").read_text() for one in range(6)] == [f"v2 f{one}" for one in range(6)]
    assert several.dv("status").startswith("clean")


def test_a_busy_index_stops_a_checkout_once_and_not_path_by_path(project):
    names = [f"f{number}" for number in range(5)]
    project.write({name: name for name in names})
    project.dv("add", *names)
    for name in names:
        (project.root / name).unlink()
    holder = sqlite3.connect(project.root / ".git/dvlite/index.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")  # others may read
    repo = project.repo
    repo.index.timeout_s = 0.1
    with pytest.raises(LockedError):
        checkout(repo)
    assert not any((project.root / name).exists() for name in names)
    holder.execute("ROLLBACK")
    holder.close()
    assert checkout(repo).written == 5
    assert checkout(repo).written == 0
