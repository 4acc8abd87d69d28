"""Data of other repositories and of URLs: get, and looking."""

import os
import shutil
import subprocess
import sys

import pytest

from dvlite import git
from dvlite.ops.get import get
from dvlite.ops.source import is_local, open_source
from tests import servers
from tests.conftest import Project

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def place(tmp_path):
    """A folder that is no repository."""
    (tmp_path / "place").mkdir()
    return Project(tmp_path / "place")


def without_store(project):
    """Have a repository whose data is on the remote alone."""
    shutil.rmtree(project.root / ".git/dvlite")


# ---- get ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_store", [True, False])
def test_get_takes_files_and_folders_at_any_rev(source, place, has_store):
    if not has_store:
        without_store(source)
    place.dv("get", source.root, "data")
    assert place.read("data") == source.read("data")
    place.dv("get", source.root, "data/a.csv", "--rev", "v1", "-o", "old.csv")
    assert (place.root / "old.csv").read_text() == "first\n"
    place.dv("get", source.root, "data/sub")
    assert sorted(place.read("sub")) == [f"s{n}.txt" for n in range(5)]
    told = place.json("get", source.root, "model.bin")
    assert (place.root / "model.bin").read_bytes() == (source.root / "model.bin").read_bytes()
    assert told["size"] == (1 << 20) + 1 and told["commit"] == source.git("rev-parse", "HEAD").strip()
    (place.root / "model.bin").write_bytes(b"mine to write")
    assert {one.name for one in place.root.iterdir()} == {"data", "old.csv", "sub", "model.bin"}


def test_get_of_one_file_brings_that_one_alone(source, place, tmp_path):
    without_store(source)
    for pack in (tmp_path / "remote/objects").rglob("*"):
        if pack.is_file():
            pack.unlink()
    place.dv("get", source.root, "data/sub/s1.txt")
    assert place.read() == {"s1.txt": b"sub 1\n" * 100}
    said = place.dv("get", source.root, "model.bin", code=10)
    assert "can't be had" in said and "(asked: the local store, remote 'origin')" in said
    assert list(place.read()) == ["s1.txt"]


def test_get_leaves_the_source_as_it_is(source, place):
    source.settle()
    before = {path: path.stat().st_mtime_ns for path in source.root.rglob("*")}
    place.dv("get", source.root, "data")
    place.dv("get", source.root, "data/a.csv")
    after = {path: path.stat().st_mtime_ns for path in source.root.rglob("*")}
    assert before == after


def test_get_of_what_git_alone_keeps(source, place):
    place.dv("get", source.root, "script.py")
    assert os.access(place.root / "script.py", os.X_OK)
    place.dv("get", source.root, "pkg", "--rev", "v1")
    assert place.read("pkg") == {"a.py": b"a\n", "link": "link:a.py"}
    plain = place.root / "plain"
    subprocess.run(["git", "init", "-q", "-b", "main", plain], check=True)
    (plain / "file").write_text("of a repository without dvlite\n")
    subprocess.run(["git", "-C", plain, "add", "-A"], check=True)
    subprocess.run(["git", "-C", plain, "commit", "-qm", "one"], check=True)
    place.dv("get", plain, "file")
    assert (place.root / "file").read_text() == "of a repository without dvlite\n"


def test_get_overwrites_nothing_unless_forced(source, place):
    place.write({"a.csv": "mine\n"})
    assert "exists" in place.dv("get", source.root, "data/a.csv", code=2)
    assert place.read() == {"a.csv": b"mine\n"}
    place.dv("get", source.root, "data/a.csv", "--force")
    assert place.read() == {"a.csv": b"second, longer\n"}
    (place.root / "into").mkdir()
    place.dv("get", source.root, "data/a.csv", "-o", "into")
    assert (place.root / "into/a.csv").exists()


def test_what_cannot_be_got_is_said(source, place, tmp_path):
    assert "there is no repository" in place.dv("get", "nowhere", "data", code=2)
    assert "'nothing' is not tracked" in place.dv("get", source.root, "nothing", code=2)
    assert "there is no 'data/nothing'" in place.dv("get", source.root, "data/nothing", code=2)
    assert "'v9' is not a commit" in place.dv("get", source.root, "data", "--rev", "v9", code=2)
    assert "is not a folder" in place.dv("get", source.root, "data", "-o", "a/b/c", code=2)
    assert "can't get the repository" in place.dv("get", f"file://{tmp_path}/no.git", "data", code=1)
    assert place.read() == {}


def test_a_url_that_runs_a_command_is_refused(place, tmp_path):
    said = place.dv("get", f"ext::sh -c touch% {tmp_path}/ran", "data", code=1)
    assert "not allowed" in said and not (tmp_path / "ran").exists()
    place.dv("get", f"--upload-pack=touch {tmp_path}/ran", "data", code=2)
    assert not (tmp_path / "ran").exists()


def test_damage_on_the_remote_is_found_and_nothing_is_written(source, place, tmp_path):
    without_store(source)
    (large,) = (path for path in (tmp_path / "remote/objects").rglob("*") if path.is_file())
    large.chmod(0o644)
    with large.open("r+b") as file:
        file.write(b"damage")
    assert "corrupt" in place.dv("get", source.root, "model.bin", code=11)
    assert place.read() == {}


@pytest.mark.parametrize("kind", ["bare", "http", "ssh"])
def test_from_where_others_keep_their_repositories(source, place, tmp_path, kind, cache):
    (tmp_path / "server").mkdir()
    try:
        with servers.serve({"bare": "git", "http": "git", "ssh": "sftp"}[kind], tmp_path / "server") as server:
            env, url = {}, f"file://{tmp_path}/up.git"
            if kind == "http":
                url = server.url
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "up.git"], check=True)
            if kind == "ssh":
                options = server.options
                url = f"ssh://{options['username']}@127.0.0.1:{server.port}{tmp_path}/up.git"
                env = {
                    "GIT_SSH_COMMAND": f"ssh -i '{options['key_filename']}' -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
                }
            for name, value in env.items():
                os.environ[name] = value
            source.git("push", "-q", url, "main", "v1")
            place.dv("get", url, "data", env=env)
            assert place.read("data") == source.read("data")
            place.dv("get", url, "data/a.csv", "--rev", "v1", env=env)
            assert (place.root / "a.csv").read_text() == "first\n"
            place.dv("get", url, "script.py", env=env)
            source.write({"a.csv": "third\n"}, "data")
            source.dv("add", "data")
            source.commit("three")
            source.dv("push")
            source.git("push", "-q", url, "main")
            place.dv("get", url, "data/a.csv", "--force", env=env)
            assert (place.root / "a.csv").read_text() == "third\n", "a clone in the cache is brought up to date"
            assert kind == "bare" or len(list((cache / "repositories").iterdir())) == 1
    except servers.Lacking as exc:
        pytest.skip(str(exc))
    finally:
        os.environ.pop("GIT_SSH_COMMAND", None)


def test_an_endpoint_that_the_source_brings_gets_credentials_only_when_trusted(source, place, bucket):
    endpoint, name, _ = bucket
    source.dv("remote", "set", "origin", "url", f"s3://{name}/x")
    source.dv("remote", "set", "origin", "endpoint_url", endpoint)
    source.dv("remote", "trust", "origin")
    source.dv("push", "--all")
    source.commit("elsewhere")
    without_store(source)
    subprocess.run(["git", "clone", "-q", "--bare", source.root, place.root / "bare.git"], check=True)
    subprocess.run(["git", "config", "--global", "--unset-all", "dvlite.trust"], check=False)
    said = place.dv("get", place.root / "bare.git", "data", code=13)
    assert "git config --global --add dvlite.trust" in said
    subprocess.run(["git", "config", "--global", "--add", "dvlite.trust", endpoint], check=True)
    place.dv("get", place.root / "bare.git", "data")
    assert place.read("data") == source.read("data")


def test_a_folder_of_many_files_is_few_requests(source, place, tmp_path, cache):
    """Listings come a level at a time, contents together."""
    source.write({f"d{n:02}/f{m}": f"{n} {m}" for n in range(30) for m in range(20)}, "many")
    source.dv("add", "many")
    source.commit("many")
    source.dv("push")
    without_store(source)
    opened = open_source(str(source.root), "", cache, tmp_path)
    get(opened, "many", place.root / "many")
    assert place.read("many") == source.read("many")
    assert len(list((tmp_path / "remote/packs").glob("*.pack"))) < 10


@pytest.mark.parametrize("is_clone", [True, False])
def test_looking_without_a_checkout(source, place, tmp_path, is_clone):
    subprocess.run(["git", "clone", "-q", "--bare", source.root, tmp_path / "up.git"], check=True)
    url = source.root
    if is_clone:  # a host that isn't this machine, to dvlite
        subprocess.run(
            ["git", "config", "--global", f"url.file://{tmp_path}/.insteadOf", "https://host.invalid/"], check=True
        )
        url = "https://host.invalid/up.git"
    assert [one["path"] for one in place.json("ls", "--repo", url)["entries"]] == ["data", "model.bin"]
    assert [one["path"] for one in place.json("ls", "data/sub", "--repo", url)["entries"]] == [
        f"data/sub/s{n}.txt" for n in range(5)
    ]
    assert len(place.json("ls", "-R", "--repo", url)["entries"]) == 2 + 1 + 6
    assert place.dv("cat", "data/a.csv", "--repo", url) == "second, longer\n"
    assert place.dv("cat", "data/a.csv", "--repo", url, "--rev", "v1") == "first\n"
    command = [sys.executable, "-m", "dvlite", "cat", "model.bin", "--repo", url]
    done = subprocess.run(command, cwd=place.root, capture_output=True)
    assert done.stdout == (source.root / "model.bin").read_bytes()
    assert "is a folder" in place.dv("cat", "data", "--repo", url, code=2)
    assert place.read() == {}


def test_listings_alone_can_be_fetched(source, tmp_path):
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", source.root, clone.root], check=True)
    clone.dv("ls", "data", code=10)
    assert len(clone.json("ls", "data", "-R", "--rev", "v1", "--fetch")["entries"]) == 7
    assert len(clone.json("ls", "data", "-R", "--rev", "v1")["entries"]) == 7
    assert clone.json("du", "--rev", "v1")["total"]["stored"] == 0, "no content came"


def test_force_never_replaces_what_is_precious(source, project):
    project.write({"mine.txt": "precious\n", "sub/x": "1"})
    project.dv("add", "mine.txt")
    for target in (".", "..", ".git", "mine.txt"):
        project.dv("get", source.root, "data/a.csv", "-o", target, "--force", code=2)
    assert (project.root / "mine.txt").read_text() == "precious\n" and (project.root / ".git/HEAD").exists()
    project.dv("get", source.root, "/", "--force", code=2)
    project.dv("get", source.root, "data/a.csv", "-o", "sub/x", "--force")


def test_attributes_of_the_source_change_nothing_of_what_is_got(source, place):
    source.write(
        {".gitattributes": "*.md export-ignore\nv.txt export-subst\n", "a.md": "kept\n", "v.txt": "$Format:%H$\n"}
    )
    source.commit("attributes")
    place.dv("get", source.root, "a.md")
    place.dv("get", source.root, "v.txt")
    assert place.read() == {"a.md": b"kept\n", "v.txt": b"$Format:%H$\n"}


def test_a_bare_repository_among_a_clones_files_is_not_opened(project, tmp_path):
    """Its config is the stranger's, and could name a command."""
    evil = project.root / "assets"
    subprocess.run(["git", "init", "-q", "--bare", evil], check=True)
    (evil / "config").write_text(
        '[core]\n\tbare = true\n[extensions]\n\tpartialClone = origin\n[remote "origin"]\n\tpromisor = true\n\turl = .\n'
        f'\tuploadpack = "touch {tmp_path}/ran; git-upload-pack"\n'
    )
    (evil / "HEAD").write_text("1" * 40 + "\n")
    assert "inside of another" in project.dv("get", "assets", "d", code=2)
    assert not (tmp_path / "ran").exists()


def test_a_password_in_a_url_gets_nowhere(project, source):
    subprocess.run(
        ["git", "config", "--global", f"url.file://{source.root}.insteadOf", "https://bob:s3cret@host.invalid/a.git"],
        check=True,
    )
    project.dv("import", "https://bob:s3cret@host.invalid/a.git", "data")
    assert 'repo = "https://host.invalid/a.git"' in (project.root / "data.dvlite").read_text()
    assert "s3cret" not in project.dv("ls", "nope", "--repo", "https://bob:s3cret@host.invalid/a.git", code=2)
    assert "s3cret" not in project.dv("ls", "--repo", "https://bob:s3cret@other.invalid/a.git", code=1)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://bob:s3cret@h/a.git", "https://h/a.git"),
        ("https://ghp_token@h/a.git", "https://h/a.git"),
        ("ssh://git@h/a.git", "ssh://git@h/a.git"),
        ("ssh://bob:s3cret@h/a.git", "ssh://h/a.git"),
        ("git@h:a.git", "git@h:a.git"),
        ("/a folder/b@c", "/a folder/b@c"),
    ],
)
def test_what_of_a_url_is_secret(url, shown):
    assert git.without_login(url) == shown


def test_a_host_that_ssh_reaches_is_not_this_machine():
    """An import of `git@host:path` may be updated in every clone."""
    assert [is_local(url) for url in ("git@h:a.git", "ssh://h/a", "https://h/a", "file:///a", "/a", "../a", "./a:b")] == [
        False, False, False, True, True, True, True,
    ]  # fmt: skip


def test_the_default_branch_of_a_url_may_change(source, place, tmp_path):
    subprocess.run(
        ["git", "config", "--global", f"url.file://{tmp_path}/.insteadOf", "https://host.invalid/"], check=True
    )
    assert place.dv("cat", "data/a.csv", "--repo", "https://host.invalid/source") == "second, longer\n"
    source.git("branch", "-m", "main", "trunk")
    source.write({"a.csv": "of trunk\n"}, "data")
    source.dv("add", "data")
    source.commit("trunk")
    source.dv("push")
    assert place.dv("cat", "data/a.csv", "--repo", "https://host.invalid/source") == "of trunk\n"
