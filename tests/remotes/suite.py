"""What every remote must do, on a real server: the store's contract, and a user's day. One subclass a server."""

import os
import random
import shutil
import time

import pytest

from dvlite import config
from dvlite.cli.main import run
from dvlite.errors import RemoteError
from dvlite.ops import remote as remotes_op
from dvlite.ops.fetch import pull
from dvlite.ops.fsck_remote import fsck_remote
from dvlite.ops.gc_remote import gc_remote
from dvlite.ops.push import push
from dvlite.ops.remote_test import remote_test
from dvlite.repo import open_repo
from dvlite.stores.remote import RemoteStore
from tests import servers
from tests.servers.proxy import HttpProxy, TcpProxy
from tests.stores.conformance import StoreConformance

LARGE = (1 << 20) + 5


def started(name, factory, port=None):
    """Return a running server's context; a server that this machine lacks skips its tests, and says so."""
    context = servers.serve(name, factory.mktemp(name), port)
    try:
        return context, context.__enter__()
    except servers.Lacking as exc:
        pytest.skip(f"{name}: {exc}")


def through(server, port):
    """Return the same server as it is seen through a proxy at another port."""

    def other(text):
        return text.replace(f":{server.port}", f":{port}") if isinstance(text, str) else text

    options = {key: port if key == "port" else other(value) for key, value in server.options.items()}
    return server._replace(
        url=other(server.url), options=options, env={key: other(value) for key, value in server.env.items()}
    )


class Counted:
    """A driver whose verbs are counted, and may be made to fail; all else is the driver's."""

    def __init__(self, driver):
        self._driver = driver
        self.calls = []
        self.fail = lambda verb, name: None

    def __getattr__(self, verb):
        real = getattr(self._driver, verb)
        if verb not in (
            "read",
            "download",
            "write",
            "upload",
            "info",
            "remove",
            "rename",
            "folder",
            "pages",
            "upload_checked",
        ):
            return real

        def counted(*arguments, **options):
            self.calls.append((verb, arguments[0]))
            self.fail(verb, arguments[0])
            return real(*arguments, **options)

        return counted

    def count(self, *verbs):
        return sum(verb in verbs for verb, _ in self.calls)


class RemoteSuite(StoreConformance):
    """Give it `name`, and where it applies `is_http`, `login` (options that are wrong) and `is_smoke`."""

    name = ""
    driver = None
    is_http = True
    is_smoke = False
    has_md5 = False
    login = None

    # ---- servers and stores ----

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        context, server = started(cls.name, tmp_path_factory)
        if cls.driver:
            server = server._replace(options={**server.options, "driver": cls.driver})
        yield server
        context.__exit__(None, None, None)

    @pytest.fixture(autouse=True)
    def credentials(self, server, monkeypatch):
        for key, value in server.env.items():
            monkeypatch.setenv(key, value)

    def place(self, server):
        """Return the URL of a place that nobody used."""
        return f"{server.url}/t{time.time_ns():x}{random.randrange(1 << 16):x} é"

    def open(self, server, folder, url="", **more):
        remote = config.Remote("origin", url or self.place(server), options=server.options, **{"jobs": 4, **more})
        return RemoteStore(remote, folder / f"known-{random.randrange(1 << 40):x}")

    @pytest.fixture
    def store(self, server, tmp_path):
        store = self.open(server, tmp_path)
        store.bucket.put(config.MARKER, config.encode_marker())
        return store

    def reopen(self, store):
        return RemoteStore(store.remote, store.folder.with_name(f"known-{random.randrange(1 << 40):x}"))

    # ---- a user's day ----

    def configure(self, project, server, url="", **more):
        """Make a project use a place on the server, as a user would; machine's options stay on this machine."""
        url = url or self.place(server)
        if self.name == "folder":
            os.makedirs(url.rpartition("/")[0], exist_ok=True)
        repo = open_repo(project.root)
        remotes_op.add(repo, "origin", url, options={}, is_forced=True)
        for key, value in {**server.options, **more}.items():
            remotes_op.change(open_repo(project.root), "origin", key, str(value), level="local")
        return url

    @pytest.fixture
    def used(self, project, server):
        """A project with a folder of small files and a large file, on the server, not pushed."""
        project.write({f"d{n % 3}/f{n}.txt": f"content {n}\n" * 50 for n in range(30)}, "data")
        project.write({"model.bin": os.urandom(LARGE)})
        self.configure(project, server)
        project.dv("add", "-q", "data", "model.bin")
        project.commit("first")
        return project

    def clone(self, project, name="clone"):
        """Return a fresh clone that may use the same remote: what the machine's config says comes along."""
        clone = project.clone(name)
        for line in project.git("config", "--local", "--list").splitlines():
            key, _, value = line.partition("=")
            if key.startswith("dvlite."):
                clone.git("config", "--local", key, value)
        return clone

    def counted(self, project, monkeypatch):
        """Return an opened repository whose remote's driver counts."""
        repo = open_repo(project.root)
        store = repo.remote()
        store.bucket.driver = counted = Counted(store.bucket.driver)
        monkeypatch.setattr(repo, "remote", lambda name="": store)
        return repo, counted

    def test_push_then_clone_and_pull_are_equal(self, used):
        """Push; clone and pull are byte for byte equal"""
        used.dv("push")
        clone = self.clone(used)
        clone.dv("pull")
        assert clone.read("data") == used.read("data")
        assert (clone.root / "model.bin").read_bytes() == (used.root / "model.bin").read_bytes()
        assert clone.dv("status", "--remote").startswith("clean")

    def test_a_second_push_sends_nothing(self, used, monkeypatch):
        """A second push only looks"""
        assert push(open_repo(used.root)).pushed > 0
        repo, counted = self.counted(used, monkeypatch)
        result = push(repo)
        assert (result.pushed, result.failures) == (0, []) and result.present > 30
        assert counted.count("write", "upload", "upload_checked", "remove", "rename") == 0

    def test_a_change_sends_only_what_is_new(self, used, monkeypatch):
        """A change sends only what is new"""
        push(open_repo(used.root))
        used.write({"data/d1/f1.txt": "changed"})
        used.dv("add", "-q", "data")
        used.commit("second")
        repo, counted = self.counted(used, monkeypatch)
        result = push(repo)
        assert result.pushed == 3 and not result.failures  # the file, and two listings above it
        assert not [name for verb, name in counted.calls if verb == "upload" and "objects" in name]

    def test_pull_of_one_file_and_of_a_part(self, used, monkeypatch):
        """Pull of one file, and of a folder's part, moves those alone"""
        push(open_repo(used.root))
        clone = self.clone(used)
        result = pull(open_repo(clone.root), ["data/d1/f1.txt"])
        assert result.fetch.fetched == 1 and clone.read("data") == {"d1/f1.txt": b"content 1\n" * 50}
        repo, counted = self.counted(clone, monkeypatch)
        assert pull(repo, ["data/d1"]).fetch.fetched == 9
        assert not [name for _, name in counted.calls if name.startswith("objects/")]

    def test_an_interrupted_push_and_pull_go_on(self, used, monkeypatch):
        """An interrupted push, and pull, go on where they stopped"""
        used.write({f"more{n}.bin": os.urandom(LARGE) for n in range(3)})
        used.dv("add", "-q", *(f"more{n}.bin" for n in range(3)))
        used.commit("more")
        repo, counted = self.counted(used, monkeypatch)
        seen = []

        def fail(verb, name):
            if verb in ("upload", "upload_checked"):
                seen.append(name)
                if len(seen) > 3:
                    raise RemoteError("cut off")

        counted.fail = fail
        assert push(repo, jobs=1).failures
        left = set(self.names(repo, "objects/")) if self.name != "folder" else set()
        repo, counted = self.counted(used, monkeypatch)
        result = push(repo)
        assert not result.failures and result.pushed
        assert not left & {name for verb, name in counted.calls if verb == "upload"}
        clone = self.clone(used)
        repo, counted = self.counted(clone, monkeypatch)
        got = []

        def fail_get(verb, name):
            if name.startswith("objects/") and verb in ("download", "read"):
                got.append(name)
                if len(got) > 2:
                    raise RemoteError("cut off")

        counted.fail = fail_get
        if self.name != "folder":
            assert pull(repo, jobs=1).fetch.failures
        repo, counted = self.counted(clone, monkeypatch)
        assert not pull(repo).fetch.failures
        assert not set(got[:2]) & {name for verb, name in counted.calls if verb in ("download", "read")}
        assert (clone.root / "more2.bin").read_bytes() == (used.root / "more2.bin").read_bytes()

    def names(self, repo, prefix):
        return [name for name in repo.remote().bucket.list() if name.startswith(prefix)]

    def test_gc_deletes_what_nothing_reaches(self, used):
        """gc --remote deletes what nothing reaches, and nothing else"""
        push(open_repo(used.root))
        used.write({"model.bin": os.urandom(LARGE)})
        used.dv("add", "-q", "model.bin")
        used.commit("replaced")
        push(open_repo(used.root))
        used.git("reset", "-q", "--hard", "HEAD~1")
        used.git("reflog", "expire", "--expire=now", "--all")
        (used.root / ".git/ORIG_HEAD").unlink()
        for name in self.names(open_repo(used.root), "claims/"):
            open_repo(used.root).remote().bucket.remove(name)
        used.dv("checkout", "-q", "--force")
        before = len(self.names(open_repo(used.root), "objects/"))
        gc_remote(open_repo(used.root), grace_s=-5)
        result = gc_remote(open_repo(used.root), grace_s=-5)
        assert result.deleted >= 1 and before == 2 and len(self.names(open_repo(used.root), "objects/")) == 1
        shutil.rmtree(used.root / ".git/dvlite/remotes")
        clone = self.clone(used)
        assert not pull(open_repo(clone.root)).fetch.failures and clone.read("data") == used.read("data")

    def test_fsck_finds_and_heals_damage(self, used):
        """fsck --remote finds damage, and heals it"""
        push(open_repo(used.root))
        assert fsck_remote(open_repo(used.root)).problems == []
        bucket = open_repo(used.root).remote().bucket
        for name in [one for one in bucket.list() if one.startswith("objects/") or one.endswith(".pack")]:
            data = bytearray(bucket.get(name))
            data[len(data) // 2] ^= 1
            bucket.put(name, bytes(data))
        assert fsck_remote(open_repo(used.root)).problems
        assert all(one.healed for one in fsck_remote(open_repo(used.root), is_repairing=True).problems)
        assert fsck_remote(open_repo(used.root)).problems == []

    def test_a_read_only_remote_is_read(self, used):
        """read_only: pull works, push is refused"""
        push(open_repo(used.root))
        clone = self.clone(used)
        clone.dv("remote", "set", "origin", "read_only", "true")
        assert not pull(open_repo(clone.root)).fetch.failures
        with pytest.raises(RemoteError, match="read-only"):
            push(open_repo(clone.root))

    def test_remote_test_says_that_it_works(self, used):
        """dvlite remote test finds that it works, and leaves nothing"""
        result = remote_test(open_repo(used.root), "origin")
        assert result.is_good, result.checks
        assert result.round_trip_s > 0 and result.upload_rate > 0 and len(result.checks) == 10
        assert self.names(open_repo(used.root), "") == []
        if self.name == "folder":
            assert not os.path.exists(used.repo.remote().remote.url) or not os.listdir(used.repo.remote().remote.url)

    def test_push_verify(self, used):
        """push --verify compares sizes, and checksums where the server has them"""
        result = push(open_repo(used.root), is_verified=True)
        assert result.verified.files >= 4 and not result.verified.errors
        assert result.verified.by_checksum >= (2 if self.has_md5 else 0)
        bucket = open_repo(used.root).remote().bucket
        name = next(one for one in bucket.list() if one.startswith("objects/"))
        data = bucket.get(name)
        if self.has_md5:
            bucket.put(name, bytes(reversed(data)))
            said = push(open_repo(used.root), is_verified=True)
            assert "other bytes" in str(said.failures[0].error.message)
        bucket.remove(name)
        assert push(open_repo(used.root), is_verified=True).pushed == 1

    def test_a_refused_login_says_whose(self, used, server, monkeypatch, capfd):
        """A refused login says whose credentials were used, and no secret"""
        if not self.login:
            pytest.skip("this server has no logins")
        for key, value in self.login.items():
            if key.isupper():
                monkeypatch.setenv(key, value.replace("{port}", str(server.port)))
            else:
                remotes_op.change(open_repo(used.root), "origin", key, value, level="local")
        started_at = time.monotonic()
        assert run(["-C", str(used.root), "push"]) == 13
        said = capfd.readouterr().err
        assert "refused" in said and "these were used" in said, said
        assert not [value for value in self.login.values() if len(value) > 20 and value in said]
        assert time.monotonic() - started_at < 20

    def test_a_place_that_is_not_there(self, used, server, capfd):
        """A server that isn't there is said to be away, with its address"""
        if self.name == "folder":
            pytest.skip("a folder has no server")
        if self.is_smoke:
            pytest.skip("an emulator for smoke tests; its library tries six times by itself")
        port = servers.free_port()
        self.through_port(used, server, port)
        assert run(["-C", str(used.root), "push"]) == 13
        assert "hint: Check the network" in capfd.readouterr().err

    # ---- what stands between ----

    def through_port(self, project, server, port, **more):
        """Reach the project's remote through another port from now on; returns what the environment must be."""
        seen = through(server, port)
        url = project.repo.remote().remote.url
        for key, value in seen.env.items():
            os.environ[key] = value
        self.configure(project, seen, url.replace(f":{server.port}", f":{port}"), **more)

    @pytest.fixture
    def proxy(self, server):
        if self.name == "folder":
            pytest.skip("nothing stands between a folder and us")
        if not self.is_http:
            pytest.skip("not spoken by HTTP")
        if self.is_smoke:
            pytest.skip("an emulator for smoke tests; its library tries six times by itself")
        proxy = HttpProxy(server.port)
        yield proxy
        proxy.close()

    @pytest.mark.parametrize("fault", ["500", "503", "short", "reset"])
    def test_faults_that_pass_are_got_over(self, used, server, proxy, fault):
        """Answers of 500, 503, cut short and broken off are got over"""
        self.through_port(used, server, proxy.port)
        proxy.fault = lambda method, path, number: fault if number % 7 == 3 else None
        push(open_repo(used.root))
        result = push(open_repo(used.root))
        assert not result.failures and not result.pushed
        clone = self.clone(used)
        result = pull(open_repo(clone.root))
        result = result if not result.fetch.failures else pull(open_repo(clone.root))
        assert not result.fetch.failures and clone.read("data") == used.read("data")
        assert (clone.root / "model.bin").read_bytes() == (used.root / "model.bin").read_bytes()

    def test_an_upload_that_is_changed_on_its_way(self, used, server, proxy):
        """An upload that is changed on its way is refused: by the server, or because a part of it is read back"""
        self.through_port(used, server, proxy.port)
        proxy.fault = lambda method, path, number: (
            "flip" if method == "PUT" and ("/packs/" in path or "/tmp/" in path) else None
        )
        try:
            assert push(open_repo(used.root)).failures
        except RemoteError:
            pass
        proxy.clear()
        push(open_repo(used.root))
        fsck_remote(open_repo(used.root), is_repairing=True)
        assert not fsck_remote(open_repo(used.root)).problems

    def test_faults_that_stay_are_said(self, used, server, proxy, capfd):
        """Faults that stay end in an error, and nothing half done counts"""
        self.through_port(used, server, proxy.port)
        proxy.fault = lambda method, path, number: "503" if method in ("PUT", "POST", "MOVE") else None
        assert run(["-C", str(used.root), "push"]) == 13
        assert "error" in capfd.readouterr().err
        proxy.clear()
        result = push(open_repo(used.root))
        assert result.pushed and not result.failures

    def test_a_server_that_says_nothing_is_given_up(self, used, server, proxy, capfd):
        """A server that says nothing is given up after the remote's timeout"""
        self.through_port(used, server, proxy.port, timeout=1)
        proxy.fault = lambda method, path, number: "stall"
        started_at = time.monotonic()
        assert run(["-C", str(used.root), "push"]) == 13
        assert time.monotonic() - started_at < 60

    def test_a_server_killed_in_the_middle(self, used, server):
        """A server that dies in the middle: an error, then the rest"""
        if self.name == "folder":
            pytest.skip("a folder has no server")
        if self.is_smoke:
            pytest.skip("an emulator for smoke tests; its library tries six times by itself")
        used.write({"big.bin": os.urandom(5 << 20)})
        used.dv("add", "-q", "big.bin")
        used.commit("big")
        pipe = TcpProxy(server.port)
        self.through_port(used, server, pipe.port, timeout=4)
        pipe.cut_after = 2 << 20
        pipe.is_dying = True
        result = None
        try:
            result = push(open_repo(used.root))
        except RemoteError:
            pass
        assert result is None or result.failures, pipe.passed
        assert pipe.passed > 1 << 20, pipe.passed
        pipe.is_dying = False
        result = push(open_repo(used.root))
        assert not result.failures
        clone = self.clone(used)
        pull(open_repo(clone.root))
        assert (clone.root / "big.bin").read_bytes() == (used.root / "big.bin").read_bytes()
        pipe.close()
