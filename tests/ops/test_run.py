"""How data is made: recorded truly, made again only where something changed, told up and down."""

import json
import sys
import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dvlite import pointer, recipe
from dvlite.errors import FormatError
from dvlite.oid import Oid, parse
from dvlite.recipe import Input, Recipe
from tests.ops.making import prep, recipe_of, train

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
@example(Recipe(("a",), outputs=("\n", "b/.git\n", ".\n"), folder="\n"))
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


@pytest.mark.parametrize(
    "command",
    [["nosuchprogram"], ["/etc/passwd"], ["sh", "-c", "echo part > model.pkl; sleep 1; kill -INT $PPID; sleep 1"]],
)
def test_whatever_fails_outputs_are_as_they_were(made, command):
    done = made.interruptible("run", "-o", "model.pkl", "--", *command)
    assert done.returncode and (made.root / "model.pkl").read_text() == "12"
    assert "clean" in made.dv("status", "model.pkl")


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
