"""The ids of .pre-commit-hooks.yaml, run by the real pre-commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dvlite
from tests.conftest import make_project
from tests.git.conftest import FILES, Hooked

ROOT = Path(dvlite.__file__).parent.parent
PROGRAM = Path(sys.executable).parent / "pre-commit"
CONFIG = """default_install_hook_types: [pre-commit, pre-merge-commit, post-checkout, post-merge, post-rewrite, pre-push]
repos:
  - repo: {url}
    rev: {rev}
    hooks:
      - id: dvlite-sync
      - id: dvlite-large-files
      - id: dvlite-checkout
      - id: dvlite-push
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """This project as a Git repository that pre-commit can clone, with a place for what it builds."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "dvlite", folder / "dvlite", ignore=shutil.ignore_patterns("__pycache__"))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    rev = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    return folder, rev, tmp_path_factory.mktemp("home")


@pytest.fixture
def framed(published, tmp_path, monkeypatch):
    """A project whose hooks pre-commit runs."""
    url, rev, home = published
    if not PROGRAM.exists():
        pytest.skip("no pre-commit here")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(home))
    project = Hooked(make_project(tmp_path / "work").root)
    project.write({".pre-commit-config.yaml": CONFIG.format(url=url, rev=rev)})
    subprocess.run(
        [PROGRAM, "install", "--install-hooks"], cwd=project.root, check=True, capture_output=True, timeout=600
    )
    project.dv("hooks", "install", "-q")
    project.write(FILES, "data")
    project.dv("add", "-q", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    return project


def test_the_config_covers_exactly_its_events(framed):
    found = {hook["event"]: hook["state"] for hook in framed.json("hooks", "status")["hooks"]}
    assert found == {
        "pre-commit": "covered", "pre-merge-commit": "covered", "post-checkout": "covered", "post-merge": "covered", "post-rewrite": "covered",
        "pre-push": "covered", "post-commit": "installed", "post-index-change": "installed",
    }  # fmt: skip
    assert "dvlite hook" not in (framed.root / ".git/hooks/pre-commit").read_text()


def test_the_work_of_a_day(framed, tmp_path):
    """Sync fails when it updated, as fixers do, and passes the second time; data follows a switch; a push sends data first."""
    framed.git("switch", "-q", "-c", "side")
    framed.write({"data/a": "side", "code.py": "x"})
    framed.git("add", "code.py")
    done = framed.try_git("commit", "-m", "side")
    assert (
        done.returncode == 1 and "its pointer is updated; the same 'git commit' once more" in done.stdout + done.stderr
    )
    framed.git("commit", "-q", "-m", "side")
    framed.git("switch", "-q", "main")
    assert framed.data() == FILES
    framed.git("merge", "-q", "side")
    assert framed.data() == {**FILES, "a": "side"}
    assert framed.dv("status").startswith("clean")
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    framed.git("remote", "add", "origin", str(tmp_path / "bare"))
    done = framed.try_git("push", "-q", "origin", "main")
    assert done.returncode == 1 and "dvlite remote add origin URL" in done.stdout + done.stderr
    framed.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    framed.git("commit", "-qam", "remote")
    framed.git("push", "-q", "origin", "main")
    assert list((tmp_path / "remote/packs").iterdir())


def test_a_merge_takes_no_unsaved_data_along(framed):
    framed.git("switch", "-q", "-c", "side")
    framed.write({"code.py": "x"})
    framed.git("add", "code.py")
    framed.git("commit", "-q", "-m", "side")
    framed.git("switch", "-q", "main")
    framed.git("commit", "-q", "--allow-empty", "-m", "main")
    framed.write({"data/a": "unsaved"})
    framed.git("merge", "-q", "side", "-m", "m")
    assert framed.git("diff", "--cached", "--name-only") == "" and framed.pointer_of("HEAD") == framed.pointer_of(
        "side"
    )
    assert framed.data()["a"] == "unsaved"


def test_pointers_with_unstaged_edits_are_not_judged(framed):
    """pre-commit sets unstaged edits aside while its hooks run: then the pointer is not what data was brought in line with."""
    framed.write({"data/a": "changed"})
    framed.dv("add", "-q", "--no-stage", "data")
    edited = (framed.root / "data.dvlite").read_bytes()
    framed.write({"code.py": "x"})
    framed.git("add", "code.py")
    framed.git("commit", "-q", "-m", "code")
    assert (framed.root / "data.dvlite").read_bytes() == edited
    assert framed.data()["a"] == "changed"
    assert framed.pointer_of("HEAD") == framed.pointer_of("HEAD~1")


def test_large_files_block(framed):
    with (framed.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\ngit_max_size = "10 kB"\n')
    framed.write({"large.bin": os.urandom(20_000)})
    framed.git("add", "large.bin", "dvlite.toml")
    done = framed.try_git("commit", "-m", "large")
    assert done.returncode == 1 and "dvlite add large.bin" in done.stdout + done.stderr


def test_a_config_without_our_ids_gets_the_offer(tmp_path):
    project = Hooked(make_project(tmp_path / "p").root)
    project.write({".pre-commit-config.yaml": "repos: []\n"})
    assert "dvlite help hooks" in project.dv("hooks", "install")
    assert project.json("hooks", "status")["is_installed"]
