"""Data of other repositories and of URLs: get, import, import-url, update."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from dvlite import git
from dvlite.ops.get import get
from dvlite.ops.source import is_local, open_source
from tests import servers
from tests.conftest import Project, make_project


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
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


def test_a_strangers_import_reads_nothing_of_this_machine_unasked(project, tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    project.write({"d": "1"})
    project.dv("add", "d")
    for table in (f'url = "{tmp_path}/secret"\nversion = "0"', f'repo = "{tmp_path}/source"\npath = "data"'):
        project.git("checkout-index", "-f", "d.dvlite")
        with (project.root / "d.dvlite").open("a") as file:
            file.write(f"\n[import]\n{table}\n")
        assert "was not imported in this clone" in project.dv("update", code=2)
        assert (project.root / "d").read_text() == "1"


@pytest.mark.parametrize(
    "table", ['repo = "x"', 'path = "d"', "repo = 5\npath = 'x'", "url = 7", 'repo = "a\\u0000b"\npath = "x"']
)
def test_a_malformed_import_is_said_and_the_others_go_on(project, source, table):
    project.write({"d": "1"})
    project.dv("add", "d")
    project.dv("import", source.root, "data/a.csv")
    with (project.root / "d.dvlite").open("a") as file:
        file.write(f"\n[import]\n{table}\n")
    told = project.json("update", code=1)
    assert [one["path"] for one in told["imported"]] == ["a.csv"] and "[import] must have" in told["failures"][0][
        "error"
    ]["message"]


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


def test_metadata_of_the_source_that_is_no_table_is_left(project, source):
    with (source.root / "model.bin.dvlite").open("a") as file:
        file.write("\n[[meta]]\nx = 1\n")
    source.commit("odd")
    project.dv("import", source.root, "model.bin")
    assert "[meta" not in (project.root / "model.bin.dvlite").read_text()


def test_an_import_that_was_cut_off_is_finished_by_the_same_command(project, source):
    project.dv("import", source.root, "data", "--rev", "v1")
    shutil.rmtree(project.root / "data")
    (project.root / ".git/dvlite/index.db").unlink()
    project.git("rm", "-q", "--cached", "data.dvlite")
    project.dv("import", source.root, "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n"
    assert "data.dvlite" in project.git("diff", "--cached", "--name-only")


def test_updates_of_a_url_keep_what_is_ignored_here(project, tmp_path):
    (tmp_path / "there/raw").mkdir(parents=True)
    (tmp_path / "there/raw/a.txt").write_text("1\n")
    project.dv("import-url", tmp_path / "there/raw")
    project.write({".dvliteignore": "*.tmp\n", "raw/note.tmp": "mine\n"})
    project.commit("imported")
    (tmp_path / "there/raw/a.txt").write_text("22\n")
    project.dv("update")
    assert project.read("raw") == {"a.txt": b"22\n", "note.tmp": b"mine\n"}


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


# ---- import and update ----------------------------------------------------------------------------------------------


def test_an_import_records_where_it_came_from_and_stays(project, source):
    assert "imported data (6 files" in project.dv("import", source.root, "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n"
    pointer = (project.root / "data.dvlite").read_text()
    commit = source.git("rev-parse", "v1^{commit}").strip()
    assert f'[import]\nrepo = "{source.root}"\npath = "data"\nrev = "v1"\ncommit = "{commit}"\n' in pointer
    assert "data.dvlite" in project.git("diff", "--cached", "--name-only")
    assert project.dv("status").startswith("data")
    project.commit("imported")
    assert "clean" in project.dv("status")
    shutil.rmtree(source.root)
    project.dv("remote", "add", "origin", "../mine")
    project.dv("push")
    clone = project.clone()
    clone.dv("pull", "--remote", "origin", code=2)
    project.commit("remote")
    clone.git("pull", "-q")
    clone.dv("pull")
    assert clone.read("data") == project.read("data"), "it is pushed and pulled as all data is"


def test_update_moves_an_import_and_changes_nothing_where_nothing_is_new(project, source):
    project.dv("import", source.root, "data")
    project.dv("import", source.root, "model.bin", "--rev", "v1", "-o", "best.bin")
    project.commit("imported")
    assert '[meta]\ndescription = "numbers"' in (project.root / "data.dvlite").read_text(), (
        "what is known of it comes along"
    )
    project.settle()
    before = {path: path.stat().st_mtime_ns for path in project.root.iterdir()}
    assert project.dv("update") == "unchanged: best.bin\nunchanged: data\n"
    assert {path: path.stat().st_mtime_ns for path in project.root.iterdir()} == before
    source.write({"a.csv": "third\n"}, "data")
    source.dv("add", "data")
    source.commit("three")
    told = project.json("update", "data")["imported"]
    assert [(one["path"], one["is_changed"]) for one in told] == [("data", True)]
    assert (project.root / "data/a.csv").read_text() == "third\n"
    assert source.git("rev-parse", "HEAD").strip() in (project.root / "data.dvlite").read_text()
    project.dv("update", "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n" and 'rev = "v1"' in (
        project.root / "data.dvlite"
    ).read_text()
    project.write({"own.bin": "1"})
    project.dv("add", "own.bin")
    assert "'own.bin' was not imported" in project.dv("update", "own.bin", code=2)


def test_an_import_that_was_moved_is_updated_as_before(project, source):
    project.dv("import", source.root, "data")
    project.dv("mv", "data", "numbers")
    source.write({"a.csv": "third\n"}, "data")
    source.dv("add", "data")
    source.commit("three")
    assert "imported numbers" in project.dv("update")
    assert (project.root / "numbers/a.csv").read_text() == "third\n"


def test_update_keeps_what_is_not_stored(project, source):
    project.dv("import", source.root, "data", "--rev", "v1")
    project.commit("imported")
    project.write({"a.csv": "mine\n"}, "data")
    pointer = (project.root / "data.dvlite").read_bytes()
    assert "not stored" in project.dv("update", "--rev", "main", code=14)
    assert (project.root / "data/a.csv").read_text() == "mine\n" and (
        project.root / "data.dvlite"
    ).read_bytes() == pointer


def test_an_import_of_one_file_of_a_folder(project, source):
    project.dv("import", source.root, "data/sub/s1.txt", "-o", "one.txt")
    assert project.read("one.txt") == {} and (project.root / "one.txt").read_text() == "sub 1\n" * 100
    assert 'path = "data/sub/s1.txt"' in (project.root / "one.txt.dvlite").read_text()


def test_an_import_goes_only_where_nothing_is(project, source):
    project.write({"data/mine": "1", "code.py": "2"})
    assert "'data' exists" in project.dv("import", source.root, "data", code=2)
    project.dv("add", "data")
    assert "tracked already" in project.dv("import", source.root, "data", code=2)
    assert "'data/x' lies in 'data'" in project.dv("import", source.root, "model.bin", "-o", "data/x", code=2)
    assert "outside the repository" in project.dv("import", source.root, "model.bin", "-o", "../x", code=2)
    assert "is not a folder" in project.dv("import", source.root, "model.bin", "-o", "no/x", code=2)
    assert not (project.root / "model.bin.dvlite").exists()
    assert "'script.py' is not tracked" in project.dv("import", source.root, "script.py", "-o", "s.py", code=2)


def test_an_import_whose_objects_cannot_be_had_leaves_nothing(project, source, tmp_path):
    without_store(source)
    shutil.rmtree(tmp_path / "remote")
    project.dv("import", source.root, "model.bin", code=10)
    assert not (project.root / "model.bin.dvlite").exists() and not (project.root / "model.bin").exists()
    assert project.git("status", "--short") == project.git("status", "--short", "--", "dvlite.toml", ".gitattributes")


def test_data_that_is_recorded_alone_stays_at_its_source(project, source, tmp_path):
    (tmp_path / "there/raw/sub").mkdir(parents=True)
    (tmp_path / "there/raw/sub/one.txt").write_text("one")
    (tmp_path / "there/big.bin").write_bytes(bytes(1 << 20))
    project.dv("remote", "add", "origin", "../mine")
    assert "recorded data (6 files" in project.dv("import", source.root, "data", "--no-download")
    project.dv("import-url", tmp_path / "there/raw", "--no-download")
    project.dv("import-url", tmp_path / "there/big.bin", "--no-download")
    assert 'version = "' in (project.root / "raw.dvlite").read_text()
    assert 'stored = "no"' in (project.root / "data.dvlite").read_text()
    project.write({"own.txt": "own"})
    project.dv("add", "own.txt")
    project.commit("recorded")
    assert "clean" in project.dv("status") and not (project.root / "data").exists()
    assert "data/sub/s1.txt" in project.dv("ls", "-R", "data"), "its listings are here"
    pushed = project.json("push")
    assert sorted(pushed["elsewhere"]) == ["big.bin", "data", "raw"] and not pushed["missing"]
    assert "not sent: 3 paths whose data stays at its source" in project.dv("push")
    assert project.json("fsck")["problems"] == [] and project.json("fsck", "--remote")["problems"] == []
    project.dv("gc", "--grace", "0")
    clone = project.clone()
    clone.dv("pull")
    assert (clone.root / "own.txt").exists() and not (clone.root / "raw").exists()
    assert "raw/sub/one.txt" in clone.dv("ls", "-R", "raw", "--fetch")
    assert clone.dv("update", "--no-download", "data") == "unchanged: data\n"
    clone.dv("update", "raw", "big.bin", "data")
    assert clone.read("raw") == {"sub/one.txt": b"one"} and len(clone.read("data")) == 6
    assert 'stored = "no"' not in (clone.root / "data.dvlite").read_text()
    clone.commit("brought here")
    assert clone.json("push")["elsewhere"] == []
    fresh = clone.clone("fresh")
    fresh.dv("pull")
    assert fresh.read("data") == clone.read("data")


# ---- import-url -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "s3", "http"])
def test_a_file_and_a_folder_of_a_url(project, tmp_path, request, kind):
    folder = tmp_path / "there"
    options, env, url, stop = [], {}, str(folder), None
    if kind == "s3":
        endpoint, name, folder = request.getfixturevalue("bucket")
        options, url = ["-O", f"endpoint_url={endpoint}"], f"s3://{name}"
    folder.mkdir(exist_ok=True)
    files = {"sales.csv": b"a,b\n1,2\n", "raw/one.txt": b"one\n", "raw/sub/two.txt": b"two\n"}
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    if kind == "http":
        (tmp_path / "server").mkdir()
        server = servers.serve("http", tmp_path / "server")
        found = server.__enter__()
        stop, url = server, found.url
        for path, data in files.items():
            (found.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (found.folder / path).write_bytes(data)
        folder = found.folder
    try:
        time.sleep(0.3)  # until the server looks at its folder again
        project.dv("import-url", f"{url}/sales.csv", *options, env=env)
        assert (project.root / "sales.csv").read_bytes() == files["sales.csv"]
        assert f'[import]\nurl = "{url}/sales.csv"\nversion = ' in (project.root / "sales.csv.dvlite").read_text()
        project.dv("import-url", f"{url}/raw", *options, env=env)
        assert project.read("raw") == {"one.txt": b"one\n", "sub/two.txt": b"two\n"}
        project.commit("imported")
        assert "clean" in project.dv("status")
        assert project.dv("update", *options, env=env) == "unchanged: raw\nunchanged: sales.csv\n"
        (folder / "sales.csv").write_bytes(b"a,b\n3,4\n5,6\n")
        (folder / "raw/sub/two.txt").unlink()
        time.sleep(0.3)
        project.dv("update", *options, env=env)
        assert (project.root / "sales.csv").read_bytes() == b"a,b\n3,4\n5,6\n"
        assert project.read("raw") == {"one.txt": b"one\n"}
        assert {one["path"] for one in project.json("diff", "HEAD")["paths"]} == {"raw", "sales.csv"}
        said = project.dv("import-url", f"{url}/nothing", *options, env=env, code=2)
        assert "can't be had" in said and not (project.root / "nothing").exists()
    finally:
        if stop:
            stop.__exit__(None, None, None)
