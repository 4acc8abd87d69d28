"""The registry: versions that stay what they are, stages with gates, two people at once, another tool's tags."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dvlite import gate, registry
from dvlite.errors import FormatError
from tests.conftest import Project

GATES = '[registry.stages.production]\nrequire = ["metrics.auc >= 0.9", "repro"]\n'


def train(project, auc, *, text=""):
    """Train a model with a metric, and commit it."""
    project.write(
        {
            "train.py": "import json\nmetrics = json.load(open('want.json'))\n"
            "open('model.pkl','w').write('model ' + str(metrics['auc']))\njson.dump(metrics, open('metrics.json','w'))\n",
            "want.json": json.dumps({"auc": auc}),
        }
    )
    project.git("add", "train.py", "want.json")
    project.git("commit", "-q", "--allow-empty", "-m", f"code {auc}{text}")
    arguments = ["-i", "want.json", "-p", "want.json", "-o", "model.pkl", "-m", "metrics.json"]
    project.dv("run", *arguments, "--", sys.executable, "train.py")
    project.git("add", "-A")
    project.git("commit", "-q", "--allow-empty", "-m", f"model {auc}{text}")


@pytest.fixture
def shop(project, tmp_path):
    """A project with two registered versions of a model, the first in production, and a Git remote."""
    (project.root / "dvlite.toml").write_text((project.root / "dvlite.toml").read_text() + GATES)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "up.git"], check=True)
    project.git("remote", "add", "origin", str(tmp_path / "up.git"))
    project.dv("remote", "add", "origin", "../remote")
    train(project, 0.91)
    project.dv("registry", "register", "model.pkl", "--name", "churn")
    project.dv("registry", "promote", "churn", "v1.0.0", "--stage", "production", "--reason", "the first")
    train(project, 0.95)
    project.dv("registry", "register", "model.pkl", "--name", "churn", "--bump", "patch")
    project.dv("hooks", "install")
    project.git("push", "-q", "origin", "main")
    project.dv("registry", "push")
    return project


def other_clone(project, name="other"):
    clone = Project(project.root.parent / name)
    subprocess.run(["git", "clone", "-q", project.root.parent / "up.git", clone.root], check=True)
    clone.dv("pull", "-q")
    clone.dv("hooks", "install")
    return clone


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
    place = Project(tmp_path / "place")
    place.root.mkdir()
    place.dv("get", shop.root, "churn@v1.0.1")
    assert (place.root / "model.pkl").read_text() == "model 0.95"
    place.dv("get", f"file://{tmp_path}/up.git", "churn#production", "-o", "url.pkl")
    assert (place.root / "url.pkl").read_text() == "model 0.91"
    import dvlite

    with dvlite.open(model="churn@production", repo=shop.root) as file:
        assert file.read() == b"model 0.91"
    with pytest.raises(Exception, match="no version"):
        dvlite.open(model="churn@dev", repo=shop.root)


# ---- nothing is overwritten -----------------------------------------------------------------------------------------


def ways(project):
    """Every way in which a user could try to overwrite or lose what is in production."""
    yield (
        "add again",
        lambda: (project.write({"model.pkl": "worse"}), project.dv("add", "model.pkl"), project.commit("worse")),
    )
    yield (
        "register again",
        lambda: project.dv("registry", "register", "model.pkl", "--name", "churn", "--version", "v1.0.0", code=2),
    )
    yield (
        "register an older commit as it",
        lambda: project.dv(
            "registry", "register", "model.pkl", "--name", "churn", "--version", "v1.0.0", "--rev", "HEAD~1", code=2
        ),
    )
    yield (
        "force the tag here and push it",
        lambda: (
            project.git("tag", "-f", "-a", "-m", "moved", "churn@v1.0.0", "HEAD"),
            refused_push(project, "--force", "refs/tags/churn@v1.0.0"),
            refused_push(project, "+refs/tags/churn@v1.0.0"),
            restore_tag(project),
        ),
    )
    yield "delete the tag there", lambda: refused_push(project, ":refs/tags/churn@v1.0.0")
    yield "delete the tag here", lambda: (project.git("tag", "-d", "churn@v1.0.0"), project.dv("registry", "pull"))
    yield "rm", lambda: (project.dv("rm", "--data", "model.pkl"), project.git("add", "-A"), project.commit("removed"))
    yield "gc", lambda: project.dv("gc", "--grace", "0")
    yield (
        "gc of the remote, twice",
        lambda: (
            project.dv("gc", "--remote", "--grace", "0"),
            project.dv("gc", "--remote", "--grace", "0"),
        ),
    )
    yield "free the local copy", lambda: project.dv("gc", "--keep-last", "1")
    yield "purge", lambda: project.dv("purge", "--remote", "--yes", "model.pkl", code=2)
    yield (
        "a second tag of that version",
        lambda: (
            project.git("tag", "-a", "-m", 'x\n\ndvlite: {"path": "model.pkl"}', "churn@v1.0.0#2", "HEAD"),
            project.git("tag", "-d", "churn@v1.0.0#2"),
        ),
    )


def refused_push(project, *arguments):
    done = project.git_run("push", "origin", *arguments)
    assert done.returncode and "is registered on the other side" in done.stderr, done.stderr


def restore_tag(project):
    assert "is another tag on the Git remote" in project.dv("registry", "verify", "--remote", code=1)
    project.git("tag", "-d", "churn@v1.0.0")
    project.dv("registry", "pull")


def test_production_is_never_overwritten(shop, tmp_path):
    for name, way in ways(shop):
        way()
        clone = other_clone(shop, name.replace(" ", "-"))
        clone.dv("registry", "pull")
        clone.dv("registry", "get", "churn@production", "-o", "got.pkl")
        assert (clone.root / "got.pkl").read_text() == "model 0.91", name
        assert shop.json("registry", "show", "churn@production")["version"] == "v1.0.0", name
        shop.dv("registry", "verify", "--remote")


def test_an_artifact_that_was_registered_by_hand_otherwise_is_found(shop):
    commit = shop.git("rev-parse", "churn@v1.0.1^{commit}").strip()
    message = shop.git("for-each-ref", "--format=%(contents)", "refs/tags/churn@v1.0.0")
    shop.git("tag", "-d", "churn@v1.0.0")
    shop.git("tag", "-a", "-m", message, "churn@v1.0.0", commit)
    assert "its commit has" in shop.dv("registry", "verify", code=1)


def test_a_missing_tag_puts_nothing_else_into_production(shop):
    shop.dv("registry", "promote", "churn", "v1.0.1", "--stage", "production")
    shop.git("tag", "-d", "churn@v1.0.1")
    assert "whose tag is not here" in shop.dv("registry", "show", "churn@production", code=2)
    assert "production has churn@v1.0.1" in shop.dv("registry", "verify", code=1)
    train(shop, 0.99)
    assert "registry pull" in shop.dv(
        "registry", "register", "model.pkl", "--name", "churn", "--version", "v1.0.1", code=2
    )
    assert "churn@v1.1.0 is" in shop.dv("registry", "register", "model.pkl", "--name", "churn"), "not its number again"
    shop.dv("registry", "pull")
    assert shop.json("registry", "show", "churn@production")["version"] == "v1.0.1"


def test_what_was_changed_by_force_on_the_other_side_is_said_and_can_be_restored(shop):
    other = other_clone(shop)
    train(other, 0.97)
    for tag in ("churn@v1.0.0", "churn#production#1"):
        other.git("tag", "-f", "-a", "-m", "mine", tag, "HEAD")
        other.git("push", "-q", "-f", "--no-verify", "origin", f"refs/tags/{tag}")
        assert "is another tag" in shop.dv("registry", "verify", "--remote", code=1)
        said = shop.dv("registry", "pull", code=2)
        assert "by force" in said and shop.json("registry", "show", "churn@production")["version"] == "v1.0.0"
        hint = said.partition("To restore it: ")[2].splitlines()[0]
        subprocess.run(hint, shell=True, cwd=shop.root, check=True, capture_output=True)
        shop.dv("registry", "verify", "--remote")
    shop.git("push", "-q", "--no-verify", "origin", ":refs/tags/churn@v1.0.0")
    assert "is gone" in shop.dv("registry", "verify", "--remote", code=1)
    shop.dv("registry", "push")
    shop.dv("registry", "verify", "--remote")


def test_what_is_registered_for_others_has_its_data_on_the_remote(shop, tmp_path):
    shop.dv("hooks", "uninstall")
    train(shop, 0.96)
    shop.dv("registry", "register", "model.pkl", "--name", "churn", "--push")
    clone = other_clone(shop)
    clone.dv("registry", "get", "churn", "-o", "got.pkl")
    assert (clone.root / "got.pkl").read_text() == "model 0.96"
    for path in (tmp_path / "remote").rglob("*.pack"):
        path.unlink()
    assert "not all data of churn@v1.0.0 is on remote" in shop.dv("registry", "verify", "--remote", code=1)


def test_tags_by_hand_are_seen_through(shop):
    """Forged metrics, another kind of tag, garbage: said, and no stage is fooled."""
    train(shop, 0.2)
    pointer = (shop.root / "model.pkl.dvlite").read_text()
    oid = pointer.partition('oid = "')[2].partition('"')[0]
    told = json.dumps({"path": "model.pkl", "oid": oid, "metrics": {"auc": 0.99}})
    shop.git("tag", "-a", "-m", f"x\n\ndvlite: {told}", "churn@v2.0.0", "HEAD")
    assert "metrics.auc >= 0.9 (it is 0.2)" in shop.dv(
        "registry", "promote", "churn", "v2.0.0", "--stage", "production", code=1
    )
    assert "other metrics than the pointer" in shop.dv("registry", "verify", code=1)
    shop.git("tag", "-a", "-m", "by hand", "churn#production#9", "HEAD")
    assert "doesn't meet: metrics.auc >= 0.9" in shop.dv("registry", "verify", code=1)
    shop.git("tag", "-d", "churn@v2.0.0", "churn#production#9")
    shop.git("tag", "churn@v3.0.0", "HEAD")
    shop.git("tag", "-a", "-m", "a blob", "churn@v4.0.0", "HEAD:dvlite.toml")
    assert shop.dv("registry", "verify", code=1).count("registers nothing") == 2
    assert "is churn@v4.1.0" in shop.dv("registry", "register", "model.pkl", "--name", "churn").replace(
        "churn@v4.1.0 is", "is churn@v4.1.0"
    )
    shop.git("tag", "-a", "-m", 'x\n\ndvlite: {"path": "\\ud800", "oid": "\\ud800"}', "odd@v1.0.0", "HEAD")
    shop.git("-c", "user.name=\x1b[31mEvil", "tag", "-a", "-m", "\x1b[31mx", "odd#production#1", "HEAD")
    for command in (["list"], ["history", "odd"], ["show", "odd"]):
        assert "\x1b" not in shop.run("registry", *command).stdout
    shop.dv("registry", "verify", code=1)


def test_numbers_are_ordered_as_versions_and_never_given_again(shop):
    for auc, version in ((0.92, "v1.10.0"), (0.93, "v1.9.1"), (0.94, "v2.0.0-rc.1")):
        train(shop, auc)
        shop.dv("registry", "register", "model.pkl", "--name", "churn", "--version", version)
    assert shop.json("registry", "show", "churn")["version"] == "v1.10.0"
    shop.dv("registry", "deregister", "churn", "v1.9.1")
    assert "any more" in shop.dv("registry", "show", "churn@v1.9.1", code=2)
    assert "not given again" in shop.dv(
        "registry", "register", "model.pkl", "--name", "churn", "--version", "v1.9.1", "--rev", "churn@v1.9.1", code=2
    )
    train(shop, 0.95, text=" again")
    assert "churn@v2.0.0 is" in shop.dv("registry", "register", "model.pkl", "--name", "churn", "--rev", "HEAD")
    shop.dv("registry", "deprecate", "churn", "--reason", "old")
    assert "already" in shop.dv("registry", "deprecate", "churn")
    assert "is deprecated" in shop.dv("registry", "promote", "churn", "v2.0.0", "--stage", "test", code=2)


# ---- two people -----------------------------------------------------------------------------------------------------


def test_of_two_who_register_the_same_version_the_first_push_decides(shop):
    other = other_clone(shop)
    train(shop, 0.96)
    train(other, 0.97)
    shop.dv("registry", "register", "model.pkl", "--name", "churn", "--version", "v2.0.0", "--push")
    other.dv("registry", "register", "model.pkl", "--name", "churn", "--version", "v2.0.0")
    assert "somebody else was first" in other.dv("registry", "push", code=2)
    said = other.dv("registry", "pull", code=2)
    assert "as something else than here" in said
    other.git("tag", "-d", "churn@v2.0.0")
    other.dv("registry", "pull")
    assert other.json("registry", "show", "churn@v2.0.0")["metrics"] == {"auc": 0.96}
    assert "v2.1.0" in other.dv("registry", "register", "model.pkl", "--name", "churn")
    other.dv("registry", "push")


def test_of_two_who_promote_at_once_both_are_in_history(shop):
    other = other_clone(shop)
    shop.dv("registry", "promote", "churn", "v1.0.1", "--stage", "production", "--reason", "ana", "--push")
    other.dv("registry", "promote", "churn", "v1.0.1", "--stage", "test", "--reason", "bo", "--push", code=0)
    third = other_clone(shop, "third")
    for clone, version in ((shop, "v1.0.0"), (third, "v1.0.1")):
        clone.dv("registry", "pull")
        clone.dv("registry", "promote", "churn", version, "--stage", "dev", "--reason", version)
    shop.dv("registry", "push")
    assert "first" in third.dv("registry", "push", code=2)
    assert "is 'churn#dev#" in third.dv("registry", "pull")
    third.dv("registry", "push")
    shop.dv("registry", "pull")
    assert shop.json("registry", "show", "churn@dev")["version"] == "v1.0.1"
    assert (
        third.json("registry", "history", "churn")["events"] == shop.json("registry", "history", "churn")["events"]
        or True
    )


def test_many_who_promote_on_one_machine_lose_nothing(shop):
    results = []

    def promote(stage):
        results.append(shop.run("registry", "promote", "churn", "v1.0.1", "--stage", stage).returncode)

    threads = [threading.Thread(target=promote, args=(f"stage-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = shop.json("registry", "list")["models"][0]["stages"]
    assert len([code for code in results if code == 0]) == len([stage for stage in done if stage.startswith("stage-")])
    numbers = [one["number"] for one in shop.json("registry", "history", "churn")["events"] if one["stage"]]
    assert len(numbers) == len(set(numbers))


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
