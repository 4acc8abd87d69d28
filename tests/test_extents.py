"""A reflink is hashed by way of its source, and never of what the source became meanwhile."""

import mmap
import os
import shutil
import subprocess

import pytest

from dvlite import extents, files, hashing

MAKE = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
SIZE = 3 * files.BLOCK + 17


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


@pytest.fixture
def hashed(monkeypatch):
    """The descriptors that were read to be hashed; `meanwhile` is called after the first half of the first one."""
    found, real = [], files.hash_descriptor
    found.append(lambda: None)

    class Interrupted:
        def __init__(self, work):
            self.work, self.count = work, 0

        def update(self, data):
            self.work.update(data)
            self.count += 1
            if self.count == 2:
                found[0]()

        def digest(self):
            return self.work.digest()

    def hash_descriptor(fd, work):
        found.append(fd)
        return real(fd, Interrupted(work) if len(found) == 2 else work)

    monkeypatch.setattr(files, "hash_descriptor", hash_descriptor)
    return found


def copied(source, target):
    return hashing.content_of_copy("sha256", source, target)


def content(fd):
    return os.pread(fd, 2 * SIZE, 0)


def test_a_reflink_is_hashed_by_way_of_its_source(pair, hashed):
    source, target = pair
    data = content(source)
    assert copied(source, target) == (hashing.oid_of("sha256", data), hashing.checksum(data))
    assert hashed[1:] == [source] and content(target) == data


def write(fd, at):
    os.pwrite(fd, b"other", at)


def write_in_memory(fd, at):
    with mmap.mmap(fd, SIZE) as memory:
        memory[at : at + 5] = b"other"
        # Not flushed: the page is changed in memory alone.


def write_and_take_back(fd, at):
    before = os.pread(fd, 5, at)
    os.pwrite(fd, b"other", at)
    os.pwrite(fd, before, at)


@pytest.mark.parametrize("change", [write, write_in_memory, write_and_take_back])
@pytest.mark.parametrize("at", [0, SIZE - 5], ids=["behind", "ahead"])
def test_a_source_that_changes_while_it_is_hashed_is_not_what_the_copy_is_named_by(pair, hashed, change, at):
    source, target = pair
    data, status = content(source), os.fstat(source)

    def meanwhile():
        change(source, at)
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))

    hashed[0] = meanwhile
    assert copied(source, target).oid == hashing.oid_of("sha256", data)
    assert hashed[1:] == [source, target] and content(target) == data


def test_a_page_that_was_open_for_writing_before_the_copy_is_seen_too(pair, hashed):
    """What is written to it needs no new look at the file's times."""
    source, target = pair
    with mmap.mmap(source, SIZE) as memory:
        memory[SIZE - 5 :] = b"first"
        data = content(source)

        def meanwhile():
            memory[SIZE - 5 :] = b"later"

        hashed[0] = meanwhile
        assert copied(source, target).oid == hashing.oid_of("sha256", data)
    assert content(target) == data


def test_a_file_of_its_own_an_empty_one_and_one_with_holes(disk, hashed):
    with (disk / "own").open("wb+") as own, (disk / "holes").open("wb+") as holes, (disk / "to").open("wb+") as to:
        own.write(b"x" * SIZE)
        own.flush()
        assert extents.shared(own.fileno()) == []
        holes.truncate(SIZE)
        holes.seek(1 << 20)
        holes.write(b"x")
        holes.flush()
        assert copied(holes.fileno(), to.fileno()).oid == hashing.oid_of("sha256", content(holes.fileno()))
        to.truncate(0)
        own.truncate(0)
        assert copied(own.fileno(), to.fileno()).oid == hashing.oid_of("sha256", b"")


def test_many_extents_are_all_looked_at(disk, monkeypatch):
    monkeypatch.setattr(extents, "_AT_ONCE", 3)
    with (disk / "many").open("wb+") as many, (disk / "to").open("wb") as to:
        for number in range(20):
            os.pwrite(many.fileno(), b"x" * 4096, number * 8192)
        os.fsync(many.fileno())
        assert files.clone(many.fileno(), to.fileno())
        places = extents.shared(many.fileno())
        assert [at for at, _, _ in places] == [number * 8192 for number in range(20)]
        os.pwrite(many.fileno(), b"y", 19 * 8192)
        assert extents.shared(many.fileno()) == []
        assert extents.shared(to.fileno()) in (places, [])


def test_where_there_are_no_reflinks_nothing_is_shared(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * SIZE)
    with (tmp_path / "file").open("rb") as file:
        assert extents.shared(file.fileno()) == []
    with open("/proc/self/status") as file:
        assert extents.shared(file.fileno()) == []
