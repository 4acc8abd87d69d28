"""Several remotes: where each path goes, where each is looked for, and what may not be written to."""

import json
import os
import shutil

import pytest

from dvlite.errors import RemoteError
from dvlite.ops.fetch import pull
from dvlite.ops.push import push_all
from dvlite.ops.status import status
from dvlite.repo import open_repo


@pytest.fixture
def several(project):
    """Three folders as remotes: models go to the second one."""
    project.write({"models/a.bin": os.urandom(2000), "data/b.bin": os.urandom(3000), "more.bin": os.urandom(100)})
    project.dv("remote", "add", "one", "../one")
    project.dv("remote", "add", "two", "../two")
    project.dv("remote", "add", "three", "../three")
    project.dv("remote", "set", "two", "paths", '["models/**"]')
    project.dv("add", "-q", "models", "data", "more.bin")
    project.commit("first")
    return project


def sizes(project, name):
    folder = project.root.parent / name
    return sum(path.stat().st_size for path in folder.glob("packs/*.pack")) if folder.exists() else 0


def test_each_path_goes_where_its_pattern_says(several):
    results = push_all(open_repo(several.root))
    assert [(one.remote, one.pointers) for one in results] == [("two", 1), ("one", 2)]
    assert 2000 < sizes(several, "two") < 3000 < sizes(several, "one") and not sizes(several, "three")
    said = several.dv("push")
    assert "everything is on 'two'" in said and "everything is on 'one'" in said
    assert status(open_repo(several.root), remote="").is_clean
    shutil.rmtree(several.root.parent / "two/packs")
    assert [one.missing_there for one in status(open_repo(several.root), remote="").paths] == [0, 2, 0]
    assert "not on remote 'two'" in several.dv("status", "--remote")


def test_a_pull_asks_the_paths_own_remote_then_the_others(several):
    push_all(open_repo(several.root))
    clone = several.clone()
    result = pull(open_repo(clone.root))
    assert not result.fetch.failures and clone.read("models") == several.read("models")
    assert sorted(result.fetch.remote.split(", ")) == ["one", "two"]
    shutil.rmtree(several.root.parent / "two")
    several.dv("push", "--remote", "three")
    other = several.clone("other")
    result = pull(open_repo(other.root))
    assert not result.fetch.failures and not result.fetch.missing
    assert "three" in result.fetch.remote and other.read("models") == several.read("models")


def test_a_remote_that_is_away_does_not_stop_what_others_have(several):
    several.dv("push", "--remote", "one", "--remote", "three")
    clone = several.clone()
    clone.dv("remote", "set", "--local", "two", "url", "/no/such/disk/remote")
    result = pull(open_repo(clone.root))
    assert not result.fetch.failures and clone.read("models") == several.read("models")
    shutil.rmtree(several.root.parent / "one")
    shutil.rmtree(several.root.parent / "three")
    last = several.clone("last")
    last.dv("remote", "set", "--local", "two", "url", "/no/such/disk/remote")
    assert "/no/such/disk" in last.dv("pull", code=13)
    assert "neither here nor on" in several.clone("and").dv("pull", code=10)


def test_damage_on_one_is_made_good_by_another(several):
    several.dv("push", "--remote", "one", "--remote", "three")
    for path in (several.root.parent / "one").glob("packs/*.pack"):
        data = bytearray(path.read_bytes())
        data[20] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    clone = several.clone()
    result = pull(open_repo(clone.root))
    assert not result.fetch.failures and clone.read("data") == several.read("data")


def test_pushing_to_two_by_name(several):
    assert several.dv("push", "--remote", "one", "--remote", "three").count("pushed to") == 2
    assert sizes(several, "one") == sizes(several, "three") > 5000


def test_a_read_only_remote_is_not_pushed_to_by_a_route(several):
    several.dv("remote", "set", "two", "read_only", "true")
    with pytest.raises(RemoteError, match="read-only"):
        push_all(open_repo(several.root))
    assert several.dv("push", "more.bin", "--remote", "one")


def test_a_dry_run_says_what_would_go_by_path(several):
    said = several.dv("push", "--dry-run")
    assert "would push to 'one': 3 objects" in said and "would push to 'two': 2 objects" in said
    assert "  data: 2 objects" in said and "  models: 2 objects" in said and "  more.bin: 1 object" in said
    assert not sizes(several, "one") and not sizes(several, "two")


def test_paths_inside_a_routed_folder(several):
    several.dv("push", "models/a.bin")
    assert 2000 < sizes(several, "two") and not sizes(several, "one")


def test_the_pre_push_hook_goes_by_routes(several, tmp_path):
    several.git("init", "-q", "--bare", str(tmp_path / "up.git"))
    several.git("remote", "add", "origin", str(tmp_path / "up.git"))
    several.dv("hooks", "install", "-q")
    several.git("push", "-q", "origin", "main")
    assert 2000 < sizes(several, "two") < 3000 < sizes(several, "one")


def test_hooks_ask_only_remotes_that_were_used(several):
    """A hook contacts nothing that a repository brings along, though another remote would have what lacks."""
    several.dv("push", "--remote", "one")
    clone = several.clone()
    clone.dv("pull", "-q", "data")  # remote "one" is used now, and no other
    clone.dv("hooks", "install", "-q")
    clone.git("config", "dvlite.hooks.fetch", "true")
    several.write({"data/b.bin": os.urandom(3000)})
    several.dv("add", "-q", "data")
    several.commit("second")
    several.dv("push", "--remote", "three")
    clone.git("pull", "-q")
    assert not (clone.root / ".git/dvlite/remotes/three").exists()
    assert clone.read("data") != several.read("data")
    several.dv("push", "--remote", "one")
    clone.git("commit", "-q", "--allow-empty", "-m", "x")
    clone.git("checkout", "-q", "HEAD~1")
    clone.git("checkout", "-q", "main")
    assert clone.dv("pull", "-q") == "" and clone.read("data") == several.read("data")


def test_what_was_pushed_is_said_though_the_next_remote_is_away(several):
    several.dv("remote", "set", "--local", "three", "url", "/no/such/disk/remote")
    said = several.dv("push", "--remote", "one", "--remote", "three", code=13)
    assert "pushed to 'one'" in said and "/no/such/disk" in said


@pytest.fixture
def halves(project, tmp_path):
    """Two remotes: the default one has large contents, and not the listings that name them; the other one has the listings."""
    for name in ("one", "two"):
        project.dv("remote", "add", name, str(tmp_path / name))
    project.write({"big": os.urandom((1 << 20) + 1)}, "data")
    project.dv("add", "data")
    project.commit("data")
    project.dv("push", "--remote", "one", "--remote", "two")
    shutil.rmtree(tmp_path / "one/packs")
    shutil.rmtree(tmp_path / "two/objects")
    return project


def test_what_one_remote_lists_another_may_have(halves):
    clone = halves.clone()
    clone.dv("pull")
    assert clone.read("data") == halves.read("data")


def test_what_is_listed_and_nowhere_is_missing(halves, tmp_path):
    shutil.rmtree(tmp_path / "one")
    clone = halves.clone()
    fetched = json.loads(clone.dv("fetch", "--json", code=10))
    assert list(fetched["missing"].values()) == ["data"] and not fetched["no_remote_at"]
    assert "1 object neither here nor on" in clone.run("fetch").stderr
