"""What a user does while a checkout is at work is never lost, nor taken for what the checkout put there."""

import os
import shutil

import pytest

from dvlite.ops.checkout import checkout
from dvlite.worktree import materialise, settle


def edit(path):
    """Write into a file in place, with as many bytes, and set the mtime back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"EDIT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def two(project):
    """Two versions of some files, the second one here."""
    for number, version in enumerate(("one ", "two ")):
        project.write({f"data/{name}": version + name for name in ("a", "b", "sub/c")})
        project.write({"file": version})
        project.dv("add", "data", "file")
        project.git("add", "-A")
        project.git("commit", "-qm", version)
        project.git("tag", f"v{number}")
    return project


@pytest.fixture(params=["data/a", "data/sub/c", "file"])
def path(request, two):
    return two.root / request.param


@pytest.fixture(params=["in a row", "with an ignore file"])
def way(request, two):
    """With an ignore file about, the quick way of a switch isn't taken, and folders are listed again."""
    if request.param == "with an ignore file":
        two.write({".dvliteignore": "nothing\n"})
    two.dv("status")
    return request.param


def edited_and_looked_at(two, path, command):
    path.write_bytes(b"EDIT" * 500_000)
    two.settle()
    two.run(command)


# What the other process notes of the edit is not what the plan saw.
@pytest.mark.parametrize("command", ["", "diff", "status"], ids=["alone", "beside a diff", "beside a status"])
def test_what_is_edited_before_it_is_replaced_stays(two, path, way, monkeypatch, command):
    real = materialise._Builder.build

    def build(self, *arguments):
        staged = real(self, *arguments)
        if b"two" in path.read_bytes():
            edited_and_looked_at(two, path, command) if command else edit(path)
        return staged

    monkeypatch.setattr(materialise._Builder, "build", build)
    two.git("checkout", "-q", "v0")
    checkout(two.repo)
    assert path.read_bytes().startswith(b"EDIT")
    assert two.run("status", "--exit-code").returncode


def test_what_is_edited_as_soon_as_it_is_in_place_is_a_change(two, path, way, monkeypatch):
    real = materialise.settle

    def settling(*arguments):
        before = path.stat().st_ino
        real(*arguments)
        if path.stat().st_ino != before:
            edit(path)

    monkeypatch.setattr(materialise, "settle", settling)
    two.git("checkout", "-q", "v0")
    checkout(two.repo)
    monkeypatch.undo()
    assert path.read_bytes().startswith(b"EDIT")
    assert [change for one in two.json("status")["paths"] for change in one["changes"]] == [
        change for one in two.json("status")["paths"] for change in one["changes"] if change["kind"] == "modified"
    ]
    assert two.run("status", "--exit-code").returncode
    two.git("checkout", "-q", "v1")
    two.run("checkout")
    assert path.read_bytes().startswith(b"EDIT")


def test_a_new_folder_that_is_edited_as_soon_as_it_is_in_place_is_changed(two, way, monkeypatch):
    shutil.rmtree(two.root / "data")
    real = materialise.settle

    def settling(*arguments):
        real(*arguments)
        edit(two.root / "data/sub/c")

    monkeypatch.setattr(materialise, "settle", settling)
    checkout(two.repo, ["data"])
    monkeypatch.undo()
    assert two.run("status", "--exit-code", "data").returncode
    assert two.root.joinpath("data/sub/c").read_bytes().startswith(b"EDIT")


def test_folders_that_hold_only_folders_go_with_their_version(project):
    project.write({"data/a/1": "1"})
    project.dv("add", "data")
    project.git("add", "-A")
    project.git("commit", "-qm", "one")
    (project.root / "data/e/x/y").mkdir(parents=True)
    (project.root / "data/e/z").mkdir()
    project.dv("add", "data")
    project.git("commit", "-qam", "two")
    project.git("checkout", "-q", "HEAD~")
    project.dv("checkout")
    assert not (project.root / "data/e").exists()
    assert project.run("status", "--exit-code").returncode == 0
    project.git("checkout", "-q", "-")
    project.dv("checkout")
    assert (project.root / "data/e/x/y").is_dir()
    (project.root / "data/e/x/mine").mkdir()
    (project.root / "data/e/x/y/mine").write_text("mine")
    project.git("checkout", "-q", "HEAD~")
    project.run("checkout")
    assert (project.root / "data/e/x/y/mine").read_text() == "mine"


def test_what_is_taken_away_as_soon_as_it_is_in_place_stops_nothing(two, path, way, monkeypatch):
    real = settle._put

    def put(staged, name, fd, **options):
        real(staged, name, fd, **options)
        if name == path.name:
            os.unlink(name, dir_fd=fd)

    monkeypatch.setattr(settle, "_put", put)
    two.git("checkout", "-q", "v0")
    assert not checkout(two.repo).failures
    assert not path.exists()
    assert (two.root / "data/b").read_text() == "one b"
