"""Transfers that are killed, held back, measured: they go on, keep to their limit, and say truly how long they take."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from dvlite import hashing
from dvlite.errors import RemoteError
from dvlite.ops import remote as remotes_op
from dvlite.ops.fetch import pull
from dvlite.ops.push import push
from dvlite.repo import open_repo
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.download import Parts
from tests.remotes.suite import through
from tests.servers.proxy import HttpProxy, TcpProxy

KILLS = int(os.environ.get("DVLITE_KILLS", "6"))
MIB = 1 << 20


@pytest.fixture
def proxy(server):
    proxy = HttpProxy(server.port, 0.01)
    yield proxy
    proxy.close()


@pytest.fixture
def loaded(project, server, proxy):
    """A project with many objects of each kind; its remote is seen through the proxy."""
    project.write({f"d{n % 7}/f{n}": os.urandom(20_000) for n in range(700)}, "data")
    project.write({f"big/{n}.bin": os.urandom(MIB + n) for n in range(24)})
    project.dv("add", "-q", "data", "big")
    project.git("config", "dvlite.packSize", "2 MB")
    project.commit("all")
    project.server = server
    return project


def point(project, proxy):
    """Give a project a new place on its server, seen through the proxy; return where its bytes lie."""
    seen = through(project.server, proxy.port)
    url = f"{seen.url}/t{time.time_ns():x}"
    remotes_op.add(open_repo(project.root), "origin", url, options=seen.options, is_forced=True)
    return project.server.folder / url[len("s3://bucket/") :]


def killed(project, command, wait_s):
    """Run a command, kill it after a time if it still runs; tell whether it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvlite", command, "-q"],
        cwd=project.root,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0, process.stderr.read()
    return False


def whole(place):
    """Return the objects and packs that the remote shows; none may be other than whole."""
    names = {}
    for path in [*place.glob("objects/*/*/*"), *place.glob("packs/*.pack")]:
        names[path.relative_to(place).as_posix()] = path.stat().st_size
        assert path.stat().st_size >= (MIB if "objects" in str(path) else 100), path
    return names


def put_names(proxy):
    marks = ("objects/", "packs/")
    found = [one.path.partition("?")[0] for one in proxy.asked if one.method == "PUT" and one.status == 200]
    return {path[path.index(f"/{mark}") + 1 :] for path in found for mark in marks if f"/{mark}" in path}


def test_a_push_killed_at_any_time_goes_on(loaded, proxy):
    rng = random.Random(7)
    left = KILLS
    while left > 0:
        loaded.place = point(loaded, proxy)
        is_done = False
        while not is_done:
            before = {name for name in whole(loaded.place) if name.startswith("objects/")}
            proxy.clear()
            is_done = not killed(loaded, "push", rng.uniform(0.3, 1.1) if left > 0 else 100)
            left -= not is_done
            time.sleep(0.1)  # a request that was in the air may still arrive
            assert not put_names(proxy) & before
        assert not push(open_repo(loaded.root)).pushed
        assert len([name for name in whole(loaded.place) if name.startswith("objects/")]) == 24


def test_a_pull_killed_at_any_time_goes_on(loaded, proxy):
    point(loaded, proxy)
    push(open_repo(loaded.root))
    rng = random.Random(8)
    left = KILLS
    for number in itertools.count():
        if left <= 0:
            break
        clone = loaded.clone(f"clone{number}")
        clone.write({"dvlite.toml": (loaded.root / "dvlite.toml").read_bytes()})
        clone.git("config", "dvlite.trust", f"http://127.0.0.1:{proxy.port}")
        store = clone.root / ".git/dvlite/objects"
        is_done = False
        while not is_done:
            before = {path.relative_to(store.parent).as_posix() for path in store.glob("*/*/*")}
            proxy.clear()
            is_done = not killed(clone, "pull", rng.uniform(0.3, 1.3) if left > 0 else 100)
            left -= not is_done
            got = {one.path.partition("?")[0] for one in proxy.asked if one.method == "GET"}
            assert not {name for name in before if any(path.endswith(name) for path in got)}
        assert clone.read("data") == loaded.read("data") and clone.read("big") == loaded.read("big")
        assert not list((clone.root / ".git/dvlite/remotes/origin").glob("partial/*"))


# ---- parts of a large file --------------------------------------------------------------------------------------


@pytest.fixture
def large(server, proxy, tmp_path):
    """A bucket behind the proxy with one large file."""
    seen = through(server, proxy.port)
    bucket = Bucket(
        f"{seen.url}/l{time.time_ns():x}", {**seen.options, "driver": "s3fs"}, jobs=3, folder=tmp_path / "known"
    )
    data = os.urandom(70 * MIB + 17)
    (tmp_path / "sent").write_bytes(data)
    bucket.put_file("objects/large", tmp_path / "sent")
    proxy.clear()
    return bucket, data


def test_a_large_download_goes_on_by_parts(large, proxy, tmp_path, monkeypatch):
    bucket, data = large
    proxy.fault = lambda method, path, number: "503" if number > 2 else None
    with pytest.raises(RemoteError):
        bucket.get_file("objects/large", tmp_path / "came", len(data))
    assert not (tmp_path / "came").exists()
    proxy.clear()
    told = []
    assert bucket.get_file("objects/large", tmp_path / "came", len(data), told.append)
    assert (tmp_path / "came").read_bytes() == data and sum(told) == len(data)
    asked = [one for one in proxy.asked if one.method == "GET"]
    ranges = (len(data) + (len(data) // 32) - 1) // (len(data) // 32)
    assert 1 <= len(asked) < ranges, "parts that were here came again"
    assert not list((tmp_path / "known/partial").iterdir())


def heavy(project, server, port, size):
    """Push a large file to a server seen through a port; return a clone that may read there."""
    seen = through(server, port)
    project.write({"huge.bin": os.urandom(size)})
    project.dv("add", "-q", "huge.bin")
    remotes_op.add(open_repo(project.root), "origin", f"{seen.url}/e{time.time_ns():x}", options=seen.options)
    project.commit("huge")
    clone = project.clone()
    clone.git("config", "dvlite.trust", f"http://127.0.0.1:{port}")
    return clone


def test_a_part_that_rotted_here_is_not_believed(project, ceph):
    """What an earlier try left is verified like all else; where it is bad, the file is got once more."""
    proxy = HttpProxy(ceph.port)
    clone = heavy(project, ceph, proxy.port, 40 * MIB)
    push(open_repo(project.root))
    state = {"count": 0}

    def fault(method, path, number):
        state["count"] += method == "GET" and "/objects/" in path
        return "503" if state["count"] > 3 else None

    proxy.fault = fault
    assert pull(open_repo(clone.root)).fetch.failures
    proxy.clear()
    (part,) = [path for path in clone.root.glob(".git/dvlite/remotes/origin/partial/*") if path.suffix != ".parts"]
    note = part.with_suffix(".parts").read_text().split()
    with part.open("r+b") as file:
        file.seek(int(note[0]) + 5)
        file.write(b"rotten")
    result = pull(open_repo(clone.root))
    proxy.close()
    assert not result.fetch.failures
    assert (clone.root / "huge.bin").read_bytes() == (project.root / "huge.bin").read_bytes()


def test_a_file_that_another_process_has_just_finished_is_not_written_to(tmp_path):
    first = Parts(tmp_path, "a", 40 * MIB)
    with first:
        first.write(0, 100, [b"1" * 100], lambda size: None)
        second = Parts(tmp_path, "a", 40 * MIB)
        real = second._open

        def opened_before_the_other_ends():
            fd = real()
            if second._path == first._path and (tmp_path / "partial").exists() and first._path.exists():
                first.finish(tmp_path / "published")
                os.close(first._fd)
                first._fd = os.open(os.devnull, os.O_RDONLY)
            return fd

        second._open = opened_before_the_other_ends
        with second:
            list(second.left(lambda size: None))
            second.write(0, 100, [b"2" * 100], lambda size: None)
        assert (tmp_path / "published").read_bytes()[:100] == b"1" * 100


def test_parts_that_come_in_any_order_are_hashed_as_the_whole(tmp_path):
    data = os.urandom(5 * MIB)
    cuts = [0, 1000, 2 * MIB, 2 * MIB + 7, 4 * MIB, len(data)]
    ranges = list(itertools.pairwise(cuts))
    for order in itertools.permutations(ranges):
        work = hashing.ContentHash("sha256")
        with Parts(tmp_path, "a", len(data), work=work) as parts:
            for start, end in order:
                parts.write(start, end, [data[start : start + 1], data[start + 1 : end]], lambda size: None)
            parts.finish(tmp_path / "came")
        assert work.content().oid == hashing.oid_of("sha256", data)
        assert (tmp_path / "came").read_bytes() == data


def test_what_an_earlier_try_left_is_hashed_too(tmp_path):
    data = os.urandom(3 * MIB)
    with Parts(tmp_path, "a", len(data)) as parts:
        parts.write(MIB, 2 * MIB, [data[MIB : 2 * MIB]], lambda size: None)
    work = hashing.ContentHash("sha256")
    with Parts(tmp_path, "a", len(data), work=work) as parts:
        for start, end in parts.left(lambda size: None):
            parts.write(start, end, [data[start:end]], lambda size: None)
        parts.finish(tmp_path / "came")
    assert work.content().oid == hashing.oid_of("sha256", data)


@pytest.mark.parametrize("pieces", [[b"1" * 60], [b"1" * 60, b"2" * 60]])
def test_a_part_of_another_length_is_none(tmp_path, pieces):
    with Parts(tmp_path, "a", 1000) as parts:
        parts.write(100, 200, [b"0" * 100], lambda size: None)
        with pytest.raises(OSError, match="bytes came"):
            parts.write(0, 100, pieces, lambda size: None)
        assert os.pread(parts._fd, 100, 100) == b"0" * 100
        assert list(parts.left(lambda size: None)) == [(0, 100), (200, 1000)]


# ---- limits, and time left --------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["obstore", "s3fs"])
def test_a_limit_is_kept(server, tmp_path, driver):
    options = {**server.options, "driver": driver}
    rate = 8 * MIB
    bucket = Bucket(f"{server.url}/r{time.time_ns():x}", options, jobs=4, rate=rate, folder=tmp_path / "known")
    (tmp_path / "sent").write_bytes(os.urandom(12 * MIB))
    start = time.monotonic()
    bucket.put_file("objects/a", tmp_path / "sent")
    sent = time.monotonic() - start
    start = time.monotonic()
    bucket.get_file("objects/a", tmp_path / "came", 12 * MIB)
    assert (tmp_path / "came").read_bytes() == (tmp_path / "sent").read_bytes()
    # A limit is a lower bound of the time, however loaded the machine is.
    assert sent >= 1.3 and time.monotonic() - start >= 1.3


def test_limits_are_said_and_set(pushed):
    assert pushed.dv("push", "--limit-rate", "5 MB")
    assert "not a size" in pushed.dv("push", "--limit-rate", "fast", code=1)
    pushed.dv("remote", "set", "origin", "limit_rate", "10 MB")
    assert pushed.repo.remote().remote.limit_rate == 10_000_000
    assert "not a size" in pushed.dv("remote", "set", "origin", "limit_rate", "fast", code=1)


class Watching:
    """A progress that notes when how many bytes were told of."""

    def __init__(self):
        self.total, self.done, self.at = 0, 0, []

    def phase(self, name, *, files=0, size=0):
        self.total, self.done, self.at = size, 0, [(time.monotonic(), 0)]

    def advance(self, *, files=0, size=0):
        self.done += size
        self.at.append((time.monotonic(), self.done))


def test_time_left_is_true_after_a_tenth(project, ceph):
    """At a steady rate, what a tenth of the bytes foretells is right within a factor of two, push and pull."""
    pipe = TcpProxy(ceph.port, rate=12 * MIB)  # each connection
    clone = heavy(project, ceph, pipe.port, 256 * MIB)
    for command in (
        lambda progress: push(open_repo(project.root), progress=progress),
        lambda progress: pull(open_repo(clone.root), progress=progress),
    ):
        watching = Sections()
        command(watching)
        total, points = watching.longest()
        assert total == 256 * MIB and points[-1][1] == total
        start, end = points[0][0], points[-1][0]
        at, done = next((at, done) for at, done in points if done >= total / 10)
        foretold = (at - start) / done * (total - done)
        real = end - at
        factor = 2 if os.getloadavg()[0] < 2 * os.cpu_count() else 4  # else the rate is not steady
        assert real / factor <= foretold <= real * factor, (foretold, real)
    pipe.close()


class Sections(Watching):
    """Keeps each phase's points."""

    def __init__(self):
        super().__init__()
        self.found = []

    def phase(self, name, *, files=0, size=0):
        super().phase(name, files=files, size=size)
        self.found.append((size, self.at))

    def longest(self):
        return max(self.found, key=lambda one: one[0])


def test_what_lies_in_a_folder_is_copied_by_the_kernel(tmp_path, monkeypatch):
    """However large: none of it goes through this process."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote/a").write_bytes(os.urandom(33 * MIB))
    passed, real = [], os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: passed.append(len(data)) or real(fd, data, at))
    bucket = Bucket(str(tmp_path / "remote"), {}, folder=tmp_path / "known")
    bucket.get_file("a", tmp_path / "got", 33 * MIB, lambda size: None)
    assert not passed and (tmp_path / "got").read_bytes() == (tmp_path / "remote/a").read_bytes()
