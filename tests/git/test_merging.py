"""The merge driver, taking sides, and the diff driver."""

import os
import subprocess

import pytest

from dvlite import pointer, refs
from tests.git.conftest import FILES, Hooked


def branch(work, name, files=(), gone=()):
    """Make a branch from main's first commit with some files changed or gone."""
    work.git("switch", "-q", "-C", name, "start")
    for path in gone:
        (work.root / "data" / path).unlink()
    return work.save(name, dict(files))


@pytest.fixture
def start(work):
    work.git("tag", "start")
    return work


def merge(work, files_one, files_two, gone_one=(), gone_two=()):
    branch(work, "one", files_one, gone_one)
    branch(work, "two", files_two, gone_two)
    work.git("switch", "-q", "one")
    return work.try_git("merge", "-m", "merged", "two")


@pytest.mark.parametrize(
    ("one", "two", "gone_one", "gone_two", "expected"),
    [
        ({"a": "1"}, {"b": "2"}, (), (), {**FILES, "a": "1", "b": "2"}),
        ({"sub/c": "1"}, {"sub/d": "2"}, (), (), {**FILES, "sub/c": "1", "sub/d": "2"}),
        ({"a": "same"}, {"a": "same"}, (), (), {**FILES, "a": "same"}),
        ({"new": "same"}, {"new": "same", "other": "x"}, (), (), {**FILES, "new": "same", "other": "x"}),
        ({"x": "1"}, {"y": "2"}, ("a",), ("a",), {"b": "b", "sub/c": "c", "sub/d": "d", "x": "1", "y": "2"}),
        ({"x": "1"}, {}, (), ("sub/c", "sub/d"), {"a": "a", "b": "b", "x": "1"}),
        ({"deep/er/x": "1"}, {"deep/y": "2"}, (), (), {**FILES, "deep/er/x": "1", "deep/y": "2"}),
    ],
)
def test_what_does_not_conflict_merges_cleanly(start, one, two, gone_one, gone_two, expected):
    done = merge(start, one, two, gone_one, gone_two)
    assert done.returncode == 0, done.stderr
    assert start.data() == expected
    assert start.dv("status").startswith("clean")
    assert start.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("one", "two", "gone_one", "gone_two", "conflicts"),
    [
        ({"a": "1", "b": "mine"}, {"a": "2"}, (), (), ["data/a"]),
        ({"a": "1", "sub/c": "1"}, {"a": "2", "sub/c": "2"}, (), (), ["data/a", "data/sub/c"]),
        ({"new": "1"}, {"new": "2"}, (), (), ["data/new"]),
        ({"a": "1"}, {}, (), ("a",), ["data/a"]),
        ({"sub/c": "1"}, {}, (), ("sub/c", "sub/d"), ["data/sub/c"]),
    ],
)
def test_a_true_conflict_names_its_paths_and_each_side_can_be_taken(start, one, two, gone_one, gone_two, conflicts):
    done = merge(start, one, two, gone_one, gone_two)
    assert done.returncode == 1
    for path in conflicts:
        assert f"CONFLICT (data): '{path}'" in done.stderr
    assert done.stderr.count("CONFLICT (data)") == len(conflicts)
    text = (start.root / "data.dvlite").read_bytes()
    assert text.count(b"<<<<<<< ") == text.count(b">>>>>>> ") == 1
    before = start.data()
    assert before == {**{k: v for k, v in FILES.items() if k not in gone_one}, **one}  # no byte of data was touched
    said = start.dv("checkout", "--theirs", conflicts[0])
    inner = conflicts[0].removeprefix("data/")
    if len(conflicts) > 1:
        assert f"still in conflict: {conflicts[1]}" in said
        said = start.dv("checkout", "--ours", conflicts[1])
    assert "resolved data (staged)" in said
    expected = {
        **before,
        **{k: v for k, v in two.items() if f"data/{k}" in conflicts[:1] or f"data/{k}" not in conflicts},
    }
    for path in gone_two:
        if f"data/{path}" not in conflicts or path == inner:
            expected.pop(path, None)
    if inner not in two:
        expected.pop(inner, None)
    assert start.data() == expected
    start.git("commit", "-q", "-m", "merged")
    assert start.dv("status").startswith("clean")


def test_a_whole_pointer_can_be_taken_and_git_can_take_it_too(start):
    merge(start, {"a": "1"}, {"a": "2", "b": "2"})
    start.dv("checkout", "--ours", "data")
    assert start.data() == {**FILES, "a": "1", "b": "2"}  # ours where the two disagree; the rest is merged
    start.git("commit", "-q", "-m", "m")
    start.git("reset", "-q", "--hard", "HEAD~1")
    start.git("merge", "two", code=1)
    start.git("checkout", "--theirs", "data.dvlite")
    start.git("add", "data.dvlite")
    start.git("commit", "-q", "-m", "theirs")
    assert start.data() == {**FILES, "a": "2", "b": "2"}


def test_a_path_that_is_not_in_conflict_is_refused(start):
    merge(start, {"a": "1"}, {"a": "2"})
    assert "In conflict are: data/a" in start.dv("checkout", "--ours", "data/b", code=2)
    start.dv("checkout", "--ours", "data/a")
    assert "is not in conflict" in start.dv("checkout", "--ours", "data/a", code=2)


def test_metadata_merges_key_by_key(start):
    def meta(name, text):
        start.git("switch", "-q", "-C", name, "start")
        with (start.root / "data.dvlite").open("a") as file:
            file.write(text)
        start.save(name, {"a": name} if name == "one" else {"b": name})

    meta("one", '\n[meta]\n# mine\nowner = "ana"\nlicence = "CC0"\n')
    meta("two", '\n[meta]\nowner = "ana"\nsource = "there"\n')
    start.git("switch", "-q", "one")
    start.git("merge", "-m", "m", "two")
    item = refs.in_worktree(start.repo.git).found["data"]
    assert item.tables["meta"] == {"owner": "ana", "licence": "CC0", "source": "there"}
    assert b"# mine" in item.rest and start.data() == {**FILES, "a": "one", "b": "two"}
    with (start.root / "data.dvlite").open("a") as file:
        file.write('stage = "x"\n')
    start.git("commit", "-qam", "x")
    start.git("switch", "-q", "two")
    with (start.root / "data.dvlite").open("a") as file:
        file.write('stage = "y"\n')
    start.git("commit", "-qam", "y")
    done = start.try_git("merge", "-m", "m", "one")
    assert done.returncode == 1 and "CONFLICT (data): 'data.dvlite'" in done.stderr
    ours, theirs = (pointer.decode(text) for text in pointer.sides((start.root / "data.dvlite").read_bytes()))
    assert ours.entry == theirs.entry and (ours.tables["meta"]["stage"], theirs.tables["meta"]["stage"]) == ("y", "x")
    start.dv("checkout", "--theirs", "data")
    start.git("commit", "-q", "-m", "m")


def test_the_executable_bit_and_the_content_merge_each_for_itself(start):
    branch(start, "one", {"a": "changed"})
    start.git("switch", "-q", "-C", "two", "start")
    (start.root / "data/a").chmod(0o755)
    start.save("two")
    start.git("merge", "-q", "-m", "m", "one")
    assert start.data()["a"] == "changed" and os.access(start.root / "data/a", os.X_OK)


def test_a_single_file_conflicts_as_a_whole(start):
    start.write({"model": "0"})
    start.dv("add", "-q", "model")
    start.git("commit", "-q", "-m", "model")
    start.git("tag", "-f", "start")
    for name in ("one", "two"):
        start.git("switch", "-q", "-C", name, "start")
        start.write({"model": name})
        start.save(name)
    done = start.try_git("merge", "-m", "m", "one")
    assert "CONFLICT (data): 'model'" in done.stderr
    start.dv("checkout", "--theirs", "model")
    assert (start.root / "model").read_text() == "one"


def test_a_criss_cross_merge(start):
    """Two merge bases: Git merges those first, by the same driver."""
    one, two = branch(start, "one", {"a": "1"}), branch(start, "two", {"b": "2"})
    start.git("merge", "-q", "-m", "m2", one)
    start.save("two goes on", {"sub/c": "2"})
    start.git("switch", "-q", "one")
    start.git("merge", "-q", "-m", "m1", two)
    start.save("one goes on", {"sub/d": "1"})
    start.git("merge", "-q", "-m", "both", "two")
    assert start.data() == {"a": "1", "b": "2", "sub/c": "2", "sub/d": "1"}


def test_many_files_merge_reading_only_what_differs(start):
    start.write({f"f{number:05}": f"{number}" for number in range(5000)}, "data/many")
    start.dv("add", "-q", "data")
    start.git("commit", "-q", "-m", "many")
    start.git("tag", "-f", "start")
    done = merge(start, {"many/f00001": "one"}, {"many/f04999": "two"})
    assert done.returncode == 0
    assert (start.data()["many/f00001"], start.data()["many/f04999"]) == ("one", "two")


@pytest.fixture
def clone(start, tmp_path):
    """A clone that has pulled branch one, and knows the remote; of branch two it has nothing."""
    branch(start, "one", {"a": "1"})
    branch(start, "two", {"sub/c": "2"})
    for name in ("one", "two"):
        start.git("switch", "-q", name)
        start.dv("remote", "add", "-q", "--force", "origin", tmp_path / "remote")
        start.git("commit", "-qam", "remote")
        start.dv("push", "-q")
    start.git("switch", "-q", "one")
    clone = start.clone()
    clone.dv("hooks", "install", "-q")
    clone.dv("pull", "-q")
    return clone


def test_missing_trees_are_fetched_and_contents_are_not(clone):
    done = clone.try_git("merge", "-m", "m", "origin/two")
    assert done.returncode == 0, done.stderr
    assert "not here yet: data/sub/c" in done.stderr
    clone.dv("pull", "-q")
    assert clone.data() == {**FILES, "a": "1", "sub/c": "2"}


def test_offline_what_cannot_be_had_is_a_conflict_with_the_reason(clone):
    clone.git("config", "dvlite.offline", "true")
    done = clone.try_git("merge", "-m", "m", "origin/two")
    assert done.returncode == 1 and "is not in the local store" in done.stderr
    assert b"<<<<<<<" in (clone.root / "data.dvlite").read_bytes()
    clone.git("merge", "--abort")
    assert clone.data() == {**FILES, "a": "1"}


def test_where_dvlite_is_not_found_git_still_marks_conflicts(start):
    branch(start, "one", {"a": "1"})
    branch(start, "two", {"b": "2"})
    done = start.try_git("merge", "-m", "m", "one", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1
    assert b"<<<<<<< ours" in (start.root / "data.dvlite").read_bytes()
    assert start.git("diff", env={"PATH": "/usr/bin:/bin"})


# ---- the diff driver ------------------------------------------------------------------------------------------------


def test_git_shows_what_changed_in_data_as_a_listing(forked):
    said = forked.git("show")
    assert "+  a  4 bytes, " in said and "-  a  1 bytes, " in said and "oid" not in said
    assert "sub/c" in forked.git("log", "-p", "--all")


def test_above_ten_thousand_files_a_subfolder_is_one_line(work):
    work.write({f"many/f{number}": str(number) for number in range(10_001)}, "data")
    work.dv("add", "-q", "data")
    said = work.git("diff", "--cached")
    assert "many/  " in said and "10,001 files" in said and "many/f1 " not in said


def test_a_missing_tree_shows_as_its_oid_and_no_network_is_used(clone):
    said = clone.git("diff", "origin/one", "origin/two")
    assert "its listing is not here (run dvlite fetch)" in said
    assert "cachetextconv" not in clone.git("config", "--local", "--list")


def test_a_file_that_is_no_pointer_shows_as_it_is(work):
    work.write({"odd.dvlite": "not a pointer\n"})
    work.git("add", "odd.dvlite")
    assert "+not a pointer" in work.git("diff", "--cached")
    done = subprocess.run(["dvlite", "textconv", "/nowhere"], cwd=work.root, capture_output=True, text=True)
    assert done.returncode != 0


def test_names_are_shown_escaped(work):
    work.write({"evil\x1b[2J": "x"}, "data")
    work.dv("add", "-q", "data")
    assert "\x1b[2J" not in work.git("diff", "--cached") and "evil%1B[2J" in work.git("diff", "--cached")


def test_a_merge_in_a_subfolder_names_the_right_path(start):
    start.write({"x": "0"}, "deep/er/set")
    start.dv("add", "-q", "deep/er/set")
    start.git("commit", "-q", "-m", "deep")
    start.git("tag", "-f", "start")
    for name in ("one", "two"):
        start.git("switch", "-q", "-C", name, "start")
        start.write({"x": name}, "deep/er/set")
        start.save(name)
    done = Hooked(start.root / "deep").try_git("merge", "-m", "m", "one")
    assert "CONFLICT (data): 'deep/er/set/x'" in done.stderr
    assert "resolved" in start.dv("checkout", "--theirs", "er/set/x", folder=start.root / "deep")
    assert (start.root / "deep/er/set/x").read_text() == "one"
