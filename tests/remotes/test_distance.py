"""How many requests a command makes, and how many of them one after the other: what a distance costs."""

import os
import random
import time

import pytest

from dvlite import config, hashing
from dvlite.ops.fetch import pull
from dvlite.ops.push import push
from dvlite.repo import open_repo
from dvlite.stores.base import loose_name
from dvlite.stores.remote import RemoteStore
from tests.conftest import make_project
from tests.remotes.suite import through
from tests.servers.proxy import HttpProxy, round_trips

COUNT = int(os.environ.get("DVLITE_MANY", "20000"))
DELAY_S = float(os.environ.get("DVLITE_DELAY", "0.02"))


@pytest.fixture
def far(server):
    """The server, at a distance, and what counts its requests."""
    proxy = HttpProxy(server.port, DELAY_S)
    yield through(server, proxy.port), proxy
    proxy.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A project with many small files; DVLITE_MANY=100000 for as many as are promised."""
    project = make_project(tmp_path_factory.mktemp("many") / "project")
    for folder in range(100):
        path = project.root / f"data/d{folder}"
        path.mkdir(parents=True)
        for number in range(COUNT // 100):
            (path / f"f{number}").write_bytes(random.randbytes(2000))
    project.dv("add", "-q", "data")
    project.commit("many")
    return project


def point(project, server):
    repo = open_repo(project.root)
    from dvlite.ops import remote as remotes_op

    url = f"{server.url}/t{time.time_ns():x}"
    remotes_op.add(repo, "origin", url, options=dict(server.options), is_forced=True)
    return url


def test_many_small_files_are_few_requests(many, far, tmp_path):
    server, proxy = far
    point(many, server)
    result = push(open_repo(many.root))
    assert not result.failures and result.pushed > COUNT
    assert len(proxy.asked) <= 40, [f"{one.method} {one.path[:90]}" for one in proxy.asked]
    proxy.clear()
    assert not push(open_repo(many.root)).pushed
    assert len(proxy.asked) <= 10 and round_trips(proxy.asked) <= 3
    proxy.clear()
    clone = many.clone(f"clone{time.time_ns():x}")
    clone.write({"dvlite.toml": (many.root / "dvlite.toml").read_bytes()})
    clone.git("config", "dvlite.trust", "http://127.0.0.1:" + str(proxy.port))
    result = pull(open_repo(clone.root))
    assert not result.fetch.failures and result.fetch.fetched >= COUNT
    assert len(proxy.asked) <= 40, len(proxy.asked)


def fill(server, url, count):
    """Put many large objects of others on a remote, by its folder (short ones: nobody reads them)."""
    root = server.folder / url[len("s3://bucket/") :]
    for number in range(count):
        path = root / loose_name(hashing.oid_of("sha256", number.to_bytes(8)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    time.sleep(0.3)


@pytest.mark.parametrize(("others", "most"), [(0, 3), (4900, 10), (12_000, 10)])
def test_a_push_with_nothing_to_do_is_few_round_trips(project, far, server, others, most):
    near, proxy = far
    project.write({f"d/f{number}": str(number) for number in range(50)})
    project.write({f"big{number}.bin": os.urandom((1 << 20) + 1) for number in range(3)})
    project.dv("add", "-q", "d", *(f"big{number}.bin" for number in range(3)))
    project.commit()
    url = point(project, near)
    push(open_repo(project.root))
    fill(server, url, others)
    push(open_repo(project.root))
    proxy.clear()
    result = push(open_repo(project.root))
    assert not result.pushed and not result.failures and result.present == 54
    assert round_trips(proxy.asked) <= most, [f"{one.method} {one.path[:90]}" for one in proxy.asked]
    assert len(proxy.asked) <= 20


def test_what_is_wanted_is_asked_for_by_name_where_that_is_less(far, server, tmp_path):
    """A remote of many packs: a clone that knows them asks for the one that it needs."""
    near, proxy = far
    remote = config.Remote("origin", f"{near.url}/t{time.time_ns():x}", options=near.options)
    store = RemoteStore(remote, tmp_path / "known")
    store.bucket.put(config.MARKER, config.encode_marker())
    names = []
    for number in range(3):
        with store.batch() as batch:
            names.append(batch.put(str(number).encode(), "sha256"))
    store.find(names)
    for number in range(6000):  # packs that were cut off: names only
        path = server.folder / remote.url[len("s3://bucket/") :] / f"packs/{number:064x}.pack"
        path.write_bytes(b"x")
    time.sleep(0.3)
    RemoteStore(remote, tmp_path / "known").find(names)
    proxy.clear()
    fresh = RemoteStore(remote, tmp_path / "known")
    assert fresh.find(names[:1]) == {names[0]: 1}
    # One page, the tombstones and the marks of sweeps, and the pack and its index.
    assert len(proxy.asked) <= 6 and round_trips(proxy.asked) <= 3
    next(
        (server.folder / remote.url[len("s3://bucket/") :]).glob(f"packs/{fresh.share(names[:1])[0].popitem()[0]}.pack")
    ).unlink()
    time.sleep(0.3)
    assert RemoteStore(remote, tmp_path / "known").find(names[:1]) == {}


def test_a_large_object_is_asked_for_by_name_too(far, server, tmp_path):
    near, proxy = far
    remote = config.Remote("origin", f"{near.url}/t{time.time_ns():x}", options=near.options)
    store = RemoteStore(remote, tmp_path / "known")
    store.bucket.put(config.MARKER, config.encode_marker())
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    with store.batch() as batch:
        small = batch.put(b"small", "sha256")
        large = batch.put_file(tmp_path / "large", "sha256").oid
    for number in range(6000):
        (server.folder / remote.url[len("s3://bucket/") :] / f"packs/{number:064x}.pack").write_bytes(b"x")
    time.sleep(0.3)
    RemoteStore(remote, tmp_path / "known").find([small])
    proxy.clear()
    assert RemoteStore(remote, tmp_path / "known").find([small, large]) == {small: 5, large: 1 << 20}
    assert len(proxy.asked) <= 7


def test_a_whole_listing_of_several_pages_names_each_file_once(server, tmp_path):
    remote = config.Remote("origin", f"{server.url}/t{time.time_ns():x}", options=server.options)
    RemoteStore(remote, tmp_path / "known").bucket.put(config.MARKER, config.encode_marker())
    fill(server, remote.url, 1500)
    store = RemoteStore(remote, tmp_path / "known")
    listing = store.look()
    assert len(listing) == len(list(listing)) == len(set(listing)) == 1501
    assert len(list(store.oids())) == 1500
