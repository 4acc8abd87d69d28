"""A scan that other processes share sees what one alone sees."""

import os
import shutil
import time

import pytest

from dvlite import forking
from dvlite.ops.base import look
from dvlite.ops.checkout import checkout
from dvlite.worktree import scan

CHANGES = {
    "nothing": lambda data: None,
    "a file": lambda data: (data / "b/one").write_bytes(b"other"),
    "a new file": lambda data: (data / "b/c/new").write_bytes(b"new"),
    "a file gone": lambda data: (data / "a/two").unlink(),
    "a folder gone": lambda data: shutil.rmtree(data / "b/c"),
    "a new folder": lambda data: shutil.copytree(data / "a", data / "b/again"),
    "a mode": lambda data: (data / "one").chmod(0o755),
    "a folder that is a link": lambda data: (shutil.rmtree(data / "a"), (data / "a").symlink_to("b")),
    "an ignore file": lambda data: (data / ".dvliteignore").write_text("two\n"),
    "an ignore file below": lambda data: (data / "b/.dvliteignore").write_text("c/one\n"),
    "an ignore file above": lambda data: (data.parent / ".dvliteignore").write_text("c\n"),
}


@pytest.fixture
def scanned(project):
    project.write(
        {f"data/{folder}{name}": f"{folder}{name}" for folder in ("", "a/", "b/", "b/c/") for name in ("one", "two")}
    )
    project.dv("add", "data")
    for folder, _, names in os.walk(project.root / "data"):
        for name in names:
            os.utime(os.path.join(folder, name), (1, 1))
    project.dv("add", "data")  # no entry is young any more
    project.dv("status", "--exit-code")
    return project


def seen(project):
    view = look(project.repo, "data", algorithm="sha256")
    return view.data, view.scan.files_read, view.scan.gone, sorted(view.scan.rows)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_others_see_the_same(scanned, monkeypatch, change):
    change(scanned.root / "data")
    alone = seen(scanned)
    monkeypatch.setattr(scan, "_SHARED", 1)
    monkeypatch.setattr(scan, "_CHUNK", 1)
    monkeypatch.setattr(forking, "processors", lambda: 3)
    assert seen(scanned) == alone


def test_others_do_look(scanned, monkeypatch):
    monkeypatch.setattr(scan, "_SHARED", 1)
    monkeypatch.setattr(scan, "_CHUNK", 1)
    shared = []

    def share(work, items, take, count):
        shared.extend(items)
        for item in items:
            take(work(item))

    monkeypatch.setattr(forking, "processors", lambda: 2)
    monkeypatch.setattr(forking, "share", share)
    assert seen(scanned)[1] == 0
    assert shared == [["data"], ["data/a"], ["data/b"], ["data/b/c"]]


@pytest.mark.parametrize("failing", [False, True], ids=["all there", "one missing"])
def test_what_a_checkout_remembers_is_what_a_scan_sees(project, failing):
    """The folders that it made itself are not listed again."""
    project.write({f"data/{folder}{name}": f"{folder}{name}" for folder in ("", "a/", "a/b/", "c/") for name in "xyz"})
    (project.root / "data/a/x").chmod(0o755)
    (project.root / "data/a/link").symlink_to("x")
    (project.root / "data/big").write_bytes(os.urandom(1 << 20))
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    if failing:
        (lost,) = (project.root / ".git/dvlite/objects/sha256").glob("*/*")
        lost.unlink()
    project.run("checkout")
    assert (project.root / "data/big").exists() != failing

    def rows():
        found = index.rows("data")
        return {path: index.filled(path, row)._replace(state="") for path, row in found.items()}

    index = project.repo.index
    remembered = rows()
    index.close()
    for file in (project.root / ".git/dvlite").glob("index*"):
        file.unlink()
    time.sleep(0.1)
    index = project.repo.index
    view = look(project.repo, "data", algorithm="sha256")
    index.save(view.scan.rows)
    assert rows() == remembered
    assert all(row.fingerprint for row in remembered.values())


def test_a_folder_that_a_checkout_made_is_not_listed(project, monkeypatch):
    project.write({f"data/{folder}{name}": name for folder in ("", "a/", "a/b/") for name in "xy"})
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    listed, real = [], scan._Scanner._list

    def listing(self, path, *arguments):
        listed.append(path)
        return real(self, path, *arguments)

    monkeypatch.setattr(scan._Scanner, "_list", listing)
    assert checkout(project.repo).written == 6
    assert listed == []
