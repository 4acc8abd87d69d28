"""The versions of a tracked path, and of a file inside it, under all names that it had."""

import pytest

from dvlite.ops.log import log


def told(project, path, **options):
    """Return what log says of a path, newest first: kind, path, message."""
    return [(one.kind, one.path, one.message) for one in log(project.repo, path, **options).versions]


@pytest.fixture
def history(project):
    """Five versions of a folder, the last under another name."""
    project.write({"a.csv": "a\n", "b.csv": "b\n", "sub/c.csv": "c\n"}, "data")
    project.dv("add", "data")
    project.commit("one")
    project.git("tag", "v1.0")
    project.write({"a.csv": "a, longer\n", "new.csv": "new\n"}, "data")
    (project.root / "data/b.csv").unlink()
    project.dv("add", "data")
    project.commit("two")
    project.write({"readme": "nothing of data"})
    project.commit("beside")
    (project.root / "data/sub/c.csv").rename(project.root / "data/moved.csv")
    project.dv("add", "data")
    project.commit("three")
    project.git("mv", "data.dvlite", "sales.dvlite")
    project.commit("four")
    project.write({"moved.csv": "c, changed\n"}, "data")
    (project.root / "data").rename(project.root / "sales")
    project.dv("add", "--force", "sales")
    project.commit("five")
    return project


def test_of_a_folder_under_all_its_names(history):
    assert told(history, "sales") == [
        ("changed", "sales", "five"),
        ("renamed", "sales", "four"),
        ("changed", "data", "three"),
        ("changed", "data", "two"),
        ("added", "data", "one"),
    ]
    versions = history.json("log", "sales")["versions"]
    assert [one["count"] and [one["count"][key] for key in ("added", "removed", "changed", "renamed")] for one in versions] == [
        [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0], [3, 0, 0, 0],
    ]  # fmt: skip
    assert versions[-1]["tags"] == ["v1.0"] and versions[-1]["author"] == "Test" and versions[0]["files"] == 3
    assert versions[0]["date"].startswith("20") and len(versions[0]["commit"]) == 40


def test_of_a_file_inside_under_all_its_names(history):
    assert told(history, "sales/moved.csv") == [
        ("changed", "sales/moved.csv", "five"),
        ("renamed", "sales/moved.csv", "four"),
        ("renamed", "data/moved.csv", "three"),
        ("added", "data/sub/c.csv", "one"),
    ]
    assert told(history, "sales/a.csv") == [
        ("renamed", "sales/a.csv", "four"),
        ("changed", "data/a.csv", "two"),
        ("added", "data/a.csv", "one"),
    ]


def test_of_what_is_gone(history):
    assert told(history, "data/b.csv")[:2] == [("removed", "data/b.csv", "two"), ("added", "data/b.csv", "one")]
    history.git("rm", "-q", "sales.dvlite")
    history.commit("six")
    assert told(history, "sales")[0] == ("removed", "sales", "six")
    assert "'nothing' was never tracked" in history.dv("log", "nothing", code=2)


def test_for_people(history):
    lines = history.dv("log", "sales").splitlines()
    assert lines[0].endswith("~1           five") or "~1" in lines[0]
    assert "renamed to sales" in lines[1] and ">1" in lines[2] and "+1 -1 ~1" in lines[3]
    assert lines[4].endswith("(v1.0) one")
    assert len(history.dv("log", "sales", "-n", "2").splitlines()) == 2
    assert "| (v1.0) one |" in history.dv("log", "sales", "--md")
    assert told(history, "data", rev="v1.0") == [("added", "data", "one")]


def test_a_merge_that_makes_a_version_of_its_own_is_one(project):
    project.dv("hooks", "install", "-q")
    project.write({"a": "1", "b": "1", "c": "1"}, "data")
    project.dv("add", "data")
    project.commit("base")
    project.git("switch", "-q", "-c", "side")
    project.write({"a": "side"}, "data")
    project.dv("add", "data")
    project.commit("of the side")
    project.git("switch", "-q", "main")
    project.write({"b": "main"}, "data")
    project.dv("add", "data")
    project.commit("of main")
    project.git("merge", "-q", "-m", "together", "side")
    assert project.read("data") == {"a": b"side", "b": b"main", "c": b"1"}
    assert {message for _, _, message in told(project, "data")} == {"together", "of main", "of the side", "base"}
    project.git("switch", "-q", "-c", "more")
    project.write({"c": "2"}, "data")
    project.dv("add", "data")
    project.commit("more")
    project.git("switch", "-q", "main")
    project.git("merge", "-q", "--no-ff", "-m", "nothing new", "more")
    assert "nothing new" not in {message for _, _, message in told(project, "data")}


def test_metadata_alone_is_a_version_of_the_whole_and_not_of_a_file_inside(project):
    project.write({"a": "1"}, "data")
    project.dv("add", "data")
    project.commit("one")
    with (project.root / "data.dvlite").open("a") as file:
        file.write('\n[meta]\nsource = "x"\n')
    project.commit("two")
    assert told(project, "data") == [("metadata", "data", "two"), ("added", "data", "one")]
    assert told(project, "data/a") == [("added", "data/a", "one")]


def test_a_pointer_that_looks_alike_is_no_rename(project):
    project.write({"a.bin": "1"})
    project.dv("add", "a.bin")
    project.commit("one")
    project.git("rm", "-q", "a.bin.dvlite")
    project.write({"b.bin": "another"})
    project.dv("add", "b.bin")
    project.commit("two")
    assert told(project, "b.bin") == [("added", "b.bin", "two")]


def test_versions_whose_pointer_or_listing_cannot_be_read_are_told_as_unknown(pushed):
    pushed.write({"d0/f0.txt": "changed"}, "data")
    pushed.dv("add", "data")
    pushed.commit("second")
    (pushed.root / "data.dvlite").write_text("broken\n")
    pushed.git("commit", "-qam", "broken", "--no-verify")
    pushed.git("checkout", "-q", "HEAD~1", "--", "data.dvlite")
    pushed.git("commit", "-qm", "mended")
    assert [kind for kind, _, _ in told(pushed, "data")] == ["changed", "unknown", "changed", "added"]
    pushed.dv("push", "--all", code=1)
    clone = pushed.clone()
    versions = log(clone.repo, "data").versions
    assert [one.message for one in versions] == ["mended", "broken", "second", "first"]
    assert all(one.count is None for one in versions if one.kind == "changed") and versions[0].size
    assert {one.kind for one in log(clone.repo, "data/d0/f0.txt").versions} == {"unknown"}


def test_strange_names(project):
    name = "sp ace\n'ü\".csv"
    project.write({name: "1"}, "data set")
    project.dv("add", "data set")
    project.commit("one\x01\x02")
    assert told(project, f"data set/{name}")[0][:2] == ("added", f"data set/{name}")
