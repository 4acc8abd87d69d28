"""What starts quickly imports little: counted, not timed."""

import json
import os
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


def test_status_loads_nothing_of_remotes(added):
    assert modules(added, "status").isdisjoint(["dvlite.stores.remote", "dvlite.remotes", "dvlite.ops.source"])


def test_checking_out_data_imports_nothing_heavy(added):
    (added.root / "data/a").unlink()
    assert modules(added, "checkout").isdisjoint(HEAVY)
    assert (added.root / "data/a").read_text() == "1"


def test_the_version_needs_no_repository_code():
    done = subprocess.run([sys.executable, "-c", CODE, "--version"], capture_output=True, text=True)
    code, names = json.loads(done.stdout.strip().splitlines()[-1])
    assert code == 0 and "sqlite3" not in names and "dvlite.ops.status" not in names
    assert len(names) < 420


HOOK = """
import json, sys
from dvlite.cli.hook import run
code = run(["hook", *sys.argv[1:]])
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("event", ["pre-commit", "post-checkout", "post-merge", "post-index-change", "post-commit"])
def test_a_hook_with_nothing_to_do_loads_no_parser_and_nothing_heavy(added, event):
    command = [sys.executable, "-c", HOOK, event]
    done = subprocess.run(command, cwd=added.root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    code, names = json.loads(done.stdout.strip().splitlines()[-1])
    assert code == 0, done.stderr
    assert set(names).isdisjoint([*HEAVY, "typer", "concurrent.futures", "dvlite.cli.main"])
    if event == "pre-commit":
        assert set(names).isdisjoint(
            [
                "dataclasses",
                "inspect",
                "hashlib",
                "dvlite.ops.add",
                "dvlite.stores.remote",
                "dvlite.worktree.materialise",
            ]
        )


def test_a_switch_that_moves_no_pointer_starts_no_python(added, tmp_path):
    """Counted by a program of that name that notes each call."""
    added.dv("hooks", "install", "-q")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dvlite").write_text(
        f'#!/bin/sh\necho "$2" >> {tmp_path}/calls\nexec {sys.executable} -m dvlite "$@"\n'
    )
    (tmp_path / "bin/dvlite").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=added.root, env=env, check=True, capture_output=True)

    git("switch", "-q", "-c", "side")
    (added.root / "code.py").write_text("x")
    git("add", "code.py")
    git("commit", "-q", "-m", "code")
    git("switch", "-q", "main")
    calls = (tmp_path / "calls").read_text().split()
    git("switch", "-q", "side")
    git("switch", "-q", "main")
    git("merge", "-q", "side")
    assert (tmp_path / "calls").read_text().split() == calls
