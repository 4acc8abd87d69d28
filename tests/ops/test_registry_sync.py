"""What is registered stays what it is, whoever tries what: two people at once, force, tags by hand, missing ones."""

import json
import subprocess
import threading

from tests.ops.shop import other_clone, train

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


def test_versions_are_pushed_to_and_looked_for_on_their_own_remote(shop, tmp_path):
    """With routes by path the default remote has nothing of them."""
    shop.dv("remote", "add", "models", "../models")
    path = shop.root / "dvlite.toml"
    path.write_text(path.read_text().replace("[remote.models]\n", '[remote.models]\npaths = ["*.pkl"]\n'))
    shop.commit("routes")
    shop.dv("push", "-q", "--all")
    shop.dv("registry", "verify", "--remote")
    train(shop, 0.97)
    shop.dv("registry", "register", "model.pkl", "--name", "churn", "--push")
    shop.dv("registry", "verify", "--remote")
    for file in (tmp_path / "models").rglob("*.pack"):
        file.unlink()
    assert "on remote 'models'" in shop.dv("registry", "verify", "--remote", code=1)
