"""Data follows what Git does: every row of the Git side, with the real git."""

import os
import shutil
import subprocess

import pytest

from tests.git.conftest import FILES, Hooked


def is_clean(work):
    return work.dv("status").startswith("clean")


def test_a_switch_brings_the_branchs_data(forked):
    assert forked.data() == {**FILES, "a": "main"}
    forked.git("switch", "-q", "side")
    assert forked.data() == {**FILES, "b": "side"} and is_clean(forked)
    forked.git("checkout", "-q", "--detach", "HEAD~1")
    assert forked.data() == FILES and is_clean(forked)


def test_reset_hard_then_commit_does_not_bring_the_old_data_back(work):
    work.save("two", {"a": "two"})
    work.git("reset", "-q", "--hard", "HEAD~1")
    assert work.data() == FILES
    work.write({"code.py": "x"})
    work.git("add", "code.py")
    work.git("commit", "-q", "-m", "code")
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~1")


def test_unsaved_data_stays_and_is_named_and_the_next_commit_does_not_undo_the_switch(forked):
    forked.write({"b": "unsaved"}, "data")
    said = forked.git("switch", "side")
    assert "kept 'data/b'" in said
    assert forked.data()["b"] == "unsaved"
    said = forked.git("commit", "-q", "--allow-empty", "-m", "nothing")
    assert "its pointer stays" in said
    assert forked.pointer_of("HEAD") == forked.pointer_of("HEAD~1")


def test_a_fast_forward_and_a_true_merge(forked):
    forked.git("switch", "-q", "-c", "behind", "HEAD~1")
    forked.git("merge", "-q", "main")
    assert forked.data()["a"] == "main"
    forked.git("merge", "-q", "-m", "both", "side")
    assert forked.data() == {**FILES, "a": "main", "b": "side"} and is_clean(forked)


def test_pull_brings_what_is_here_and_names_what_is_not(forked, tmp_path):
    clone = forked.clone()
    said = clone.git("switch", "side")  # no hooks here yet
    assert "dvlite" not in said
    assert "hooks are not installed in this clone" in clone.dv("status")
    assert "hooks" not in clone.dv("status")
    clone.dv("hooks", "install", "-q")
    said = clone.git("switch", "main")
    assert "not here yet: data -> run 'dvlite pull'" in said
    assert said.count("not here yet") == 1
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q")
    clone.git("pull", "-q")
    clone.dv("pull", "-q")
    assert clone.data() == forked.data()
    forked.save("three", {"a": "three"})
    forked.dv("push", "-q")
    assert "run 'dvlite pull'" in clone.git("pull", "-q")
    clone.git("config", "dvlite.hooks.fetch", "true")
    forked.save("four", {"b": "four"})
    forked.dv("push", "-q")
    assert "dvlite" not in clone.git("pull", "-q")
    assert clone.data() == forked.data() and is_clean(clone)


def test_a_hook_fetches_from_no_remote_that_was_never_used(forked, tmp_path):
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q")
    clone = forked.clone()
    clone.dv("hooks", "install", "-q")
    clone.git("config", "dvlite.hooks.fetch", "true")
    said = clone.git("switch", "-q", "--detach", "HEAD~1")
    said += clone.git("switch", "-q", "side")
    assert "no remote was used from this clone" in said
    assert clone.data() == {}


def test_rebase_without_conflict(forked):
    forked.git("switch", "-q", "side")
    forked.git("rebase", "-q", "main")
    assert forked.data() == {**FILES, "a": "main", "b": "side"} and is_clean(forked)


def test_a_rebase_that_is_a_fast_forward(forked):
    forked.git("switch", "-q", "-c", "behind", "HEAD~1")
    forked.git("rebase", "-q", "main")
    assert forked.data()["a"] == "main" and is_clean(forked)


def test_rebase_with_conflict_and_continue(forked):
    forked.git("switch", "-q", "side")
    forked.save("side too", {"a": "side"})
    said = forked.git("rebase", "main", code=1)
    assert "CONFLICT (data): 'data/a'" in said
    forked.dv("checkout", "--theirs", "data/a")  # in a rebase, theirs is the commit that is being moved
    forked.git("rebase", "--continue", env={"GIT_EDITOR": "true"})
    assert forked.data() == {**FILES, "a": "side", "b": "side"} and is_clean(forked)


def test_rebase_abort_leaves_data_as_it_was(forked):
    forked.git("switch", "-q", "side")
    forked.save("side too", {"a": "side"})
    before = forked.data()
    forked.git("rebase", "main", code=1)
    forked.git("rebase", "--abort")
    assert forked.data() == before and is_clean(forked)


def test_interactive_rebase(forked):
    forked.save("more", {"sub/c": "more"})
    forked.save("and more", {"sub/d": "and more"})
    editor = "sed -i -e 1s/pick/edit/ -e 2s/pick/drop/"
    forked.git("rebase", "-q", "-i", "HEAD~2", env={"GIT_SEQUENCE_EDITOR": editor})
    forked.git("rebase", "--continue", env={"GIT_EDITOR": "true"})
    assert forked.data() == {**FILES, "a": "main", "sub/c": "more"} and is_clean(forked)


def test_the_apply_backend_of_rebase(forked):
    forked.git("switch", "-q", "side")
    forked.write({"code": "x"})
    forked.git("add", "code")
    forked.git("commit", "-q", "-m", "code")
    forked.git("rebase", "-q", "--apply", "--onto", "main", "HEAD~1")
    assert forked.data() == {**FILES, "a": "main"} and is_clean(forked)


def test_stash_and_pop(work):
    work.write({"a": "stashed"}, "data")
    work.dv("add", "-q", "data")
    work.git("stash", "-q")
    assert work.data() == FILES and is_clean(work)
    work.git("stash", "pop", "-q")
    assert work.data() == {**FILES, "a": "stashed"}
    assert work.json("status")["paths"][0]["changes"] == []


def test_cherry_pick_and_revert(forked):
    forked.git("cherry-pick", "side")
    assert forked.data() == {**FILES, "a": "main", "b": "side"} and is_clean(forked)
    forked.git("revert", "--no-edit", "HEAD")
    assert forked.data() == {**FILES, "a": "main"} and is_clean(forked)
    forked.git("cherry-pick", "--no-commit", "side")
    assert forked.data()["b"] == "side"


def test_a_sequence_of_cherry_picks(forked):
    forked.git("switch", "-q", "side")
    forked.save("more", {"sub/c": "more"})
    forked.git("switch", "-q", "main")
    forked.git("cherry-pick", "side~1", "side")
    assert forked.data() == {**FILES, "a": "main", "b": "side", "sub/c": "more"} and is_clean(forked)


def test_bisect_run_sees_each_commits_data(work):
    for number in range(6):
        work.save(f"{number}", {"a": f"{number}"})
    script = work.root.parent / "test.sh"
    script.write_text(f"#!/bin/sh\ntest $(cat {work.root}/data/a) -lt 3\n")
    script.chmod(0o755)
    work.git("bisect", "start", "HEAD", "HEAD~5")
    said = work.git("bisect", "run", script)
    bad = next(line.split()[0] for line in said.splitlines() if "is the first bad commit" in line)
    assert work.git("log", "-1", "--format=%s", bad).strip() == "3"
    work.git("bisect", "reset")
    assert work.data()["a"] == "5" and is_clean(work)


def test_amend_takes_new_data_along(work):
    work.save("two", {"a": "two"})
    work.write({"a": "three"}, "data")
    work.git("commit", "-q", "--amend", "--no-edit")
    assert is_clean(work)
    work.git("switch", "-q", "--detach", "HEAD~1")
    work.git("switch", "-q", "main")
    assert work.data()["a"] == "three"


def test_a_new_worktree_gets_its_data(forked, tmp_path):
    forked.git("worktree", "add", "-q", tmp_path / "other", "side")
    other = Hooked(tmp_path / "other")
    assert other.data() == {**FILES, "b": "side"} and is_clean(other)
    other.save("in the other", {"b": "other"})
    assert forked.data() == {**FILES, "a": "main"}
    forked.git("merge", "-q", "-m", "m", "side")
    assert forked.data() == {**FILES, "a": "main", "b": "other"}


def test_a_submodule_follows(work, tmp_path):
    above = tmp_path / "above"
    subprocess.run(["git", "init", "-q", "-b", "main", above], check=True)
    outer = Hooked(above)
    outer.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", work.root, "inner")
    inner = Hooked(above / "inner")
    inner.git("config", "dvlite.store", str(work.root / ".git/dvlite"))
    inner.dv("hooks", "install", "-q")
    inner.dv("checkout", "-q")
    assert inner.data() == FILES
    inner.save("inside", {"a": "inside"})
    inner.git("switch", "-q", "--detach", "HEAD~1")
    assert inner.data() == FILES and is_clean(inner)


def test_a_shallow_clone(forked, tmp_path):
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q", "--all")
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{forked.root}", tmp_path / "shallow"], check=True)
    shallow = Hooked(tmp_path / "shallow")
    shallow.dv("hooks", "install", "-q")
    shallow.dv("pull", "-q")
    assert shallow.data() == forked.data()
    shallow.save("from a shallow clone", {"a": "shallow"})
    shallow.git("push", "-q", "origin", "HEAD:new")
    forked.git("merge", "-q", "new")
    assert "Run 'dvlite pull'" in forked.dv("checkout", code=10)
    forked.dv("pull", "-q")
    assert forked.data()["a"] == "shallow"


def test_a_sparse_checkout_leaves_no_data_behind_its_pointer(work):
    work.write({"x": "x"}, "far")
    work.dv("add", "-q", "far")
    work.write({"y": "y"}, "deep/er")
    work.dv("add", "-q", "deep/er")
    work.git("commit", "-q", "-m", "more")
    work.git("sparse-checkout", "set", "--no-cone", "/data.dvlite", "/dvlite.toml", "/.gitignore")
    work.dv("checkout", "-q")
    assert work.data() == FILES and not (work.root / "deep/er/y").exists()
    work.git("sparse-checkout", "disable")
    work.dv("checkout", "-q")
    assert (work.root / "deep/er/y").read_text() == "y" and is_clean(work)


def test_clean_and_restore(work):
    work.git("clean", "-xfdq")
    assert work.data() == {}
    work.git("commit", "-q", "--allow-empty", "-m", "absent is not deleted")
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~1")
    work.dv("checkout", "-q")
    assert work.data() == FILES and is_clean(work)


def test_a_switch_after_clean_brings_everything(forked):
    forked.git("clean", "-xfdq")
    forked.git("switch", "-q", "side")
    assert forked.data() == {**FILES, "b": "side"} and is_clean(forked)


def test_a_renamed_pointer_takes_its_data_along(work):
    work.git("mv", "data.dvlite", "Data.dvlite")
    work.write({".gitignore": "/Data\n"})
    work.git("commit", "-q", "-a", "-m", "renamed in case")
    work.dv("checkout", "-q")
    assert {path: data.decode() for path, data in work.read("Data").items()} == FILES
    assert not (work.root / "data").exists()
    work.git("switch", "-q", "--detach", "HEAD~1")
    assert work.data() == FILES and not (work.root / "Data").exists() and is_clean(work)


@pytest.mark.parametrize("command", [["checkout", "HEAD~1", "--"], ["restore", "-s", "HEAD~1"]])
def test_a_checkout_of_the_pointer_alone_is_followed(work, command):
    work.save("two", {"a": "two"})
    work.git(*command, "data.dvlite")
    assert work.data() == FILES


def test_data_at_another_rev_is_kept_out_of_commits_and_stays(work):
    work.save("two", {"a": "two"})
    work.save("three", {"a": "three"})
    work.dv("checkout", "-q", "--rev", "HEAD~1", "data")
    work.git("commit", "-q", "--allow-empty", "-m", "four")
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~1")
    work.write({"b": "edited at that rev"}, "data")
    assert "its pointer stays" in work.git("commit", "-q", "--allow-empty", "-m", "five")
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~2")
    assert "has the data of HEAD~1" in work.git("switch", "-q", "--detach", "HEAD~4")
    assert work.data() == {**FILES, "a": "two", "b": "edited at that rev"}


def test_data_at_another_rev_is_ordinary_again_where_the_pointer_comes_to_it(work):
    work.save("two", {"a": "two"})
    work.dv("checkout", "-q", "--rev", "HEAD~1", "data")
    work.git("switch", "-q", "--detach", "HEAD~1")
    assert is_clean(work)
    work.save("from here", {"b": "new"})
    assert is_clean(work)
    work.git("switch", "-q", "main")
    assert work.data() == {**FILES, "a": "two"}


def test_what_was_never_asked_for_stays_absent(forked, tmp_path):
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q", "--all")
    clone = forked.clone()
    clone.dv("hooks", "install", "-q")
    clone.dv("pull", "-q", "data/a")
    clone.dv("fetch", "-q", "--rev", "origin/side")
    assert clone.data() == {"a": "main"}
    clone.git("switch", "-q", "side")
    assert clone.data() == {"a": "a"}


def test_a_hook_does_nothing_where_there_is_no_dvlite_toml(work, tmp_path):
    plain = tmp_path / "plain"
    subprocess.run(["git", "init", "-q", plain], check=True)
    shutil.copytree(work.root / ".git/hooks", plain / ".git/hooks", dirs_exist_ok=True)
    other = Hooked(plain)
    other.write({"x": "x"})
    other.git("add", "x")
    done = other.try_git("commit", "-q", "-m", "x", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0 and done.stderr == ""


def test_git_goes_on_where_dvlite_is_not_on_the_path(forked, tmp_path):
    path = {"PATH": "/usr/bin:/bin"}
    done = forked.try_git("switch", "-q", "side", env=path)
    assert done.returncode == 0 and "dvlite: not on the PATH" in done.stderr
    forked.write({"code.py": "x"})
    forked.git("add", "code.py")
    done = forked.try_git("commit", "-q", "-m", "code", env=path)
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    done = forked.try_git("push", "-q", tmp_path / "bare", "side", env=path)
    assert done.returncode == 1 and "must be pushed first" in done.stderr
    forked.git("switch", "-q", "--orphan", "empty")
    forked.write({"dvlite.toml": (forked.git("show", "main:dvlite.toml")), "code.py": "y"})
    forked.git("add", "-f", "dvlite.toml", "code.py")
    forked.git("commit", "-q", "-m", "no data")
    done = forked.try_git("push", "-q", tmp_path / "bare", "empty", env=path)
    assert done.returncode == 0, done.stderr
    done = forked.try_git("merge", "-q", "--allow-unrelated-histories", "-m", "m", "main", env=path)
    assert os.path.exists(forked.root / "data.dvlite")


def test_nothing_in_a_cloned_repository_is_run(forked, tmp_path):
    """Pointers, config, attributes and hooks folders that a repository brings along start no program of its own."""
    trap = tmp_path / "sprung"
    forked.write({
        ".gitattributes": "*.dvlite merge=evil diff=evil\n", ".githooks/post-checkout": f"#!/bin/sh\ntouch {trap}\n",
        "dvlite": f"#!/bin/sh\ntouch {trap}\n", "dvlite.py": f"open({str(trap)!r}, 'w')\n", "sitecustomize.py": f"open({str(trap)!r}, 'w')\n",
    })  # fmt: skip
    for name in ("dvlite", ".githooks/post-checkout"):
        (forked.root / name).chmod(0o755)
    forked.git("add", "-A")
    forked.git("commit", "-q", "-m", "traps")
    clone = forked.clone()
    subprocess.run(["dvlite", "hooks", "install", "-q"], cwd=clone.root, check=True)
    subprocess.run(["dvlite", "config", "store", forked.root / ".git/dvlite"], cwd=clone.root, check=True)
    subprocess.run(["dvlite", "pull"], cwd=clone.root, check=True)
    clone.git("switch", "-q", "side")
    clone.git("switch", "-q", "main")
    clone.git("merge", "-m", "m", "side")
    clone.git("log", "-p")
    assert clone.data()["b"] == "side"
    assert not trap.exists()


def test_data_that_a_sparse_checkout_took_away_comes_back_with_its_pointer(work):
    work.write({"code/c": "code"})
    work.write({"m": "far away"}, "far")
    work.dv("add", "-q", "far/m")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "far")
    work.git("sparse-checkout", "set", "--cone", "code")
    assert not (work.root / "far/m").exists()
    work.git("sparse-checkout", "disable")
    assert (work.root / "far/m").read_text() == "far away"
    assert work.dv("status").startswith("clean")
