"""The registry: versions that stay what they are, stages with gates, two people at once, another tool's tags."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dvlite import gate, registry
from dvlite.errors import FormatError
from tests.conftest import Project
from tests.ops.shop import train

# ---- the names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag, kind",
    [
        ("churn@v1.2.0", "register"),
        ("churn@v1.2.0!", "deregister"),
        ("team/churn-2#production#3", "assign"),
        ("churn#production!#4", "unassign"),
        ("churn@deprecated", "deprecate"),
    ],
)
def test_tags_have_the_names_that_they_are_read_by(tag, kind):
    one = registry.event(tag, "t", "c", "2026-01-01", "ana", registry.encode("said", {"version": "v1.2.0"}))
    assert one.kind == kind and one.message == "said" and one.told == {"version": "v1.2.0"}
    assert registry.spell(kind, one.name, version="v1.2.0", stage=one.stage, number=one.number) == tag


@pytest.mark.parametrize(
    "tag",
    [
        "v1.0",
        "release-1",
        "Churn@v1.0.0",
        "churn@v1",
        "churn@v01.0.0",
        "churn#",
        "churn@latest",
        "churn@v1.0.0#2",
        "a//b@v1.0.0",
        "churn#a#٣",
        "churn#a#9999999999",
        "churn#a",
    ],
)
def test_other_tags_are_none_of_ours(tag):
    assert registry.event(tag, "t", "c", "", "", "") is None


@pytest.mark.parametrize(
    "text, known, is_met",
    [
        ("metrics.auc >= 0.9", {"auc": 0.9}, True),
        ("metrics.auc > 0.9", {"auc": 0.9}, False),
        ("metrics.a.b<=3", {"a.b": 3}, True),
        ("metrics.a.b<=3", {"a.b": "3"}, False),
        ("meta.rows >= 3", {"rows": "10"}, True),
        ("metrics.auc >= 0.9", {"auc": True}, False),
        ("metrics.auc >= 0.9", {"auc": float("inf")}, False),
        ("metrics.auc >= 0.9", {"auc": "Infinity"}, False),
        ("params.deep == true", {"deep": True}, True),
        ("metrics.auc >= 0.9", {}, False),
        ("metrics.auc >= 0.9", {"auc": "high"}, False),
        ("meta.owner == ana", {"owner": "ana"}, True),
        ("params.kind != 'tree'", {"kind": "tree"}, False),
        ("params.kind != 'tree'", {}, False),
    ],
)
def test_conditions(text, known, is_met):
    assert gate.is_met(gate.parse(text), known) is is_met


def test_what_is_no_condition_is_refused_in_the_file(project):
    for text in (
        "auc > 1",
        "metrics.a != 1 and metrics.b >= 0.9",
        "metrics.a => 0.9",
        "metrics.a < 0,9",
        "metrics.a >=",
    ):
        with pytest.raises(FormatError):
            gate.parse(text)
    path = project.root / "dvlite.toml"
    path.write_text(path.read_text() + '[registry.stages.production]\nrequire = ["auc"]\n')
    assert "no condition" in project.dv("status", code=1)


# ---- registering and promoting --------------------------------------------------------------------------------------


def test_versions_and_stages_are_told(shop):
    assert "churn" in shop.dv("registry", "list") and "production: v1.0.0" in shop.dv("registry", "list")
    shown = shop.json("registry", "show", "churn@production")
    assert (shown["version"], shown["path"], shown["metrics"]) == ("v1.0.0", "model.pkl", {"auc": 0.91})
    assert shown["params"] == {"auc": 0.91} and shown["stages"] == ["production"]
    assert shop.json("registry", "show", "churn")["version"] == "v1.0.1"
    assert shop.json("registry", "show", "churn#production")["version"] == "v1.0.0"
    compared = shop.json("registry", "diff", "churn@v1.0.0", "churn@v1.0.1")
    assert compared["metrics"] == {"auc": [0.91, 0.95]} and set(compared["inputs"]) == {"want.json"}
    assert "0.91" in shop.dv("registry", "diff", "churn@v1.0.0", "churn@v1.0.1")
    history = shop.dv("registry", "history", "churn")
    assert "the first" in history and history.index("v1.0.1") < history.index("the first")
    assert "no version of 'churn' is in stage 'dev'" in shop.dv("registry", "show", "churn@dev", code=2)
    assert "has no version" in shop.dv("registry", "show", "churn@v9.0.0", code=2)
    assert shop.json("registry", "show", "churn@v1")["version"] == "v1.0.1", "the newest of those"
    assert "is no version" in shop.dv("registry", "show", "churn@1.0", code=2)
    assert "no model" in shop.dv("registry", "show", "nothing", code=2)


def test_a_rollback_promotes_the_earlier_one_and_history_has_all(shop):
    shop.dv("registry", "promote", "churn", "v1.0.1", "--stage", "production", "--reason", "better")
    assert "before: churn@v1.0.1" in shop.dv(
        "registry", "promote", "churn", "v1.0.0", "--stage", "production", "--reason", "rollback"
    )
    assert shop.json("registry", "show", "churn@production")["version"] == "v1.0.0"
    events = shop.json("registry", "history", "churn")["events"]
    assert [one["stage"] for one in events if one["kind"] == "assign"] == ["production"] * 3
    assert "already" in shop.dv("registry", "promote", "churn", "v1.0.0", "--stage", "production")
    assert len(shop.json("registry", "history", "churn")["events"]) == len(events)
    shop.dv("registry", "demote", "churn", "--stage", "production", "--reason", "broken")
    assert "no version" in shop.dv("registry", "show", "churn@production", code=2)


def test_a_bad_model_is_refused_by_the_gate(shop):
    train(shop, 0.5)
    shop.dv("registry", "register", "model.pkl", "--name", "churn")
    said = shop.dv("registry", "promote", "churn", "v1.1.0", "--stage", "production", code=1)
    assert "metrics.auc >= 0.9 (it is 0.5)" in said
    assert shop.json("registry", "show", "churn@production")["version"] == "v1.0.0"
    shop.dv("registry", "promote", "churn", "v1.1.0", "--stage", "test")


def test_a_model_that_is_made_otherwise_each_time_is_refused(shop):
    shop.write(
        {
            "train.py": "import os,json\nopen('model.pkl','wb').write(os.urandom(9))\njson.dump({'auc': 1}, open('metrics.json','w'))\n"
        }
    )
    shop.commit("dice")
    shop.dv("run", "-o", "model.pkl", "-m", "metrics.json", "--", sys.executable, "train.py")
    shop.commit("by chance")
    shop.dv("registry", "register", "model.pkl", "--name", "churn")
    assert "otherwise each time" in shop.dv("registry", "promote", "churn", "v1.1.0", "--stage", "production", code=1)
    assert shop.git("worktree", "list").count("\n") == 1


def test_a_model_without_metrics_has_nothing_that_meets_a_gate(shop):
    shop.write({"by-hand.pkl": "x"})
    shop.dv("add", "by-hand.pkl")
    shop.commit("by hand")
    shop.dv("registry", "register", "by-hand.pkl", "--name", "hand")
    assert "nothing says it" in shop.dv("registry", "promote", "hand", "v1.0.0", "--stage", "production", code=1)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["register", "train.py", "--name", "x"], "no pointer"),
        (["register", "model.pkl", "--name", "Churn"], "no name here"),
        (["register", "model.pkl", "--name", "x", "--version", "1.0"], "no version"),
        (["register", "model.pkl", "--name", "churn", "--version", "v5.0.0"], "registered as churn@v1.0.1 already"),
        (["promote", "churn", "v9.0.0", "--stage", "production"], "no version 'v9.0.0'"),
        (["promote", "churn", "v1.0.0", "--stage", "Prod"], "no name here"),
        (["deregister", "churn", "v1.0.0"], "is in production"),
        (["demote", "churn", "--stage", "dev"], "no version of 'churn'"),
    ],
)
def test_what_makes_no_sense_is_refused(shop, arguments, said):
    before = shop.git("tag")
    assert said in shop.dv("registry", *arguments, code=2)
    assert shop.git("tag") == before


def test_only_what_is_committed_and_here_is_registered(shop):
    shop.write({"model.pkl": "other"})
    shop.dv("add", "model.pkl")
    assert "differs from HEAD" in shop.dv("registry", "register", "model.pkl", "--name", "churn", code=2)
    shop.commit("other")
    shutil.rmtree(shop.root / ".git/dvlite/packs")
    assert "not here" in shop.dv("registry", "register", "model.pkl", "--name", "churn", code=10)


def test_a_version_is_got_by_its_name_from_anywhere(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shop.dv("registry", "get", "churn@production", "-o", "old.pkl")
    assert (shop.root / "old.pkl").read_text() == "model 0.91"
    (shop.root / "old").mkdir()
    shop.dv("registry", "get", "churn@production", "-o", "old")
    assert (shop.root / "old/model.pkl").read_text() == "model 0.91", "into a folder, as cp does"
    place = Project(tmp_path / "place")
    place.root.mkdir()
    place.dv("get", shop.root, "churn@v1.0.1")
    assert (place.root / "model.pkl").read_text() == "model 0.95"
    place.dv("get", f"file://{tmp_path}/up.git", "churn#production", "-o", "url.pkl")
    assert (place.root / "url.pkl").read_text() == "model 0.91"
    (place.root / "all").mkdir()
    place.dv("get", shop.root, "churn@v1.0.1", "-o", "all")
    assert (place.root / "all/model.pkl").read_text() == "model 0.95"
    import dvlite

    with dvlite.open(model="churn@production", repo=shop.root) as file:
        assert file.read() == b"model 0.91"
    with pytest.raises(Exception, match="no version"):
        dvlite.open(model="churn@dev", repo=shop.root)


# ---- another tool ---------------------------------------------------------------------------------------------------


def gto(project, *arguments):
    program = Path(sys.executable).with_name("gto")
    if not program.exists():
        pytest.skip("gto is not installed")
    done = subprocess.run([program, *arguments], cwd=project.root, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_production(project):
    return [one["version"] for one in json.loads(gto(project, "show", "churn#production", "--json"))]


def test_gto_reads_what_dvlite_wrote_and_the_other_way(shop):
    assert "v1.0.1" in gto(shop, "show", "churn")
    assert in_production(shop) == ["v1.0.0"]
    assert "churn#production#1" in gto(shop, "history", "churn")
    train(shop, 0.99)
    gto(shop, "register", "churn", "HEAD", "--version", "v3.0.0")
    gto(shop, "assign", "churn", "--version", "v3.0.0", "--stage", "production")
    found = shop.json("registry", "show", "churn@production")
    assert found["version"] == "v3.0.0"
    shop.dv("registry", "get", "churn@production", "-o", "got.pkl")
    assert (shop.root / "got.pkl").read_text() == "model 0.99", "of the only pointer that its commit changed"
    gto(shop, "assign", "churn", "--version", "v1.0.0", "--stage", "production", "--force")
    assert shop.json("registry", "show", "churn@production")["version"] == "v1.0.0"
    shop.dv("registry", "demote", "churn", "--stage", "production")
    assert in_production(shop) == []
    shop.dv("registry", "promote", "churn", "v1.0.1", "--stage", "production")
    assert in_production(shop) == ["v1.0.1"]
    gto(shop, "deprecate", "churn", "v1.0.1", "production")
    assert "no version" in shop.dv("registry", "show", "churn@production", code=2)
    gto(shop, "deprecate", "churn", "v1.0.1")
    assert "has no version" in shop.dv("registry", "show", "churn@v1.0.1", code=2)
    gto(shop, "deprecate", "churn")
    assert "deprecated" in shop.dv("registry", "list")
