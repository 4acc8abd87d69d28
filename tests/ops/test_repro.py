"""Data is made again only where something changed, told up and down; what comes from strangers runs only when it may."""

import json
import shutil
import sys

import pytest

from dvlite import pointer, recipe
from dvlite.oid import parse
from dvlite.recipe import Input, Recipe
from tests.conftest import spied
from tests.ops.making import PREP, TRAIN, prep, recipe_of, states

# ---- repro ----------------------------------------------------------------------------------------------------------


def test_only_what_is_out_of_date_is_made_again_in_order(made):
    assert states(made) == {"clean/rows.csv": "up to date", "model.pkl": "up to date"}
    made.write({"train.py": TRAIN + "# slower\n"})
    assert states(made, "-n") == {"clean/rows.csv": "up to date", "model.pkl": "out of date"}
    made.write({"params.json": '{"scale": 3}', "train.py": TRAIN})
    said = made.dv("repro", "-n")
    assert "params.json changed" in said
    assert states(made) == {"clean/rows.csv": "run", "model.pkl": "run"}
    assert (made.root / "model.pkl").read_text() == "18"
    made.commit("scale 3")
    made.write({"params.json": '{"scale": 2}'})
    assert states(made) == {"clean/rows.csv": "from history", "model.pkl": "from history"}
    assert (made.root / "model.pkl").read_text() == "12"


def test_what_was_made_before_comes_from_the_remote_in_a_clone(made):
    made.dv("remote", "add", "origin", "../remote")
    made.write({"params.json": '{"scale": 3}'})
    made.dv("repro", "-q")
    made.commit("scale 3")
    made.dv("push", "-q", "--all")
    clone = made.clone()
    clone.write({"params.json": '{"scale": 2}'})
    clone.dv("pull", "raw.csv")
    assert set(states(clone).values()) == {"from history"}
    assert (clone.root / "model.pkl").read_text() == "12"
    assert "clean" in clone.dv("status", "model.pkl") or "staged" in clone.dv("status", "model.pkl")


def test_a_strangers_command_runs_only_when_it_is_allowed(made):
    made.dv("remote", "add", "origin", "../remote")
    made.commit("remote")
    made.dv("push", "-q")
    clone = made.clone()
    clone.dv("pull", "-q")
    clone.write({"params.json": '{"scale": 5}'})
    assert "not allowed to run" in clone.dv("repro", code=2)
    assert (clone.root / "model.pkl").read_text() == "12"
    assert set(states(clone, "--yes").values()) == {"run"}
    clone.write({"params.json": '{"scale": 6}'})
    assert set(states(clone).values()) == {"run"}, "it was allowed before"


def test_a_check_tells_what_is_made_the_same_again(made):
    assert states(made, "--check") == {"clean/rows.csv": "same", "model.pkl": "same"}
    made.write({"raw.csv": "7"})
    made.dv("add", "raw.csv")
    assert states(made, "--check", "model.pkl") == {"model.pkl": "same"}, "with the inputs that it had"
    made.write({"dice.py": "import os; open('dice','wb').write(os.urandom(9))"})
    made.commit("dice")
    made.dv("run", "-o", "dice", "--", sys.executable, "dice.py")
    assert states(made, "--check", "dice", code=1) == {"dice": "different"}
    assert not made.git("worktree", "list").count("\n") > 1


def test_a_circle_is_refused(made):
    made.write({"prep.py": PREP})
    made.dv("run", "-i", "model.pkl", "-o", "a", "--", "cp", "model.pkl", "a")
    text = (made.root / "clean/rows.csv.dvlite").read_text()
    a = pointer.decode((made.root / "a.dvlite").read_bytes()).oid
    path = made.root / "clean/rows.csv.dvlite"
    path.write_text(text.replace("inputs = [\n", f'inputs = [\n  {{path = "a", oid = "{a}"}},\n'))
    assert "goes in a circle" in made.dv("repro", code=2)


# ---- lineage --------------------------------------------------------------------------------------------------------


def test_lineage_goes_all_the_way_up_and_down(made):
    found = made.json("lineage", "model.pkl")
    paths = {node["path"]: node["kind"] for node in found["nodes"].values()}
    assert paths == {
        "model.pkl": "data",
        "clean/rows.csv": "data",
        "raw.csv": "data",
        "prep.py": "git",
        "train.py": "git",
    }
    said = made.dv("lineage", "model.pkl")
    assert said.index("model.pkl") < said.index("clean/rows.csv") < said.index("raw.csv") and "├─" in said
    down = made.json("lineage", "raw.csv", "--down")
    assert {node["path"] for node in down["nodes"].values()} == {"raw.csv", "clean/rows.csv", "model.pkl"}
    assert "graph LR" in made.dv("lineage", "model.pkl", "--mermaid") and "-->" in made.dv(
        "lineage", "model.pkl", "--mermaid"
    )
    assert "not tracked" in made.dv("lineage", "nowhere", code=2)
    assert "no 'nowhere'" in made.dv("lineage", "nowhere", "--down", code=2)
    assert "two questions" in made.dv("lineage", "raw.csv", "--down", "--up", code=2)
    assert {node["path"] for node in made.json("lineage", "prep.py", "--down")["nodes"].values()} == {
        "prep.py",
        "clean/rows.csv",
        "model.pkl",
    }


def test_lineage_of_what_moved_on_is_read_from_history(made):
    made.write({"raw.csv": "8"})
    made.dv("add", "raw.csv")
    made.commit("other raw")
    prep(made)
    made.commit("other rows")
    nodes = made.json("lineage", "model.pkl")["nodes"].values()
    old = {node["path"]: (node["is_current"], bool(node["command"])) for node in nodes}
    assert old["clean/rows.csv"] == (False, True) and old["raw.csv"] == (False, False)
    assert "not the version here" in made.dv("lineage", "model.pkl")


def test_lineage_needs_no_data(made):
    shutil.rmtree(made.root / ".git/dvlite")
    assert len(made.json("lineage", "model.pkl")["nodes"]) == 5


def test_permission_is_for_a_command_in_its_folder(made):
    for name in ("a", "b"):
        made.write({f"{name}/run.sh": "cp ../raw.csv out\n"})
    made.commit("scripts")
    made.dv("run", "-i", "../raw.csv", "-o", "out", "--", "sh", "run.sh", folder=made.root / "a")
    text = (made.root / "a/out.dvlite").read_text()
    made.write(
        {
            "b/out.dvlite": text.replace('folder = "a"', 'folder = "b"').replace('"a/', '"b/'),
            "b/run.sh": "echo evil > out\n",
        }
    )
    assert "not allowed to run" in made.dv("repro", "b/out", code=2)


def test_what_comes_from_history_is_of_one_run_and_below_head(made):
    """Outputs that were never made together are not put together, and no other branch is trusted."""
    command = [
        "run",
        "-i",
        "raw.csv",
        "-o",
        "a",
        "-o",
        "b",
        "--",
        "x=$(date +%N); echo a$x > a; echo b$x > b; cat raw.csv > /dev/null",
    ]
    pairs = []
    for _ in range(3):
        made.dv(*command)
        made.commit("run")
        pairs.append(((made.root / "a").read_text()[1:], (made.root / "b").read_text()[1:]))
    made.write({"raw.csv": "9"})
    made.dv("add", "raw.csv")
    made.commit("other raw")
    made.git("switch", "-q", "-c", "pr")
    made.dv("repro", "a")
    made.commit("honest")
    recorded = (made.root / "a.dvlite").read_text().partition("\n[run]")[2]
    made.write({"a": "EVIL"})
    made.dv("add", "a")
    made.write({"a.dvlite": (made.root / "a.dvlite").read_text() + "\n[run]" + recorded})
    made.commit("evil")
    made.git("switch", "-q", "main")
    made.dv("checkout", "--force")
    assert states(made, "a", "--yes") == {"a": "run"} and (made.root / "a").read_text() != "EVIL"
    made.dv("checkout", "--force")
    made.git("checkout", "-q", "--", ".")
    made.dv("checkout", "--force")
    made.write({"raw.csv": "1\n2\n3"})
    made.dv("add", "raw.csv")
    assert states(made, "a")["a"] == "from history"
    assert ((made.root / "a").read_text()[1:], (made.root / "b").read_text()[1:]) == pairs[-1]


def test_history_brings_metrics_along_and_replaces_nothing_unsaved(made):
    made.write({"params.json": '{"scale": 3}'})
    made.dv("repro")
    made.commit("scale 3")
    made.write({"params.json": '{"scale": 2}', "clean/rows.csv": "UNSAVED"})
    assert "not stored" in made.dv("repro", code=14)
    assert (made.root / "clean/rows.csv").read_text() == "UNSAVED"
    made.dv("checkout", "--force")
    made.write({"metrics.json": (made.root / "metrics.json").read_text().replace("0.9", "0.8")})
    made.commit("other metrics")
    assert set(states(made).values()) == {"from history"}
    assert json.loads((made.root / "metrics.json").read_text())["auc"] == 0.9


def test_what_rests_on_what_is_out_of_date_is_so_too(made):
    made.write({"raw.csv": "5"})
    made.dv("add", "raw.csv")
    assert states(made, "-n") == {"clean/rows.csv": "out of date", "model.pkl": "out of date"}


@pytest.mark.parametrize(
    "values, name",
    [
        ('{"scale": 2, "a": null, "b": NaN, "c": 123456789012345678901234567890}', "params.json"),
        ("day = 2026-01-01\nscale = 2\n", "params.toml"),
    ],
)
def test_no_kind_of_parameter_is_out_of_date_for_ever(made, values, name):
    made.write({name: values})
    made.dv("run", "-i", "raw.csv", "-p", name, "-o", "copy", "--", "cp", "raw.csv", "copy")
    assert states(made, "copy", "-n") == {"copy": "up to date"}
    json.loads(
        made.run("run", "-i", "raw.csv", "-p", name, "-o", "copy", "--json", "--", "cp", "raw.csv", "copy").stdout
    )
    made.write(
        {name: values.replace("2", "2.0", 1) if name.endswith("json") else values.replace("scale = 2", "scale = 2.0")}
    )
    assert states(made, "copy", "-n") == {"copy": "out of date"}, "1 is not 1.0"


def test_a_step_that_cannot_be_looked_at_stops_no_other(made):
    made.write({"other.csv": "1"})
    made.dv("add", "other.csv")
    made.dv("run", "-i", "other.csv", "-o", "other", "--", "cp", "other.csv", "other")
    made.commit("other")
    made.dv("mv", "raw.csv", "moved.csv")
    made.write({"other.csv": "2"})
    made.dv("add", "other.csv")
    told = made.json("repro", "--yes", code=1)
    assert {one["paths"][0]: one["state"] for one in told["steps"]} == {
        "clean/rows.csv": "out of date",
        "model.pkl": "out of date",
        "other": "run",
    }
    assert "no 'raw.csv'" in told["failures"][0]["error"]["message"]
    made.write({"broken.dvlite": "garbage"})
    assert "malformed" in made.dv("repro", "-n", code=1)


def test_what_was_moved_or_changed_by_hand_is_not_made_again_unasked(made):
    made.dv("run", "-i", "raw.csv", "-o", "a", "-o", "b", "--", "cp raw.csv a; cp raw.csv b")
    made.commit("both")
    made.write({"b": "by hand"})
    made.dv("add", "b")
    made.write({"raw.csv": "7"})
    made.dv("add", "raw.csv")
    assert "'b', which was made otherwise since" in made.dv("repro", "a", "--yes", code=2)
    assert (made.root / "b").read_text() == "by hand"
    made.dv("mv", "model.pkl", "best.pkl")
    assert "was not made by" in made.dv("repro", "best.pkl", code=2)


def test_a_folder_that_a_command_makes_is_gone_before_it_runs_again(made):
    made.dv("run", "-i", "raw.csv", "-o", "fo", "--", "mkdir fo && cp raw.csv fo/a")
    made.commit("fo")
    assert states(made, "--force", "fo") == {"fo": "run"}


def test_a_folder_of_code_is_what_git_has_of_it(made):
    made.write(
        {
            "src/m.py": "X = 1\n",
            "use.py": "import sys; sys.path.insert(0, 'src')\nimport m\nopen('o', 'w').write(str(m.X))\n",
        }
    )
    made.write({".gitignore": (made.root / ".gitignore").read_text() + "__pycache__/\n"})
    made.commit("src")
    env = {"PYTHONDONTWRITEBYTECODE": ""}
    made.dv("run", "-i", "src", "-o", "o", "--", sys.executable, "use.py", env=env)
    assert (made.root / "src/__pycache__").exists() and states(made, "-n", "o") == {"o": "up to date"}
    made.commit("o")
    assert states(made, "--check", "o") == {"o": "same"}
    made.write({"src/m.py": "X = 2\n"})
    assert states(made, "-n", "o") == {"o": "out of date"}


def test_code_that_was_not_committed_is_taken_from_the_commit_of_what_it_made(made):
    made.write({"new.py": "open('n', 'w').write('1')"})
    made.dv("run", "-o", "n", "--", sys.executable, "new.py")
    made.commit("both")
    made.write({"new.py": "open('n', 'w').write('2')"})
    made.commit("later")
    assert states(made, "--check", "n") == {"n": "same"}
    assert states(made, "-n", "n") == {"n": "out of date"}, "a script that wasn't committed is an input too"


def test_a_check_whose_inputs_cannot_be_had_runs_nothing(made):
    made.dv("remote", "add", "origin", "../remote")
    made.commit("remote")
    made.dv("push", "-q", "--all")
    clone = made.clone()
    shutil.rmtree(made.root.parent / "remote")
    assert "raw.csv" in clone.dv("repro", "--check", "--yes", "clean/rows.csv", code=10)
    assert clone.git("worktree", "list").count("\n") == 1


def test_deep_chains_and_deep_values(made):
    from dvlite.ops import repro as repros

    oid = parse("sha256:" + "0" * 64)
    chain = [repros.Step(Recipe(("x",), (Input(f"s{n + 1}", oid),), (f"s{n}",)), (f"s{n}",)) for n in range(3000)]
    assert repros.in_order(chain[:1], chain)[0].paths == ("s2999",)
    parts = [repros.Step(Recipe(("x",), (), (f"out/p{n}",)), (f"out/p{n}",)) for n in range(3000)]
    whole = repros.Step(Recipe(("y",), (Input("out", oid),), ("all",)), ("all",))
    assert len(repros.in_order([whole], [*parts, whole])) == 3001, "a folder is all that is made in it"
    made.write({"deep.json": '{"a":' * 900 + "1" + "}" * 900})
    assert "deep" in made.dv("run", "-p", "deep.json", "-o", "x", "--", "touch", "x", code=1)


def test_data_that_a_merge_made_was_made_by_no_command(made):
    """Two branches run a command each on other inputs; what Git's merge puts together is of neither."""
    made.dv("hooks", "install")
    made.write(
        {"gen.sh": "mkdir -p fo; cp raw.csv fo/a; echo b > fo/b; echo $(cat raw.csv extra) > fo/c", "extra": "0"}
    )
    made.git("add", "gen.sh", "extra")
    made.dv("run", "-i", "raw.csv", "-i", "extra", "-o", "fo", "--", "sh", "gen.sh")
    made.commit("fo")
    made.git("switch", "-q", "-c", "other")
    made.write({"fo/a": "other a"})
    made.dv("add", "fo")
    made.commit("a by hand")
    made.git("switch", "-q", "main")
    made.write({"extra": "1"})
    made.dv("run", "-i", "raw.csv", "-i", "extra", "-o", "fo", "--", "sh", "gen.sh")
    made.commit("c by a run")
    assert recipe_of(made, "fo")
    made.git("merge", "-q", "-m", "both", "other")
    assert made.read("fo")["a"] == b"other a" and made.read("fo")["c"].startswith(b"1 2 31")
    assert recipe_of(made, "fo") is None


def test_thousands_of_pointers_are_read_without_the_long_way_round(project):
    """What dvlite writes is read quickly, once, and history only where something has moved on."""
    import tomllib

    from dvlite.git import call
    from dvlite.ops.lineage import lineage

    counts = []
    for number in (20, 400):
        for at in range(number):
            oid = parse(f"sha256:{at:064x}")
            inputs = (Input(f"d/f{at - 1}", parse(f"sha256:{at - 1:064x}")),) if at else ()
            item = pointer.Pointer(oid, False, 1)
            made = recipe.put(item, Recipe(("x", str(at)), inputs, (f"d/f{at}",), {"p.json": {"a": at}}))
            project.write({f"d/f{at}.dvlite": pointer.encode(made)})
        repo = project.repo
        with spied(call, "program") as asked, spied(tomllib, "loads") as parsed:
            assert len(lineage(repo, f"d/f{number - 1}").nodes) == number
            assert len(lineage(repo, "d/f0", is_down=True).nodes) == number
        counts.append((len(asked), sum(len(text) > 200 for (text,) in parsed)))
    assert counts[0] == counts[1], "as many calls of Git, and whole files parsed, for 400 as for 20"
