"""What testers broke once: each stays mended."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import make_project
from tests.git.conftest import FILES, Hooked
from tests.git.test_hooks import hooks_of, shared  # noqa: F401  (a fixture)


def is_clean(work):
    return work.dv("status").startswith("clean")


@pytest.mark.parametrize("takes_away", ["ours", "theirs"])
def test_a_folder_taken_away_leaves_what_the_other_side_put_into_it(work, takes_away):
    work.git("switch", "-q", "-c", "gone")
    shutil.rmtree(work.root / "data/sub")
    work.save("gone")
    work.git("switch", "-q", "main")
    work.save("new", {"sub/new": "new", "sub/deep/er": "new"})
    if takes_away == "ours":
        work.git("switch", "-q", "gone")
    work.git("merge", "-q", "-m", "m", "gone" if takes_away == "theirs" else "main")
    assert work.data() == {"a": "a", "b": "b", "sub/new": "new", "sub/deep/er": "new"} and is_clean(work)


def test_a_pointer_that_comes_back_brings_its_data_back(work):
    work.git("switch", "-q", "-c", "without")
    work.git("rm", "-q", "data.dvlite")
    shutil.rmtree(work.root / "data")
    work.git("commit", "-q", "-m", "without")
    work.git("switch", "-q", "main")
    assert work.data() == FILES and is_clean(work)


def test_history_from_before_dvlite(tmp_path):
    project = Hooked(tmp_path / "p")
    subprocess.run(["git", "init", "-q", "-b", "main", project.root], check=True)
    project.write(FILES, "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "in Git")
    project.dv("init", "-q")
    project.git("rm", "-rq", "--cached", "data")
    project.dv("add", "-q", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "in dvlite")
    project.git("checkout", "-q", "HEAD~1")
    assert project.data() == FILES and project.git("status", "--porcelain") == ""
    project.git("switch", "-q", "main")
    assert project.data() == FILES and is_clean(project)


def test_files_that_git_itself_tracks_at_a_commit_are_left_alone(tmp_path):
    project = Hooked(make_project(tmp_path / "p").root)
    project.dv("hooks", "install", "-q")
    project.write(FILES, "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "in Git")
    project.git("rm", "-rq", "--cached", "data")
    project.dv("add", "-q", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "in dvlite")
    project.git("checkout", "-q", "HEAD~1")
    assert project.data() == FILES and project.git("status", "--porcelain") == ""


def test_a_commit_never_records_that_everything_is_gone_by_itself(work):
    """Git took the whole folder away (as a sparse checkout does), and something new was put there since."""
    shutil.rmtree(work.root / "data")
    said = work.try_git("commit", "-q", "--allow-empty", "-m", "x").stderr
    work.write({"data/new": "new", "code.py": "x"})
    work.git("add", "code.py")
    said = work.git("commit", "-q", "-m", "code")
    assert "its pointer stays" in said
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~1")
    work.dv("checkout", "-q")
    assert work.data() == {**FILES, "new": "new"}


def test_a_renamed_tracked_path_there_and_back(work):
    work.git("mv", "data.dvlite", "other.dvlite")
    (work.root / "data").rename(work.root / "other")
    work.write({".gitignore": "/other\n"})
    work.git("commit", "-q", "-a", "-m", "renamed")
    work.git("switch", "-q", "--detach", "HEAD~1")
    assert work.data() == FILES
    work.git("switch", "-q", "main")
    assert {path: data.decode() for path, data in work.read("other").items()} == FILES
    assert is_clean(work)


@pytest.mark.parametrize("how", ["cherry-pick", "reset", "checkout", "squash"])
def test_a_tracked_path_that_is_new_here_comes_with_its_data(work, how):
    work.git("switch", "-q", "-c", "more")
    work.write({"x": "x"}, "more")
    work.dv("add", "-q", "more")
    work.git("commit", "-q", "-m", "more")
    work.git("switch", "-q", "main")
    assert not (work.root / "more").exists()
    commands = {
        "cherry-pick": ["cherry-pick", "more"], "reset": ["reset", "-q", "--hard", "more"],
        "checkout": ["checkout", "-q", "more", "--", "."], "squash": ["merge", "-q", "--squash", "more"],
    }  # fmt: skip
    work.git(*commands[how])
    assert (work.root / "more/x").read_text() == "x"


def test_a_stash_of_a_new_dataset_comes_back(work):
    work.write({"x": "x"}, "more")
    work.dv("add", "-q", "more")
    work.git("stash", "-q")
    assert not (work.root / "more").exists()
    work.git("stash", "pop", "-q")
    assert (work.root / "more/x").read_text() == "x"


def test_an_autostash_is_followed(forked):
    forked.write({"sub/c": "stashed"}, "data")
    forked.dv("add", "-q", "data")
    forked.git("rebase", "-q", "--autostash", "side")
    assert forked.data() == {**FILES, "a": "main", "b": "side", "sub/c": "stashed"}
    assert forked.json("status")["paths"][0]["changes"] == []


def test_after_git_am_which_calls_no_hook_of_ours_nothing_is_undone(work, tmp_path):
    work.save("two", {"a": "two"})
    work.git("format-patch", "-q", "-1", "-o", tmp_path / "patches")
    work.git("reset", "-q", "--hard", "HEAD~1")
    assert work.data() == FILES
    work.git("am", "-q", *sorted((tmp_path / "patches").iterdir()))
    assert {one["kind"] for one in work.json("status")["paths"][0]["changes"]} == {"outdated"}
    work.git("commit", "-q", "--allow-empty", "-m", "x")
    assert work.pointer_of("HEAD") == work.pointer_of("HEAD~1")
    work.dv("checkout", "-q")
    assert work.data() == {**FILES, "a": "two"} and is_clean(work)


def test_literal_pathspecs_do_not_switch_the_hooks_off(shared):  # noqa: F811
    env = {"GIT_LITERAL_PATHSPECS": "1"}
    shared.git("push", "-q", "origin", "main", env=env)
    assert list((shared.place / "packs").iterdir())
    shared.git("switch", "-q", "side", env=env)
    assert shared.data() == {**FILES, "b": "side"}
    shared.git("add", "-f", "data/a")
    shared.git("commit", "-q", "-m", "data in Git", code=1, env=env)


def test_a_push_from_a_branch_without_dvlite_toml_sends_the_data(shared):  # noqa: F811
    shared.git("switch", "-q", "--orphan", "pages")
    assert not (shared.root / "dvlite.toml").exists()
    shared.git("push", "-q", "origin", "main")
    assert list((shared.place / "packs").iterdir())
    shared.git("commit", "-q", "--allow-empty", "-m", "no data")
    shared.git("push", "-q", "origin", "pages")


def test_after_a_push_without_data_the_next_one_sends_it(shared):  # noqa: F811
    shared.git("push", "-q", "--no-verify", "origin", "main")
    assert not shared.place.exists()
    shared.write({"code.py": "x"})
    shared.git("add", "code.py")
    shared.git("commit", "-q", "-m", "code")
    assert "pushed to 'origin'" in shared.git("push", "-q", "origin", "main")
    assert list((shared.place / "packs").iterdir())


def test_an_upload_that_failed_never_passes_as_incomplete(shared):  # noqa: F811
    shared.git("config", "dvlite.allowIncompletePush", "true")
    shared.place.mkdir()
    (shared.place / "packs").write_text("a file in the way")
    shared.git("push", "-q", "origin", "main", code=1)
    assert shared.git("ls-remote", "origin") == ""


def test_without_dvlite_data_that_came_by_a_merge_is_seen(shared):  # noqa: F811
    shared.git("push", "-q", "origin", "main")
    shared.git("switch", "-q", "-c", "there")
    shared.save("there", {"sub/c": "x"})
    shared.git("revert", "--no-edit", "HEAD")
    shared.git("switch", "-q", "main")
    shared.git("merge", "-q", "--no-ff", "-m", "m", "there")
    done = shared.try_git("push", "origin", "main", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1 and "must be pushed first" in done.stderr


@pytest.mark.parametrize("spoil", ["newer", "absent"])
def test_a_merge_where_the_repository_cannot_be_opened_leaves_markers(forked, spoil):
    if spoil == "newer":
        with (forked.root / "dvlite.toml").open("a") as file:
            file.write("\n[future]\nx = 1\n")
    else:
        forked.git("rm", "-q", "--cached", "dvlite.toml")
        forked.git("commit", "-q", "-m", "no toml")
        (forked.root / "dvlite.toml").unlink()
    done = forked.try_git("merge", "-m", "m", "side")
    assert done.returncode == 1
    assert b"<<<<<<< ours" in (forked.root / "data.dvlite").read_bytes()


def test_a_commit_of_a_pointers_path_alone_is_made_the_second_time(work):
    work.write({"data/a": "changed"})
    assert "once more" in work.git("commit", "-m", "x", "data.dvlite", code=1)
    work.git("commit", "-q", "-m", "x", "data.dvlite")
    assert work.git("status", "--porcelain") == "" and is_clean(work)


def test_a_staged_link_inside_a_tracked_folder_blocks(work):
    with (work.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\nstale = "ignore"\n')
    (work.root / "data/link").symlink_to("a")
    work.git("add", "-f", "data/link", "dvlite.toml")
    assert "git rm --cached" in work.git("commit", "-q", "-m", "link", code=1)


def test_tags_of_blobs_and_links_named_like_pointers_are_no_pointers(shared):  # noqa: F811
    shared.git("push", "-q", "origin", "main")
    blob = shared.git("hash-object", "-w", "--stdin", stdin="hello").strip()
    shared.git("tag", "blob", blob)
    shared.git("push", "-q", "origin", "blob")
    (shared.root / "x.dvlite").symlink_to("README")
    shared.git("add", "x.dvlite")
    shared.git("commit", "-q", "-m", "a link")
    shared.git("push", "-q", "origin", "main")


# ---- hooks of others ------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """A project with a Python hook that was moved aside."""
    project = Hooked(make_project(tmp_path / "p").root)
    write_hook(project, "#!/usr/bin/env python3\nprint('one')\n")
    project.dv("hooks", "install", "-q")
    return project


def write_hook(project, text, mode=0o755):
    path = project.root / ".git/hooks/pre-commit"
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def contents(project):
    return {data for data, _ in hooks_of(project.root / ".git/hooks").values()}


@pytest.mark.parametrize("later", ["#!/usr/bin/env python3\nprint('two')\n", "#!/bin/sh\necho two\n"])
def test_a_hook_that_came_later_is_never_lost(kept, later):
    write_hook(kept, later)
    kept.dv("hooks", "install", "-q")
    assert b"#!/usr/bin/env python3\nprint('one')\n" in contents(kept)
    assert "two" in kept.git("commit", "--allow-empty", "-m", "x")
    kept.dv("hooks", "uninstall", "-q")
    assert (kept.root / ".git/hooks/pre-commit").read_text() == later
    assert b"#!/usr/bin/env python3\nprint('one')\n" in contents(kept)


def test_a_line_that_the_user_added_to_our_file_stays(kept):
    path = kept.root / ".git/hooks/pre-commit"
    with path.open("a") as file:
        file.write("echo mine\n")
    kept.dv("hooks", "uninstall", "-q")
    assert "echo mine" in path.read_text() and "dvlite hook" not in path.read_text()


@pytest.mark.parametrize(
    ("text", "mode"), [("#!/bin/sh\n", 0o755), ("#!/bin/sh\necho x\n", 0o700), ("#!/bin/sh\necho x\n", 0o744)]
)
def test_uninstall_restores_odd_files_and_modes_too(tmp_path, text, mode):
    project = Hooked(make_project(tmp_path / "p").root)
    write_hook(project, text, mode)
    attributes = project.root / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("*.x -text")
    before = hooks_of(project.root / ".git/hooks")
    project.dv("hooks", "install", "-q")
    project.dv("hooks", "uninstall", "-q")
    assert hooks_of(project.root / ".git/hooks") == before
    assert attributes.read_text() == "*.x -text"


def test_a_python_script_that_begins_as_shell_runs(tmp_path):
    project = Hooked(make_project(tmp_path / "p").root)
    write_hook(project, "#!/bin/sh\n'''exec' python3 \"$0\" \"$@\"\n' '''\nprint('python ran')\n")
    project.dv("hooks", "install", "-q")
    assert "python ran" in project.git("commit", "--allow-empty", "-m", "x")
    assert os.access(project.root / ".git/hooks/pre-commit", os.X_OK)


def test_a_file_that_git_leaves_out_of_the_worktree_is_not_staged_as_gone(project):
    project.write({"a": "1", "b": "2"})
    project.dv("add", "a", "b")
    project.commit("one")
    project.git("update-index", "--skip-worktree", ".gitignore")
    project.run("mv", "a", "c")
    assert "D  .gitignore" not in project.git("status", "--porcelain")


@pytest.mark.parametrize("count", [1, 400])
def test_in_a_sparse_checkout_no_ignore_file_loses_its_lines(project, count):
    project.write({"d/.gitignore": "secret.env\n", "d/1": "1", "e/1": "2"})
    project.dv("add", "d/1", "e/1")
    project.git("add", "-A")
    project.commit("one")
    project.git("sparse-checkout", "set", "--cone", "e")
    project.write({f"d/new{number}": str(number) for number in range(count)})
    project.run("add", *[f"d/new{number}" for number in range(count)])
    assert "secret.env" in project.git("show", ":d/.gitignore")
