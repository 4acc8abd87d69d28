import json
import os
import shutil
import uuid

import pytest

from dvlite import config, transfer
from dvlite.config import Remote
from dvlite.errors import CorruptError, DvliteError, FormatError, MissingError, RemoteError
from dvlite.stores.base import Report
from dvlite.stores.local import LocalStore
from dvlite.stores.memory import MemoryStore
from dvlite.stores.remote import RemoteStore, faults, sweep
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.base import Listed
from dvlite.stores.remote.indexes import Indexes
from tests.stores.conformance import StoreConformance, oid


def open_remote(store_or_url, folder, **options):
    remote = Remote("origin", store_or_url, jobs=4, options=options)
    return RemoteStore(remote, folder)


class RemoteConformance(StoreConformance):
    def reopen(self, store):
        return anew(store)


def marked(store):
    store.bucket.put(config.MARKER, config.encode_marker())
    return store


class TestFolderRemote(RemoteConformance):
    @pytest.fixture
    def store(self, tmp_path):
        (tmp_path / "mnt").mkdir()
        return marked(open_remote(str(tmp_path / "mnt/remote"), tmp_path / "known"))


class TestS3Remote(RemoteConformance):
    driver = "obstore"

    @pytest.fixture
    def store(self, bucket, tmp_path):
        endpoint, name, _ = bucket
        return marked(
            open_remote(f"s3://{name}/pre fix é", tmp_path / "known", endpoint_url=endpoint, driver=self.driver)
        )


class TestS3RemoteByS3fs(TestS3Remote):
    driver = "s3fs"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def remote(place, tmp_path):
    return marked(open_remote(str(place), tmp_path / "known"))


def anew(remote):
    """Return the same remote as another clone sees it."""
    return RemoteStore(remote.remote, remote.folder.with_name(f"known-{uuid.uuid4().hex}"))


def put(store, *datas):
    with store.batch() as batch:
        return [batch.put(data, "sha256") for data in datas]


@pytest.fixture
def of_many_packs(remote, monkeypatch):
    """A remote of a hundred packs, and the indexes here that are opened for their sizes."""
    for number in range(100):
        put(remote, str(number).encode())
    remote.look()
    opened = []
    real = Indexes._sizes_of
    monkeypatch.setattr(Indexes, "_sizes_of", lambda self, id_: opened.append(id_) or real(self, id_))
    return remote, opened


def again(remote):
    """Return the same remote as the same clone sees it in its next command."""
    return RemoteStore(remote.remote, remote.folder)


def test_a_look_opens_no_index_that_was_looked_at_before(of_many_packs):
    remote, opened = of_many_packs
    wanted = [oid(b"%d" % number) for number in range(100)]
    assert set(again(remote).find(wanted)) == set(wanted) and opened == []


@pytest.mark.parametrize("damage", ["sizes", "copies", "both", "torn"])
def test_what_is_known_of_indexes_may_be_gone(of_many_packs, damage):
    remote, _ = of_many_packs
    if damage in ("sizes", "both"):
        (remote.folder / "sizes").write_bytes((remote.folder / "sizes").read_bytes()[:-30])
    for path in list((remote.folder / "packs").iterdir()) if damage != "sizes" else ():
        path.write_bytes(path.read_bytes()[:-9]) if damage == "torn" else path.unlink()
    (remote.folder / "table").unlink(missing_ok=True)
    wanted = [oid(b"%d" % number) for number in range(100)]
    assert set(again(remote).find(wanted)) == set(wanted)


def test_an_index_that_is_nowhere_whole_makes_no_pack_whose_size_is_known(of_many_packs, place):
    remote, _ = of_many_packs
    for folder in (place, remote.folder):
        for path in (folder / "packs").glob("*.idx"):
            path.write_bytes(b"x" * path.stat().st_size)
    for path in (place / "packs").glob("*.pack"):
        path.write_bytes(b"x" * path.stat().st_size)
    shutil.rmtree(remote.folder / "packs")
    shutil.rmtree(place / "indexes", ignore_errors=True)
    (remote.folder / "table").unlink(missing_ok=True)
    assert again(remote).find([oid(b"1")]) == {}


class Counting:
    """Counts what a bucket is asked for, by wrapping its verbs (they still do their work)."""

    def __init__(self, store, monkeypatch):
        self.calls = []
        for verb in ("list", "get", "get_file", "put", "put_file"):
            real = getattr(store.bucket, verb)

            def counted(*arguments, _real=real, _verb=verb, **options):
                self.calls.append((_verb, *arguments))
                return _real(*arguments, **options)

            monkeypatch.setattr(store.bucket, verb, counted)

    def count(self, *verbs):
        return sum(call[0] in verbs for call in self.calls)


def test_a_pack_without_index_does_not_exist(remote, place):
    found = put(remote, b"one")
    next(place.glob("packs/*.idx")).unlink()
    assert remote.find(found) == {}


def test_an_index_without_pack_does_not_exist(remote, place):
    found = put(remote, b"one")
    next(place.glob("packs/*.pack")).unlink()
    assert remote.find(found) == {}


def test_a_pack_of_another_size_does_not_count(remote, place):
    found = put(remote, b"one" * 99)
    path = next(place.glob("packs/*.pack"))
    os.truncate(path, path.stat().st_size - 1)
    assert remote.find(found) == {}


def test_what_is_remembered_never_says_that_something_is_there(remote, place):
    found = put(remote, b"one")
    assert remote.find(found)
    shutil.rmtree(place / "packs")
    assert remote.find(found) == {}


def test_a_pack_is_uploaded_before_its_index(remote, monkeypatch):
    counting = Counting(remote, monkeypatch)
    put(remote, b"one", b"two")
    names = [call[1].rpartition(".")[2] for call in counting.calls if call[0].startswith("put")]
    assert names == ["pack", "idx"]


def test_each_index_is_downloaded_once(remote, monkeypatch):
    put(remote, b"one")
    fresh = anew(remote)
    counting = Counting(fresh, monkeypatch)
    fresh.find([oid(b"one")])
    assert counting.count("get") == 2  # the marker and the index
    counting.calls.clear()
    fresh.find([oid(b"one")])
    assert [call[0] for call in counting.calls] == ["list"]


def test_an_index_that_is_cut_short_does_not_count_even_for_who_knows_it(remote, place):
    found = put(remote, b"one")
    path = next(place.glob("packs/*.idx"))
    path.write_bytes(path.read_bytes()[:-1])
    assert remote.find(found) == {}
    assert anew(remote).find(found) == {}
    assert put(remote, b"one") == found
    assert anew(remote).find(found) == {found[0]: 3}


def test_a_damaged_index_is_read_from_its_pack(remote, place):
    found = put(remote, b"one")
    path = next(place.glob("packs/*.idx"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert anew(remote).find(found) == {found[0]: 3}


@pytest.mark.parametrize("data", [b"", b"cut", None])
def test_a_damaged_copy_of_an_index_is_got_again(remote, data):
    found = put(remote, b"one")
    remote.find(found)
    for path in remote.folder.glob("packs/*.idx"):
        path.write_bytes(path.read_bytes()[:-1] + b"x" if data is None else data)
    (remote.folder / "table").unlink(missing_ok=True)
    assert RemoteStore(remote.remote, remote.folder).find(found) == {found[0]: 3}


class Hostile:
    """A driver that lists a name that no server should."""

    def __init__(self, driver, name):
        self._driver, self._name = driver, name

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def folder(self, name):
        page, below = self._driver.folder(name)
        return {**page, self._name: Listed(100, 0)}, below


def test_names_in_a_listing_never_become_paths_here(remote, place, tmp_path):
    for number in range(6):
        put(remote, str(number).encode())
    victim = tmp_path / "VICTIM"
    victim.write_text("mine")
    for name in ("indexes/../../VICTIM.idx", "packs/../../VICTIM.idx", "packs/../../VICTIM.pack"):
        fresh = anew(remote)
        fresh.bucket.driver = Hostile(fresh.bucket.driver, name)
        fresh.look()
    assert victim.read_text() == "mine"


def test_another_packs_index_is_not_believed(remote, place):
    found = put(remote, b"one" * 50)
    first = next(place.glob("packs/*.idx"))
    other = put(remote, b"two" * 50)
    second = next(path for path in place.glob("packs/*.idx") if path != first)
    first.write_bytes(second.read_bytes())
    assert anew(remote).find([*found, *other]).keys() == {*found, *other}


def test_one_object_of_a_large_pack_is_a_range(remote, monkeypatch, tmp_path):
    datas = [os.urandom(10_000) for _ in range(200)]
    found = put(remote, *datas)
    fresh = anew(remote)
    fresh.look()
    counting = Counting(fresh, monkeypatch)
    target = LocalStore(tmp_path / "target")
    transfer.copy(fresh, target, {found[100]: 10_000}, jobs=2)
    assert target.read(found[100]) == datas[100]
    ((verb, _, start, end),) = counting.calls
    assert (verb, end - start) == ("get", 10_000)


def test_neighbours_are_one_range_and_most_of_a_pack_is_the_pack(remote, monkeypatch, tmp_path):
    found = put(remote, *(os.urandom(10_000) for _ in range(200)))
    fresh = anew(remote)
    fresh.look()
    counting = Counting(fresh, monkeypatch)
    transfer.copy(fresh, LocalStore(tmp_path / "a"), dict.fromkeys(found[50:60], 10_000), jobs=2)
    assert [call[0] for call in counting.calls] == ["get"]
    counting.calls.clear()
    target = LocalStore(tmp_path / "b")
    transfer.copy(fresh, target, dict.fromkeys(found[:150], 10_000), jobs=2)
    assert [call[0] for call in counting.calls] == ["get_file"]
    assert target.find(found[:150]).keys() == set(found[:150])


def test_a_flipped_bit_in_a_remote_pack_loses_that_object_alone(remote, place, tmp_path):
    found = put(remote, *(bytes([number]) * 500 for number in range(20)))
    path = next(place.glob("packs/*.pack"))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[8 + 500 * 7 + 3] ^= 1
    path.write_bytes(data)
    target = LocalStore(tmp_path / "target")
    report = transfer.copy(anew(remote), target, dict.fromkeys(found, 500), jobs=2)
    assert report.failed.keys() == {found[7]} and isinstance(report.failed[found[7]], CorruptError)
    assert target.find(found).keys() == set(found) - {found[7]}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_large_object_is_never_published(remote, place, tmp_path, damage):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1 << 20))
    with remote.batch() as batch:
        name = batch.put_file(large, "sha256").oid
    path = next(path for path in place.glob("objects/*/*/*"))
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes({"flip": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-1], "empty": b""}[damage])
    target = LocalStore(tmp_path / "target")
    report = transfer.copy(anew(remote), target, {name: 1 << 20}, jobs=2)
    assert report.failed.keys() == {name}
    assert target.find([name]) == {}


def test_many_indexes_are_merged_and_a_fresh_reader_takes_few(remote, place, monkeypatch):
    found = [put(remote, f"{number}".encode())[0] for number in range(40)]
    remote.look()
    found += put(remote, b"the last")  # finds more than 32 uncovered
    assert len(list(place.glob("indexes/*.idx"))) == 1
    fresh = anew(remote)
    counting = Counting(fresh, monkeypatch)
    assert fresh.find(found).keys() == set(found)
    assert counting.count("get") <= 12


@pytest.mark.parametrize(
    ("data", "error"), [(b'{"dvlite":{"format":2}}\n', FormatError), (b"something else", FormatError)]
)
def test_a_marker_of_another_kind_is_refused(remote, place, data, error):
    (place / config.MARKER).write_bytes(data)
    with pytest.raises(error):
        anew(remote).find([oid(b"x")])


def test_data_without_a_marker_is_not_ours(remote, place):
    put(remote, b"one")
    (place / config.MARKER).unlink()
    with pytest.raises(RemoteError, match="marker|dvlite-remote"):
        anew(remote).find([oid(b"one")])


def test_the_same_push_writes_no_second_claim(remote, place, monkeypatch):
    assert sweep.claim(remote, "r" * 32, "c" * 32, [oid(b"one")])
    (path,) = place.glob("claims/*/*/*.json")
    assert json.loads(path.read_bytes()) == {"oids": [str(oid(b"one"))]}
    counting = Counting(remote, monkeypatch)
    assert not sweep.claim(remote, "r" * 32, "c" * 32, [oid(b"one")])
    remote.find([oid(b"one")])
    assert [call[0] for call in counting.calls] == ["list"]


def test_a_read_only_remote_is_not_written_to(place, tmp_path):
    store = RemoteStore(Remote("mirror", str(place), is_read_only=True), tmp_path / "known")
    with pytest.raises(RemoteError, match="read-only"):
        store.batch()


# ---- the bucket ----


def test_a_folder_whose_parent_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RemoteError, match="not found"):
        Bucket(str(tmp_path / "no/such/mount"), {}).list()


def test_an_interrupted_put_leaves_nothing_under_its_name(tmp_path, monkeypatch):
    bucket = Bucket(str(tmp_path / "remote"), {})
    (tmp_path / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "no space left on device")))
    with pytest.raises(RemoteError, match="no space"):
        bucket.put_file("packs/x", tmp_path / "file")
    monkeypatch.undo()
    assert bucket.list() == {}


class Short:
    """A driver that answers short a number of times: what real servers do when they are cut off."""

    def __init__(self, driver, times):
        self._driver, self.times = driver, times

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def read(self, name, start=None, end=None):
        data = self._driver.read(name, start, end)
        self.times -= 1
        return data[:-1] if self.times >= 0 else data


@pytest.mark.parametrize(("times", "works"), [(1, True), (2, True), (9, False)])
def test_a_short_answer_is_tried_again_then_refused(tmp_path, times, works):
    bucket = Bucket(str(tmp_path / "remote"), {})
    bucket.put("a", b"0123456789")
    bucket.driver = Short(bucket.driver, times)
    if works:
        assert bucket.get("a", 2, 6) == b"2345"
    else:
        with pytest.raises(RemoteError, match="3 bytes came, not 4"):
            bucket.get("a", 2, 6)


def test_s3_errors_say_what_to_check(s3, bucket, monkeypatch):
    endpoint, name, _ = bucket
    with pytest.raises(RemoteError, match="not found"):
        Bucket("s3://no-such-bucket-here/x", {"endpoint_url": endpoint}).list()
    with pytest.raises(RemoteError, match="connect") as caught:
        Bucket(f"s3://{name}/x", {"endpoint_url": "http://127.0.0.1:9"}).list()
    assert "network" in caught.value.hint
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(RemoteError, match="refused") as caught:
        Bucket(f"s3://{name}/x", {"endpoint_url": endpoint}).list()
    assert "wrong" not in str(caught.value) + caught.value.hint


def test_s3_has_a_pool_for_many_requests(bucket):
    endpoint, name, _ = bucket
    fs = Bucket(f"s3://{name}/x", {"endpoint_url": endpoint, "driver": "s3fs"}).driver.fs
    assert fs.config_kwargs["max_pool_connections"] >= 64


def test_a_missing_object_is_missing_not_a_bug(remote):
    with pytest.raises(MissingError):
        remote.read(oid(b"nothing"))
    with pytest.raises(DvliteError):
        Bucket("gopher://x", {})


@pytest.mark.parametrize("bad", [0, 1])
def test_a_corrupt_copy_does_not_hide_a_good_one(remote, place, bad):
    """The same object in two packs, one of them damaged: it is read, and sent."""
    one, *_ = put(remote, b"wanted" * 9, b"beside one")
    put(remote, b"wanted" * 9, b"beside two", b"and more")
    paths = sorted(place.glob("packs/*.pack"))
    assert len(paths) == 2
    data = paths[bad].read_bytes()
    paths[bad].chmod(0o644)
    paths[bad].write_bytes(data.replace(b"wanted", b"w4nted"))
    assert dict(anew(remote).read_many([one])) == {one: b"wanted" * 9}
    target, report = MemoryStore(), Report()
    fresh = anew(remote)
    fresh.find([one])
    with target.batch() as batch:
        fresh.send({one: 54}, batch, report)
    assert not report.failed and target.read(one) == b"wanted" * 9


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        (
            "Generic S3 error: Error performing PUT http://h:1/b/k in 401.449µs - HTTP error: error sending request",
            False,
        ),
        ("Error performing GET http://h:403/credentials-401/forbidden in 403.2ms - operation timed out", False),
        ("IncompleteRead(401 bytes read, 403 more expected)", False),
        ("error: 403.5 s without an answer", False),
        ("Client error with status 403 Forbidden: no body", True),
        ("Server returned non-2xx status code: 401: ", True),
        ("received 401 ()", True),
        ("An error occurred (403) when calling the HeadObject operation", True),
        ("<Error><Code>AccessDenied</Code></Error>", True),
        ("received 403 bytes of 900", False),
        ("<Response [401]>", True),
        ("HTTP/1.1 401 ", True),
        ("Anonymous caller does not have storage.objects.list access to the bucket, 401", True),
    ],
)
def test_a_fault_that_may_pass_is_told_from_a_refused_login(text, is_refused):
    assert faults.may_pass(OSError(text)) == (not is_refused)
    assert faults.may_pass(OSError(None, text)) == (not is_refused)
    assert ("refused" in str(faults.explain("can't write to", "s3://b", OSError(text), {}, "x"))) == is_refused


@pytest.mark.parametrize("name", ["status", "status_code", "code"])
def test_a_status_that_a_driver_tells_beside_its_text_counts(name):
    fault = OSError("no more was said")
    assert faults.may_pass(fault)
    setattr(fault, name, 403)
    assert not faults.may_pass(fault)
