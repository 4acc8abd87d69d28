"""On file systems with reflinks: a copy shares its blocks, and is named by what it holds, whatever its source becomes."""

import mmap
import os
import shutil
import subprocess

import pytest

from dvlite import copying, files, hashing, statkey, transfer
from dvlite.stores.local import LocalStore

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


def settled(path):
    """Wait until a file's stat can be trusted."""
    statkey.stamp_after(path.parent, path.stat().st_ctime_ns)


@pytest.fixture
def store(disk):
    yield LocalStore(disk / "store")
    shutil.rmtree(disk / "store")
    (disk / "one").unlink()


@pytest.mark.parametrize("change", [write, write_in_memory, grow, grow_and_shrink])
def test_a_file_that_moves_while_it_is_added_is_never_stored_under_what_it_was(disk, store, monkeypatch, change):
    path, real = disk / "one", copying.clone
    path.write_bytes(os.urandom(SIZE))
    settled(path)
    left = [True]

    def clone(one, two):
        assert real(one, two)
        if left:
            with path.open("r+b") as file:
                change(file.fileno())
            left.clear()
        return True

    monkeypatch.setattr(copying, "clone", clone)
    with store.open_batch(is_synced=False) as batch, pytest.raises(files.Moved):
        batch.put_file(path, "sha256")
    assert not list(store.oids())
    with store.open_batch(is_synced=False) as batch:
        taken = batch.put_file(path, "sha256")
    assert taken.oid == hashing.oid_of_file("sha256", path) == hashing.oid_of_file("sha256", store.path_of(taken.oid))


def test_a_copy_that_nobody_read_is_read_once(disk, store, monkeypatch):
    path = disk / "one"
    path.write_bytes(os.urandom(SIZE))
    settled(path)
    with store.open_batch(is_synced=False) as batch:
        oid = batch.put_file(path, "sha256").oid
    copy = store.path_of(oid)
    name = copy.relative_to(store.root).as_posix()
    store.settle()
    assert not store.seen.is_as_noted(name, copy) and store.checksum_of(copy) == hashing.checksum(path.read_bytes())
    read, real = [], hashing.checksum_of_file
    monkeypatch.setattr(hashing, "checksum_of_file", lambda path: read.append(path) or real(path))
    assert store.secured([oid]) == store.secured([oid]) == LocalStore(store.root).secured([oid]) == {oid}
    assert read == [copy] and LocalStore(store.root).seen.is_as_noted(name, copy)


def test_a_copy_that_was_sent_was_read(disk, store, monkeypatch, tmp_path):
    path = disk / "one"
    path.write_bytes(os.urandom(SIZE))
    settled(path)
    with store.open_batch(is_synced=False) as batch:
        oid = batch.put_file(path, "sha256").oid
    store.settle()
    report = transfer.copy(store, LocalStore(tmp_path / "there"), {oid: SIZE}, jobs=1)
    assert not report.failed
    monkeypatch.setattr(hashing, "checksum_of_file", None)
    assert LocalStore(store.root).secured([oid]) == {oid}


@pytest.mark.parametrize("is_young", [False, True])
def test_a_copy_that_nobody_read_is_hashed_before_anything_rests_on_it(disk, store, monkeypatch, is_young):
    path = disk / "one"
    path.write_bytes(os.urandom(SIZE))
    if is_young:
        monkeypatch.setattr(statkey, "stamp", lambda folder: 0)
    else:
        settled(path)
    with store.open_batch(is_synced=False) as batch:
        oid = batch.put_file(path, "sha256").oid
    store.settle()
    copy = store.path_of(oid)
    before = copy.stat()
    copy.chmod(0o644)
    with copy.open("r+b") as file:  # as where the disk has something else than memory
        file.write(b"other")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.seen.is_as_noted(copy.relative_to(store.root).as_posix(), copy) is is_young
    if not is_young:
        assert store.secured([oid]) == set() and not store.find([oid])


def test_a_large_file_costs_no_second_copy(disk):
    (disk / "one").write_bytes(os.urandom(64 << 20))
    os.sync()
    before = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    copying.copy_file(disk / "one", disk / "two", 0o444)
    os.sync()
    assert before - os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 16 << 20
    for path in disk.iterdir():
        path.unlink()
