"""Data that is made in two steps, for the tests of how that is recorded, made again and told."""

import sys

from dvlite import pointer, recipe

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


def make(project):
    """Have raw data, and a model made of it in two steps."""
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


def states(project, *arguments, code=0):
    return {one["paths"][0]: one["state"] for one in project.json("repro", *arguments, code=code)["steps"]}
