"""Cleaning a remote: in two phases, never what a ref or a claim names, safe against a push at every step."""

import os
import subprocess
import threading
import time

import pytest

from dvlite import refs, transfer
from dvlite.errors import UsageError
from dvlite.ops.fetch import pull
from dvlite.ops.gc_remote import gc_remote
from dvlite.ops.push import push
from dvlite.repo import open_repo
from dvlite.stores.remote import sweep
from dvlite.stores.remote.bucket import Bucket
from dvlite.stores.remote.drivers.folder import Folder
from tests.conftest import Project, make_project, tree_of

DAY = 86400


def remote_files(project, folder=""):
    root = project.root.parent / "remote"
    return {path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()}


def age(project, days, *names):
    """Make files of the remote older (all without names)."""
    root = project.root.parent / "remote"
    for name in names or remote_files(project):
        status = (root / name).stat()
        os.utime(root / name, (status.st_atime - days * DAY, status.st_mtime - days * DAY))


def save(project, text, path="data/a.txt"):
    project.write({path: text})
    project.dv("add", "-q", "data")
    return project.commit(text[:30])


@pytest.fixture
def shared(tmp_path):
    """A bare Git repository, and two clones that push there and to one remote."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "up.git"], check=True)
    one = make_project(tmp_path / "one")
    one.git("remote", "add", "origin", str(tmp_path / "up.git"))
    one.dv("remote", "add", "origin", "../remote")
    save(one, "first " * 300)
    one.git("push", "-q", "-u", "origin", "main")
    one.dv("push", "--all")
    subprocess.run(["git", "clone", "-q", tmp_path / "up.git", tmp_path / "two"], check=True)
    two = Project(tmp_path / "two")
    two.dv("pull")
    return one, two


def forget(project):
    """Take away all that keeps commits which no branch has."""
    project.git("reflog", "expire", "--expire=now", "--all")
    (project.root / ".git/ORIG_HEAD").unlink(missing_ok=True)


def make_garbage(project):
    """Push a version whose commit is given up; return its text."""
    text = os.urandom(900_000).hex()
    save(project, text)
    project.dv("push")
    project.git("reset", "-q", "--hard", "HEAD~1")
    forget(project)
    project.dv("checkout", "--force")
    age(project, 100)
    return text


def test_what_nothing_names_goes_after_a_grace_period(shared):
    one, _ = shared
    make_garbage(one)
    before = remote_files(one)
    dry = one.json("gc", "--remote", "--dry-run")
    assert dry["doomed"] > 0
    assert remote_files(one) == before
    first = one.json("gc", "--remote")
    assert (first["doomed"], first["deleted"]) == (dry["doomed"], 0)
    assert {name for name in remote_files(one) if name.startswith(("packs", "objects"))} == {
        name for name in before if name.startswith(("packs", "objects"))
    }
    assert one.json("gc", "--remote")["waiting"] == first["doomed"]
    age(one, 15, *remote_files(one, "doomed"))
    last = one.json("gc", "--remote")
    assert last["deleted"] == first["doomed"]
    assert not {name for name in remote_files(one) if name.startswith(("doomed", "sweeps"))}
    clone = Project(one.root.parent / "fresh")
    subprocess.run(["git", "clone", "-q", one.root.parent / "up.git", clone.root], check=True)
    clone.dv("pull")
    assert clone.read("data") == {"a.txt": ("first " * 300).encode()}
    assert clone.json("fsck", "--remote")["problems"] == []


def test_a_claim_keeps_what_no_ref_names_yet(shared):
    one, two = shared
    save(two, "pushed data, commit not pushed yet " * 100)
    two.dv("push")
    age(one, 30)
    assert one.json("gc", "--remote")["doomed"] == 0


def test_what_any_clone_has_pushed_as_a_branch_or_tag_is_kept(shared):
    one, two = shared
    for kind in ("branch", "tag"):
        two.git("switch", "-q", "-c", f"of-{kind}")
        save(two, f"on a {kind} " * 100)
        two.dv("push")
        if kind == "tag":
            two.git("tag", "v1")
        two.git("push", "-q", "origin", "v1" if kind == "tag" else f"of-{kind}")
        two.git("switch", "-q", "main")
        two.dv("checkout")
    age(one, 100)
    assert one.json("gc", "--remote")["doomed"] == 0
    assert "dvlite/gathered" not in one.git("for-each-ref")


def test_it_refuses_clones_that_do_not_see_everything(shared, tmp_path):
    one, _ = shared
    for name, options in (
        ("shallow", ["--depth=1"]),
        ("partial", ["--filter=blob:none"]),
        ("single", ["--single-branch"]),
    ):
        subprocess.run(["git", "clone", "-q", *options, f"file://{tmp_path}/up.git", tmp_path / name], check=True)
        assert "whole clone" in Project(tmp_path / name).dv("gc", "--remote", code=2)
    (tmp_path / "up.git").rename(tmp_path / "away.git")
    assert "git fetch" in one.dv("gc", "--remote", code=1)


def test_another_repository_that_pushes_there_must_be_told(shared, tmp_path):
    one, _ = shared
    other = make_project(tmp_path / "other")
    other.dv("remote", "add", "origin", "../remote")
    save(other, "of another repository " * 100)
    other.dv("push")
    age(one, 100)
    assert "--repo FOLDER" in one.dv("gc", "--remote", code=2)
    assert one.json("gc", "--remote", "--repo", "../other")["doomed"] == 0
    assert one.json("gc", "--remote", "--force")["doomed"] > 0  # its claim has expired


def test_a_listing_that_is_nowhere_stops_it(shared):
    one, two = shared
    save(two, "never pushed as data " * 100)
    two.git("push", "-q", "--no-verify", "origin", "main")
    assert "--force" in one.dv("gc", "--remote", code=1)


def test_a_file_that_was_pushed_again_meanwhile_stays(shared):
    one, _ = shared
    text = make_garbage(one)
    one.dv("gc", "--remote")
    age(one, 15, *remote_files(one, "doomed"))
    loose = [name for name in remote_files(one, "objects")]
    for name in loose:
        os.utime(one.root.parent / "remote" / name)
    one.json("gc", "--remote")
    assert set(loose) <= remote_files(one, "objects")
    assert text


def test_many_small_packs_are_put_together(shared):
    one, two = shared
    for number in range(20):
        save(one, f"version {number}")
        one.dv("push", "-q")
    one.git("push", "-q")
    result = one.json("gc", "--remote")
    assert result["merged_packs"] > 20
    age(one, 15, *remote_files(one, "doomed"))
    assert one.json("gc", "--remote")["deleted"] > 20
    packs = {name for name in remote_files(one, "packs") if name.endswith(".pack")}
    assert len(packs) <= 4
    two.git("pull", "-q")
    two.dv("pull")
    assert two.read("data") == {"a.txt": b"version 19"}
    two.dv("fetch", "--rev", "HEAD~10")
    assert two.dv("cat", "data/a.txt", "--rev", "HEAD~10") == "version 9"
    assert two.json("fsck", "--remote")["problems"] == []


def test_a_pack_that_is_mostly_garbage_is_written_anew(shared):
    one, two = shared
    files = {f"data/f{number:02}": os.urandom(1_000_000) for number in range(40)}
    one.write(files)
    one.dv("add", "-q", "data")
    one.commit("much")
    one.dv("push")
    large = max(remote_files(one, "packs"), key=lambda name: (one.root.parent / "remote" / name).stat().st_size)
    for name in sorted(files)[10:]:
        (one.root / name).unlink()
    one.dv("add", "-q", "data")
    one.git("add", "-A")
    one.git("commit", "-q", "--amend", "-m", "less")
    one.dv("push")
    forget(one)
    age(one, 100)
    before = sum((one.root.parent / "remote" / name).stat().st_size for name in remote_files(one))
    assert one.json("gc", "--remote", "--force")["merged_packs"] == 1
    assert one.json("gc", "--remote", "--force")["merged_packs"] == 0  # not again, while the old one waits
    age(one, 15, *remote_files(one, "doomed"))
    assert one.json("gc", "--remote", "--force")["deleted"] >= 1
    after = sum((one.root.parent / "remote" / name).stat().st_size for name in remote_files(one))
    assert large not in remote_files(one) and after < before / 3
    one.git("push", "-q")
    two.git("pull", "-q")
    two.dv("pull")
    assert two.read("data") == one.read("data") and len(two.read("data")) == 11
    assert two.json("fsck", "--remote")["problems"] == []


class Stepper:
    """Runs a function just before the N-th request to a remote of one thread, and counts."""

    VERBS = ("list", "get", "get_file", "put", "put_file", "put_hashed", "remove")

    def __init__(self, monkeypatch):
        self.thread, self.at, self.what, self.count = None, -1, None, 0
        for verb in self.VERBS:
            monkeypatch.setattr(Bucket, verb, self._wrapped(getattr(Bucket, verb)))

    def _wrapped(self, real):
        def call(bucket, *arguments, **options):
            if threading.current_thread().name.startswith("gc"):
                self.count += 1
                if self.count == self.at:
                    self.what()
            return real(bucket, *arguments, **options)

        return call

    def run(self, at, what, function):
        self.at, self.what, self.count = at, what, 0
        found = []
        thread = threading.Thread(target=lambda: found.append(function()), name="gc")
        thread.start()
        thread.join()
        assert found, "gc failed"
        return self.count


def all_there(project):
    """Tell whether the remote has all that pushed commits name."""
    store = open_repo(project.root).remote()
    items = refs.selected(open_repo(project.root).git, ["--all"])[0]
    from dvlite import transfer

    reach = transfer.named([item.oid for _, item in items], open_repo(project.root).store, store)
    wanted = {*reach.trees, *reach.blobs, *reach.missing}
    return wanted <= store.find(wanted).keys()


def test_marks_are_listed_before_data(shared, monkeypatch):
    """Else a sweep could end between both: its mark is gone when it is looked for, and what it deleted still listed."""
    one, _ = shared
    (one.root.parent / "remote/sweeps").mkdir()
    real, listed = Folder.folder, []

    def folder(driver, name):
        listed.append((name, time.monotonic()))
        if name == "sweeps":
            time.sleep(0.1)
            listed.append(("marks are known", time.monotonic()))
        return real(driver, name)

    monkeypatch.setattr(Folder, "folder", folder)
    for is_whole in (False, True):
        listed.clear()
        open_repo(one.root).remote().look(is_whole=is_whole)
        names = [name for name, _ in sorted(listed, key=lambda found: found[1])]
        assert names[:3] == ["", "sweeps", "marks are known"] and "packs" in names[3:], names


@pytest.mark.parametrize("phase", ["doom", "sweep"])
def test_a_push_at_every_step_of_a_gc_loses_nothing(shared, monkeypatch, phase, tmp_path):
    """Two clones: one cleans, the other pushes just what the first is about to delete."""
    import shutil

    one, two = shared
    text = make_garbage(one)
    two.write({"data/a.txt": text})
    two.dv("add", "-q", "data")
    two.commit("the same again")
    if phase == "sweep":
        one.dv("gc", "--remote")
        age(one, 15, *remote_files(one, "doomed"))
    remote = tmp_path / "remote"
    shutil.copytree(remote, tmp_path / "template")
    stepper = Stepper(monkeypatch)

    def clean():
        return gc_remote(open_repo(one.root))

    total = stepper.run(-1, None, clean)
    assert total > 5
    for step in range(1, total + 1):
        shutil.rmtree(remote)
        shutil.copytree(tmp_path / "template", remote)
        pushing = []

        def start(pushing=pushing):
            def work():
                pushing.append(push(open_repo(two.root)))

            thread = threading.Thread(target=work, name="other")
            thread.start()
            thread.join(1.5)  # it may wait for the sweep to end
            pushing.insert(0, thread)

        stepper.run(step, start, clean)
        pushing[0].join(60)
        result = pushing[1]
        assert not result.failures and not result.missing, (step, result)
        assert all_there(two), (phase, step)


def test_a_dead_sweep_is_not_waited_for(shared):
    one, two = shared
    mark = one.root.parent / "remote/sweeps/dead.json"
    mark.parent.mkdir()
    mark.write_text("{}\n")
    age(one, 1, "sweeps/dead.json")
    save(two, "goes on")
    start = time.monotonic()
    two.dv("push")
    assert time.monotonic() - start < 30
    one.dv("gc", "--remote")


def test_an_old_claim_is_renewed_by_the_push_that_relies_on_it(shared):
    one, _ = shared
    (claim,) = remote_files(one, "claims")
    age(one, 40)
    one.dv("push", "--all")
    assert time.time() - (one.root.parent / "remote" / claim).stat().st_mtime < DAY


def test_a_read_only_remote_is_not_cleaned(shared):
    one, _ = shared
    one.git("config", "dvlite.remote.origin.read-only", "true")
    assert "read-only" in one.dv("gc", "--remote", code=13)
    with pytest.raises(UsageError):
        gc_remote(open_repo(one.root), "nothere")


def test_after_many_small_pushes_a_fresh_clone_reads_few_indexes(shared, monkeypatch, record_property):
    """A year of one-file pushes (`DVLITE_PUSHES=10000` by hand): each leaves a pack of one object on the remote."""
    count = int(os.environ.get("DVLITE_PUSHES", "300"))
    project, _ = shared
    project.write({f"data/d{number % 10}/f{number}": f"{number} " * 20 for number in range(count)})
    project.dv("add", "-q", "data")
    project.commit("a year's end")
    repo = open_repo(project.root)
    remote = repo.remote()
    items = refs.in_worktree(repo.git).found.values()
    reach = transfer.reach([item.entry for item in items], repo.store)
    sweep.claim(remote, repo.config.id, repo.clone_id, {item.oid for item in items})
    for oid, data in repo.store.read_many(reach.blobs):
        with remote.batch() as batch:
            batch.take(oid, data)
    with remote.batch() as batch:
        for oid, data in repo.store.read_many(reach.trees):
            batch.take(oid, data, is_tree=True)
    packs = project.root.parent / "remote/packs"
    assert len(list(packs.glob("*.idx"))) > count
    project.git("push", "-q")
    project.dv("gc", "--remote", "-q")
    clone = project.clone("fresh")
    read, real = [], Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, name, *more: (read.append(name), real(self, name, *more))[1])
    pull(open_repo(clone.root))
    assert tree_of(clone.root / "data") == tree_of(project.root / "data")
    read = [name for name in read if name.endswith(".idx")]
    record_property("idx files read", len(read))
    assert len(read) <= min(200, count // 10)


def test_what_a_fork_pushed_is_kept_when_its_claim_is_old(shared, tmp_path):
    """The same repository with another Git remote, which the one who cleans never reads."""
    one, two = shared
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "fork.git"], check=True)
    two.git("remote", "set-url", "origin", str(tmp_path / "fork.git"))
    save(two, "the fork's " * 500)
    two.dv("push", "-q")
    two.git("push", "-q", "origin", "main")
    age(one, 100)
    assert one.json("gc", "--remote")["doomed"] == 0
    age(one, 20)
    assert one.json("gc", "--remote")["deleted"] == 0
    subprocess.run(["git", "clone", "-q", tmp_path / "fork.git", tmp_path / "three"], check=True)
    Project(tmp_path / "three").dv("pull", "-q")
    assert one.json("gc", "--remote", "--force")["doomed"] > 0
