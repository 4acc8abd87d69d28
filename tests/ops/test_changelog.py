"""The changelog of data: from commits alone, release by release, the same text each time."""

import pytest


@pytest.fixture
def history(project):
    project.write({"a.csv": "a\n" * 100, "b.csv": "b\n"}, "data")
    project.write({"model.bin": "m" * 900})
    project.dv("add", "data", "model.bin")
    project.commit("first data")
    project.git("tag", "v1.0")
    project.write({"a.csv": "a\n" * 50, "c.csv": "c\n"}, "data")
    project.dv("add", "data", "--meta", "source=survey")
    project.commit("shorter, and a new city")
    project.write({"code.py": "1"})
    project.commit("nothing of data")
    project.git("mv", "model.bin.dvlite", "best.bin.dvlite")
    project.commit("a better name")
    project.git("tag", "-a", "v2.0", "-m", "second")
    with (project.root / "best.bin.dvlite").open("a") as file:
        file.write('\n[run]\ncommand = "train"\n[[run.inputs]]\npath = "data"\noid = "sha256:' + "0" * 64 + '"\n')
    project.commit("where it is from")
    return project


def test_what_is_told(history):
    sections = history.json("changelog")["sections"]
    assert [one["name"] for one in sections] == ["", "v2.0", "v1.0"]
    told = [[(one["kind"], one["path"], one["message"]) for one in section["entries"]] for section in sections]
    assert told == [
        [("metadata", "best.bin", "where it is from")],
        [("renamed", "best.bin", "a better name"), ("changed", "data", "shorter, and a new city")],
        [("added", "data", "first data"), ("added", "model.bin", "first data")],
    ]
    changed = sections[1]["entries"][1]
    assert (changed["count"]["added"], changed["count"]["changed"], changed["meta"]) == (1, 1, ["source"])
    assert sections[0]["entries"][0]["inputs"] == ["data"] and sections[1]["entries"][0]["old_path"] == "model.bin"


def test_as_markdown(history):
    text = history.dv("changelog")
    assert "## Not released\n" in text and "## v2.0 (" in text
    assert "- **model.bin → best.bin**: renamed (1 file, 900 B). a better name (Test, " in text
    assert "- **data**: 1 added, 1 changed (202 B → 104 B); metadata: source. shorter, and a new city (Test, " in text
    assert "; from data. where it is from" in text


def test_ranges_and_paths(history):
    assert [one["name"] for one in history.json("changelog", "v1.0..v2.0")["sections"]] == ["v2.0"]
    told = history.json("changelog", "--path", "data")["sections"]
    assert {one["path"] for section in told for one in section["entries"]} == {"data"}
    assert "nothing..HEAD" in history.dv("changelog", "nothing..HEAD", code=1)


def test_a_file_of_it_is_kept_up_to_date(history):
    assert "not up to date" in history.dv("changelog", "--write", "CHANGELOG-DATA.md", "--check", code=1)
    assert not (history.root / "CHANGELOG-DATA.md").exists()
    history.dv("changelog", "--write", "CHANGELOG-DATA.md")
    text = (history.root / "CHANGELOG-DATA.md").read_bytes()
    history.commit("the changelog itself")
    stamp = (history.root / "CHANGELOG-DATA.md").stat().st_mtime_ns
    history.dv("changelog", "--write", "CHANGELOG-DATA.md", "--check")
    history.dv("changelog", "--write", "CHANGELOG-DATA.md")
    assert (history.root / "CHANGELOG-DATA.md").read_bytes() == text
    assert (history.root / "CHANGELOG-DATA.md").stat().st_mtime_ns == stamp
    history.write({"a.csv": "new\n"}, "data")
    history.dv("add", "data")
    history.commit("more")
    history.dv("changelog", "--write", "CHANGELOG-DATA.md", "--check", code=1)


def test_days_where_there_are_no_tags_and_nothing_before_the_first_commit(project):
    assert project.json("changelog")["sections"] == []
    project.write({"a.bin": "1"})
    project.dv("add", "a.bin")
    project.commit("one")
    (section,) = project.json("changelog")["sections"]
    assert section["name"] == section["date"] and section["name"].startswith("20")


def test_without_listings_sizes_are_told(pushed):
    pushed.write({"d0/f0.txt": "changed"}, "data")
    pushed.dv("add", "data")
    pushed.commit("second")
    pushed.dv("push", "--all")
    text = pushed.clone().dv("changelog")
    assert "**data**: changed (30 files → 30 files, " in text
