"""Many processes at once against one repository, one store and one remote; afterwards an oracle asks for every version ever committed."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from dvlite.ops.read import cat
from tests.conftest import Project

SECONDS = float(os.environ.get("DVLITE_SECONDS", "60"))
# 1 and 14: Git's or a path's moment of disagreement; 10: not fetched; 12: waited too long; 13: the remote is being cleaned.
FINE = (0, 1, 10, 12, 13, 14)


class Worker(threading.Thread):
    """Runs commands in a worktree until the time is over; notes what it committed, and every ending that is not fine."""

    def __init__(self, project, seed, play):
        super().__init__()
        self.project, self.play, self.random = project, play, random.Random(seed)
        self.committed, self.wrong, self.count = {}, [], 0

    def run(self):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not self.wrong:
            self.play(self)

    def dv(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "dvlite", *arguments],
            cwd=self.project.root,
            capture_output=True,
            text=True,
            timeout=200,
        )
        self.count += 1
        self.last = done.stdout + done.stderr
        if done.returncode not in FINE or "Traceback" in done.stderr:
            self.wrong.append((arguments, done.returncode, done.stderr))
        return done.returncode

    def git(self, *arguments):
        return subprocess.run(["git", *arguments], cwd=self.project.root, capture_output=True, text=True)


def edit(worker):
    """Change data, add it and commit it."""
    number = worker.random.randrange(5)
    text = f"{worker.name} {worker.random.random()} " * worker.random.choice([1, 300])
    worker.project.write({f"data/f{number}": text})
    if worker.dv("add", "-q", "data") == 0 and worker.git("commit", "-q", "-m", "x").returncode == 0:
        rev = worker.git("rev-parse", "HEAD").stdout.strip()
        worker.committed[rev] = (f"data/f{number}", text)


def look(worker):
    worker.dv("status", "-q")


def go_back_and_forth(worker):
    worker.dv("checkout", "-q", "--rev", worker.random.choice(["b0", "b1", "main"]))
    worker.dv("checkout", "-q")


def push(worker):
    worker.dv("push", "-q", "--all")


def collect(worker):
    worker.dv("gc", "-q", "--grace", "0")
    time.sleep(0.3)


def verify(worker):
    if worker.dv("fsck", "--no-worktree", "--json") in (10, 11):
        worker.wrong.append(("fsck", worker.last))
    time.sleep(0.3)


def test_many_processes_at_once_lose_nothing(project, tmp_path):
    project.dv("remote", "add", "origin", str(tmp_path / "remote"))
    project.write({f"data/f{number}": f"first {number}" for number in range(5)})
    project.dv("add", "-q", "data")
    project.commit("first")
    trees = []
    for number in range(3):
        project.git("worktree", "add", "-q", "-b", f"b{number}", str(tmp_path / f"tree{number}"))
        trees.append(Project(tmp_path / f"tree{number}"))
        trees[-1].dv("checkout", "-q")
    plays = [
        (trees[0], edit),
        (trees[1], edit),
        (trees[2], go_back_and_forth),
        (project, look),
        (project, push),
        (project, collect),
        (project, verify),
    ]
    workers = [Worker(place, seed, play) for seed, (place, play) in enumerate(plays)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [one for worker in workers for one in worker.wrong] == []
    assert all(worker.count > 1 for worker in workers)
    committed = {rev: found for worker in workers for rev, found in worker.committed.items()}
    assert len(committed) > 1
    repo = project.repo
    for rev, (path, text) in committed.items():
        assert b"".join(cat(repo, path, rev=rev)).decode() == text
    assert project.json("fsck")["problems"] == []
    project.dv("push", "--all")
    assert project.json("fsck", "--remote")["problems"] == []
    for tree in trees:
        tree.dv("checkout")
    assert Path(tmp_path / "remote").exists()
