"""On file systems with reflinks: a copy shares its blocks, and is named by what it holds, whatever its source becomes."""

import mmap
import os
import shutil
import subprocess

import pytest

from dvlite import copying, files, hashing

MAKE = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
SIZE = 3 * copying.BLOCK


@pytest.fixture(scope="module", params=MAKE)
def disk(request, tmp_path_factory):
    """A real file system that has reflinks."""
    make = MAKE[request.param]
    if not shutil.which(make[0]):
        pytest.skip(f"no {make[0]} here")
    folder = tmp_path_factory.mktemp("disk")
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([*make, image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("no right to mount here, or no such file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def pair(disk):
    """A file with other bytes each time, and an empty one."""
    (disk / "one").write_bytes(os.urandom(SIZE))
    source, target = os.open(disk / "one", os.O_RDWR), files.create(disk / "two")
    yield source, target
    for fd in (source, target):
        os.close(fd)
    for path in disk.iterdir():
        path.unlink()


def write(fd):
    os.pwrite(fd, b"other", SIZE - 5)


def write_in_memory(fd):
    with mmap.mmap(fd, SIZE) as memory:
        memory[SIZE - 5 :] = b"other"  # not flushed


def grow_and_shrink(fd):
    os.ftruncate(fd, SIZE + 100)
    os.ftruncate(fd, SIZE)


def grow(fd):
    os.ftruncate(fd, SIZE + 100)


@pytest.mark.parametrize("change", [write, write_in_memory, grow, grow_and_shrink])
def test_a_reflink_is_named_by_what_it_holds(pair, monkeypatch, change):
    source, target = pair
    data, real = os.pread(source, SIZE, 0), copying.clone

    def clone(one, two):
        assert real(one, two)
        change(source)
        return True

    monkeypatch.setattr(copying, "clone", clone)
    assert hashing.content_of_copy("sha256", source, target).oid == hashing.oid_of("sha256", data)
    assert os.pread(target, 2 * SIZE, 0) == data


def test_a_large_file_costs_no_second_copy(disk):
    (disk / "one").write_bytes(os.urandom(64 << 20))
    os.sync()
    before = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    copying.copy_file(disk / "one", disk / "two", 0o444)
    os.sync()
    assert before - os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 16 << 20
    for path in disk.iterdir():
        path.unlink()
