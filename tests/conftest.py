"""What the tests share: a real Git repository with dvlite in it, and real servers. No mocks; the memory store is the double."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dvlite.repo import open_repo
from tests import servers
from tests.commands import Commands

settings.register_profile("dvlite", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("dvlite")

GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    **servers.S3_ENV,
    "NO_COLOR": "1",
    # Hooks call the program by its name.
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


LONG = {
    "test_ceph",
    "test_concurrency",
    "test_faults",
    "test_fsck",
    "test_fsck_remote",
    "test_gc_remote",
    "test_powercut",
    "test_readme",
    "test_s3",
    "test_transfers",
    "test_walks",
}


def pytest_collection_modifyitems(items):
    """Begin with the files that take a minute or more, so that none of them is left alone at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path_factory):
    # A file of its own: Git replaces the one that it is told to write, whatever it is.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path_factory.mktemp("git") / "config"))
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


COMMANDS = Commands()


class Project:
    """A Git worktree with dvlite, driven as a user drives it."""

    def __init__(self, root):
        self.root = Path(root)

    def git_run(self, *arguments):
        return subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, errors="surrogateescape"
        )

    def git(self, *arguments):
        done = self.git_run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments, folder=None, env=None, timeout=120):
        """Run the real command line in a process of its own."""
        whole = {**os.environ, **(env or {})}
        if COMMANDS.can_run(whole):
            return COMMANDS.run(
                [os.fspath(one) if isinstance(one, os.PathLike) else str(one) for one in arguments],
                folder or self.root,
                whole,
                timeout,
            )
        return subprocess.run(
            [sys.executable, "-m", "dvlite", *map(str, arguments)],
            cwd=folder or self.root, capture_output=True, text=True, errors="surrogateescape",
            env=whole, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def dv(self, *arguments, code=0, **options):
        """Run the command line, expect an exit code, return what it printed."""
        done = self.run(*arguments, **options)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def interruptible(self, *arguments):
        """Run as a program in the foreground of a terminal, which Ctrl-C reaches: those behind a shell's & ignore it."""
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom dvlite.__main__ import main\nmain()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=self.root, capture_output=True, text=True, timeout=60
        )

    def json(self, *arguments, code=0):
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def repo(self):
        """The repository, opened anew."""
        return open_repo(self.root)

    def write(self, files, folder=""):
        """Write files: path to content."""
        for name, content in files.items():
            path = self.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def read(self, folder=""):
        """Return all files below a folder: path to content, links as 'link:'."""
        return tree_of(self.root / folder)

    def commit(self, message="a commit"):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def clone(self, name="clone"):
        target = self.root.parent / name
        subprocess.run(["git", "clone", "-q", self.root, target], check=True, capture_output=True)
        return Project(target)

    def packs(self):
        return sorted((self.root / ".git/dvlite/packs").glob("*.pack"))

    def settle(self):
        """Wait until no file's stat is too young to be trusted."""
        time.sleep(0.03)


@contextlib.contextmanager
def spied(room, name):
    """Yield the calls of a function, which does what it did."""
    real, calls = getattr(room, name), []

    def call(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    setattr(room, name, call)
    try:
        yield calls
    finally:
        setattr(room, name, real)


def tree_of(root):
    found = {}
    for folder, names, files in os.walk(root):
        for name in files + [name for name in names if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, root)
            found[key] = "link:" + os.readlink(path) if os.path.islink(path) else Path(path).read_bytes()
    return found


def make_project(root):
    root.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q", "-b", "main", root], check=True)
    project = Project(root)
    project.dv("init", "-q", "--no-hooks")
    return project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture
def pushed(project):
    """A project with a folder of small files and a large file, pushed to a folder remote."""
    project.write({f"d{n % 3}/f{n}.txt": f"content {n}\n" * 50 for n in range(30)}, "data")
    project.write({"model.bin": os.urandom(1 << 20) + b"tail"})
    project.dv("remote", "add", "origin", "../remote")
    project.dv("add", "data", "model.bin")
    project.commit("first")
    project.dv("push")
    return project


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server; yields its endpoint and the folder whose folders are its buckets."""
    folder = tmp_path_factory.mktemp("s3")
    with servers.serve("s3", folder) as server:
        yield server.options["endpoint_url"], folder


@pytest.fixture
def bucket(s3, tmp_path):
    """A new bucket: endpoint, name, folder."""
    endpoint, folder = s3
    name = f"b{os.getpid()}-{time.time_ns()}"
    (folder / name).mkdir()
    time.sleep(0.15)  # until the server looks at its folder again
    yield endpoint, name, folder / name
    shutil.rmtree(folder / name, ignore_errors=True)


def as_user(project, *arguments):
    """Run as an ordinary user who owns the project, in a fork (the interpreter itself may be closed to others)."""
    from dvlite.cli.main import run

    run(["-C", str(project.root), "status", "-q"])  # everything is imported now
    run(["-C", str(project.root), "checkout", "-q"])
    subprocess.run(["chown", "-R", "65534:65534", project.root], check=True)
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        os._exit(run(["-C", str(project.root), *arguments]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
