"""A push skips the trees that it knows to lie in packs that are listed now; and never claims what isn't there."""

import hashlib
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import reach
from dvlite.oid import Oid
from dvlite.ops.push import push
from dvlite.stores.remote import covers
from dvlite.stores.remote.covers import Cover, Named


@pytest.fixture
def walked(monkeypatch):
    """The trees that a push decodes."""
    found = []
    real = reach.lines.blobs  # each is looked at by way of it first
    monkeypatch.setattr(reach.lines, "blobs", lambda slot, data: found.append(slot.oid) or real(slot, data))
    return found


@pytest.fixture
def place(pushed):
    return pushed.root.parent / "remote"


def test_a_push_with_nothing_to_do_walks_no_tree_that_it_knows(pushed, walked):
    result = push(pushed.repo)
    assert walked == [] and result.pushed == 0 and result.present == 35, "30 files, 4 trees, the model"


def test_a_changed_file_costs_the_trees_above_it(pushed, walked):
    pushed.write({"data/d0/f0.txt": "changed"})
    pushed.dv("add", "data")
    pushed.commit("second")
    result = push(pushed.repo)
    assert result.pushed == 3 and len(set(walked)) == 2
    walked.clear()
    assert push(pushed.repo).pushed == 0 and walked == []
    clone = pushed.clone()
    clone.dv("pull")
    assert clone.read("data") == pushed.read("data")


@pytest.mark.parametrize("spoil", ["pack", "idx", "short", "large", "all"])
def test_what_has_left_the_remote_is_missed_and_sent_again(pushed, place, spoil):
    push(pushed.repo)
    packs = sorted(place.glob("packs/*.pack"), key=lambda path: path.stat().st_size)
    if spoil == "pack":
        packs[-1].unlink()
    elif spoil == "idx":
        packs[0].with_suffix(".idx").unlink()
    elif spoil == "short":
        os.truncate(packs[0], packs[0].stat().st_size - 1)
    elif spoil == "large":
        shutil.rmtree(place / "objects")
    else:
        shutil.rmtree(place)
    assert push(pushed.repo, is_dry_run=True).pushed > 0
    assert push(pushed.repo).pushed > 0
    clone = pushed.clone()
    clone.dv("pull")
    assert clone.read("data") == pushed.read("data")


def test_a_folder_with_a_large_file_is_looked_at_each_time(pushed, place, walked):
    pushed.write({"big.bin": os.urandom(1 << 20)}, "data/d0")
    pushed.dv("add", "data")
    pushed.commit("second")
    push(pushed.repo)
    walked.clear()
    assert push(pushed.repo).pushed == 0 and len(set(walked)) == 2, "the root, and the folder with the large file"
    (large,) = (path for path in place.glob("objects/*/*/*") if path.stat().st_size == 1 << 20)
    large.unlink()
    assert push(pushed.repo).pushed == 1


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 200])
def test_a_damaged_memory_is_no_memory(pushed, walked, damage):
    (memory,) = (pushed.root / ".git/dvlite/remotes").glob("*/covers")
    memory.write_bytes(memory.read_bytes()[:-40] + damage)
    assert push(pushed.repo).pushed == 0 and walked, "everything was looked at"


def test_what_was_purged_since_is_not_said_to_be_there(pushed):
    pushed.write({"secret.txt": "secret"}, "data/d0")
    pushed.dv("add", "data")
    pushed.commit("second")
    push(pushed.repo)
    pushed.dv("purge", "--yes", "--remote", "data/d0/secret.txt")
    result = push(pushed.repo)
    assert (result.purged, result.pushed) == (1, 0)
    assert push(pushed.repo, is_verified=True).failures == [], "it is not there on purpose"


def test_after_a_purge_a_push_with_nothing_to_do_walks_nothing_again_until_it_is_lifted(pushed, walked):
    pushed.write({"secret.txt": "secret"}, "data/d0")
    pushed.dv("add", "data")
    pushed.commit("second")
    push(pushed.repo)
    pushed.dv("purge", "--yes", "--remote", "data/d0/secret.txt")
    assert push(pushed.repo).pushed == 0 and walked, "all that was there was written anew without it"
    walked.clear()
    assert push(pushed.repo).pushed == 0 and walked == []
    oid = Oid("sha256", hashlib.sha256(b"secret").digest())
    pushed.dv("purge", "--lift", str(oid), "--remote")
    pushed.write({"secret.txt": "secret"}, "data/d0")
    pushed.dv("add", "data")
    push(pushed.repo)
    assert oid in pushed.repo.remote().find([oid]), "it may be there again, and is"


ids = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    st.dictionaries(
        st.binary(min_size=32, max_size=32),
        st.builds(Cover, st.frozensets(ids, max_size=4), st.integers(0, 1 << 40)),
        max_size=20,
    )
)
def test_covers_are_read_as_they_were_written(found):
    mark = covers.mark_of([])
    assert covers.decode(covers.encode(found, mark)) == (found, mark)
    assert covers.decode(covers.encode(found, mark)[:-1]) == ({}, b"")


def test_a_tree_is_covered_when_all_below_it_is():
    one, two, three, four = (Oid("sha256", bytes([number]) * 32) for number in range(4))
    named = {
        one: Named([two, three], 0, frozenset("a")),
        two: Named([], 5, frozenset("bc")),
        three: Named([four], 1, frozenset("a")),
    }
    assert dict(covers.resolve(named, {})) == {two: Cover(frozenset("bc"), 6)}, "nobody knows of the fourth"
    known = {four: Cover(frozenset("d"), 9)}
    assert dict(covers.resolve(named, known))[one] == Cover(frozenset("abcd"), 18)
    assert covers.packs_of([Cover(frozenset("a"), 1), *known.values()]) == {"a", "d"}
    loose = named | {two: Named([], 1, None)}
    assert one not in dict(covers.resolve(loose, known)), "one of its files lies in no pack"


def test_a_pointer_that_says_another_size_is_refused_although_its_tree_is_known(pushed):
    text = (pushed.root / "data.dvlite").read_text()
    size = next(line for line in text.splitlines() if line.startswith("size"))
    (pushed.root / "data.dvlite").write_text(text.replace(size, "size = 7"))
    pushed.commit("a conflict resolved by hand")
    result = push(pushed.repo)
    assert result.failures and "another size" in result.failures[0].error.message


def test_large_objects_behind_a_link_are_seen(pushed, place, tmp_path):
    shutil.move(place / "objects", tmp_path / "elsewhere")
    (place / "objects").symlink_to(tmp_path / "elsewhere")
    assert push(pushed.repo).pushed == 0
    clone = pushed.clone()
    clone.dv("pull")
    assert (clone.root / "model.bin").read_bytes() == (pushed.root / "model.bin").read_bytes()
