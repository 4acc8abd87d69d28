"""Uploads: hashed on their way, proved by the server, and what one that is killed leaves behind."""

import os
import signal
import time

import pytest

from dvlite import hashing
from dvlite.errors import CorruptError, RemoteError
from dvlite.stores.remote.bucket import Bucket
from tests import servers

MIB = 1 << 20


def test_an_upload_that_is_changed_on_its_way_is_found(server, tmp_path):
    """A server that proves nothing gives a part back; what differs is sent again, or said."""
    with servers.serve("webdav", tmp_path / "dav") as dav:
        bucket = Bucket(f"{dav.url}/p", dav.options, folder=tmp_path / "known")
        (tmp_path / "sent").write_bytes(os.urandom(60_000))
        real = bucket.driver.upload
        changed = []

        def upload(name, path, advance, rate=0):
            real(name, path, advance, rate)
            if not changed:
                changed.append(name)
                (dav.folder / "p" / name).write_bytes(b"x" * 60_000)

        bucket.driver.upload = upload
        with pytest.raises(RemoteError, match="other bytes"):
            bucket.put_file("objects/a", tmp_path / "sent")


def test_an_unfinished_upload_in_parts_is_aborted(ceph, tmp_path):
    """What a killed upload left on an S3 server is gone after the next push of the same object."""
    os.environ.update(ceph.env)
    bucket = Bucket(f"{ceph.url}/p", {**ceph.options, "driver": "s3fs"}, folder=tmp_path / "known")
    fs = bucket.driver.fs
    (tmp_path / "sent").write_bytes(os.urandom(40 * MIB))
    note = tmp_path / "known/uploads/objects-a"
    note.parent.mkdir(parents=True)
    for driver in ("obstore", "s3fs"):
        fs.call_s3("create_multipart_upload", Bucket="bucket", Key="p/objects/a")
        note.touch()  # as a process leaves it that is killed in an upload
        bucket = Bucket(f"{ceph.url}/p", {**ceph.options, "driver": driver}, folder=tmp_path / "known")
        bucket.put_file("objects/a", tmp_path / "sent")
        left = fs.call_s3("list_multipart_uploads", Bucket="bucket", Prefix="p/").get("Uploads", [])
        assert left == [] and not note.exists()


@pytest.fixture(params=["ceph", "folder"])
def checking(request, tmp_path):
    """Returns a bucket whose driver hashes what it sends, what shows unfinished uploads there, and how often it reads."""
    if request.param == "folder":
        bucket = Bucket(str(tmp_path / "remote"), {}, folder=tmp_path / "known")
        yield bucket, lambda: list(tmp_path.glob("remote/tmp/*")), 2  # the copy is hashed itself
        return
    server = request.getfixturevalue("ceph")
    os.environ.update(server.env)
    bucket = Bucket(f"{server.url}/checked", server.options, folder=tmp_path / "known")
    fs = Bucket(f"{server.url}/p", {**server.options, "driver": "s3fs"}).driver.fs
    yield (
        bucket,
        lambda: fs.call_s3("list_multipart_uploads", Bucket="bucket", Prefix="checked/").get("Uploads", []),
        1,
    )


@pytest.mark.parametrize("size", [0, 20 * MIB, 80 * MIB])  # in one request, and in parts
def test_a_large_object_is_hashed_on_its_way_and_is_there_only_if_it_is_right(checking, tmp_path, size):
    bucket, unfinished, times = checking
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(size))
    right = hashing.content_of_file("sha256", sent).checksum

    def name_of(digest):
        if digest != right:
            raise CorruptError("it is not what it was")
        return "objects/a"

    def send():
        before = read_so_far()
        told = []
        bucket.put_hashed(sent, hashing.checksummer, name_of, told.append, expected="objects/a")
        assert sum(told) == size
        return read_so_far() - before

    if size:
        with sent.open("r+b") as file:  # in the middle: most of it is on its way before it is known
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(CorruptError):
            send()
        assert not bucket.list() and not unfinished()
        with sent.open("r+b") as file:
            file.seek(size // 2)
            file.write(byte)
    assert send() < (times + 0.2) * size + MIB
    assert bucket.list()["objects/a"].size == size
    bucket.remove("objects/a")


def read_so_far():
    """Return how many bytes this process has read from files."""
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


@pytest.fixture(params=["named", "hashed"])
def sending(request, tmp_path):
    """Returns what sends a large file to a folder: `send()`, and `begin()`, which begins to in another process and stops amid it."""
    path = tmp_path / "sent"
    path.write_bytes(os.urandom(33 * MIB))

    def send(bucket=None):
        bucket = bucket or Bucket(str(tmp_path / "remote"), {}, folder=tmp_path / "known")
        if request.param == "named":
            bucket.put_file("objects/a", path)
        else:
            bucket.put_hashed(path, hashing.checksummer, lambda digest: "objects/a", expected="objects/a")

    def begin():
        def stop(name, *_):
            (tmp_path / "remote" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "remote" / name).write_bytes(b"half")
            signal.pause()

        bucket = Bucket(str(tmp_path / "remote"), {}, folder=tmp_path / "known")
        bucket.driver.upload = bucket.driver.upload_checked = stop
        process = os.fork()
        if not process:
            try:
                send(bucket)
            finally:
                os._exit(1)
        while not list((tmp_path / "remote").glob("tmp/*")):
            assert os.waitpid(process, os.WNOHANG) == (0, 0)
            time.sleep(0.01)
        return process

    return send, begin


def test_what_a_killed_upload_left_goes_with_the_next(sending, tmp_path):
    send, begin = sending
    process = begin()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    send()
    assert not list((tmp_path / "remote/tmp").iterdir()) and not list((tmp_path / "known/uploads").iterdir())
    assert (tmp_path / "remote/objects/a").read_bytes() == (tmp_path / "sent").read_bytes()


def test_an_upload_that_lives_is_let_be(sending, tmp_path):
    send, begin = sending
    process = begin()
    try:
        send()
        (its,) = (tmp_path / "remote/tmp").iterdir()
        assert its.read_bytes() == b"half"
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
