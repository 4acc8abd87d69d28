"""The seam to Git, against the real one."""

import subprocess

import pytest

from dvlite import git
from dvlite.errors import DvliteError


@pytest.fixture
def history(tmp_path):
    """A plain Git repository, and a way to commit one file's content."""
    root = tmp_path / "history"
    subprocess.run(["git", "init", "-q", "-b", "main", root], check=True)

    class History:
        repository = git.discover(root)

        def git(self, *arguments):
            return subprocess.run(
                ["git", *arguments], cwd=root, check=True, capture_output=True, text=True
            ).stdout.strip()

        def write(self, path, text):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            self.git("add", "-A")
            return self.git("hash-object", path)

        def commit(self, path, text):
            blob = self.write(path, text)
            self.git("commit", "-q", "-m", text)
            return blob

    return History()


def test_all_versions_are_found_in_folders_too(history):
    blobs = [
        history.commit(path, text) for path in ("x.p", "a/x.p", "a/b c/é\n.p") for text in (f"{path} 1", f"{path} 2")
    ]
    assert git.blobs_in(history.repository, ["--all"], ".p").keys() == set(blobs)
    assert git.blobs_of(history.repository, ["--all"], "a/b c/é\n.p") == blobs[:3:-1]
    assert git.blobs_in(history.repository, ["HEAD", "--not", "HEAD~1"], ".p") == {blobs[-1]: "a/b c/é\n.p"}


def test_a_version_that_only_a_merge_or_a_stash_has_is_found(history):
    history.commit("a/x.p", "one")
    history.git("switch", "-q", "-c", "side")
    history.commit("a/y.p", "side")
    history.git("switch", "-q", "main")
    history.commit("a/z.p", "main")
    history.git("merge", "-q", "--no-commit", "side")
    evil = history.commit("a/x.p", "of the merge alone")
    assert evil in git.blobs_in(history.repository, ["--all"], ".p")
    stashed = history.write("a/x.p", "stashed")
    history.git("stash", "-q")
    assert stashed in git.blobs_in(history.repository, ["--all"], ".p")


def test_a_shallow_clone_has_what_its_commits_have(history, tmp_path):
    blobs = [history.commit("a/x.p", text) for text in ("one", "two")]
    other = history.commit("a/y.p", "other")
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{history.repository.root}", tmp_path / "shallow"], check=True
    )
    assert git.blobs_in(git.discover(tmp_path / "shallow"), ["--all"], ".p").keys() == {blobs[1], other}


def test_what_is_begun_says_and_fails_as_what_is_run(history, monkeypatch):
    call = git.call
    assert call.begin(history.repository, "rev-parse", "--show-toplevel")() == call.run(
        history.repository, "rev-parse", "--show-toplevel"
    )
    said = []
    for way in (call.run, lambda *words: call.begin(*words)()):
        with pytest.raises(DvliteError, match=r"^git cat-file: ") as caught:
            way(history.repository, "cat-file", "-p", "nothing")
        said.append(caught.value.message)
    assert said[0] == said[1]
    assert call.begin(history.repository, "config", "--get", "no.such", is_checked=False)() == b""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DvliteError, match="not on the PATH"):
        call.begin(history.repository, "status")


def test_before_the_first_commit_all_is_staged(history):
    asked = git.begin_staged(history.repository)
    assert asked() == []
    history.write("a", "text")
    assert [one.path for one in git.staged(history.repository)] == ["a"]


@pytest.mark.parametrize("count", [3, 700])
def test_many_files_are_staged_as_few_are(history, count):
    """New ones, ignored ones, changed ones, those that are gone, and one that was a folder."""
    root = history.repository.root
    names = [f"d/f {number}" for number in range(count)]
    for name in names[::2]:
        history.write(name, "old")
    history.write("was/folder", "old")
    history.commit("one", "first")
    (root / ".gitignore").write_text("*\n")
    for name in names[1:]:
        (root / name).write_text(f"new {name}")
    (root / names[0]).unlink()
    (root / "was/folder").unlink()
    (root / "was").rmdir()
    (root / "was").write_text("file")
    assert set(git.unstaged(history.repository, [*names, "was", "one"])) == {*names[1:], "was"}
    git.stage(history.repository, [*names, "was"])
    assert git.unstaged(history.repository, [*names, "was", "one"]) == []
    assert set(history.git("ls-files").split("\n")) == {*names[1:], "one", "was"}
    assert git.tracked_below(history.repository, [*names, "d", "nowhere"]) == sorted(names[1:])
