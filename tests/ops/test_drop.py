"""Freeing local copies of what a remote has: only what is whole there, and what nobody else names."""

import contextlib
import os

import pytest

from dvlite import hashing
from tests.conftest import make_project
from tests.test_bad_input import is_root, small_disk


def test_what_another_repository_of_a_shared_store_names_is_not_dropped(tmp_path):
    store = tmp_path / "store"
    projects = [make_project(tmp_path / name) for name in "ab"]
    for project in projects:
        project.git("config", "dvlite.store", str(store))
        project.write({"big.bin": b"x" * (2 << 20)})
        project.dv("add", "-q", "big.bin")
        project.commit("big")
    projects[0].dv("remote", "add", "origin", "../remote")
    projects[0].dv("push", "-q")
    assert projects[0].json("gc", "--drop", "big.bin")["objects"] == 0
    (projects[1].root / "big.bin").unlink()
    projects[1].dv("checkout", "-q")


def test_a_copy_that_is_not_whole_on_the_remote_is_not_dropped(pushed):
    pushed.write({"big.bin": os.urandom(2 << 20)})
    pushed.dv("add", "-q", "big.bin")
    pushed.commit("big")
    pushed.dv("push", "-q")
    oid = hashing.oid_of("sha256", (pushed.root / "big.bin").read_bytes())
    there = next((pushed.root.parent / "remote/objects").rglob(oid.hex[2:]))
    data = there.read_bytes()
    there.chmod(0o644)
    there.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for what in ("big.bin", "data"):
        done = pushed.run("gc", "--drop", what)
        assert (done.returncode == 14) == (what == "big.bin"), done.stderr
    assert "--repair" in pushed.dv("gc", "--drop", "big.bin", code=14)
    (pushed.root / "big.bin").unlink()
    pushed.dv("checkout", "-q", "big.bin")
    pushed.dv("fsck", "--remote", "--repair")
    assert pushed.json("gc", "--drop", "big.bin")["objects"] == 1


def test_paths_and_ages_together_mean_both(pushed):
    for number in range(3):
        pushed.write({"data/a.txt": f"version {number}", "other": f"{number}"})
        pushed.dv("add", "-q", "data", "other")
        pushed.commit(f"{number}")
    pushed.dv("push", "-q")
    result = pushed.json("gc", "--drop", "other", "--keep-last", "2")
    assert [one.split(" ")[0] for one in result["versions"]] == ["other"]
    pushed.dv("checkout", "-q", "--rev", "HEAD~1")


@pytest.mark.skipif(not is_root, reason="mounts a file system")
@pytest.mark.parametrize(
    "command", [("gc", "--keep-last", "1"), ("gc", "--drop", "big.bin"), ("gc", "--grace", "0"), ("gc", "--empty")]
)
def test_what_makes_room_works_on_a_full_disk(tmp_path, command):
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        project = make_project(disk / "project")
        project.dv("remote", "add", "origin", str(tmp_path / "remote"))
        for number in range(2):
            project.write({"big.bin": os.urandom(2 << 20)})
            project.dv("add", "-q", "big.bin")
            project.commit(f"{number}")
        project.dv("push", "-q", "--all")
        with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as fill:
            while True:
                fill.write(bytes(4096))
        objects = project.root / ".git/dvlite/objects"
        size = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
        project.dv(*command)
        left = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
        assert left < size or "--grace" in command or "--empty" in command


def test_a_part_is_freed_where_older_versions_were_freed_before(pushed):
    for number in range(2):
        pushed.write({"data/big.bin": os.urandom(2 << 20), "data/a.txt": f"{number}"})
        pushed.dv("add", "-q", "data")
        pushed.commit(f"{number}")
    pushed.dv("push", "-q", "--all")
    pushed.dv("gc", "-q", "--keep-last", "1")
    result = pushed.json("gc", "--drop", "data/big.bin")
    assert [one.split(" ")[0] for one in result["versions"]] == ["data/big.bin"]
    (pushed.root / "data/big.bin").unlink()
    pushed.dv("pull", "-q")
    assert pushed.dv("status").startswith("clean")
