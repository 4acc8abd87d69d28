"""How data is made: recorded truly, made again only where something changed, told up and down."""

import json
import shutil
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import pointer, recipe
from dvlite.errors import FormatError
from dvlite.oid import Oid, parse
from dvlite.recipe import Input, Recipe

PREP = """
import json, pathlib, sys
scale = json.loads(pathlib.Path("params.json").read_text())["scale"]
source, target = sys.argv[1:]
rows = [int(line) * scale for line in pathlib.Path(source).read_text().split()]
pathlib.Path(target).parent.mkdir(exist_ok=True)
pathlib.Path(target).write_text("\\n".join(map(str, rows)))
"""
TRAIN = """
import json, pathlib
rows = [int(line) for line in pathlib.Path("clean/rows.csv").read_text().split()]
pathlib.Path("model.pkl").write_text(str(sum(rows)))
pathlib.Path("metrics.json").write_text(json.dumps({"auc": 0.9, "by": {"a": len(rows)}}))
"""


@pytest.fixture
def made(project):
    """A project with raw data, and a model made of it in two steps."""
    project.write({"raw.csv": "1\n2\n3", "prep.py": PREP, "train.py": TRAIN, "params.json": '{"scale": 2}'})
    project.dv("add", "raw.csv")
    project.commit("raw")
    prep(project)
    train(project)
    project.commit("made")
    return project


def prep(project, **options):
    command = ["-i", "raw.csv", "-o", "clean/rows.csv", "-p", "params.json", "--"]
    return project.dv("run", *command, sys.executable, "prep.py", "raw.csv", "clean/rows.csv", **options)


def train(project, **options):
    command = ["-i", "clean/rows.csv", "-o", "model.pkl", "-m", "metrics.json", "--", sys.executable, "train.py"]
    return project.dv("run", *command, **options)


def recipe_of(project, path):
    return recipe.of(pointer.decode((project.root / f"{path}.dvlite").read_bytes()))


# ---- the format -----------------------------------------------------------------------------------------------------


def test_a_recipe_has_one_encoding_and_comes_back_as_it_was():
    oid = parse("sha256:" + "0" * 64)
    values = {"p.json": {"a": 1, "b c": [1.5, True, 'é"\\\n\x7f'], "n": {"x": -(1 << 62), "e": 1e-9, "z": {}}}}
    one = Recipe(
        ("python", "a b.py", "--x=1"),
        (Input("raw.csv", oid),),
        ("out",),
        values,
        {"m": {"v": 1e300}},
        "sub",
        "c0",
        True,
    )
    first = pointer.decode(b'version = 1\noid = "%s"\ntype = "blob"\nsize = 0\n' % str(oid).encode())
    item = recipe.put(first, one)
    assert recipe.of(item) == one
    assert recipe.put(item, one) == item
    assert pointer.decode(pointer.encode(item)) == item
    assert recipe.without(item) == first
    kept = first._replace(rest=b"\n[meta]\nkey = 1\n# of the user\n[other]\nx = 1\n")
    assert recipe.without(recipe.put(kept, one)) == kept
    assert recipe.of(recipe.put(kept, one._replace(params={"p": {"none": None}}))).params == {"p": {"none": "null"}}


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PATH = st.text(st.characters(codec="utf-8", exclude_characters="/.\0"), min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RECIPES = st.builds(
    Recipe,
    st.lists(PATH, min_size=1, max_size=3).map(tuple),
    st.lists(
        st.builds(Input, PATH, st.binary(min_size=32, max_size=32).map(lambda one: Oid("sha256", one))), max_size=3
    ).map(tuple),
    st.lists(PATH, max_size=2).map(tuple),
    st.dictionaries(PATH, st.dictionaries(TEXT, VALUES, max_size=3), max_size=2),
    st.dictionaries(PATH, st.dictionaries(TEXT, VALUES, max_size=3), max_size=2),
    PATH | st.just(""),
    TEXT,
    st.booleans(),
    st.integers(0, 255),
)


@given(RECIPES)
def test_any_recipe_is_toml_and_is_read_the_same_quickly(one):
    text = b"\n" + recipe.encode(one)
    slow = tomllib.loads(text.decode())
    quick = pointer._quick_run(text)
    assert quick is None or quick == slow
    first = pointer.decode(b'version = 1\noid = "sha256:%s"\ntype = "blob"\nsize = 0\n' % (b"0" * 64))
    again = recipe.of(recipe.put(first, one))
    assert recipe.encode(again) == recipe.encode(one)


@pytest.mark.parametrize(
    "text",
    [
        "[run]\n",
        '[run]\ncommand = "x"\n',
        "[run]\ncommand = []\ninputs = [{path = 1}]\n",
        '[run]\ncommand = ["x"]\nparams = 1\n',
        "[run]\ncommand = []\n",
        '[run]\ncommand = ["a\\u0000b"]\n',
        '[run]\ncommand = ["x"]\noutputs = ["../x"]\n',
        '[run]\ncommand = ["x"]\noutputs = ["a/.GIT/hooks"]\n',
        '[run]\ncommand = ["x"]\nfolder = "/tmp"\n',
        '[run]\ncommand = ["x"]\nparams = {"../../p.json" = {}}\n',
        f'[run]\ncommand = ["x"]\ninputs = [{{path = "../../etc/passwd", oid = "sha256:{"0" * 64}"}}]\n',
    ],
)
def test_a_strangers_run_is_refused_by_name(text):
    head = b'version = 1\noid = "sha256:%s"\ntype = "blob"\nsize = 0\n' % (b"0" * 64)
    with pytest.raises(FormatError, match="'a.dvlite'"):
        recipe.of(pointer.decode(head + b"\n" + text.encode()), "a.dvlite")


# ---- run ------------------------------------------------------------------------------------------------------------


def test_a_run_records_all_that_it_rests_on(made):
    one = recipe_of(made, "model.pkl")
    assert one.command == (sys.executable, "train.py") and one.outputs == ("model.pkl",) and one.exit_code == 0
    assert [each.path for each in one.inputs] == ["clean/rows.csv", "train.py"], "the script of Git's too"
    assert one.metrics == {"metrics.json": {"auc": 0.9, "by": {"a": 3}}}
    first = recipe_of(made, "clean/rows.csv")
    assert first.params == {"params.json": {"scale": 2}} and first.code == made.git("rev-parse", "HEAD~1").strip()
    assert not first.is_dirty
    assert "clean" in made.dv("status")
    shown = made.dv("meta", "show", "model.pkl")
    assert "metric auc" in shown and "made from" in shown and "train.py" in shown
    again = json.loads(train(made, code=0) and made.dv("lineage", "model.pkl", "--json"))
    assert len(again["nodes"]) == 5


def test_the_same_run_again_changes_nothing(made):
    before = {path: path.read_bytes() for path in made.root.rglob("*.dvlite")}
    prep(made)
    train(made)
    after = {path: path.read_bytes() for path in made.root.rglob("*.dvlite")}
    assert {path.name: recipe.of(pointer.decode(data)).work for path, data in before.items() if b"[run]" in data} == {
        path.name: recipe.of(pointer.decode(data)).work for path, data in after.items() if b"[run]" in data
    }


def test_a_command_that_fails_records_nothing_and_its_code_is_ours(made):
    before = (made.root / "model.pkl.dvlite").read_bytes()
    made.write({"bad.py": "import sys; sys.exit(7)"})
    said = made.dv("run", "-o", "model.pkl", "--", sys.executable, "bad.py", code=7)
    assert "exit code 7" in said
    assert (made.root / "model.pkl").read_text() == "12" and (made.root / "model.pkl.dvlite").read_bytes() == before
    assert "did not make 'nothing.bin'" in made.dv("run", "-o", "nothing.bin", "--", "true", code=1)
    assert not (made.root / "nothing.bin.dvlite").exists()
    assert "no program 'not-there'" in made.dv("run", "-o", "x", "--", "not-there", code=1)
    assert "clean" in made.dv("status")


def test_data_that_is_not_stored_is_never_replaced(made):
    made.write({"model.pkl": "changed by hand"})
    assert "not stored" in train(made, code=14)
    assert (made.root / "model.pkl").read_text() == "changed by hand"
    made.dv("checkout", "--force", "model.pkl")
    made.write({"clean/rows.csv": "9"})
    assert "not what its pointer says" in train(made, code=14)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["-o", "prep.py", "--", "true"], "tracked by Git"),
        (["-i", "raw.csv", "-o", "raw.csv", "--", "true"], "from itself"),
        (["--", "true"], "no output"),
        (["-o", "x", "--", ""], "no command"),
        (["-o", "x", "-o", "x/y", "--", "true"], "lies in the output"),
        (["-i", "nowhere", "-o", "x", "--", "true"], "no 'nowhere'"),
        (["-o", "x", "-p", "nowhere.json", "--", "true"], "no 'nowhere.json'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(made, arguments, said):
    assert said in made.dv("run", *arguments, code=2)


def test_an_input_that_the_command_changes_is_said(made):
    made.write({"evil.py": "open('raw.csv', 'a').write('4'); open('x', 'w')"})
    assert "dvlite checkout --force raw.csv" in made.dv(
        "run", "-i", "raw.csv", "-o", "x", "--", sys.executable, "evil.py", code=1
    )
    assert not (made.root / "x.dvlite").exists()


def test_what_it_changes_beside_is_said(made):
    made.write({"more.py": "open('x','w').write('1'); open('log.txt','w')"})
    assert "it also changed log.txt" in made.dv("run", "-o", "x", "--", sys.executable, "more.py")


def test_a_line_for_the_shell_and_a_folder_below(made):
    (made.root / "sub").mkdir()
    made.dv(
        "run", "-i", "../raw.csv", "-o", "sorted.txt", "--", "sort -r ../raw.csv > sorted.txt", folder=made.root / "sub"
    )
    one = recipe_of(made, "sub/sorted.txt")
    assert one.command[:2] == ("sh", "-c") and one.folder == "sub" and [each.path for each in one.inputs] == ["raw.csv"]
    assert (made.root / "sub/sorted.txt").read_text() == "3\n2\n1\n"


def test_an_earlier_output_folder_leaves_nothing_behind(made):
    made.write(
        {
            "many.py": "import os,sys\nos.makedirs('out', exist_ok=True)\nfor n in range(int(open('raw.csv').read()[0])):\n open(f'out/{n}','w').write('x')"
        }
    )
    made.write({"raw.csv": "3"})
    made.dv("add", "raw.csv")
    made.dv("run", "-i", "raw.csv", "-o", "out", "--", sys.executable, "many.py")
    made.write({"raw.csv": "1"})
    made.dv("add", "raw.csv")
    made.dv("run", "-i", "raw.csv", "-o", "out", "--", sys.executable, "many.py")
    assert set(made.read("out")) == {"0"}


def test_data_that_a_hand_changed_is_no_longer_of_that_run(made):
    made.write({"model.pkl": "tuned by hand"})
    made.dv("add", "model.pkl")
    assert recipe_of(made, "model.pkl") is None
    assert recipe_of(made, "clean/rows.csv")


# ---- repro ----------------------------------------------------------------------------------------------------------


def states(project, *arguments, code=0):
    return {one["paths"][0]: one["state"] for one in project.json("repro", *arguments, code=code)["steps"]}


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


def test_outputs_whose_content_is_lost_are_not_taken_away(made):
    """Data that the worktree alone still has."""
    for path in (made.root / ".git/dvlite").glob("packs/*"):
        path.unlink()
    made.write({"clean/rows.csv": "2\n4\n6"})
    said = made.run("run", "-o", "model.pkl", "--", "false")
    assert said.returncode and (made.root / "model.pkl").read_text() == "12"


def test_a_command_that_is_interrupted_leaves_old_outputs(made):
    import signal
    import subprocess
    import time

    running = subprocess.Popen(
        [sys.executable, "-m", "dvlite", "run", "-o", "model.pkl", "--", "sleep", "30"], cwd=made.root
    )
    time.sleep(2.5)
    running.send_signal(signal.SIGKILL)
    running.wait()
    made.dv("checkout")
    assert (made.root / "model.pkl").read_text() == "12"


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


def test_one_command_at_a_time_makes_an_output(made):
    import subprocess
    import time

    first = subprocess.Popen(
        [sys.executable, "-m", "dvlite", "run", "-o", "x", "--", "touch begun; sleep 6; echo 1 > x"], cwd=made.root
    )
    while not (made.root / "begun").exists():
        assert first.poll() is None
        time.sleep(0.05)
    assert "locked by" in made.dv("run", "-o", "x", "--", "echo 2 > x", code=12)
    assert first.wait() == 0 and (made.root / "x").read_text() == "1\n"


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


@pytest.mark.parametrize(
    "command",
    [["nosuchprogram"], ["/etc/passwd"], ["sh", "-c", "echo part > model.pkl; sleep 1; kill -INT $PPID; sleep 1"]],
)
def test_whatever_fails_outputs_are_as_they_were(made, command):
    done = made.interruptible("run", "-o", "model.pkl", "--", *command)
    assert done.returncode and (made.root / "model.pkl").read_text() == "12"
    assert "clean" in made.dv("status", "model.pkl")


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


def test_frozen_outputs_are_as_before_where_a_run_would_change_them(made):
    path = made.root / "dvlite.toml"
    path.write_text(path.read_text() + '[policy]\nappend_only = ["**/*_v[0-9]*"]\n')
    made.dv("run", "-i", "raw.csv", "-o", "o_v1.csv", "--", "cp", "raw.csv", "o_v1.csv")
    made.commit("v1")
    made.write({"raw.csv": "changed"})
    made.dv("add", "raw.csv")
    said = made.dv("run", "-i", "raw.csv", "-o", "o_v1.csv", "--", "cp", "raw.csv", "o_v1.csv", code=14)
    assert "o_v2.csv" in said and "--saved 1" in said
    assert (made.root / "o_v1.csv").read_text() == "1\n2\n3" and "clean" in made.dv("status", "o_v1.csv")


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
    made.write({"deep.json": '{"a":' * 900 + "1" + "}" * 900})
    assert "deep" in made.dv("run", "-p", "deep.json", "-o", "x", "--", "touch", "x", code=1)
