"""What CI asks: each thing that can be wrong is found, in whole and in shallow clones; and the workflows do what they say."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import Project, tree_of

POLICY = '[policy]\nappend_only = ["raw/**"]\nrequire = {"raw/**" = ["source"]}\ngit_max_size = "10 kB"\n'


@pytest.fixture
def team(project, tmp_path):
    """A project on a Git host, with raw data, and a model with metrics that is registered and in production."""
    (project.root / "dvlite.toml").write_text((project.root / "dvlite.toml").read_text() + POLICY)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "up.git"], check=True)
    project.git("remote", "add", "origin", str(tmp_path / "up.git"))
    project.dv("remote", "add", "origin", str(tmp_path / "remote"))
    project.write(
        {
            "raw/a.csv": "1\n2\n",
            "train.py": "open('model.pkl','w').write('m1')\nopen('metrics.json','w').write('{\"auc\": 0.9}')",
        }
    )
    project.dv("add", "raw/a.csv", "--source", "erp")
    project.commit("raw")
    train(project)
    project.dv("registry", "register", "model.pkl", "--name", "churn")
    project.dv("registry", "promote", "churn", "v1.0.0", "--stage", "production")
    project.dv("push", "-q", "--all")
    project.git("push", "-q", "origin", "main")
    project.dv("registry", "push")
    return project


def train(project):
    project.dv("run", "-i", "raw/a.csv", "-o", "model.pkl", "-m", "metrics.json", "--", sys.executable, "train.py")
    project.commit("model")


def kinds(project, *arguments, code=1):
    return sorted({one["kind"] for one in project.json("check", *arguments, code=code)["problems"]})


def test_all_is_well(team):
    assert kinds(team, code=0) == []
    assert "all is well: 2 pointers, 1 registered version since" in team.dv("check")
    assert team.dv("check", "--md").count("| ok |") == 7


def test_nothing_is_needed_but_listings(team, tmp_path):
    for name, options in (("whole", []), ("shallow", ["--depth=1"])):
        clone = Project(tmp_path / name)
        subprocess.run(["git", "clone", "-q", *options, f"file://{tmp_path}/up.git", clone.root], check=True)
        assert kinds(clone, code=0) == []
        assert "model.pkl" not in tree_of(clone.root)
        assert ("not looked at" in clone.dv("check", "--md")) is (name == "shallow"), "and says what it could not"


def test_each_thing_that_is_wrong_is_found(team):
    team.git("switch", "-q", "-c", "work")
    team.write({"big.txt": "x" * 20_000, "raw/b.csv": "new\n"})
    team.dv("add", "raw/b.csv")
    team.git("add", "-A")
    team.git("commit", "-q", "--no-verify", "-m", "large, without source, not pushed")
    found = {one["kind"]: one for one in team.json("check", code=1)["problems"]}
    assert sorted(found) == ["large", "metadata", "remote"]
    assert (found["large"]["path"], found["metadata"]["path"], found["remote"]["path"]) == (
        "big.txt",
        "raw/b.csv",
        "raw/b.csv",
    )
    assert kinds(team, "--no-remote") == ["large", "metadata"]
    said = team.dv("check", code=1)
    assert "dvlite meta set raw/b.csv source=" in said and "dvlite push" in said
    assert "**1 wrong**" in team.dv("check", "--md", code=1)


def test_frozen_data_is_watched_over_all_commits_of_a_branch(team):
    team.git("switch", "-q", "-c", "work")
    other = (team.root / "model.pkl.dvlite").read_text().split("\n[run]")[0]
    old = (team.root / "raw/a.csv.dvlite").read_text()
    (team.root / "raw/a.csv.dvlite").write_text(other + '\n[meta]\nsource = "erp"\n')
    team.git("commit", "-q", "-a", "-m", "changed")
    (team.root / "raw/a.csv.dvlite").write_text(old)
    team.git("commit", "-q", "-a", "-m", "and back")
    assert kinds(team) == ["frozen"]
    assert kinds(team, "main..HEAD") == ["frozen"]
    assert kinds(team, "HEAD..HEAD", code=0) == []


def test_a_change_does_not_take_its_own_guard_away(team):
    team.git("switch", "-q", "-c", "work")
    text = (team.root / "dvlite.toml").read_text()
    (team.root / "dvlite.toml").write_text(text.replace('append_only = ["raw/**"]\n', ""))
    team.write({"raw/a.csv": "other"})
    team.dv("add", "raw/a.csv")
    team.commit("both at once")
    team.dv("push", "-q")
    assert kinds(team) == ["frozen"]


def test_frozen_data_moves_only_to_where_it_is_frozen_too(team):
    team.dv("hooks", "install")
    team.git("switch", "-q", "-c", "work")
    team.dv("mv", "raw/a.csv", "raw/b.csv")
    team.git("commit", "-q", "-m", "moved")
    assert kinds(team, code=0) == []
    team.dv("mv", "raw/b.csv", "b.csv")
    assert "append_only keeps it" in team.git_run("commit", "-q", "-m", "out").stderr
    team.git("commit", "-q", "--no-verify", "-m", "out")
    assert kinds(team) == ["frozen"]


def test_a_broken_pointer_a_moved_tag_and_an_old_changelog_are_found(team):
    team.dv("changelog", "--write", "CHANGELOG-DATA.md")
    team.commit("changelog")
    assert kinds(team, code=0) == []
    team.write({"raw/c.csv": "3\n"})
    team.dv("add", "raw/c.csv", "--source", "erp")
    team.commit("more")
    team.dv("push", "-q")
    assert kinds(team, code=0) == [], "the commit can't name itself"
    team.write({"raw/d.csv": "4\n", "broken.dvlite": "version = 1\n"})
    team.dv("add", "raw/d.csv", "--source", "erp")
    team.commit("and more")
    team.dv("push", "-q", code=1)
    team.git("tag", "-f", "-a", "-m", "moved", "churn@v1.0.0", "HEAD")
    assert kinds(team) == ["changelog", "pointer", "registry"]


def test_a_report_tells_what_a_branch_changes(team):
    team.git("switch", "-q", "-c", "work")
    team.write({"train.py": "open('model.pkl','w').write('m2')\nopen('metrics.json','w').write('{\"auc\": 0.95}')"})
    team.commit("better")
    train(team)
    team.write({"params.json": '{"lr": 1}'})
    team.dv("exp", "run", "--", sys.executable, "train.py")
    team.commit("experiment")
    team.dv("registry", "register", "model.pkl", "--name", "churn")
    told = team.json("report")
    assert [(one["name"], one["old"], one["new"]) for one in told["metrics"]] == [("auc", 0.9, 0.95)]
    assert [one["name"] for one in told["experiments"]] == ["exp_001"] and len(told["events"]) == 1
    said = team.dv("report", "--md")
    for part in (
        "## Data and models",
        "**model.pkl**",
        "### Metrics",
        "| model.pkl | auc | 0.9 | 0.95 |",
        "exp_001",
        "Register churn v1.1.0",
    ):
        assert part in said
    assert "No data changed." in team.dv("report", "HEAD..HEAD")


def test_a_tracked_folder_is_compared_where_its_old_listing_is_on_the_remote_alone(team, tmp_path):
    """A runner's clone has no listings: it gets those that it compares."""
    team.write({"raw/year/jan.csv": "1", "raw/year/feb.csv": "2"})
    team.dv("add", "raw/year", "--source", "erp")
    team.commit("a year")
    team.git("push", "-q", "--no-verify", "origin", "main")
    team.git("switch", "-q", "-c", "work")
    team.write({"raw/year/mar.csv": "3"})
    team.dv("add", "raw/year")
    team.commit("one more month")
    team.dv("push", "-q", "--all")
    team.git("push", "-q", "--no-verify", "origin", "work")

    def runner(name):
        clone = Project(tmp_path / name)
        subprocess.run(["git", "clone", "-q", "-b", "work", tmp_path / "up.git", clone.root], check=True)
        return clone

    assert kinds(runner("grown"), code=0) == []
    told = runner("offline").json("check", "--no-remote")
    assert told["problems"] == [] and told["skipped"] == ["frozen"], "what can't be read is said, not taken for changed"
    text = (team.root / "raw/year.dvlite").read_text()
    team.write({"raw/year/jan.csv": "other"})
    team.dv("add", "raw/year", "--force", "--reason", "x")
    changed = (team.root / "raw/year.dvlite").read_text().replace('reason = "x"\n', "")
    (team.root / "raw/year.dvlite").write_text(changed)
    assert text != changed
    team.git("commit", "-q", "--no-verify", "-a", "-m", "january")
    team.dv("push", "-q", "--all")
    team.git("push", "-q", "--no-verify", "origin", "work")
    assert [one["path"] for one in runner("changed").json("check", code=1)["problems"]] == ["raw/year/jan.csv"]


# ---- the workflows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host, place", [("github", ".github/workflows/data.yml"), ("gitlab", ".gitlab-ci.yml")])
def test_a_workflow_runs_as_it_is_written(team, tmp_path, host, place):
    yaml = pytest.importorskip("yaml")
    assert place in team.dv("ci", "init", host)
    team.dv("ci", "init", host)
    (team.root / place).write_text("mine: 1\n")
    assert "exists" in team.dv("ci", "init", host, code=2)
    team.dv("ci", "init", host, "--force")
    flow = yaml.safe_load((team.root / place).read_text())
    if host == "github":
        jobs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in flow["jobs"].items()}
    else:
        jobs = {name: [*flow[name]["script"], *flow[name].get("after_script", [])] for name in ("check", "deploy")}
    team.commit("ci")
    team.git("push", "-q", "origin", "main")
    clone = tmp_path / "runner"
    subprocess.run(["git", "clone", "-q", "--tags", tmp_path / "up.git", clone], check=True)
    tag = "churn#production#1"
    env = {
        **os.environ,
        "GITHUB_REF_NAME": tag,
        "CI_COMMIT_TAG": tag,
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    for lines in jobs.values():
        script = "\n".join(line for line in lines if not line.startswith("pip install"))
        done = subprocess.run(["bash", "-e", "-c", script], cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    summary = (tmp_path / "summary.md") if host == "github" else clone / "data-report.md"
    assert "## Data and models" in summary.read_text()
    assert (clone / "deploy-model").read_text() == "m1"
    assert "no host" in team.dv("ci", "init", "elsewhere", code=2)


def test_what_a_check_finds_is_stable_json(team):
    told = json.loads(team.dv("check", "--json"))
    assert set(told) == {"version", "old", "new", "pointers", "versions", "problems", "skipped", "notes"}
