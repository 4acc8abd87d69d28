"""Differences of two trees: what is told turns the one into the other, and only trees that differ are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import compare, hashing, tree
from dvlite.tree import Entry

NAMES = st.sampled_from(["a", "b", "c", "d0"])
CONTENT = st.sampled_from([b"", b"one", b"two", b"three"])
FOLDERS = st.recursive(
    st.dictionaries(NAMES, CONTENT, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(CONTENT, inner), max_size=4),
    max_leaves=12,
)


class Trees:
    """Keeps the trees that it makes, and counts what is read."""

    def __init__(self):
        self.objects, self.read_oids = {}, []

    def put(self, name, content):
        if isinstance(content, bytes):
            return Entry(tree.FILE, hashing.oid_of("sha256", content), len(content), 1, name)
        folder = tree.build("sha256", [self.put(inner, below) for inner, below in content.items()])
        self.objects.update(folder.objects)
        return Entry(tree.TREE, folder.oid, folder.size, folder.files, name)

    def read(self, oid):
        self.read_oids.append(oid)
        return self.objects[oid]

    def files(self, entry, path=""):
        """Return paths (empty folders too) to oids."""
        if not entry.is_tree:
            return {path: entry.oid}
        below = {}
        for child in tree.entries(entry, self.objects.__getitem__):
            below.update(self.files(child, f"{path}/{child.name}" if path else child.name))
        return below or {f"{path}/": entry.oid}


def diff(trees, old, new):
    return compare.with_renames(list(compare.differences("", old, new, trees.read)), trees.read)


@given(FOLDERS, FOLDERS)
def test_what_is_told_turns_the_one_into_the_other(before, after):
    trees = Trees()
    old, new = trees.put("", before), trees.put("", after)
    files = trees.files(old)
    found = diff(trees, old, new)
    for one in found:
        gone = one.old_path or one.path
        if one.old:
            for path in trees.files(one.old, gone):
                assert files.pop(path, None) or path.endswith("/")
    for one in found:
        if one.new:
            files.update(trees.files(one.new, one.path))
    wanted = trees.files(new)
    # Folders that became empty, or ceased to be, need no line of their own.
    assert {path: oid for path, oid in files.items() if not path.endswith("/")} == {
        path: oid for path, oid in wanted.items() if not path.endswith("/")
    }


@given(FOLDERS, FOLDERS)
def test_renamed_is_what_is_the_same_elsewhere_and_each_only_once(before, after):
    trees = Trees()
    found = diff(trees, trees.put("", before), trees.put("", after))
    renamed = [one for one in found if one.kind == "renamed"]
    assert all(one.old.oid == one.new.oid and one.old_path != one.path and one.new.size for one in renamed)
    assert len({one.old_path for one in renamed}) == len({one.path for one in renamed}) == len(renamed)
    gone = {one.old.oid for one in found if one.kind == "removed" and not one.old.is_tree and one.old.size}
    come = {one.new.oid for one in found if one.kind == "added" and not one.new.is_tree and one.new.size}
    assert not gone & come


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"x": {"a": b"1", "b": b"2"}}, {"y": {"a": b"1", "b": b"2"}}, [("renamed", "y", "x")]),
        ({"x": {"a": b"1", "b": b"2"}}, {"y": {"a": b"1", "c": b"3"}},
         [("removed", "x/b", ""), ("renamed", "y/a", "x/a"), ("added", "y/c", "")]),
        ({"x": {"s": {"a": b"1"}, "b": b"2"}}, {"t": {"a": b"1"}}, [("removed", "x/b", ""), ("renamed", "t", "x/s")]),
        ({"d": {"n": b"1"}, "e": {"m": b"1"}}, {"f": {"m": b"1"}, "g": {"n": b"1"}},
         [("renamed", "f", "e"), ("renamed", "g", "d")]),
        ({"a": b""}, {"b": b""}, [("removed", "a", ""), ("added", "b", "")]),
        ({"a": b"1"}, {"a": {"b": b"1"}}, [("renamed", "a/b", "a")]),
        ({"new": {}}, {"new": {"lots": {"of": b"files"}}}, [("added", "new/lots", "")]),
    ],
)  # fmt: skip
def test_renames_of_files_and_folders(before, after, said):
    trees = Trees()
    found = diff(trees, trees.put("", before), trees.put("", after))
    assert sorted((one.kind, one.path, one.old_path) for one in found) == sorted(said)


def test_only_trees_that_differ_are_read():
    trees = Trees()
    data = {f"d{n}": {f"f{m}": b"%d %d" % (n, m) for m in range(20)} for n in range(50)}
    old = trees.put("", data)
    data["d7"]["f3"] = b"changed"
    new = trees.put("", data)
    found = diff(trees, old, new)
    assert [(one.kind, one.path) for one in found] == [("changed", "d7/f3")]
    assert len(set(trees.read_oids)) == 4  # both roots, and the folder in both versions
    assert compare.count(found) == compare.Count(changed=1, size_added=7, size_removed=3)


def test_the_same_object_with_another_mode_is_a_change_of_mode():
    entry = Entry(tree.FILE, hashing.oid_of("sha256", b"1"), 1, 1, "a")
    (found,) = compare.differences("a", entry, entry._replace(mode=tree.EXECUTABLE), dict().__getitem__)
    assert found.kind == "mode"


def test_many_folders_that_were_renamed_cost_what_they_are():
    """Each folder is looked at a few times, not once for each other one."""
    trees = Trees()
    data = {f"a{n}": {f"f{m}": b"%d %d" % (n, m) for m in range(3)} | {"gone": b"x%d" % n} for n in range(1500)}
    old = trees.put("", data)
    new = trees.put(
        "", {f"b{n[1:]}": {name: one for name, one in folder.items() if name != "gone"} for n, folder in data.items()}
    )
    found = diff(trees, old, new)
    assert sum(one.kind == "renamed" for one in found) == 4500 and len(trees.read_oids) < 20_000
