"""What starts quickly imports little: counted, not timed."""

import json
import subprocess
import sys

import pytest

HEAVY = ["fsspec", "s3fs", "botocore", "aiohttp", "git", "pygit2", "tenacity", "pathspec", "tomlkit", "rich", "asyncio"]

CODE = """
import json, sys
from dvlite.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def modules(project, *arguments):
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], cwd=project.root, capture_output=True, text=True)
    code, names = json.loads(done.stdout.strip().splitlines()[-1])
    assert code == 0, done.stderr
    return set(names)


@pytest.fixture
def added(project):
    project.write({"data/a": "1", "data/b": "2"})
    project.dv("add", "data")
    project.commit()
    return project


@pytest.mark.parametrize("arguments", [["status"], ["--version"], ["checkout"], ["add", "data"], ["ls"]])
def test_what_needs_no_remote_imports_nothing_heavy(added, arguments):
    assert modules(added, *arguments).isdisjoint(HEAVY)


def test_checking_out_data_imports_nothing_heavy(added):
    (added.root / "data/a").unlink()
    assert modules(added, "checkout").isdisjoint(HEAVY)
    assert (added.root / "data/a").read_text() == "1"


def test_the_version_needs_no_repository_code():
    done = subprocess.run([sys.executable, "-c", CODE, "--version"], capture_output=True, text=True)
    code, names = json.loads(done.stdout.strip().splitlines()[-1])
    assert code == 0 and "sqlite3" not in names and "dvlite.ops.status" not in names
    assert len(names) < 420
