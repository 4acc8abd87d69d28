"""Experiments: numbered safely, recorded without a change to training code, listed, compared, drawn."""

import csv
import io
import json
import subprocess
import sys
import threading

import pytest

import dvlite
import dvlite.errors
from dvlite import pointer, recipe
from dvlite.ops import experiments
from tests.conftest import Project, spied

TRAIN = """
import json, pathlib, sys
params = json.loads(pathlib.Path("params.json").read_text())
print("training with", params["lr"])
pathlib.Path("model.pkl").write_text("model " + str(params["lr"]))
pathlib.Path("metrics.json").write_text(json.dumps({"auc": 1 - params["lr"], "loss": {"train": params["lr"] / 2}}))
"""


@pytest.fixture
def lab(project):
    project.write({"train.py": TRAIN, "params.json": '{"lr": 0.5, "model": {"depth": 3}}', "data.csv": "1\n"})
    project.dv("add", "data.csv")
    project.write({".gitignore": (project.root / ".gitignore").read_text() + "/metrics.json\n/model.pkl\n"})
    project.commit("code")
    return project


def run(lab, lr, *arguments, code=0):
    lab.write({"params.json": json.dumps({"lr": lr, "model": {"depth": 3}})})
    command = ["exp", "run", "-i", "data.csv", "-o", "model.pkl", *arguments, "--", sys.executable, "train.py"]
    return lab.dv(*command, code=code)


def test_what_training_code_writes_is_taken_along_unchanged(lab):
    said = run(lab, 0.25)
    assert "experiment experiments/exp_001" in said and "training with 0.25" in said and "auc 0.75" in said
    folder = lab.root / "experiments/exp_001"
    assert json.loads((folder / "params.json").read_text()) == {"lr": 0.25, "model": {"depth": 3}}
    assert json.loads((folder / "metrics.json").read_text())["auc"] == 0.75
    assert (folder / "log.txt").read_text() == "training with 0.25\n"
    assert (folder / "model.pkl").read_text() == "model 0.25"
    made = recipe.of(pointer.decode((folder / "model.pkl.dvlite").read_bytes()))
    assert [one.path for one in made.inputs] == ["data.csv", "train.py"]
    assert made.outputs == ("experiments/exp_001/log.txt", "experiments/exp_001/model.pkl")
    staged = lab.git("diff", "--cached", "--name-only")
    assert (
        "exp_001/params.json" in staged and "exp_001/model.pkl.dvlite" in staged and "exp_001/model.pkl\n" not in staged
    )
    run(lab, 0.125)
    assert (lab.root / "experiments/exp_002/metrics.json").exists()
    assert "data.csv" in lab.dv("lineage", "experiments/exp_002/model.pkl")


def test_a_command_that_fails_leaves_its_log_and_its_code(lab):
    lab.write({"bad.py": "print('so far'); raise SystemExit(3)"})
    said = lab.dv("exp", "run", "--", sys.executable, "bad.py", code=3)
    assert "failed with exit code 3" in said
    assert (lab.root / "experiments/exp_001/log.txt").read_text() == "so far\n"
    assert not (lab.root / "experiments/exp_001/metrics.json").exists()
    assert recipe.of(pointer.decode((lab.root / "experiments/exp_001/log.txt.dvlite").read_bytes())).exit_code == 3


def test_the_folder_of_the_experiment_is_told_to_its_command(lab):
    lab.write(
        {
            "own.py": "import os,sys,pathlib\npathlib.Path(sys.argv[1], 'metrics.json').write_text('{\"a\": 1}')\nassert os.path.samefile(sys.argv[1], os.environ['DVLITE_EXPERIMENT'])"
        }
    )
    (lab.root / "sub").mkdir()
    lab.dv("exp", "run", "--", sys.executable, "../own.py", "{exp}", folder=lab.root / "sub")
    assert lab.json("exp", "list")["experiments"][0]["metrics"] == {"a": 1}


def test_metrics_of_an_earlier_run_are_not_taken_for_new_ones(lab):
    run(lab, 0.5)
    lab.dv("exp", "run", "--", "true")
    assert not (lab.root / "experiments/exp_002/metrics.json").exists()


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_many_at_once_get_numbers_of_their_own(lab):
    found = []
    threads = [threading.Thread(target=lambda: found.append(lab.dv("exp", "new").strip())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"experiments/exp_{number:03d}" for number in range(1, 9)]


def test_numbers_of_other_branches_and_of_removed_ones_are_not_given_again(lab):
    run(lab, 0.5)
    lab.git("switch", "-q", "-c", "other")
    run(lab, 0.25)
    lab.commit("two")
    lab.git("switch", "-q", "main")
    assert lab.dv("exp", "new").strip() == "experiments/exp_003"
    assert "exists" in lab.dv("exp", "new", "--name", "exp_003", code=2)
    assert "no name" in lab.dv("exp", "new", "--name", "../x", code=2)


# ---- looking --------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(lab):
    for lr in (0.5, 0.25, 0.125):
        run(lab, lr)
    lab.commit("three")
    return lab


def test_experiments_are_sorted_filtered_and_compared(three):
    def names(*arguments):
        return [one["name"][-1] for one in three.json("exp", "list", *arguments)["experiments"]]

    assert names() == ["1", "2", "3"]
    assert names("--sort", "metrics.auc", "--desc") == ["3", "2", "1"]
    assert names("--sort", "lr") == ["3", "2", "1"]
    assert names("--where", "metrics.auc >= 0.75") == ["2", "3"]
    assert names("--where", "metrics.loss.train < 0.2", "--where", "params.lr > 0.2") == ["2"]
    assert names("--limit", "1") == ["1"]
    assert "no condition" in three.dv("exp", "list", "--where", "auc", code=1)
    assert "no experiment has 'nothing'" in three.dv("exp", "list", "--sort", "nothing", code=2)
    assert "metrics.auc" in three.dv("exp", "list") and "0.875" in three.dv("exp", "list", "--columns", "metrics.auc")
    rows = list(csv.reader(io.StringIO(three.dv("exp", "list", "--csv"))))
    assert rows[0][0] == "experiment" and len(rows) == 4 and "params.model.depth" in rows[0]
    assert "experiments/exp_003" in three.dv("exp", "best", "metrics.auc")
    assert "exp_001" in three.dv("exp", "best", "metrics.auc", "--min")
    said = three.dv("exp", "compare", "1", "exp_003")
    assert "params.lr" in said and "depth" not in said and "0.125" in said
    assert three.json("exp", "compare", "1", "2")["values"]["metrics.auc"] == [0.5, 0.75]
    assert "no experiment '9'" in three.dv("exp", "compare", "9", code=2)


def test_history_has_what_is_gone_from_here(three):
    three.git("rm", "-rq", "experiments/exp_001/params.json", "experiments/exp_001/metrics.json")
    three.git("commit", "-q", "-m", "cleaned up")
    names = [one["name"] for one in three.json("exp", "list")["experiments"] if one["metrics"]]
    assert names == ["exp_002", "exp_003"]
    import shutil

    shutil.rmtree(three.root / "experiments/exp_001")
    found = three.json("exp", "list", "--all")["experiments"]
    assert [one["name"] for one in found] == ["exp_001", "exp_002", "exp_003"] and found[0]["commit"]
    assert found[0]["metrics"] == {"auc": 0.5, "loss.train": 0.25}
    assert [one["name"] for one in three.json("exp", "list", "--rev", "HEAD~1")["experiments"]] == [
        "exp_001",
        "exp_002",
        "exp_003",
    ]


def test_a_file_that_is_no_json_is_said_and_the_others_are_listed(three):
    three.write({"experiments/exp_002/metrics.json": "{"})
    said = three.dv("exp", "list")
    assert "exp_002/metrics.json' can't be read" in said and "exp_003" in said


def test_many_experiments_cost_git_no_more_calls_than_few(lab):
    """Times are the benchmark's to tell; that nothing is asked once for each experiment is told here."""
    from dvlite.git import call

    counts = []
    for count in (10, 1000):
        for number in range(count):
            folder = lab.root / f"experiments/exp_{number:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "params.json").write_text(json.dumps({"lr": number / 1000}))
            (folder / "metrics.json").write_text(json.dumps({"auc": 1 - number / 1000}))
        lab.git("add", "experiments")
        lab.git("commit", "-q", "-m", f"{count}")
        with spied(call, "program") as asked:
            assert len(experiments.read(lab.repo).experiments) == count and not asked
            assert len(experiments.read(lab.repo, has_history=True).experiments) == count
            assert len(experiments.read(lab.repo, rev="HEAD").experiments) == count
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_one_page_shows_all_that_was_measured(three):
    three.write({"experiments/exp_001/steps.jsonl": '{"step": 1, "loss": 0.5}\nnothing\n{"step": 2, "loss": 0.25}\n'})
    three.dv("exp", "plot", "-o", "report.html")
    page = (three.root / "report.html").read_text()
    assert page.count("<svg") == 3 and "loss by step" in page and "exp_003" in page
    assert "http" not in page and "<script" not in page, "it needs nothing else"


# ---- from a script --------------------------------------------------------------------------------------------------


def test_a_script_says_what_it_does(lab):
    with dvlite.experiment(params={"lr": 1}, repo=lab.root) as one:
        one.params(depth=2)
        for step in range(3):
            one.log(step, loss=1 / (step + 1))
        one.metrics(auc=0.5)
        one.metrics({"auc": 0.75})
        (one.folder / "model.pkl").write_bytes(b"model")
    found = experiments.read(lab.repo).experiments
    assert [(each.params, each.metrics) for each in found] == [({"lr": 1, "depth": 2}, {"auc": 0.75})]
    assert len(experiments.steps_of(lab.repo, found[0])) == 3
    assert (lab.root / "experiments/exp_001/model.pkl.dvlite").exists()
    assert "exp_001/metrics.json" in lab.git("diff", "--cached", "--name-only")


def test_under_exp_run_a_script_is_in_that_experiment(lab):
    lab.write({"api.py": "import dvlite\nwith dvlite.experiment(params={'lr': 2}) as one:\n    one.metrics(auc=0.9)\n"})
    lab.write({"params.json": "{}"})
    lab.dv("exp", "run", "--", sys.executable, "api.py")
    assert [one["metrics"] for one in lab.json("exp", "list")["experiments"]] == [{"auc": 0.9}]


def test_experiments_go_where_git_goes(three, tmp_path):
    three.dv("remote", "add", "origin", "../remote")
    three.commit("remote")
    three.dv("push", "-q", "--all")
    clone = Project(tmp_path / "elsewhere")
    subprocess.run(["git", "clone", "-q", three.root, clone.root], check=True)
    assert "exp_003" in clone.dv("exp", "best", "metrics.auc"), "metrics need no data"
    clone.dv("pull", "-q", "experiments/exp_003")
    assert (clone.root / "experiments/exp_003/model.pkl").read_text() == "model 0.125"


# ---- what a tester broke --------------------------------------------------------------------------------------------


def lay(project, **metrics):
    for number, (name, text) in enumerate(metrics.items(), 1):
        project.write(
            {
                f"experiments/exp_{number:03d}/metrics.json": text,
                f"experiments/exp_{number:03d}/params.json": json.dumps({"n": name}),
            }
        )


def test_numbers_are_compared_as_numbers_whatever_else_there_is(lab):
    lay(
        lab,
        a='{"auc": 0.5}',
        b='{"auc": NaN}',
        c='{"auc": 10}',
        d='{"auc": "n/a"}',
        e='{"auc": 1e-05}',
        f="{}",
        g='{"auc": true}',
    )
    assert lab.json("exp", "best", "metrics.auc")["name"] == "exp_003"
    assert lab.json("exp", "best", "metrics.auc", "--min")["name"] == "exp_005"
    names = [one["name"][-1] for one in lab.json("exp", "list", "--sort", "metrics.auc", "--desc")["experiments"]]
    assert names[:3] == ["3", "1", "5"]
    rows = list(csv.reader(io.StringIO(lab.dv("exp", "list", "--csv", "--columns", "auc"))))
    assert [row[1] for row in rows[1:]] == ["0.5", "nan", "10", "n/a", "1e-05", "", "true"]
    assert "no experiment is like that" in lab.dv("exp", "list", "--where", "metrics.auc > 99")
    assert "no condition" in lab.dv("exp", "list", "--where", "metrics.auc >= 0.1 and metrics.auc < 0.6", code=1)
    assert "no experiment has 'nope'" in lab.dv("exp", "list", "--columns", "nope", code=2)


def test_no_content_of_a_file_is_a_bug(lab):
    lay(
        lab,
        a='{"x": "\\ud800", "\\u001b[31mk": 1}',
        b='{"x": %s}' % ("9" * 400),
        c='{"x": "' + chr(27) + '"}',
        d="[1]",
        e="[" * 5000,
    )
    (lab.root / "experiments/exp_008/metrics.json").mkdir(parents=True)
    (lab.root / "experiments/exp_009").mkdir()
    import os

    os.mkfifo(lab.root / "experiments/exp_009/params.json")
    lab.write({"experiments/exp_001/steps.jsonl": "[" * 5000 + "\n" + '{"step": 1, "v": %s}\n' % ("9" * 400)})
    for command in (
        ["list"],
        ["list", "--csv"],
        ["list", "--json"],
        ["plot"],
        ["best", "x"],
        ["compare", "1", "2"],
        ["compare", "²"],
    ):
        done = lab.run("exp", *command, timeout=20)
        assert (
            done.returncode in (0, 2)
            and "a bug in dvlite" not in done.stderr
            and (chr(27) not in done.stdout or "--csv" in command)
        ), command


def test_outputs_are_those_of_the_run(lab):
    lab.write({"old.bin": "old", "x/m": "1", "y/m": "2"})
    said = lab.dv("exp", "run", "-o", "old.bin", "-o", "nothing.bin", "--", "true", code=1)
    assert "did not make it" in said and "was not made" in said
    assert not (lab.root / "experiments/exp_001/old.bin").exists()
    for outputs, why in (
        (["x/m", "y/m"], "would meet"),
        (["log.txt"], "own log.txt"),
        (["experiments"], "holds"),
        (["."], "holds"),
    ):
        arguments = [word for one in outputs for word in ("-o", one)]
        assert why in lab.dv("exp", "run", *arguments, "--", "true", code=2)
    assert "nope" in lab.dv("exp", "run", "-i", "nope", "--", "true", code=2)
    assert not (lab.root / "experiments/exp_002").exists(), "what can't begin leaves nothing"


@pytest.mark.parametrize("text", ["{oops", "[1,2]"])
def test_metrics_that_cannot_be_read_cost_nothing_else(lab, text):
    said = lab.dv("exp", "run", "-o", "model.pkl", "--", f"echo m > model.pkl; echo '{text}' > metrics.json", code=1)
    assert "metrics.json" in said
    assert (lab.root / "experiments/exp_001/model.pkl.dvlite").exists() and (
        lab.root / "experiments/exp_001/log.txt.dvlite"
    ).exists()


def test_a_drawing_replaces_no_other_file(three):
    assert "no earlier drawing" in three.dv("exp", "plot", "-o", "data.csv", code=2)
    three.dv("exp", "plot", "-o", "page.html")
    three.dv("exp", "plot", "-o", "page.html")
    three.dv("exp", "plot", "-o", "data.csv", "--force")


def test_an_interrupted_experiment_is_kept(lab):
    done = lab.interruptible("exp", "run", "--", "echo begun; sleep 1; kill -INT $PPID; sleep 1")
    assert done.returncode == 130
    assert (lab.root / "experiments/exp_001/log.txt").read_text() == "begun\n"
    assert (lab.root / "experiments/exp_001/log.txt.dvlite").exists()


def test_what_runs_on_in_the_background_is_not_waited_for(lab):
    said = lab.dv("exp", "run", "--", "(while sleep 0.1; do echo later; done) & echo $! > pid; echo hi")
    try:
        assert "hi" in said and "later" not in said.partition("no metrics")[2]
        log = (lab.root / "experiments/exp_001/log.txt").read_text()
        assert log.startswith("hi\n") and set(log.splitlines()) <= {"hi", "later"}, "nothing of another pipe"
    finally:
        subprocess.run(["kill", (lab.root / "pid").read_text().strip()], check=False)


def test_where_experiments_cannot_be_is_said(lab):
    (lab.root / "elsewhere").mkdir()
    (lab.root / "experiments").symlink_to("elsewhere")
    assert "not a folder of this repository" in lab.dv("exp", "new", code=2)
    (lab.root / "experiments").unlink()
    lab.write({"experiments/a.txt": "1"})
    lab.dv("add", "experiments")
    assert "tracked as a whole" in lab.dv("exp", "run", "--", "true", code=2)


def test_a_scripts_own_error_comes_first(lab, monkeypatch):
    with pytest.raises(ZeroDivisionError), dvlite.experiment(repo=lab.root) as one:
        one.metrics(a=1)
        with pytest.raises(TypeError):
            one.metrics(bad=object())
        one.metrics(b=2)
        one.log(1, loss=2)
        raise ZeroDivisionError
    assert experiments.read(lab.repo).experiments[0].metrics == {"a": 1, "b": 2}
    monkeypatch.setenv("DVLITE_EXPERIMENT", str(lab.root / "models"))
    with pytest.raises(dvlite.errors.UsageError):
        dvlite.experiment(repo=lab.root)
