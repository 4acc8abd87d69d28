"""Scaling, proved by counting: files opened and created, fsyncs, requests. No clocks."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from dvlite import statkey
from dvlite.ops import bring
from dvlite.ops.add import add
from dvlite.ops.checkout import checkout
from dvlite.ops.commit import before_commit
from dvlite.ops.diff import diff
from dvlite.ops.push import push
from dvlite.ops.status import status
from dvlite.repo import open_repo

OPENED = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
from dvlite.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, [name for name in opened if "/data/" in name and not os.path.isdir(name)]]))
"""


def test_a_no_op_status_opens_no_data_file(project):
    project.write({f"d{n % 5}/f{n}": str(n) for n in range(200)}, "data")
    project.settle()
    project.dv("add", "data")
    project.dv("status")
    done = subprocess.run([sys.executable, "-c", OPENED, "status"], cwd=project.root, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


def test_a_fresh_checkout_needs_no_reading_again(pushed):
    clone = pushed.clone()
    clone.dv("pull")
    done = subprocess.run([sys.executable, "-c", OPENED, "status"], cwd=clone.root, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


@pytest.fixture
def steps(monkeypatch):
    """The steps that the index writes in: the disk is waited for in each."""
    found = []
    real = sqlite3.connect

    def connect(*arguments, **options):
        db = real(*arguments, **options)
        db.set_trace_callback(lambda said: found.append(said) if said == "COMMIT" else None)
        return db

    monkeypatch.setattr(sqlite3, "connect", connect)
    return found


def test_many_tracked_paths_cost_few_steps_of_the_index(project, steps):
    names = [f"f{number}" for number in range(40)]

    def write(text):
        project.write({name: f"{text} {name}" for name in names})
        project.settle()

    def steps_of(call, *arguments):
        steps.clear()
        result = call(open_repo(project.root), *arguments)
        assert not result.failures
        return len(steps)

    write("one")
    assert steps_of(add, names) <= 2
    project.commit("one")
    write("two")
    assert steps_of(add, names) <= 2
    project.commit("two")
    project.git("checkout", "-q", "HEAD~1")
    assert steps_of(checkout) <= 4, "all are noted as begun in one step, and remembered in one"
    assert [(project.root / name).read_text() for name in names] == [f"one {name}" for name in names]
    for name in names:
        (project.root / name).unlink()
    assert steps_of(checkout) <= 4
    assert [(project.root / name).read_text() for name in names] == [f"one {name}" for name in names]
    assert steps_of(checkout) == 0, "nothing was to be done"


@pytest.mark.parametrize("look", [status, lambda repo: diff(repo, "HEAD", ""), before_commit])
def test_what_was_seen_of_many_tracked_paths_is_noted_in_few_steps(project, steps, look):
    names = [f"f{number}" for number in range(40)]
    project.write({name: f"one {name}" for name in names})
    project.dv("add", "-q", *names)
    project.commit("one")
    project.settle()
    for name in names:
        os.utime(project.root / name)
    project.settle()
    steps.clear()
    look(open_repo(project.root))
    assert 0 < len(steps) <= 2
    steps.clear()
    look(open_repo(project.root))
    assert not steps


def test_many_tracked_paths_cost_one_ignore_file_and_few_calls_of_git(project, monkeypatch):
    names = [f"d{number % 2}/f{number}" for number in range(700)]
    project.write({name: name for name in names})
    calls, ignores = [], []
    for room, verb in ((subprocess, "run"), (subprocess, "Popen")):
        real = getattr(room, verb)
        monkeypatch.setattr(room, verb, lambda *given, _real=real, **more: calls.append(given) or _real(*given, **more))
    replace = os.rename
    monkeypatch.setattr(
        os,
        "rename",
        lambda old, new: replace(old, new) or (ignores.append(new) if str(new).endswith("ignore") else None),
    )
    for expected in (2, 0):  # the second time nothing is new
        calls.clear()
        ignores.clear()
        assert not add(open_repo(project.root), names).failures
        assert len(calls) <= 20 and len(ignores) == expected
    monkeypatch.undo()
    staged = project.git("diff", "--cached", "--name-only").split()
    assert set(staged) >= {f"{name}.dvlite" for name in names} | {"d0/.gitignore", "d1/.gitignore"}
    assert project.git("status", "--porcelain", "--untracked-files=all", "d0", "d1").count("\n") == len(staged) - 2


def test_the_history_is_looked_at_once_for_many_paths_that_go(project, monkeypatch):
    project.write({"code.py": "code"})
    project.commit("none")
    names = [f"f{number}" for number in range(5)]
    project.write({name: name for name in names})
    project.dv("add", "-q", *names)
    project.commit("one")
    project.git("checkout", "-q", "HEAD~1")
    looks = []
    real = bring.refs.selected
    monkeypatch.setattr(bring.refs, "selected", lambda *given, **more: looks.append(given) or real(*given, **more))
    checkout(project.repo)
    assert not any((project.root / name).exists() for name in names)
    assert len(looks) == 1


def test_long_folders_are_not_looked_at_together(project, monkeypatch):
    """What was found of one is let go before the next one is looked at: there may be many, and a million files in each."""
    monkeypatch.setattr(bring, "_TOGETHER", 8)
    names = [f"d{number}" for number in range(6)]
    for name in names:
        project.write({f"f{number}": f"{name} {number}" for number in range(6)}, name)
    project.dv("add", "-q", *names)
    sizes = []
    real = bring._carry_out
    monkeypatch.setattr(bring, "_carry_out", lambda way, jobs: sizes.append(len(jobs)) or real(way, jobs))
    for name in names:
        (project.root / name / "f3").unlink()
    checkout(project.repo)
    assert max(sizes) == 1
    assert all((project.root / name / "f3").read_text() == f"{name} 3" for name in names)


def test_paths_that_do_not_change_cost_no_step_of_the_index(project, steps):
    names = [f"f{number}" for number in range(40)]
    project.write({name: f"one {name}" for name in names})
    project.dv("add", "-q", *names)
    project.commit("one")
    project.write({"f3": "edited"})
    project.dv("add", "-q", "f3")
    project.commit("edited")
    project.git("checkout", "-q", "HEAD~1")
    checkout(project.repo)
    assert (project.root / "f3").read_text() == "one f3"
    assert len(steps) <= 4


@pytest.mark.parametrize(("files", "size", "expected"), [(256, 1 << 26, 1), (8, 1 << 26, 5), (256, 30, 10)])
def test_many_tracked_paths_wait_for_the_clock_once(project, monkeypatch, files, size, expected):
    """So many files are carried out together, and so many bytes."""
    monkeypatch.setattr(bring, "_TOGETHER", files)
    monkeypatch.setattr(bring, "_TOGETHER_BYTES", size)
    names = [f"f{number}" for number in range(40)]
    project.write({name: f"one {name}" for name in names})
    project.dv("add", "-q", *names)
    for name in names:
        (project.root / name).unlink()
    waits = []
    real = statkey.stamp_after
    monkeypatch.setattr(statkey, "stamp_after", lambda *arguments: waits.append(arguments) or real(*arguments))
    checkout(project.repo)
    assert [(project.root / name).read_text() for name in names] == [f"one {name}" for name in names]
    assert len(waits) == expected


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """100,000 small files in 100 folders."""
    root = tmp_path_factory.mktemp("many") / "data"
    for folder in range(100):
        os.makedirs(root / f"d{folder:02}")
        for number in range(1000):
            with open(root / f"d{folder:02}/f{number}", "w") as file:
                file.write(f"{folder} {number}")
    yield root
    shutil.rmtree(root)


MEASURE = """
import os, re, sys
count = 0
real = os.fsync
def counted(fd):
    global count
    count += 1
    real(fd)
os.fsync = counted
from dvlite.cli.main import run
code = run(["add", "-q", "data"])
# Not ru_maxrss: that remembers the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(code, count, int(peak) // 1024)
"""


def test_a_hundred_thousand_small_files(project, many, monkeypatch):
    many.rename(project.root / "data")
    try:
        done = subprocess.run([sys.executable, "-c", MEASURE], cwd=project.root, capture_output=True, text=True)
        code, fsyncs, megabytes = map(int, done.stdout.split())
        assert code == 0 and fsyncs < 20 and megabytes <= 200
        store = project.root / ".git/dvlite"
        assert sum(path.is_file() for path in store.rglob("*")) < 20
        if shutil.which("strace"):  # SQLite's own fsyncs too
            shutil.rmtree(store)
            trace = project.root.parent / "trace"
            command = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", trace, sys.executable, "-m", "dvlite", "add", "-q",
                       "data"]  # fmt: skip
            if subprocess.run(command, cwd=project.root).returncode == 0:
                calls = [line.split() for line in trace.read_text().splitlines() if line.strip().endswith("sync")]
                assert sum(int(line[3]) for line in calls) < 20
        _push_counts(project, monkeypatch)
    finally:
        (project.root / "data").rename(many)


def _push_counts(project, monkeypatch):
    from dvlite.stores.remote.bucket import Bucket

    calls = []
    for verb in ("list", "get", "get_file", "put", "put_file"):
        real = getattr(Bucket, verb)

        def counted(self, *arguments, _real=real, _verb=verb, **options):
            calls.append(_verb)
            return _real(self, *arguments, **options)

        monkeypatch.setattr(Bucket, verb, counted)
    project.dv("remote", "add", "origin", "../remote")
    project.commit()
    assert push(project.repo).pushed > 100_000
    assert sum(call.startswith("put") for call in calls) < 40
    calls.clear()
    assert push(project.repo).pushed == 0
    assert calls == ["list"]


def test_gits_index_and_the_packs_are_looked_at_once_for_many_paths(project, monkeypatch):
    from dvlite import git
    from dvlite.ops.add import add
    from dvlite.stores.local.state import State

    calls = []

    def count(owner, name):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: calls.append(name) or real(*arguments))

    project.write({f"f{number}": str(number) for number in range(30)})
    count(git, "index_blobs")
    count(State, "notice_gone")
    add(project.repo, [f"f{number}" for number in range(30)])
    assert sorted(calls) == ["index_blobs", "notice_gone"]
