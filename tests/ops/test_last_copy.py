"""The last copy of something stays: where an index was lost, a copy is damaged, a claim ends, two names are one place."""

import os
import shutil
import subprocess

import pytest

from dvlite import hashing
from dvlite.ops import gc_remote as cleaning
from dvlite.repo import open_repo
from dvlite.stores.remote import sweep
from tests.conftest import Project
from tests.ops.test_gc_remote import age, forget, remote_files, save, shared  # noqa: F401


def place(project):
    return project.root.parent / "remote"


def clean(project, *more):
    """Run both phases of gc --remote."""
    age(project, 100)
    project.dv("gc", "--remote", *more)
    age(project, 100)
    return project.dv("gc", "--remote", *more)


def test_a_pack_whose_index_was_lost_is_kept_and_mended(shared):  # noqa: F811
    one, two = shared
    for path in place(one).glob("packs/*.idx"):
        path.unlink()
    for path in place(one).glob("indexes/*"):
        path.unlink()
    shutil.copytree(place(one), one.root.parent / "kept")
    third = Project(one.root.parent / "third")
    subprocess.run(["git", "clone", "-q", one.root.parent / "up.git", third.root], check=True)
    third.dv("pull", code=10)
    said = third.dv("fsck", "--remote", code=10)
    assert "nothing rests on it" not in said and "--repair mends" in said
    assert "healed from its own end" in third.dv("fsck", "--remote", "--repair")
    third.dv("pull")
    assert third.read("data") == one.read("data")
    shutil.rmtree(place(one))
    shutil.move(one.root.parent / "kept", place(one))
    clean(third, "--force")
    assert third.dv("fsck", "--remote").endswith("all is well\n")


def test_an_index_without_a_pack_is_nothing_that_gc_takes(shared):  # noqa: F811
    """A push may be just about to upload that pack again."""
    one, two = shared
    for path in place(one).glob("packs/*.pack"):
        path.unlink()
    before = remote_files(one, "packs")
    clean(two, "--force")
    assert before <= remote_files(one, "packs")


def test_a_claim_that_is_renewed_while_old_ones_are_taken_away_stays(shared, monkeypatch):  # noqa: F811
    one, _ = shared
    real = sweep.begin

    def renewing(store):
        mark = real(store)
        monkeypatch.setattr(sweep, "begin", real)
        for path in place(one).glob("claims/*/*/*"):
            os.utime(path)
        return mark

    age(one, 100)
    monkeypatch.setattr(sweep, "begin", renewing)
    before = remote_files(one, "claims")
    cleaning.gc_remote(open_repo(one.root), is_forced=True)
    assert remote_files(one, "claims") == before


def test_a_claim_that_was_taken_away_meanwhile_is_written_again(shared, monkeypatch):  # noqa: F811
    one, _ = shared
    save(one, "more")
    real, calls = sweep.wait_for_others, []

    def taking(store, names=()):
        calls.append(store)
        if len(calls) == 1:
            for path in place(one).glob("claims/*/*/*"):
                path.unlink()
            store.look()
        real(store, names)

    monkeypatch.setattr(sweep, "wait_for_others", taking)
    from dvlite.ops.push import push

    push(open_repo(one.root))
    assert remote_files(one, "claims") and len(calls) == 2


def test_a_copy_goes_only_when_the_other_is_whole(shared):  # noqa: F811
    one, two = shared
    for number in range(6):
        one.write({f"data/f{number}": os.urandom(100_000)})
    one.dv("add", "-q", "data")
    one.commit("six")
    one.dv("push")
    one.git("push", "-q")
    name = "data/f0"
    oid = hashing.oid_of_file("sha256", one.root / name)
    # The same object in a second, smaller pack, as of two pushes at once.
    store = one.repo.remote()
    listing = set(store.look())
    writer = cleaning.packs.PackWriter(one.root.parent, 1 << 20)
    writer.add(oid, (one.root / name).read_bytes())
    written = writer.finish()
    store.upload_pack(written.path, written.id, written.tail)
    assert len(set(store.look()) - listing) == 2
    large = max(place(one).glob("packs/*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(large.read_bytes())
    at = data.index((one.root / name).read_bytes()) + 500
    data[at] ^= 1
    large.chmod(0o644)
    large.write_bytes(data)
    clean(one)
    assert f"packs/{written.id}.pack" in remote_files(one)
    third = Project(one.root.parent / "third")
    subprocess.run(["git", "clone", "-q", one.root.parent / "up.git", third.root], check=True)
    third.dv("pull")
    assert third.read("data") == one.read("data")


def test_a_store_and_a_remote_are_never_one_place(shared, tmp_path):  # noqa: F811
    one, _ = shared
    one.git("config", "dvlite.store", str(place(one)))
    assert "can't be the local store" in one.dv("status", code=2)
    one.git("config", "dvlite.store", str(tmp_path / "store"))
    one.dv("pull")
    for url in (tmp_path / "store", tmp_path / "store/inner"):
        one.git("config", "dvlite.remote.origin.url", str(url))
        for command in (["push"], ["gc", "--drop", "data"], ["fsck", "--remote"]):
            assert "there would be no second copy" in one.dv(*command, code=2)


@pytest.mark.parametrize("ref", ["refs/worktree/keep", "refs/bisect/bad", "refs/worktree/a/b"])
def test_refs_that_a_linked_worktree_has_for_itself_keep(shared, ref):  # noqa: F811
    one, _ = shared
    one.git("worktree", "add", "-q", "--detach", "../linked")
    linked = Project(one.root.parent / "linked")
    linked.dv("checkout")
    save(linked, "there alone " * 50)
    text = linked.read("data")
    linked.git("update-ref", ref, "HEAD")
    linked.git("checkout", "-q", "--detach", "main")
    linked.dv("checkout", "--force")
    linked.git("reflog", "expire", "--expire=now", "--all")
    for mark in (one.root / ".git").rglob("ORIG_HEAD"):
        mark.unlink()
    one.dv("gc", "--grace", "0")
    one.dv("gc", "--empty")
    linked.git("checkout", "-q", "--detach", ref)
    linked.dv("checkout")
    assert linked.read("data") == text


def test_what_is_freed_here_is_claimed_there(shared):  # noqa: F811
    one, two = shared
    two.git("checkout", "-q", "-b", "side")
    save(two, "of two " * 300)
    two.dv("push")
    shutil.copy(two.root / "data/a.txt", one.root / "y")
    one.dv("add", "-q", "y")
    one.commit("not pushed")
    one.dv("gc", "--drop", "y")
    (one.root / "y").unlink()
    two.git("checkout", "-q", "main")
    two.git("branch", "-q", "-D", "side")
    forget(two)
    mine = {name for name in remote_files(one, "claims") if one.repo.clone_id not in name}
    age(one, 100, *remote_files(one) - (remote_files(one, "claims") - mine))
    two.dv("gc", "--remote", "--force")
    age(one, 15, *remote_files(one, "doomed"))
    two.dv("gc", "--remote", "--force")
    one.dv("pull")
    assert (one.root / "y").read_text() == "of two " * 300


def garbage(project, folder):
    """Make a repository in a folder with something in its trash; return that content."""
    from tests.conftest import make_project

    made = make_project(project.root.parent / folder / "repo")
    made.write({"big": os.urandom(2 << 20), "s": "secret"})
    first = (made.root / "big").read_bytes()
    made.dv("add", "-q", "big", "s")
    made.write({"big": os.urandom(2 << 20)})
    made.dv("add", "-q", "big")
    made.commit()
    made.dv("gc", "--grace", "0")
    return made, first


def test_purge_takes_nothing_else_out_of_the_trash(project):
    made, _ = garbage(project, "packs/backpacks")
    made.dv("purge", "s", "--yes")
    assert "1 file" in made.dv("gc", "--restore")


def test_restore_throws_no_good_copy_away(project):
    made, first = garbage(project, "plain")
    made.write({"big": first})
    made.dv("add", "-q", "big")
    made.commit("again")
    path = made.repo.store.path_of(hashing.oid_of("sha256", first))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(500)
        file.write(b"damaged")
    (made.root / "big").unlink()
    said = made.dv("gc", "--restore")
    assert "brought back: 0 files" in said and "fsck --repair" in said
    assert "healed from the trash" in made.dv("fsck", "--repair")
    made.dv("checkout")
    assert (made.root / "big").read_bytes() == first
