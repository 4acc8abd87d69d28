"""Files are read once, in the order of names, and what moves meanwhile is looked at again."""

import contextlib
import gc
import os
import signal
import threading
import time
import weakref

import pytest

from dvlite import forking, statkey
from dvlite.errors import DvliteError
from dvlite.oid import Oid
from dvlite.stores.memory import Hashing
from dvlite.worktree import reading
from dvlite.worktree.reading import Reader, TooMuchError, Unread


class Recording(Hashing):
    """Says what came, in order."""

    def __init__(self):
        super().__init__()
        self.came = []

    def take_all(self, objects):
        self.came += [bytes(data) for _, data in objects]


@pytest.fixture
def batch():
    return Recording()


@pytest.fixture(params=["alone", "threads", "shared"])
def reader(batch, request, monkeypatch):
    if request.param != "alone":
        monkeypatch.setattr(reading, "_SHARED", 1)
        monkeypatch.setattr(reading, "_AT_ONCE", 4)
        monkeypatch.setattr(reading, "_SHARED_AHEAD", 4)
        monkeypatch.setattr(forking, "processors", lambda: 2 if request.param == "shared" else 1)
    with contextlib.ExitStack() as stack:
        yield Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=1 << 30)


def children():
    return set(open(f"/proc/self/task/{threading.get_native_id()}/children").read().split())


def read(reader, work):
    return reader.finish(reader.begin(work))


def unread(folder):
    names = sorted(name for name in os.listdir(folder) if not (folder / name).is_dir())
    keys = [statkey.of(os.lstat(folder / name)) for name in names]
    return Unread(str(folder), "data", names, keys)


def test_all_kinds_come_in_order_of_their_names(tmp_path, batch, reader):
    sizes = {f"{number:04}": (number % 7) * 30_000 for number in range(700)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(name.encode() * (size // 4))
    (tmp_path / "0003.link").symlink_to("elsewhere")
    work = unread(tmp_path)
    entries, keys = read(reader, work)
    assert [entry.name for entry in entries] == work.names
    assert keys == work.keys
    expected = [b"elsewhere" if "link" in name else (tmp_path / name).read_bytes() for name in work.names]
    assert batch.came == expected
    assert (reader.files_read, reader.bytes_read) == (701, sum(map(len, expected)))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: path.write_bytes(b"abd"),
        lambda path: path.chmod(0o755),
        lambda path: (path.unlink(), path.write_bytes(b"abc")),
    ],
    ids=["size", "content", "mode", "another file"],
)
@pytest.mark.parametrize("data", [b"abc", b"abc" * 30_000], ids=["small", "middling"])
def test_a_file_that_changed_since_it_was_listed_is_what_it_is_now(tmp_path, batch, reader, change, data):
    for name in "abc":
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (1, 1))
    work = unread(tmp_path)
    change(tmp_path / "b")
    entries, keys = read(reader, work)
    now = statkey.of(os.lstat(tmp_path / "b"))
    assert keys == [work.keys[0], now, work.keys[2]]
    assert entries[1].size == now.size
    assert entries[1].mode == ("100755" if now.mode & 0o100 else "100644")
    assert batch.came == [data, (tmp_path / "b").read_bytes(), data]


def test_middling_files_are_read_several_at_once_and_no_more_than_fit(tmp_path, batch, reader):
    for number in range(40):
        (tmp_path / f"{number:02}").write_bytes(b"%02d" % number * 50_000)
    begun = reader.begin(unread(tmp_path))
    assert {len(one.some) for one in begun.passes} == {min(reading._AT_ONCE, reading._PASS_BYTES // 100_000)}
    reader.finish(begun)
    assert batch.came == [b"%02d" % number * 50_000 for number in range(40)]


def test_a_file_that_is_another_kind_now_is_never_followed_or_waited_for(tmp_path, reader):
    (tmp_path / "a").write_bytes(b"abc")
    work = unread(tmp_path)
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    with pytest.raises(Exception, match="data/a"):
        read(reader, work)
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="data/a"):
        read(reader, work)


def test_several_folders_may_be_begun_before_the_first_is_finished(tmp_path, batch, reader):
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "b" / "c", tmp_path / "d"]
    for folder in folders:
        folder.mkdir()
        for number in range(40):
            (folder / f"{number:02}").write_text(f"{folder.name}{number}")
    works = {folder.name: unread(folder) for folder in folders}
    begun = {name: reader.begin(works[name]) for name in "ab"}
    reader.finish(begun["a"])
    begun["d"] = reader.begin(works["d"])
    for name in "bcd":
        one = begun.get(name) or reader.begin(works[name])
        reader.finish(one)
    assert batch.came == [f"{name}{number}".encode() for name in "abcd" for number in range(40)]


@pytest.fixture(params=["threads", "shared"])
def little_room(monkeypatch, request):
    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(reading, "_AHEAD", 200_000)
    monkeypatch.setattr(forking, "processors", lambda: 2 if request.param == "shared" else 1)


def test_a_large_file_is_the_batch_s_whatever_is_read_ahead(tmp_path, batch, little_room):
    """While a sibling holds the room, too: it is never read whole, nor put among the small."""
    folders = [tmp_path / name for name in ("a", "b", "a/sub")]
    for folder in folders:
        folder.mkdir()
    for number in range(9):
        (tmp_path / "b" / f"{number}").write_bytes(bytes(90_000))
    (tmp_path / "a/one").write_bytes(b"1")
    with (tmp_path / "a/sub/huge").open("wb") as file:
        file.truncate(3 << 20)
    for folder in folders:
        for path in folder.iterdir():
            os.utime(path, (1, 1))
    whole, real = [], batch.put_file

    def put_file(path, *arguments, **options):
        whole.append(path.name)
        return real(path, *arguments, **options)

    batch.put_file = put_file
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        first, second = (reader.begin(unread(folder)) for folder in folders[:2])
        reader.finish(first)
        reader.finish(reader.begin(unread(folders[2])))
        reader.finish(second)
    assert whole == ["huge"]
    assert len(batch.came) == 10


@pytest.mark.parametrize("listed", [3, 90_000])
def test_a_file_that_became_large_since_it_was_listed_is_not_read_whole(tmp_path, batch, reader, listed):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(bytes(listed))
    work = unread(tmp_path)
    os.truncate(tmp_path / "b", 3 << 20)
    whole, real = [], batch.put_file
    batch.put_file = lambda path, *arguments: whole.append(path.name) or real(path, *arguments)
    entries, _ = read(reader, work)
    assert whole == ["b"] and [entry.size for entry in entries] == [1, 3 << 20]


def test_what_is_needed_first_has_room_beside_what_is_read_ahead(tmp_path, batch, little_room):
    folders = [tmp_path / name for name in ("a", "b", "a/sub")]
    for folder in folders:
        folder.mkdir()
        for number in range(9):
            (folder / f"{number}").write_bytes(folder.name.encode() * 70_000)
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        first, second = (reader.begin(unread(folder)) for folder in folders[:2])
        reader.finish(first)
        assert second.flying
        below = reader.begin(unread(folders[2]))
        assert below.flying
        reader.finish(below)
        reader.finish(second)
    assert batch.came == [
        folder.name.encode() * 70_000 for folder in (folders[0], folders[2], folders[1]) for _ in range(9)
    ]


def test_each_folder_is_judged_by_a_stamp_of_before_it_was_read(tmp_path, batch, monkeypatch):
    stamps = iter([0, 10**18])  # the first folder can't be written: nothing young can be told from what is old
    monkeypatch.setattr(reading.statkey, "stamp", lambda folder: next(stamps))
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"1")
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        begun = [reader.begin(unread(tmp_path / name)) for name in "ab"]
        for one in begun:
            reader.finish(one)
    assert [one.stamp for one in begun] == [0, 0]


def test_a_helper_that_is_killed_is_not_missed(tmp_path, batch, reader):
    for number in range(200):
        (tmp_path / f"{number:03}").write_text(str(number))
    before = children()
    begun = reader.begin(unread(tmp_path))
    for child in children() - before:
        os.kill(int(child), signal.SIGKILL)
    reader.finish(begun)
    assert batch.came == [str(number).encode() for number in range(200)]


def test_others_read_where_there_is_much(tmp_path, reader, request):
    for number in range(20):
        (tmp_path / f"{number:03}").write_text(str(number))
    before = children()
    begun = reader.begin(unread(tmp_path))
    is_shared = "shared" in request.node.name
    assert len(children() - before) == is_shared
    asked = [one for one in begun.passes if one.number >= 0]
    assert 0 < len(asked) < len(begun.passes) if is_shared else not asked
    reader.finish(begun)


def test_who_waits_for_another_reads_what_comes_later(tmp_path, batch, monkeypatch):
    """So that neither is idle, however unlike their shares are; the order stays."""
    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(reading, "_AT_ONCE", 4)
    monkeypatch.setattr(reading, "_SHARED_AHEAD", 2)
    monkeypatch.setattr(forking, "processors", lambda: 2)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(40):
            (tmp_path / name / f"{number:02}").write_text(f"{name}{number}")
    mine, real, parent = [], reading._Asked.do, os.getpid()

    def do(asked, reader):
        if os.getpid() != parent:
            time.sleep(0.05)
        else:
            mine.append((asked.folder[-1], asked.names[0]))
        return real(asked, reader)

    monkeypatch.setattr(reading._Asked, "do", do)
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        begun = [reader.begin(unread(tmp_path / name)) for name in "ab"]
        for one in begun:
            reader.finish(one)
        assert sorted(reader._free) == list(range(reading._ROOMS))
    assert batch.came == [f"{name}{number}".encode() for name in "ab" for number in range(40)]
    assert len(mine) > 10 and ("a", "08") in mine


def test_what_is_needed_later_leaves_room_for_what_is_needed_first(tmp_path, batch, monkeypatch):
    monkeypatch.setattr(reading, "_SHARED", 1)
    monkeypatch.setattr(reading, "_AT_ONCE", 4)
    monkeypatch.setattr(forking, "processors", lambda: 2)
    folders = [tmp_path / name for name in ("a", "b", "a/sub")]
    for folder, count in zip(folders, (20, 400, 40), strict=True):
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:03}").write_text(f"{folder.name}{number}")
    works = [unread(folder) for folder in folders]
    parent, real = os.getpid(), reading._Asked.do
    monkeypatch.setattr(
        reading._Asked, "do", lambda *call: (os.getpid() != parent and time.sleep(0.05), real(*call))[1]
    )
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        first, second = (reader.begin(work) for work in works[:2])
        reader.finish(first)
        assert sum(one.result is not None for one in second.passes) <= reading._SHARED_AHEAD // 2
        below = reader.begin(works[2])
        assert sum(one.number >= 0 for one in below.passes) >= reading._SHARED_AHEAD // 2
        reader.finish(below)
        reader.finish(second)
    assert len(batch.came) == 460


@pytest.mark.skipif(not os.path.exists("/proc/sys/kernel/ostype"), reason="no such file here")
def test_a_file_that_holds_more_than_its_stat_says_is_refused(reader):
    work = Unread("/proc/sys/kernel", "data", ["ostype"], [statkey.of(os.lstat("/proc/sys/kernel/ostype"))])
    with pytest.raises(DvliteError, match="keeps changing"):
        read(reader, work)


def test_large_files_are_begun_also_behind_small_ones(tmp_path, batch, monkeypatch):
    monkeypatch.setattr(forking, "processors", lambda: 1)
    for number in range(6):
        (tmp_path / f"{number}").write_bytes(bytes(3 + number % 2 * (2 << 20)))
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        begun = reader.begin(unread(tmp_path))
        assert all(one.result for one in begun.passes)
        reader.finish(begun)
    assert len(batch.came) == 3


def test_another_process_comes_before_the_first_thread(tmp_path, batch, monkeypatch):
    monkeypatch.setattr(forking, "processors", lambda: 2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/large").write_bytes(bytes(2 << 20))
    for number in range(4):
        (tmp_path / "b" / f"{number}").write_bytes(bytes(2 << 20))
    before = children()
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        read(reader, unread(tmp_path / "a"))
        assert children() == before, "one file needs none"
        begun = reader.begin(unread(tmp_path / "b"))
        assert len(children() - before) == 1
        reader.finish(begun)


def test_a_reader_is_gone_with_its_memory_when_it_is_done(tmp_path, reader, batch):
    (tmp_path / "a").write_bytes(b"1")
    with contextlib.ExitStack() as stack:
        one = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=None)
        read(one, unread(tmp_path))
    there = weakref.ref(one)
    gc.disable()
    try:
        del one
        assert there() is None
    finally:
        gc.enable()


def test_no_more_is_read_than_is_allowed(tmp_path, batch):
    (tmp_path / "a").write_bytes(b"abc")
    with contextlib.ExitStack() as stack:
        reader = Reader(batch, "sha256", stack, pack_below=1 << 20, objects=None, limit=2)
        with pytest.raises(TooMuchError, match="data/a"):
            read(reader, unread(tmp_path))
    assert batch.came == []


def test_small_files_are_named_by_what_they_hold(tmp_path, batch, reader):
    (tmp_path / "empty").write_bytes(b"")
    entries, _ = read(reader, unread(tmp_path))
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert entries[0].oid == Oid("sha256", bytes.fromhex(digest))


def test_a_link_whose_name_goes_on_after_an_objects_is_not_one_into_the_store():
    stored = f"/x/objects/sha256/ab/{'c' * 62}"
    assert reading.is_stored(stored)
    assert not reading.is_stored(f"{stored}\n")
