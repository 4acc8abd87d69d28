"""Metadata: written, shown, required and searched; and committed data that nobody may change."""

import pytest

from tests.conftest import spied


@pytest.fixture
def strict(project):
    """A project whose raw data must have a source, and stays as it is once it is committed."""
    text = (project.root / "dvlite.toml").read_text()
    text += '[policy]\nappend_only = ["raw_data/**", "**/*_v[0-9]*"]\nrequire = {"raw_data/**" = ["source"]}\n'
    project.write({"dvlite.toml": text, "raw_data/ventas.csv": "a\n1\n", "out/model_v1.pkl": "m1"})
    project.dv("hooks", "install")
    return project


def test_metadata_is_set_shown_and_taken_out(project):
    project.write({"data/a.txt": "1"})
    project.dv("add", "data", "--desc", "numbers", "--source", "https://example.org", "--meta", "owner=ana")
    commit = project.commit("first numbers")
    project.git("tag", "v1")
    project.dv("meta", "set", "data", "licence=CC-BY-4.0", "steps=drop empty rows")
    assert "data.dvlite" in project.git("diff", "--cached", "--name-only")
    project.commit("licence")
    shown = project.json("meta", "show", "data")
    assert shown["meta"] == {
        "description": "numbers",
        "source": "https://example.org",
        "owner": "ana",
        "licence": "CC-BY-4.0",
        "steps": "drop empty rows",
    }
    assert (shown["commit"], shown["message"], shown["tags"]) == (commit, "first numbers", ["v1"])
    assert shown["author"] and shown["date"].startswith("20")
    said = project.dv("meta", "show", "data")
    assert "licence" in said and "first numbers" in said and "tags" in said
    assert "licence" not in project.dv("meta", "show", "data", "--rev", "v1")
    project.dv("meta", "unset", "data", "owner", "steps")
    assert set(project.json("meta", "show", "data")["meta"]) == {"description", "source", "licence"}
    assert "no 'owner' in [meta]" in project.dv("meta", "unset", "data", "owner", code=2)
    assert "not KEY=VALUE" in project.dv("meta", "set", "data", "owner", code=2)
    assert "lies in 'data'" in project.dv("meta", "show", "data/a.txt", code=2)


def test_comments_outlive_metadata_that_goes(project):
    project.write({"a.txt": "1"})
    project.dv("add", "a.txt", "--meta", "one=1")
    path = project.root / "a.txt.dvlite"
    path.write_text(path.read_text() + "# of the user\n[other]\nkey = 1\n")
    project.dv("meta", "unset", "a.txt", "one")
    assert path.read_text().endswith("# of the user\n[other]\nkey = 1\n")


def test_paths_are_found_by_metadata_at_any_rev(project):
    for name, owner in (("a", "ana"), ("b", "bo"), ("c", "")):
        project.write({f"{name}.txt": name})
        project.dv("add", f"{name}.txt", *(["--meta", f"owner={owner}"] if owner else []))
    project.commit("one")
    project.dv("meta", "set", "b.txt", "owner=ana")

    def found(*arguments):
        return [one["path"] for one in project.json("ls", *arguments)["entries"]]

    assert found("--where", "owner=ana") == ["a.txt", "b.txt"]
    assert found("--where", "owner=ana", "--rev", "HEAD") == ["a.txt"]
    assert found("--where", "owner") == ["a.txt", "b.txt"]
    assert found("--where", "owner!=ana") == ["c.txt"]
    assert found("--where", "owner!") == ["c.txt"]
    assert found("--repo", project.root, "--rev", "HEAD", "--where", "owner=bo") == ["b.txt"]


def test_required_metadata_is_missed_before_a_commit(strict):
    strict.dv("add", "raw_data/ventas.csv", "out/model_v1.pkl")
    done = strict.git_run("commit", "-q", "-m", "no source")
    assert done.returncode and "lacks metadata that [policy] requires: source" in done.stderr
    assert "dvlite meta set raw_data/ventas.csv source=" in done.stderr
    strict.dv("meta", "set", "raw_data/ventas.csv", "source=erp")
    strict.git("add", "-A")
    strict.git("commit", "-q", "-m", "with source")


@pytest.mark.parametrize("path", ["raw_data/ventas.csv", "out/model_v1.pkl"])
def test_committed_data_that_is_frozen_is_not_changed(strict, path):
    strict.dv("add", "raw_data/ventas.csv", "out/model_v1.pkl", "--source", "erp")
    strict.write({path: "changed before the first commit"})
    strict.dv("add", path)
    strict.git("add", "-A")
    strict.git("commit", "-q", "-m", "one")
    strict.write({path: "changed"})
    said = strict.dv("add", path, code=14)
    assert "append_only keeps it as it is" in said
    assert {"raw_data/ventas.csv": "ventas_v2.csv", "out/model_v1.pkl": "model_v2.pkl"}[path] in said
    assert "append_only" in strict.dv("add", path, "--force", code=14), "force alone is no reason"
    strict.git("commit", "-q", "--allow-empty", "-m", "the hook keeps its pointer")
    assert strict.git("diff", "HEAD", "--stat") == ""
    strict.dv("add", path, "--force", "--reason", "wrong encoding")
    strict.git("add", "-A")
    strict.git("commit", "-q", "-m", "forced")
    assert strict.json("meta", "show", path)["meta"]["reason"] == "wrong encoding"
    strict.write({path: "changed again"})
    assert "append_only" in strict.dv("add", path, "--force", code=14), "an earlier reason is none"


def test_a_hand_cannot_commit_what_frozen_data_forbids(strict):
    strict.dv("add", "raw_data/ventas.csv", "out/model_v1.pkl", "--source", "erp")
    strict.git("add", "-A")
    strict.git("commit", "-q", "-m", "one")
    strict.write({"other.csv": "other"})
    strict.dv("add", "other.csv", "--source", "x")
    other = (strict.root / "other.csv.dvlite").read_text()
    (strict.root / "raw_data/ventas.csv.dvlite").write_text(other)
    strict.git("add", "-A")
    done = strict.git_run("commit", "-q", "-m", "by hand")
    assert done.returncode and "'raw_data/ventas.csv' is committed" in done.stderr
    strict.git("reset", "-q", "--hard")
    strict.git("rm", "-q", "raw_data/ventas.csv.dvlite")
    done = strict.git_run("commit", "-q", "-m", "removed")
    assert done.returncode and "append_only keeps it" in done.stderr
    strict.git("reset", "-q", "--hard")
    strict.dv("checkout")
    assert strict.read("raw_data")["ventas.csv"] == b"a\n1\n"
    strict.dv("mv", "out/model_v1.pkl", "out/kept_v1.pkl")
    strict.git("commit", "-q", "-m", "moved, and what it was")


def test_new_files_may_come_into_a_frozen_folder(project):
    text = (project.root / "dvlite.toml").read_text() + '[policy]\nappend_only = ["raw/**"]\n'
    project.write({"dvlite.toml": text, "raw/a.csv": "1", "raw/b.csv": "2"})
    project.dv("add", "raw")
    project.commit("one")
    project.write({"raw/c.csv": "3"})
    project.dv("add", "raw")
    project.write({"raw/a.csv": "other"})
    assert "'raw/a.csv' is committed" in project.dv("add", "raw", code=14)
    project.write({"raw/a.csv": "1"})
    (project.root / "raw/b.csv").unlink()
    assert "'raw/b.csv' is committed" in project.dv("add", "raw", code=14)


@pytest.mark.parametrize("text", ['append_only = "raw/**"', "require = [1]", 'require = {"a" = "b"}'])
def test_a_policy_of_another_shape_is_refused(project, text):
    path = project.root / "dvlite.toml"
    path.write_text(path.read_text() + f"[policy]\n{text}\n")
    assert "must be a list of texts" in project.dv("status", code=1)


def test_the_policy_asks_git_no_more_for_many_paths_than_for_few(project):
    from dvlite.git import call
    from dvlite.ops.add import add
    from dvlite.ops.commit import before_commit

    path = project.root / "dvlite.toml"
    path.write_text(path.read_text() + '[policy]\nappend_only = ["raw/**"]\nrequire = ["source"]\n')
    project.commit("policy")
    counts = []
    for round_, count in enumerate((3, 60)):
        names = [f"raw/{round_}/f{number}" for number in range(count)]
        project.write(dict.fromkeys(names, f"{round_}"))
        repo = project.repo
        with spied(call, "program") as asked:
            assert add(repo, names, meta={"source": "x"}).failures == []
            assert before_commit(repo).blocks == []
        project.commit("more")
        counts.append(len(asked))
    assert counts[0] == counts[1]
