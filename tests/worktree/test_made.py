"""What a checkout notes of what it put into place itself is what a scan would find there."""

import os
import shutil

import pytest

from dvlite.index import Index
from dvlite.ops.checkout import checkout
from dvlite.rows import unpack_names


def as_remembered(project):
    """Return the rows that are remembered, by path, without what only tells since when they hold."""
    return {path: row._replace(state="") for path, row in Index(project.repo.index._path).rows("data").items()}


def as_scanned(project):
    os.unlink(project.repo.index._path)
    project.dv("status")
    return as_remembered(project)


def fill(project):
    project.write({f"d{at % 3}/f{at:02}": str(at) for at in range(30)}, "data")
    project.write({"top": "1", "d0/inner/deep/x": "2", "é/ä": "3", "d1/\U0001f600": "4", "d1/\ufb00": "5"}, "data")
    with open(os.fsencode(project.root / "data/d2") + b"/\xff\xfe", "wb") as file:
        file.write(b"not UTF-8")
    (project.root / "data/empty").mkdir()
    (project.root / "data/d1/run").write_text("#!/bin/sh")
    (project.root / "data/d1/run").chmod(0o755)


def test_a_fresh_checkout_notes_what_a_scan_finds(project):
    fill(project)
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    assert checkout(project.repo).failures == []
    rows = as_remembered(project)
    assert rows == as_scanned(project) and all(row.fingerprint and row.oids is not None for row in rows.values())
    assert len(rows) == 8


def test_a_large_folder_is_noted_page_by_page(project):
    project.write({f"f{at:05}{'é' * (at % 7 == 0)}": str(at) for at in range(3000)}, "data")
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    assert checkout(project.repo).written == 3000
    assert as_remembered(project) == as_scanned(project)


def test_links_and_what_lacks_make_a_scan_look(project):
    """A folder with a link, or without one of its files, isn't just what the tree says; nor are those above."""
    fill(project)
    (project.root / "data/d0/inner/link").symlink_to("deep")
    project.write({"d1/large": "x" * (1 << 21)}, "data")
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    (loose,) = (project.root / ".git/dvlite/objects").glob("*/??/*")
    loose.unlink()
    assert checkout(project.repo).missing == ["data/d1/large"]
    assert os.readlink(project.root / "data/d0/inner/link") == "deep"
    rows = as_remembered(project)
    assert rows == as_scanned(project)
    assert "large" not in unpack_names(rows["data/d1"])


def test_modes_that_the_file_system_does_not_keep_are_seen(project):
    """Here the umask takes the bit away, elsewhere the file system gives it to all."""
    project.write({f"exec/f{at}": str(at) for at in range(10)} | {"plain/x": "1"}, "data")
    for path in (project.root / "data/exec").iterdir():
        path.chmod(0o755)
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    before = os.umask(0o111)
    try:
        checkout(project.repo)
    finally:
        os.umask(before)
    rows = as_remembered(project)
    assert "modified: exec/f0" in project.dv("status")
    assert rows == as_scanned(project)


@pytest.mark.parametrize("what", ["f07", "d1"])
def test_an_ignore_file_in_the_data_is_heeded(project, what):
    fill(project)
    project.dv("add", "data")
    project.write({".dvliteignore": f"{what}\n"}, "data")
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    checkout(project.repo)
    assert as_remembered(project) == as_scanned(project)
    assert "clean" in project.dv("status")
