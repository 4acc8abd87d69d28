"""A scan that other processes share sees what one alone sees."""

import os
import shutil
import time

import pytest

from dvlite import forking
from dvlite.errors import DvliteError
from dvlite.ops.base import look
from dvlite.ops.checkout import checkout
from dvlite.worktree import reading, scan

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


ODD = {
    "a file with two names": lambda data: os.link(data / "b/one", data / "b/three"),
    "a file of 1960": lambda data: os.utime(data / "b/one", (-(1 << 28), -(1 << 28))),
    "a link": lambda data: (data / "b/link").symlink_to("one"),
    "a folder called as an ignore file": lambda data: (data / "b/.dvliteignore").mkdir(),
    "a FIFO": lambda data: os.mkfifo(data / "b/fifo"),
    "a pointer": lambda data: (data / "b/x.dvlite").touch(),
}


@pytest.mark.parametrize("change", [*CHANGES.values(), *ODD.values()], ids=[*CHANGES, *ODD])
def test_folders_that_another_process_lists_ahead_are_as_they_are(project, monkeypatch, change):
    project.write(
        {f"data/{folder}{name}": f"{folder}{name}" for folder in ("", "a/", "b/", "b/c/") for name in ("one", "two")}
    )
    change(project.root / "data")

    def ended():
        try:
            return seen(project)
        except DvliteError as exc:
            return exc.message

    alone = ended()
    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(forking, "processors", lambda: 2)
    listed, real = [], scan._list_here
    monkeypatch.setattr(scan, "_list_here", lambda path, reader: listed.append(path) or real(path, reader))
    assert ended() == alone
    is_first = (project.root / "data/a").is_symlink()  # the first one below a folder is listed here
    assert (str(project.root / "data/b") in listed) == is_first


def test_a_folder_that_changed_since_the_other_process_listed_it_is_listed_again(project, monkeypatch):
    project.write(
        {f"data/{folder}/{name}": folder + name for folder in "abc" for name in ("one", "two")} | {"data/one": "1"}
    )
    real = scan._Scanner._named

    def change(self, folder):
        if folder.tracked == "data/a":
            (project.root / "data/c/two").unlink()
            (project.root / "data/c/new").write_text("new")
        return real(self, folder)

    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(forking, "processors", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(scan._Scanner, "_named", change)
        entry = seen(project)[0]
    assert entry == seen(project)[0]


def test_a_folder_that_the_other_process_could_not_list_is_named(project, monkeypatch):
    project.write({f"data/{folder}/one": folder for folder in "abc"} | {"data/one": "1"})
    real = scan._list_here

    def fail(path, reader):
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, reader)

    monkeypatch.setattr(scan, "_list_here", fail)
    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(forking, "processors", lambda: 2)
    with pytest.raises(DvliteError, match="'data/b'"):
        seen(project)


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
