"""What has more files than are held at once is sent a portion at a time: the same as at once, and nothing is claimed too soon."""

import os
import shutil

import pytest

from dvlite import refs, transfer
from dvlite.errors import MissingError
from dvlite.ops.fetch import fetch
from dvlite.ops.push import push
from dvlite.repo import open_repo
from dvlite.stores.local import LocalStore
from dvlite.stores.remote import RemoteStore, batch
from dvlite.stores.remote.bucket import Bucket

MOST = 50


@pytest.fixture
def most(monkeypatch):
    monkeypatch.setattr(transfer, "AT_ONCE", MOST)


@pytest.fixture
def asked(monkeypatch):
    """How many objects a store is asked for at once."""
    counts = []
    for store in (RemoteStore, LocalStore):

        def find(self, oids, real=store.find):
            counts.append(len(oids))
            return real(self, oids)

        monkeypatch.setattr(store, "find", find)
    return counts


@pytest.fixture
def many(project):
    """Six hundred files in folders of several sizes, some twice, two of them large; and some beside."""
    here = {f"a/s{n % 30:02}/f{n}": f"a {n}" * 9 for n in range(240)}
    here |= {f"b/d{n % 3}/e{n % 2}/f{n}": f"b {n}" for n in range(240)}
    here |= {f"c/f{n}": f"b {n}" for n in range(40)} | {f"top{n}": f"top {n}" for n in range(20)}
    here |= {"a/s01/large": os.urandom(1 << 20).hex(), "b/d0/large": os.urandom(1 << 20).hex()}
    project.write(here, "data")
    project.write({f"x{n}": f"x {n}" for n in range(20)}, "other")
    project.dv("remote", "add", "origin", "../remote")
    project.dv("add", "data", "other")
    project.commit("many")
    return project


def on_remote(project):
    return set(project.repo.remote("").oids())


def reached(project, *paths):
    found = refs.in_worktree(project.repo.git).found
    reach = transfer.reach([found[path].entry for path in paths or found], project.repo.store)
    return {*reach.trees, *reach.blobs}


def test_all_arrives_and_is_known_to_be_there(many, most, asked):
    result = push(many.repo)
    assert not result.failures and result.pushed == len(reached(many))
    assert max(asked) <= 2 * MOST, "what a portion reaches, with its trees"
    assert on_remote(many) == reached(many)
    asked.clear()
    again = push(many.repo)
    assert again.pushed == 0 and again.present >= result.pushed and max(asked) <= 2 * MOST
    clone = many.clone()
    clone.dv("pull")
    assert clone.read("data") == many.read("data") and clone.read("other") == many.read("other")


def test_it_is_said_to_be_there_only_by_what_is_listed_now(many, most):
    push(many.repo)
    shutil.rmtree(many.root.parent / "remote")
    result = push(many.repo)
    assert result.was_emptied and result.pushed == len(reached(many)) and on_remote(many) == reached(many)


def test_what_changed_is_all_that_goes(many, most, asked):
    push(many.repo)
    many.write({"a/s03/f3": "changed", "top1": "changed too"}, "data")
    many.dv("add", "data")
    many.commit("changed")
    asked.clear()
    result = push(many.repo)
    assert result.pushed == 5, "two files, and the trees above them: s03, a, data"
    assert on_remote(many) >= reached(many)


def test_packs_go_whole_though_they_lie_in_several_portions(many, most):
    repo = open_repo(many.root)
    repo.store.pack_size = 1 << 12  # no pack is small then
    push(repo)
    here, there = (
        {path.name for path in place.glob("packs/*.pack")} for place in (repo.store.root, many.root.parent / "remote")
    )
    large = {path.name for path in repo.store.root.glob("packs/*.pack") if path.stat().st_size > 1 << 13}
    assert large and here & there >= large


def test_a_lost_object_stops_no_other_but_the_trees_above_it(many, most):
    item = refs.in_worktree(many.repo.git).found["data"]
    large = max(transfer.reach([item.entry], many.repo.store).blobs.items(), key=lambda one: one[1])[0]
    many.repo.store.loose_path(large).unlink()
    result = push(open_repo(many.root))
    assert set(result.missing.values()) == {"data"} and len(result.missing) == 1
    there = on_remote(many)
    assert reached(many, "other") <= there and item.oid not in there
    left = reached(many) - there
    assert large in left and len(left) < 8, "it, and the trees above it"
    many.dv("add", "data")
    result = push(open_repo(many.root))
    assert not result.missing and not result.failures and on_remote(many) == reached(many)


def test_what_is_corrupt_is_said_once_though_several_portions_want_it(many, most):
    """And a lost object is no corrupt one: the first portion that wanted it has taken it out of the store."""
    many.write({"b/d0/large": many.read("data")["a/s01/large"]}, "data")
    many.dv("add", "data")
    item = refs.in_worktree(many.repo.git).found["data"]
    large = max(transfer.reach([item.entry], many.repo.store).blobs.items(), key=lambda one: one[1])[0]
    path = many.repo.store.loose_path(large)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    result = push(open_repo(many.root))
    assert not result.missing and [one.path for one in result.failures] == ["data"]
    assert item.oid not in on_remote(many)


def test_a_merged_index_goes_up_once(many, most, monkeypatch):
    monkeypatch.setattr(batch, "_MANY_UNCOVERED", 3)
    for number in range(5):
        many.write({f"y{number}": f"y {number}"}, "other")
        many.dv("add", "other")
        many.commit(str(number))
        many.dv("push", "other")
    place = many.root.parent / "remote"
    shutil.rmtree(place / "indexes", ignore_errors=True)
    shutil.rmtree(many.root / ".git/dvlite/remotes/origin/indexes", ignore_errors=True)
    puts = []
    real = Bucket.put
    monkeypatch.setattr(Bucket, "put", lambda self, name, *a, **k: puts.append(name) or real(self, name, *a, **k))
    push(many.repo)
    assert len([name for name in puts if name.startswith("indexes/")]) == 1


def test_a_tree_that_is_lost_is_named(many, most):
    for path in many.repo.store.root.glob("packs/*.pack"):
        path.unlink()
    result = push(open_repo(many.root))
    assert set(result.missing.values()) == {"data", "other"}
    assert on_remote(many).isdisjoint({refs.in_worktree(many.repo.git).found["data"].oid})


def test_a_dry_run_says_the_same(many, most):
    result = push(many.repo, is_dry_run=True)
    assert result.pushed == len(reached(many)) and set(result.by_path) == {"data", "other"}
    assert not (many.root.parent / "remote").exists()


@pytest.mark.parametrize("break_it", ["write", "tree"])
def test_a_push_that_fails_can_be_gone_on_with(many, most, monkeypatch, break_it):
    sent = []
    real = RemoteStore.upload_pack

    def upload(self, content, id_, *rest):
        sent.append(id_)
        if len(sent) == 3:
            raise MissingError("the line is cut")
        real(self, content, id_, *rest)

    monkeypatch.setattr(RemoteStore, "upload_pack", upload)
    first = push(many.repo)
    assert first.failures
    items = refs.in_worktree(many.repo.git).found.values()
    trees = transfer.reach([one.entry for one in items], many.repo.store).trees
    for oid in reached(many) & on_remote(many):  # whatever is there, all below it is
        if below := trees.get(oid):
            assert {*below.trees, *below.blobs} <= on_remote(many)
    again = push(open_repo(many.root))
    assert not again.failures and on_remote(many) == reached(many)
    assert first.pushed + again.pushed == len(reached(many))


def test_a_fetch_goes_by_portions_too(many, most, asked):
    push(many.repo)
    clone = many.clone()
    asked.clear()
    result = fetch(clone.repo)
    assert max(asked) <= 2 * MOST
    assert not result.failures and not result.missing
    clone.dv("checkout")
    assert clone.read("data") == many.read("data")
    assert fetch(clone.repo).fetched == 0


def test_what_the_remote_lacks_is_named_and_the_rest_comes(many, most):
    push(many.repo)
    place = many.root.parent / "remote"
    for path in place.glob("objects/*/*/*"):
        path.unlink()
    clone = many.clone()
    result = fetch(clone.repo)
    assert set(result.missing.values()) == {"data"} and len(result.missing) == 2 and not result.failures
    assert result.fetched == len(reached(many)) - len(transfer_trees(many)) - 2
    many.dv("push")
    assert fetch(clone.repo).fetched == 2


def transfer_trees(project):
    items = refs.in_worktree(project.repo.git).found.values()
    return transfer.reach([item.entry for item in items], project.repo.store).trees
