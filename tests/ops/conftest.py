"""What the tests of several operations begin with."""

import os

import pytest

from tests.conftest import make_project
from tests.ops.making import make
from tests.ops.shop import open_shop


@pytest.fixture
def made(project):
    """A project with raw data, and a model made of it in two steps."""
    return make(project)


@pytest.fixture
def shop(project, tmp_path):
    """A project with two registered versions of a model, the first in production, and a Git remote."""
    return open_shop(project, tmp_path)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of one's own for clones of other repositories."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/dvlite"


@pytest.fixture
def source(tmp_path):
    """Another repository with two versions of its data, pushed; the first is tagged v1."""
    one = make_project(tmp_path / "source")
    one.write({f"sub/s{n}.txt": f"sub {n}\n" * 100 for n in range(5)} | {"a.csv": "first\n"}, "data")
    one.write({"model.bin": os.urandom(1 << 20) + b"x", "script.py": "print()\n", "pkg/a.py": "a\n"})
    (one.root / "pkg/link").symlink_to("a.py")
    (one.root / "script.py").chmod(0o755)
    one.dv("remote", "add", "origin", str(tmp_path / "remote"))
    one.dv("add", "data", "model.bin")
    one.commit("one")
    one.git("tag", "v1")
    one.dv("push")
    one.write({"a.csv": "second, longer\n"}, "data")
    one.dv("add", "data", "--desc", "numbers")
    one.commit("two")
    one.dv("push")
    return one
