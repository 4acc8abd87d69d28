"""push, fetch and pull, against a folder and a real S3 server."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

SERVER_LOOKS_AGAIN_S = 0.3  # rclone's S3 server remembers its folders for 0.1 s


@pytest.fixture(params=["folder", "s3"])
def shared(request, project, tmp_path):
    """A pushed project on each kind of remote; `place` is the folder behind it."""
    project.write({f"d{n % 3}/f{n}.txt": f"content {n}\n" * 50 for n in range(30)}, "data")
    project.write({"model.bin": os.urandom(1 << 20) + b"tail"})
    if request.param == "s3":
        endpoint, name, folder = request.getfixturevalue("bucket")
        project.dv("remote", "add", "origin", f"s3://{name}/some/prefix", "-o", f"endpoint_url={endpoint}")
        project.place = folder / "some/prefix"
    else:
        project.dv("remote", "add", "origin", "../remote")
        project.place = tmp_path / "remote"
    project.dv("add", "data", "model.bin")
    project.commit("first")
    project.dv("push")
    return project


def clone_of(project, name="clone"):
    clone = project.clone(name)
    clone.dv("remote", "trust", "origin")
    return clone


def test_clone_and_pull_bring_everything_byte_for_byte(shared):
    clone = clone_of(shared)
    clone.dv("pull")
    assert clone.read("data") == shared.read("data")
    assert (clone.root / "model.bin").read_bytes() == (shared.root / "model.bin").read_bytes()
    assert "clean" in clone.dv("status")


def test_a_second_push_has_nothing_to_do_and_says_so(shared):
    before = {path: path.stat().st_mtime_ns for path in shared.place.rglob("*")}
    assert "everything is on 'origin'" in shared.dv("push")
    assert {path: path.stat().st_mtime_ns for path in shared.place.rglob("*")} == before


def test_a_push_after_a_small_change_sends_little(shared):
    shared.write({"data/d0/f0.txt": "changed"})
    shared.dv("add", "data")
    shared.commit("second")
    result = shared.json("push")
    assert result["pushed"] == 3 and result["size"] < 5000  # a file and the two trees above it


def test_an_old_commit_comes_back_in_another_clone(shared):
    first = shared.read("data")
    shared.write({"data/d0/f0.txt": "changed", "data/new": "n"})
    shared.dv("add", "data")
    shared.commit("second")
    shared.dv("push")
    clone = clone_of(shared)
    clone.dv("pull")
    assert clone.read("data") == shared.read("data")
    clone.git("checkout", "-q", "HEAD~1")
    clone.dv("pull")
    assert clone.read("data") == first
    clone.git("checkout", "-q", "main")
    clone.dv("checkout")  # both are here now
    assert clone.read("data") == shared.read("data")


def test_pull_of_a_path_moves_only_its_objects(shared):
    clone = clone_of(shared)
    result = clone.json("pull", "data/d1/f1.txt")
    assert result["fetch"]["fetched"] == 1 and clone.read("data") == {"d1/f1.txt": b"content 1\n" * 50}
    assert not (clone.root / "model.bin").exists()
    assert clone.json("pull", "data/d1")["fetch"]["fetched"] == 9
    assert len(clone.read("data")) == 10


def test_fetch_leaves_the_worktree_alone(shared):
    clone = clone_of(shared)
    clone.dv("fetch")
    assert not (clone.root / "data").exists()
    shutil.rmtree(shared.place)
    clone.dv("checkout")
    assert clone.read("data") == shared.read("data")


def test_fetch_of_another_rev(shared):
    shared.write({"data/d0/f0.txt": "changed"})
    shared.dv("add", "data")
    shared.commit("second")
    shared.dv("push")
    clone = clone_of(shared)
    clone.dv("fetch", "--rev", "HEAD~1", "data/d0/f0.txt")
    assert clone.dv("cat", "data/d0/f0.txt", "--rev", "HEAD~1") == "content 0\n" * 50
    assert "dvlite fetch" in clone.dv("cat", "data/d1/f1.txt", code=10)


def test_what_is_gone_from_the_remote_is_sent_again(shared):
    for path in shared.place.glob("packs/*"):
        path.unlink()
    time.sleep(SERVER_LOOKS_AGAIN_S)
    result = shared.json("push")
    assert result["pushed"] > 30
    shutil.rmtree(shared.place / "objects")
    time.sleep(SERVER_LOOKS_AGAIN_S)
    assert shared.json("push")["pushed"] == 1
    clone = clone_of(shared)
    clone.dv("pull")
    assert clone.read("data") == shared.read("data")


@pytest.mark.parametrize("damage", ["idx emptied", "idx cut", "pack cut", "object cut"])
def test_what_is_damaged_on_the_remote_is_noticed_and_sent_again(shared, damage):
    kind, how = damage.split()
    pattern = {"idx": "packs/*.idx", "pack": "packs/*.pack", "object": "objects/*/*/*"}[kind]
    for path in shared.place.glob(pattern):
        os.truncate(path, 0 if how == "emptied" else path.stat().st_size - 1)
    assert shared.json("push")["pushed"] > 0
    clone = clone_of(shared)
    clone.dv("pull")
    assert clone.read("data") == shared.read("data")


def test_a_flipped_bit_on_the_remote_is_named_and_nothing_of_it_is_kept(shared):
    (path,) = shared.place.glob("objects/*/*/*")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    clone = clone_of(shared)
    said = clone.dv("pull", code=11)
    assert "model.bin" in said and "corrupt" in said
    assert not (clone.root / "model.bin").exists() and clone.read("data") == shared.read("data")


def test_objects_that_are_nowhere_are_named_with_who_wants_them(shared):
    shutil.rmtree(shared.place / "objects")
    clone = clone_of(shared)
    said = clone.dv("pull", code=10)
    assert "wanted by: model.bin" in said
    assert clone.read("data") == shared.read("data")
    shutil.rmtree(shared.repo.store.root / "objects")
    assert "wanted by: model.bin" in shared.dv("push", code=10)


def test_a_failed_object_does_not_stop_the_others(shared):
    if os.geteuid() == 0 and "s3" in str(shared.place):
        pytest.skip("the folder behind the server is not the client's")
    shared.write({"new.bin": os.urandom(1 << 20), "small/x": "y"})
    shared.dv("add", "new.bin", "small")
    shared.commit("more")
    oid = shared.json("ls", "new.bin")["entries"][0]["oid"].partition(":")[2]
    (shared.place / "objects/sha256" / oid[:2]).mkdir(parents=True, exist_ok=True)
    (shared.place / "objects/sha256" / oid[:2] / oid[2:]).mkdir()  # something is in the way
    done = shared.run("push", timeout=100)
    assert done.returncode == 13 and "new.bin" in done.stderr
    (shared.place / "objects/sha256" / oid[:2] / oid[2:]).rmdir()
    result = shared.json("push")
    assert result["pushed"] == 1  # the rest had arrived


@pytest.mark.parametrize("delay", [0.3, 0.6, 0.9])
def test_a_killed_push_is_finished_by_the_next(project, bucket, delay):
    endpoint, name, _ = bucket
    project.write({f"big{n}": os.urandom(3 << 20) for n in range(8)} | {f"small/{n}": str(n) for n in range(500)})
    project.dv("remote", "add", "origin", f"s3://{name}/p", "-o", f"endpoint_url={endpoint}")
    project.dv("add", "big*", "small")
    project.commit()
    work = subprocess.Popen([sys.executable, "-m", "dvlite", "push"], cwd=project.root, stdout=subprocess.DEVNULL)
    time.sleep(delay)
    work.send_signal(signal.SIGKILL)
    work.wait()
    project.dv("push")
    clone = clone_of(project)
    clone.dv("pull")
    assert clone.read("small") == project.read("small")
    assert all((clone.root / f"big{n}").read_bytes() == (project.root / f"big{n}").read_bytes() for n in range(8))


def test_a_killed_pull_keeps_what_had_arrived(project, bucket):
    endpoint, name, _ = bucket
    project.write({f"big{n}": os.urandom(8 << 20) for n in range(12)})
    project.dv("remote", "add", "origin", f"s3://{name}/p", "-o", f"endpoint_url={endpoint}")
    project.dv("add", "big*")
    project.commit()
    project.dv("push")
    clone = clone_of(project)
    work = subprocess.Popen(
        [sys.executable, "-m", "dvlite", "pull", "-j", "1"], cwd=clone.root, stdout=subprocess.DEVNULL
    )
    folder = clone.root / ".git/dvlite/objects"
    while len(list(folder.glob("*/*/*"))) < 3 and work.poll() is None:
        time.sleep(0.01)
    work.send_signal(signal.SIGKILL)
    work.wait()
    kept = len(list(folder.glob("*/*/*")))
    assert kept >= 3
    assert clone.json("pull")["fetch"]["fetched"] == 12 - kept
    assert (clone.root / "big7").read_bytes() == (project.root / "big7").read_bytes()
    assert list((clone.root / ".git/dvlite/tmp").iterdir()) == []


# ---- which commits ----


@pytest.fixture
def branches(project):
    """Commits on two branches and a tag, nothing pushed; main has two versions of one file."""
    project.dv("remote", "add", "origin", "../remote")
    for branch, content in (("main", "one"), ("main", "two"), ("other", "three"), ("other", "four")):
        if branch == "other" and content == "three":
            project.git("checkout", "-q", "-b", "other")
        project.write({"f": content})
        project.dv("add", "f")
        project.commit(content)
    project.git("tag", "v3", "HEAD~1")
    project.git("checkout", "-q", "main")
    return project


def test_push_sends_all_that_git_has_not_pushed_yet(branches):
    assert branches.json("push")["pushed"] == 2  # both versions on main
    branches.git("init", "-q", "--bare", "../bare")
    branches.git("remote", "add", "origin", "../bare")
    branches.git("push", "-q", "origin", "main")
    branches.dv("checkout")
    branches.write({"f": "five"})
    branches.dv("add", "f")
    branches.commit("five")
    assert branches.json("push")["pointers"] == 1  # what Git has on its remote isn't looked at again


def test_branches_tags_and_all_widen_and_rev_narrows(branches):
    assert branches.json("push", "--rev", "HEAD~1")["pushed"] == 1
    assert branches.json("push", "--tags")["pointers"] == 3  # v3 and what lies before it
    assert branches.json("push", "--branches")["pointers"] == 4
    assert branches.json("push", "--all")["pushed"] == 0


def test_a_pointer_in_the_index_is_pushed(branches):
    branches.write({"g": "staged"})
    branches.dv("add", "g")
    assert branches.json("push", "g")["pushed"] == 1


def test_push_of_a_path_sends_all_its_versions(branches):
    branches.write({"d/a": "1", "d/b": "1"})
    branches.dv("add", "d")
    branches.commit()
    branches.write({"d/b": "2"})
    branches.dv("add", "d")
    branches.commit()
    assert branches.json("push", "d/b")["pushed"] == 2
    assert branches.json("push", "f")["pointers"] == 2


def test_equal_content_under_two_names_is_found_under_both(project):
    project.dv("remote", "add", "origin", "../remote")
    project.write({"x": "same", "y": "same"})
    project.dv("add", "x", "y")
    project.commit()
    assert project.json("push", "x")["pushed"] == 1
    assert project.json("push", "y")["pushed"] == 0


def test_a_dry_run_sends_nothing(branches):
    assert branches.json("push", "--dry-run")["pushed"] == 2
    assert not (branches.root.parent / "remote").exists()


def test_nothing_to_push_before_the_first_commit(project):
    project.dv("remote", "add", "origin", "../remote")
    assert "nothing to push" in project.dv("push")


def test_without_a_remote_the_line_that_adds_one(project):
    project.write({"a": "1"})
    project.dv("add", "a")
    for command in ("push", "pull", "fetch"):
        done = project.run(command)
        if command == "push":
            assert done.returncode == 2 and "dvlite remote add origin URL" in done.stderr


# ---- remotes ----


def test_a_read_only_remote_can_be_pulled_from(shared):
    clone = clone_of(shared)
    clone.dv("remote", "set", "origin", "read_only", "true")
    clone.dv("pull")
    clone.write({"data/d0/f0.txt": "new"})
    clone.dv("add", "data")
    clone.commit()
    assert "read-only" in clone.dv("push", code=13)


def test_several_remotes_and_the_order_of_choice(shared, tmp_path):
    shared.dv("remote", "add", "backup", str(tmp_path / "backup"))
    found = shared.json("remote", "list")["remotes"]
    assert [one["name"] for one in found] == ["origin", "backup"] and found[0]["is_default"]
    results = shared.json("push", "--remote", "backup", "--remote", "origin")["pushes"]
    assert [(one["remote"], one["pushed"] > 0) for one in results] == [("backup", True), ("origin", False)]
    shutil.rmtree(shared.place)
    shared.commit()
    clone = clone_of(shared)
    clone.dv("pull", "--remote", "backup")
    assert clone.read("data") == shared.read("data")
    assert "there is no remote 'nope'" in clone.dv("push", "-r", "nope", code=2)


def test_jobs_per_remote_and_per_call(shared):
    shared.dv("remote", "set", "origin", "jobs", "2")
    shared.dv("push", "-j", "3")
    assert shared.json("remote", "list")["remotes"][0]["jobs"] == 2
    assert "jobs" in shared.dv("remote", "set", "origin", "jobs", "0", code=1)
    assert shared.json("remote", "list")["remotes"][0]["jobs"] == 2


def test_unreachable_wrong_and_missing_are_told_apart(shared, bucket, tmp_path):
    endpoint, name, _ = bucket
    shared.dv("remote", "add", "away", f"s3://{name}/p", "-o", "endpoint_url=http://127.0.0.1:9")
    said = shared.dv("push", "-r", "away", code=13)
    assert "127.0.0.1:9" in said and "network" in said
    shared.dv("remote", "add", "nobucket", "s3://not-there-at-all/p", "-o", f"endpoint_url={endpoint}")
    assert "not found" in shared.dv("push", "-r", "nobucket", code=13)
    shared.dv("remote", "add", "s", f"s3://{name}/p", "-o", f"endpoint_url={endpoint}")
    said = shared.dv("push", "-r", "s", code=13, env={"AWS_SECRET_ACCESS_KEY": "wrong-secret"})
    assert "refused" in said and "credentials" in said and "wrong-secret" not in said
    shared.dv("remote", "add", "unmounted", str(tmp_path / "no/such/mount"))
    assert "not found" in shared.dv("push", "-r", "unmounted", code=13)


def test_local_changes_survive_a_pull(shared):
    clone = clone_of(shared)
    clone.dv("pull")
    shared.write({"data/d0/f0.txt": "theirs"})
    shared.dv("add", "data")
    shared.commit("theirs")
    shared.dv("push")
    clone.write({"data/d0/f0.txt": "mine", "data/d1/f1.txt": "mine too"})
    clone.git("pull", "-q")
    said = clone.dv("pull", code=14)
    assert "kept data/d0/f0.txt" in said
    assert clone.read("data")["d0/f0.txt"] == b"mine" and clone.read("data")["d1/f1.txt"] == b"mine too"


def test_two_clones_push_at_the_same_time(shared):
    clones = [clone_of(shared, f"clone{n}") for n in range(2)]
    for number, clone in enumerate(clones):
        clone.dv("pull")
        clone.write({f"own{number}/{n}": f"{number} {n}" for n in range(200)})
        clone.dv("add", f"own{number}")
        clone.commit()
    work = [subprocess.Popen([sys.executable, "-m", "dvlite", "push", "-q"], cwd=clone.root) for clone in clones]
    assert [one.wait(60) for one in work] == [0, 0]
    for clone in clones:
        assert clone.json("push")["pushed"] == 0


# ---- what testers found ----


@pytest.mark.parametrize("command", ["pull", "fetch"])
def test_a_remote_that_fails_is_not_called_missing_data(pushed, bucket, command):
    endpoint, name, _ = bucket
    clone = pushed.clone()
    clone.dv("remote", "set", "origin", "url", "/nonexist/sub/remote")
    assert "not found" in clone.dv(command, code=13)
    clone.dv("remote", "set", "origin", "url", f"s3://{name}/p")
    clone.dv("remote", "set", "--local", "origin", "endpoint_url", "http://127.0.0.1:9")
    assert "connect" in clone.dv(command, code=13)
    clone.dv("remote", "set", "--local", "origin", "endpoint_url", endpoint)
    assert "refused" in clone.dv(command, code=13, env={"AWS_SECRET_ACCESS_KEY": "wrong"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["s", "s3://AKIA:abc/defSECRET@bucket/x"],
        ["s", "webdav://u:a/SECRET@h/x"],
        ["s", "s3://b/x?access_key=SECRET"],
        ["s", "s3://b/x", "-o", "endpoint_url=https://u:SECRET@h:9/"],
    ],
)
def test_no_url_brings_a_secret_into_the_committed_file(project, arguments):
    assert "SECRET" not in project.dv("remote", "add", *arguments, code=1).replace("'--local", "")
    assert "SECRET" not in (project.root / "dvlite.toml").read_text()


def test_a_bad_pointer_in_history_is_named_and_stops_no_other(project):
    project.dv("remote", "add", "origin", "../remote")
    project.write({"a": "1", "b": "2"})
    project.dv("add", "a", "b")
    project.commit()
    path = project.root / "a.dvlite"
    good = path.read_bytes()
    path.write_bytes(b"<<<<<<< HEAD\n" + good)
    project.commit()
    path.write_bytes(good)
    project.commit()
    assert "conflict markers" in project.dv("push", code=1)
    assert project.json("push", "--rev", "HEAD")["pushed"] == 0  # all of it had arrived


def test_another_repositorys_environment_is_not_obeyed(project, tmp_path):
    from tests.conftest import make_project

    other = make_project(tmp_path / "other")
    project.write({"q": "1"})
    project.dv("add", "q", env={"GIT_DIR": str(other.root / ".git")})
    assert "q.dvlite" in project.git("ls-files") and "q.dvlite" not in other.git("ls-files")


def test_what_was_added_and_never_committed_is_kept_by_a_number(project):
    project.commit()
    project.write({"d/x": "precious"})
    project.dv("add", "d")
    project.git("reset", "-q", "--hard")
    assert "--saved 1" in project.dv("checkout")
    project.dv("checkout", "--saved", "1")
    assert project.read("d") == {"x": b"precious"}


@pytest.mark.parametrize("change", [(b"files = 1", b"files = " + b"9" * 26), (b"size = 1", b"size = " + b"1" * 5000)])
def test_numbers_beyond_reason_are_malformed(project, change):
    project.write({"d/x": "1"})
    project.dv("add", "d")
    path = project.root / "d.dvlite"
    path.write_bytes(path.read_bytes().replace(*change))
    for command in ("status", "checkout"):
        assert "malformed pointer" in project.dv(command, code=1)


def test_a_link_to_an_object_that_is_gone_is_never_added_as_a_link(pushed):
    pushed.dv("config", "link", "symlink")
    pushed.dv("checkout")
    before = (pushed.root / "model.bin.dvlite").read_bytes()
    shutil.rmtree(pushed.repo.store.root / "objects")
    assert "dvlite pull" in pushed.dv("add", "model.bin", code=10)
    assert (pushed.root / "model.bin.dvlite").read_bytes() == before
    pushed.dv("pull")
    assert "clean" in pushed.dv("status")


def test_the_innermost_of_two_pointers_owns_a_path():
    from dvlite.ops.base import enclosing

    assert enclosing(["d", "d/e"], "d/e/x") == "d/e" and enclosing(["d/e", "d"], "d/f") == "d"


def test_older_versions_of_a_path_in_a_folder_are_pushed_too(project):
    project.dv("remote", "add", "origin", "../remote")
    for number in range(3):
        project.write({"deep/er/data/a.txt": f"version {number}"})
        project.dv("add", "-q", "deep/er/data")
        project.commit(f"version {number}")
    assert project.json("push")["pointers"] == 3
    clone = project.clone()
    for number in range(3):
        clone.git("checkout", "-q", f"main~{2 - number}")
        clone.dv("pull")
        assert (clone.root / "deep/er/data/a.txt").read_text() == f"version {number}"


def test_after_a_fetch_no_thread_is_left_that_would_keep_the_checkout_to_one_process(project):
    project.write({f"data/{number}": os.urandom(900_000) for number in range(48)})  # a pack that comes in several parts
    project.dv("add", "data")
    project.git("add", "-A")
    project.git("commit", "-qm", "data")
    project.dv("remote", "add", "origin", str(project.root.parent / "remote"))
    project.dv("push")
    clone = project.clone("clone")
    clone.write({"dvlite.toml": (project.root / "dvlite.toml").read_bytes()})
    from dvlite.ops.fetch import fetch

    before = threading.active_count()
    assert fetch(clone.repo).fetched == 48
    assert threading.active_count() == before
