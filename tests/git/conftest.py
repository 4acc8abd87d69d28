"""Repositories with Git's hooks installed, driven by the real git."""

import subprocess

import pytest

from tests.conftest import Project, make_project


class Hooked(Project):
    """A project whose hooks are installed. `git` returns what was said on both streams."""

    def git(self, *arguments, code=0, env=None, stdin=None):
        done = self.try_git(*arguments, env=env, stdin=stdin)
        assert done.returncode == code, f"git {arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def try_git(self, *arguments, env=None, stdin=None):
        import os

        return subprocess.run(
            ["git", *map(str, arguments)], cwd=self.root, capture_output=True, text=True, errors="surrogateescape",
            env={**os.environ, **(env or {})}, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def save(self, message, files=None, folder="data"):
        """Change data, and commit as a user does who relies on the hooks: with a note beside it."""
        self.write(files or {}, folder)
        self.write({f"notes/{message}": message})
        self.git("add", "notes")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def data(self):
        """Return the data as text by path."""
        return (
            {path: data.decode() for path, data in self.read("data").items()} if (self.root / "data").exists() else {}
        )

    def pointer_of(self, rev, path="data"):
        return self.git("show", f"{rev}:{path}.dvlite")

    def clone(self, name="clone"):
        target = self.root.parent / name
        subprocess.run(["git", "clone", "-q", self.root, target], check=True, capture_output=True)
        return Hooked(target)


FILES = {"a": "a", "b": "b", "sub/c": "c", "sub/d": "d"}


def hooked(root):
    project = Hooked(make_project(root).root)
    project.dv("hooks", "install", "-q")
    project.write(FILES, "data")
    project.dv("add", "-q", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    return project


@pytest.fixture
def work(tmp_path):
    """A hooked project with one commit of a folder `data`."""
    return hooked(tmp_path / "work")


@pytest.fixture
def forked(work):
    """Two branches: main with a changed to main's, side with b changed to side's; main is checked out."""
    work.git("switch", "-q", "-c", "side")
    work.save("side", {"b": "side"})
    work.git("switch", "-q", "main")
    work.save("main", {"a": "main"})
    return work
