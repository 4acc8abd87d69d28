"""Models that are trained, registered and in production, for the tests of the registry."""

import json
import subprocess
import sys

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


def open_shop(project, tmp_path):
    """Have two registered versions of a model, the first in production, and a Git remote."""
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
