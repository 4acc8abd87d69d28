"""Diff of two versions: revs, Git's index, the worktree; for people, as Markdown, as JSON."""

import json
import subprocess
import sys

import pytest

from dvlite.ops.diff import diff


@pytest.fixture
def two(project):
    """Two versions of a folder, and a file."""
    project.write(
        {f"sub/s{n}.txt": f"sub {n}\n" for n in range(4)} | {f"f{n}.txt": f"line {n}\n" for n in range(5)}, "data"
    )
    project.write({f"old/o{n}.txt": f"old {n}\n" for n in range(4)}, "data")
    project.write({"model.bin": b"m" * 1500})
    project.dv("add", "data", "model.bin")
    project.commit("one")
    project.git("tag", "v1")
    (project.root / "data/old").rename(project.root / "data/new")
    (project.root / "data/f0.txt").unlink()
    (project.root / "data/f1.txt").rename(project.root / "data/sub/f1.txt")
    (project.root / "data/f2.txt").chmod(0o755)
    project.write({"f3.txt": "another line\n", "sub/n.txt": "new\n"}, "data")
    return project


CHANGES = {
    ("removed", "f0.txt", ""),
    ("mode", "f2.txt", ""),
    ("changed", "f3.txt", ""),
    ("renamed", "new", "old"),
    ("renamed", "sub/f1.txt", "f1.txt"),
    ("added", "sub/n.txt", ""),
}


def changes(result):
    return {
        (change["kind"], change["path"], change["old_path"]) for one in result["paths"] for change in one["changes"]
    }


def test_of_the_worktree_the_index_and_commits(two):
    assert changes(two.json("diff")) == changes(two.json("diff", "HEAD")) == CHANGES
    assert two.json("diff", "--staged")["paths"] == []
    two.dv("add", "data")
    assert two.json("diff")["paths"] == []
    assert changes(two.json("diff", "--staged")) == changes(two.json("diff", "v1")) == CHANGES
    two.commit("two")
    assert two.json("diff", "HEAD")["paths"] == []
    told = [two.json("diff", *revs) for revs in (("v1", "main"), ("v1..main",), ("v1..",), ("HEAD~1", "HEAD"))]
    assert all(changes(one) == CHANGES for one in told)
    (one,) = told[0]["paths"]
    assert (one["path"], one["kind"], one["old_files"], one["new_files"]) == ("data", "changed", 13, 13)
    assert one["count"] == {"added": 1, "removed": 1, "changed": 2, "renamed": 5, "size_added": 17, "size_removed": 14}
    back = changes(two.json("diff", "main", "v1"))
    assert ("renamed", "old", "new") in back and ("added", "f0.txt", "") in back


def test_for_people(two):
    two.dv("add", "data")
    assert two.dv("diff", "HEAD") == (
        "data: 1 added, 1 removed, 2 changed, 5 renamed (83 B -> 86 B)\n"
        "  removed: f0.txt (7 B)\n"
        "  mode: f2.txt (7 B)\n"
        "  changed: f3.txt (7 B -> 13 B)\n"
        "  renamed: old/ -> new/ (4 files, 24 B)\n"
        "  renamed: f1.txt -> sub/f1.txt (7 B)\n"
        "  added: sub/n.txt (4 B)\n"
    )
    assert two.dv("diff", "HEAD", "--stat") == "data: 1 added, 1 removed, 2 changed, 5 renamed (83 B -> 86 B)\n"
    assert "| `old` → `new` | renamed | 24 B | 24 B |" in two.dv("diff", "HEAD", "--md")
    assert two.dv("diff", "HEAD", folder=two.root / "data").startswith(".: 1 added")
    two.dv("diff", "HEAD", "--exit-code", code=1)
    two.dv("diff", "HEAD", "HEAD", "--exit-code")


def test_many_lines_are_cut_unless_all_are_asked_for(project):
    project.write({f"f{n:02}": str(n) for n in range(50)}, "data")
    project.dv("add", "data")
    project.commit("one")
    project.write({f"f{n:02}": f"changed {n}" for n in range(50)}, "data")
    assert "and 30 more: '--all' lists them" in project.dv("diff")
    assert project.dv("diff", "--all").count("changed: f") == 50


def test_only_of_what_is_named(two):
    two.dv("add", "data")
    two.commit("two")
    assert changes(two.json("diff", "v1", "main", "data/sub")) == {
        ("added", "sub/n.txt", ""),
        ("added", "sub/f1.txt", ""),
    }
    assert changes(two.json("diff", "v1", "main", "data/f3.txt")) == {("changed", "f3.txt", "")}
    assert changes(two.json("diff", "v1", "main", "model.bin", "data.dvlite")) == CHANGES
    assert changes(two.json("diff", "v1", "main", "da*")) == CHANGES
    assert two.json("diff", "v1", "main", "model.bin")["paths"] == []
    assert "'nothing' is neither a rev nor tracked in either version" in two.dv("diff", "v1", "main", "nothing", code=2)


def test_a_tracked_path_that_is_added_removed_or_renamed(two):
    two.git("checkout", "-q", "--", ".")
    two.git("mv", "model.bin.dvlite", "best.bin.dvlite")
    two.write({"more.csv": "a,b\n"})
    two.dv("add", "more.csv")
    two.git("rm", "-q", "data.dvlite")
    told = two.json("diff", "--staged")["paths"]
    assert [(one["path"], one["kind"], one["old_path"]) for one in told] == [
        ("best.bin", "renamed", "model.bin"),
        ("data", "removed", ""),
        ("more.csv", "added", ""),
    ]
    assert "model.bin -> best.bin: renamed (1 file, 1.5 kB)" in two.dv("diff", "--staged")


def test_metadata_alone(two):
    two.git("stash", "-q")
    with (two.root / "model.bin.dvlite").open("a") as file:
        file.write('\n[meta]\nsource = "elsewhere"\n')
    (one,) = two.json("diff", "HEAD", "model.bin")["paths"]
    assert one["has_meta"] and not one["changes"]
    assert two.dv("diff", "HEAD", "model.bin") == "model.bin: metadata changed\n"


def test_what_was_never_brought_here_is_no_difference(two):
    two.dv("add", "data")
    two.commit("two")
    two.dv("remote", "add", "origin", "../remote")
    two.dv("push", "--all")
    two.commit("remote")
    clone = two.clone()
    assert clone.json("diff")["paths"] == []
    clone.dv("pull", "data/f3.txt")
    assert clone.json("diff")["paths"] == []
    clone.write({"f3.txt": "mine\n"}, "data")
    assert changes(clone.json("diff")) == {("changed", "f3.txt", "")}


def test_listings_that_are_missing_are_said_or_fetched_and_no_content_is(two):
    two.dv("add", "data")
    two.commit("two")
    two.dv("remote", "add", "origin", "../remote")
    two.dv("push", "--all")
    two.commit("remote")
    clone = two.clone()
    said = clone.dv("diff", "v1", "HEAD", code=10)
    assert "data: unknown" in said and "'dvlite diff --fetch'" in said
    assert clone.run("diff", "v1", "HEAD", "--exit-code").returncode == 3
    assert changes(clone.json("diff", "v1", "HEAD", "--fetch")) == CHANGES
    assert changes(clone.json("diff", "v1", "HEAD")) == CHANGES
    assert "not here" in clone.dv("status") or "missing" in clone.dv("status")
    clone.dv("cat", "data/f3.txt", code=10)


def test_a_rev_that_is_also_a_path_is_asked_about(two):
    two.git("branch", "data")
    assert "'data' is a rev and a path" in two.dv("diff", "data", code=2)
    assert changes(two.json("diff", "./data")) == CHANGES
    assert changes(two.json("diff", "refs/heads/data", "./data")) == CHANGES


def test_ranges_as_git_has_them(two):
    two.dv("add", "data")
    two.commit("two")
    two.git("switch", "-q", "-c", "side", "v1")
    two.dv("checkout", "--force")
    two.write({"only-here.txt": "1"}, "data")
    two.dv("add", "--force", "data")
    two.commit("side")
    assert changes(two.json("diff", "main...side")) == {("added", "only-here.txt", "")}
    assert len(changes(two.json("diff", "main..side"))) > 1
    assert (
        changes(two.json("diff", "v1..")) == changes(two.json("diff", "v1...side")) == {("added", "only-here.txt", "")}
    )
    assert changes(two.json("diff", "..v1")) == {("removed", "only-here.txt", "")}
    two.git("branch", "data")
    told = json.loads(two.run("diff", "--json", "v1", "data", "--", "data").stdout)
    assert changes(told) == {("added", "only-here.txt", "")}
    told = json.loads(two.run("diff", "--json", "v1", "--", "data").stdout)
    assert told["new"] == "", "after the dashes there are paths alone"


def test_one_bad_pointer_leaves_the_others(two):
    (two.root / "model.bin.dvlite").write_text("broken\n")
    result = two.json("diff", code=1)
    assert changes(result) == CHANGES
    assert [one["path"] for one in result["failures"]] == ["model.bin"]


def test_a_second_diff_writes_nothing(two):
    two.dv("add", "data")
    two.settle()
    told = [two.json("diff"), two.json("diff", "HEAD")]
    before = {path: path.stat().st_mtime_ns for path in two.root.rglob("*")}
    assert [two.json("diff"), two.json("diff", "HEAD")] == told
    assert {path: path.stat().st_mtime_ns for path in two.root.rglob("*")} == before


def test_a_thousand_versions_apart_only_what_differs_is_read(project):
    """A hundred folders; ten files differ; the trees read are the roots and the folders of those files."""
    for folder in range(100):
        project.write({f"d{folder:03}/f{n}": f"{folder} {n}" for n in range(10)}, "data")
    project.dv("add", "data")
    project.commit("one")
    project.git("tag", "first")
    tree = project.git("rev-parse", "HEAD^{tree}").strip()
    parent = "HEAD"
    for number in range(1000):
        parent = project.git("commit-tree", tree, "-p", parent, "-m", str(number)).strip()
    project.git("reset", "-q", "--soft", parent)
    for n in range(10):
        project.write({f"d{n * 7:03}/f{n}": "changed"}, "data")
    project.dv("add", "data")
    project.commit("last")
    repo = project.repo
    reads = []
    real = repo.store.read
    repo.store.read = lambda oid: reads.append(oid) or real(oid)
    (one,) = diff(repo, "first", "HEAD").paths
    assert one.count.changed == 10
    assert len(reads) == len(set(reads)) == 2 * (1 + 10)


def test_a_diff_loads_no_driver(two):
    code = "import sys; from dvlite.cli.main import run; run(['diff', 'HEAD']); print({'fsspec', 's3fs', 'pygit2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=two.root, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done


# ---- inside of tables -----------------------------------------------------------------------------------------------


def test_rows_columns_and_types_of_tables(project):
    pandas = pytest.importorskip("pandas")
    one = pandas.DataFrame({"city": ["Berlin", "Lima", "Oslo"], "sales": [1, 2, 3]})
    two = pandas.DataFrame({"city": ["Berlin", "Lima", "Rome", "Bonn"], "sales": [1.0, 2.5, 4.0, 5.0], "year": 2026})
    (project.root / "data").mkdir()

    def write(frame):
        frame.to_csv(project.root / "data/a.csv", index=False)
        frame.to_csv(project.root / "data/b.tsv", index=False, sep="\t")
        frame.to_json(project.root / "data/c.jsonl", orient="records", lines=True)
        frame.to_parquet(project.root / "data/d.parquet", index=False)
        frame.to_feather(project.root / "data/e.feather")
        frame.to_parquet(project.root / "whole.parquet", index=False)

    write(one)
    project.write({"note.txt": "no table", "broken.parquet": "none"}, "data")
    project.dv("add", "data", "whole.parquet")
    project.commit("one")
    write(two)
    project.write({"note.txt": "no table either", "broken.parquet": "none at all"}, "data")
    for versions in ([], ["HEAD"]):
        told = {
            change["path"] or path["path"]: change["table"]
            for path in project.json("diff", *versions, "--content")["paths"]
            for change in path["changes"]
        }
        assert told["note.txt"] is None and "can't be read" in told["broken.parquet"]["note"]
        for name in ("a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.feather", "whole.parquet"):
            found = told[name]
            assert (found["rows_before"], found["rows_after"]) == (3, 4), name
            assert found["columns_added"] == ["year"] and found["types"] == {"sales": ["int64", "double"]}, name
            assert found["rows_added"] == 4 and found["rows_removed"] == 3, "a row with another type is another"
    project.dv("add", "data", "whole.parquet")
    project.commit("two")
    said = project.dv("diff", "HEAD~1", "HEAD", "--content")
    assert "    rows: 3 -> 4 (+4 -3); columns: +year, sales: int64 -> double\n" in said


def test_a_row_more_is_one_row(project):
    pytest.importorskip("pyarrow")
    project.write({"a.csv": "x,y\n1,a\n2,b\n2,b\n"})
    project.dv("add", "a.csv")
    project.commit("one")
    project.write({"a.csv": "x,y\n2,b\n3,c\n1,a\n2,b\n4,d\n"})
    assert "rows: 3 -> 5 (+2 -0)\n" in project.dv("diff", "--content")
