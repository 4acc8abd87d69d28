"""The short way between two versions: it must leave what the long way leaves, and give way where anything is not as remembered."""

import os
import shutil
import sqlite3

import pytest

from dvlite.ops import advance as room
from tests.conftest import make_project


@pytest.fixture
def two(tmp_path):
    """A project with versions `one` (checked out) and `two` of a folder."""
    project = make_project(tmp_path / "project")
    project.write({f"d{n % 3}/f{n}": f"{n}" for n in range(30)} | {"top": "0", "deep/er/x": "x", "deep/y": "y"}, "data")
    project.dv("add", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    project.git("tag", "one")
    project.write({"d0/f0": "changed", "d1/new": "new", "deep/er/x": "changed"}, "data")
    (project.root / "data/d2/f2").unlink()
    (project.root / "data/d0/f3").chmod(0o755)
    project.dv("add", "data")
    project.git("commit", "-q", "-m", "two")
    project.git("tag", "two")
    project.two = project.read("data")
    project.git("switch", "-q", "--detach", "one")
    project.dv("checkout")
    project.settle()
    project.dv("status")
    project.one = project.read("data")
    return project


@pytest.fixture
def taken(monkeypatch):
    """What the short way answered, each time it was tried (in this process)."""
    answers = []
    real = room.advance
    from dvlite.ops import bring

    monkeypatch.setattr(bring, "advance", lambda *args: answers.append(real(*args)) or answers[-1])
    return answers


def check_out(project):
    from dvlite.ops.checkout import checkout

    return checkout(project.repo)


def rows(project):
    db = sqlite3.connect(project.root / ".git/dvlite/index.db")
    return {row[0]: row[1:] for row in db.execute("SELECT * FROM folders")}


def test_it_leaves_what_the_long_way_leaves(two, taken):
    two.git("switch", "-q", "--detach", "two")
    result = check_out(two)
    assert taken[0] is not None and (result.written, result.removed) == (4, 1)
    assert two.read("data") == two.two and os.access(two.root / "data/d0/f3", os.X_OK)
    short = rows(two)
    db = sqlite3.connect(two.root / ".git/dvlite/index.db")
    db.execute("DELETE FROM folders")
    db.commit()
    two.settle()
    two.dv("add", "data")
    assert rows(two) == short
    assert two.dv("status").startswith("clean")


def test_it_reads_nothing_that_does_not_differ(two, taken, monkeypatch):
    two.git("switch", "-q", "--detach", "two")
    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or real(path))
    check_out(two)
    assert taken[0] is not None
    assert not [path for path in listed if path.startswith(str(two.root / "data"))]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "d0/f0").write_text("unsaved"),
        lambda root: (root / "d0/f0").unlink(),
        lambda root: (root / "d2/f2").write_text("unsaved"),
        lambda root: shutil.rmtree(root),
        lambda root: shutil.rmtree(root / "d1"),
        lambda root: os.utime(root / "d0/f0"),
    ],
)
def test_it_gives_way_where_something_is_not_as_remembered(two, taken, spoil):
    spoil(two.root / "data")
    before = two.read("data")
    two.git("switch", "-q", "--detach", "two")
    check_out(two)
    assert taken == [None]
    for path, content in before.items():
        assert content in (two.one[path], two.two.get(path)) or two.read("data")[path] == content


def test_an_edit_elsewhere_stays_and_is_seen(two, taken):
    two.write({"data/top": "unsaved", "data/d1/other": "unsaved"})
    two.git("switch", "-q", "--detach", "two")
    check_out(two)
    assert taken[0] is not None
    assert two.read("data") == {**two.two, "top": b"unsaved", "d1/other": b"unsaved"}
    kinds = {one["path"]: one["kind"] for one in two.json("status")["paths"][0]["changes"]}
    assert kinds == {"top": "modified", "d1/other": "new"}


def test_a_new_file_in_the_way_is_kept(two):
    two.write({"data/d1/new": "unsaved"})
    two.git("switch", "-q", "--detach", "two")
    two.dv("checkout", code=14)
    assert two.read("data")["d1/new"] == b"unsaved"
    assert two.read("data")["d0/f0"] == b"changed"


def test_what_is_missing_is_named_and_the_rest_is_done(two):
    for path in two.packs():
        path.rename(path.with_suffix(".away"))
    two.git("switch", "-q", "--detach", "two")
    two.dv("checkout", code=10)
    for path in (two.root / ".git/dvlite/packs").glob("*.away"):
        path.rename(path.with_suffix(".pack"))
    two.dv("checkout")
    assert two.read("data") == two.two


def test_a_store_that_lost_something_is_looked_at_in_full(two, taken):
    two.repo.store.raise_generation()
    two.git("switch", "-q", "--detach", "two")
    check_out(two)
    assert taken == [None] and two.read("data") == two.two


def test_an_edit_made_while_the_switch_runs_is_not_taken_for_the_version(two, monkeypatch):
    """It comes after the file was put into place, and before the index is written."""
    real = room.materialise.apply

    def apply(*args):
        outcome = real(*args)
        with (two.root / "data/d0/f0").open("a") as file:
            file.write("PRECIOUS")
        return outcome

    monkeypatch.setattr(room.materialise, "apply", apply)
    two.git("switch", "-q", "--detach", "two")
    check_out(two)
    monkeypatch.undo()
    kinds = {one["path"]: one["kind"] for one in two.json("status")["paths"][0]["changes"]}
    assert kinds == {"d0/f0": "modified"}
    two.git("switch", "-q", "--detach", "one")
    two.dv("checkout", code=14)
    assert two.read("data")["d0/f0"] == b"changedPRECIOUS"


@pytest.mark.parametrize("where", [".dvliteignore", "data/.dvliteignore", "data/d2/.dvliteignore"])
def test_it_gives_way_where_something_is_ignored(two, taken, where):
    two.write({where: "f2\n"})
    two.git("switch", "-q", "--detach", "two")
    check_out(two)
    assert taken == [None] and (two.root / "data/d2/f2").exists()  # ignored now: never removed


def test_it_gives_way_where_a_folder_became_a_link(two, tmp_path, taken):
    (two.root / "data/d1").rename(tmp_path / "outside")
    (two.root / "data/d1").symlink_to(tmp_path / "outside")
    two.git("switch", "-q", "--detach", "two")
    result = check_out(two)
    assert taken == [None] and [one.path for one in result.kept] == ["data/d1"]
    assert two.read("data")["d0/f0"] == b"changed" and "new" not in os.listdir(tmp_path / "outside")
