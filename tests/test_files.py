import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from dvlite import copying, files, hashing, machine, statkey
from dvlite.errors import LockedError
from dvlite.locks import Lock


def test_an_atomic_write_keeps_the_mode_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError):
        files.write_atomic(path, b"new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_the_file_is_synced_before_its_name_appears(tmp_path, monkeypatch):
    order = []
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: order.append("sync") or sync(fd))
    monkeypatch.setattr(os, "rename", lambda one, two: order.append("rename") or rename(one, two))
    files.write_atomic(tmp_path / "file", b"x")
    assert order == ["sync", "rename", "sync"]


@pytest.mark.parametrize("size", [0, 1, copying.BLOCK, copying.BLOCK + 1, 5 * copying.BLOCK + 17])
def test_a_hashed_copy_is_the_copy(tmp_path, size):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(os.urandom(size))
    source, target = files.open_regular(one), files.create(two)
    assert hashing.content_of_copy("sha256", source, target).oid == hashing.oid_of("sha256", one.read_bytes())
    assert two.read_bytes() == one.read_bytes()
    os.close(source)
    os.close(target)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")
    real = os.read

    def change(fd, count):
        data = real(fd, count)
        with path.open("a") as file:
            file.write("more")
        return data

    monkeypatch.setattr(os, "read", change)
    with pytest.raises(files.Moved):
        files.read_small(str(path))


def test_links_and_fifos_are_never_opened(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(OSError):
            files.open_regular(tmp_path / name)


def test_placing_never_overwrites(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("mine")
    with pytest.raises(FileExistsError):
        files.place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"
    files.place(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "new" and not (tmp_path / "a").exists()


def test_a_stamp_leaves_the_folder_as_it_is(tmp_path):
    before = tmp_path.stat().st_mtime_ns
    time.sleep(0.02)
    stamp = statkey.stamp(tmp_path)
    assert tmp_path.stat().st_mtime_ns == before
    path = tmp_path / "file"
    path.write_text("x")
    assert stamp < path.stat().st_mtime_ns
    assert statkey.stamp_after(tmp_path, path.stat().st_mtime_ns) > path.stat().st_mtime_ns


HOLD = """
import sys, time
from pathlib import Path
from dvlite.locks import Lock
with Lock(Path(sys.argv[1])).hold(is_exclusive=sys.argv[2] == "x", label="the other") as announce:
    announce()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("theirs", "ours", "waits"), [("x", "s", True), ("x", "x", True), ("s", "x", True), ("s", "s", False)]
)
def test_shared_and_exclusive_locks_between_processes(tmp_path, theirs, ours, waits):
    path = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, path, theirs], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    lock = Lock(path)
    try:
        if waits:
            with pytest.raises(LockedError) as caught, lock.hold(is_exclusive=ours == "x", label="me", wait_s=0.2):
                pass
            assert f"process {other.pid}" in caught.value.message
        else:
            with lock.hold(is_exclusive=False, label="me", wait_s=0.2):
                pass
    finally:
        other.kill()  # the kernel frees the lock
        other.wait()
    with lock.hold(is_exclusive=True, label="me", wait_s=5):
        pass


def test_the_boot_and_the_host_have_names():
    assert machine.boot_id() and machine.host_id() and machine.boot_id() == machine.boot_id()


def test_a_rename_that_is_said_to_be_done_and_is_not_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "rename", lambda *_: None)
    with pytest.raises(OSError, match="file"):
        files.write_atomic(tmp_path / "file", b"new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_the_system_says_at_a_close_is_raised(tmp_path, monkeypatch):
    """A full quota is told then, over a network."""
    fd = files.create(tmp_path / "pack")
    real = os.close

    def close(one):
        real(one)
        if one == fd:
            raise OSError(errno.EDQUOT, "quota")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", close)
        with pytest.raises(OSError, match="quota"):
            files.write_back(fd)
    assert len(os.listdir("/proc/self/fd")) <= before - 1


def test_where_no_thread_can_be_had_a_file_is_closed_all_the_same(tmp_path, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/proc/self/fd"))
    fd = files.create(tmp_path / "pack")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        files.write_back(fd)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("most", [1 << 30, 70_001], ids=["whole", "short"])
def test_much_is_written_in_steps_however_short_each_is(tmp_path, monkeypatch, most):
    """Larger ones are what a virtual machine is slow at."""
    parts = [os.urandom(size) for size in (1, 0, 300_000, *[100] * 2500, 1 << 20, 90_000, 90_000, 90_000)]
    write, write_at, sizes = os.write, os.pwrite, []

    def count(size):
        sizes.append(size)
        return min(size, most)

    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: count(len(data))]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write_at(fd, data[: count(len(data))], at))
    monkeypatch.setattr(os, "writev", lambda fd, some: write(fd, b"".join(some)[: count(sum(map(len, some)))]))
    fd = files.create(tmp_path / "parts")
    files.write_parts(fd, parts)
    files.write_all_at(fd, b"".join(parts), sum(map(len, parts)))
    os.close(fd)
    assert (tmp_path / "parts").read_bytes() == b"".join(parts) * 2
    assert max(sizes) <= 1 << 18
