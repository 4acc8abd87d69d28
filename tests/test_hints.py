"""A hint leads on: what it says can be done, and no hint leads back to where it was said."""

import errno
import shutil
import subprocess

import pytest

from dvlite.errors import explain
from tests.ops.test_fsck import damage


def test_one_bad_path_stops_no_good_one(pushed):
    files = sorted(pushed.read("data"))
    good, other = f"data/{files[0]}", f"data/{files[1]}"
    done = pushed.run("push", "nope", "data/nope", "data")
    assert done.returncode == 2 and done.stderr.count("nope'") >= 2 and "everything is on 'origin'" not in done.stdout
    clone = pushed.clone()
    done = clone.run("fetch", "nope", "data/nope", good)
    assert done.returncode == 2 and "fetched from 'origin': 1 object" in done.stdout
    assert done.stderr.count("there is no 'data/nope'") == 1
    clone.dv("checkout", "data/nope", good, code=2)
    assert (clone.root / good).exists() and not (clone.root / other).exists()
    done = clone.run("pull", "nope", "data/nope", other)
    assert done.returncode == 2 and (clone.root / other).exists()
    assert done.stderr.count("there is no 'data/nope'") == 1 and done.stderr.count("'nope' is not tracked") == 1
    done = clone.run("status", "data/nope", good)
    assert done.returncode == 1 and done.stderr.count("data/nope") == 1


def test_a_push_of_a_bad_path_alone_sends_nothing(pushed):
    pushed.write({"data/new": "new"})
    pushed.dv("add", "data")
    assert pushed.json("push", "data/nope", code=2)["pushed"] == 0
    assert pushed.json("push", "data/new")["pushed"] == 1


def test_pull_heals_what_is_corrupt_here_at_once(pushed):
    before = pushed.read("data")
    shutil.rmtree(pushed.root / "data")
    for pack in pushed.packs():
        damage(pack, "flip middle")
    done = pushed.run("pull")
    assert done.returncode == 0, done.stderr
    assert pushed.read("data") == before


def test_a_remote_where_none_ever_was_is_named(project, tmp_path):
    project.dv("remote", "add", "origin", str(tmp_path / "mis\x1btyped"))
    project.write({"a": "a"}, "data")
    project.dv("add", "data")
    project.commit("data")
    (tmp_path / "mis\x1btyped/another/tool").mkdir(parents=True)
    done = project.clone().run("pull")
    assert done.returncode == 10
    assert "No dvlite remote lies at" in done.stderr and "dvlite push --branches" in done.stderr
    assert "\x1b" not in done.stderr
    project.dv("push")
    assert "No dvlite remote" not in project.clone("other").run("pull").stderr


def test_a_remote_that_vanished_is_said_and_not_begun_in_vain(pushed, tmp_path):
    clone = pushed.clone()
    clone.dv("pull")
    shutil.rmtree(tmp_path / "remote")
    shutil.rmtree(clone.root / ".git/dvlite/packs")
    shutil.rmtree(clone.root / ".git/dvlite/objects")
    shutil.rmtree(clone.root / "data")
    done = clone.run("pull")
    assert done.returncode == 13 and "is empty, and this clone has seen a dvlite remote there" in done.stderr
    clone.dv("push", code=10)
    assert not (tmp_path / "remote").exists()
    assert "dvlite push --all" in pushed.dv("push")  # it is begun anew, and what may lack is said
    assert "push --all" not in pushed.dv("push")
    clone.dv("pull")


def test_an_ignored_file_in_the_way_is_not_said_to_give_way_to_force(pushed):
    name = sorted(pushed.read("data"))[0]
    (pushed.root / ".dvliteignore").write_text("*.log\n")
    (pushed.root / "data" / name).unlink()
    pushed.write({f"data/{name}/a.log": "ignored"})
    said = pushed.dv("checkout", "--force", code=14)
    assert "move it away" in said and "checkout --force" not in said.split("move it away")[1]
    shutil.rmtree(pushed.root / "data" / name)
    pushed.dv("checkout")


def test_a_config_that_head_has_is_not_made_anew(pushed):
    (pushed.root / "dvlite.toml").unlink()
    for command in ("status", "init"):
        assert "git checkout HEAD -- dvlite.toml" in pushed.dv(command, code=2)
    pushed.git("checkout", "HEAD", "--", "dvlite.toml")
    pushed.dv("status")


def test_repair_that_can_do_no_more_says_who_can(pushed):
    shutil.rmtree(pushed.root / "data")
    for pack in pushed.packs():
        pack.unlink()
    shutil.move(pushed.root.parent / "remote", pushed.root.parent / "gone")
    assert "dvlite fsck --repair" in pushed.dv("fsck", code=10)
    said = pushed.dv("fsck", "--repair", code=10)
    assert "Run 'dvlite fsck --repair" not in said and "dvlite add" in said


def test_a_group_alone_shows_its_commands(project):
    done = project.run("remote")
    assert done.returncode == 2 and "\n  add " in done.stderr and "error" not in done.stderr


@pytest.mark.parametrize("url", ["s3://", "gs:///", "sftp://"])
def test_a_url_without_a_place_is_refused(project, url):
    assert "names no bucket or server" in project.dv("remote", "add", "origin", url, code=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.replace(b"\n", b"\r\n"), "CRLF"),
        (lambda data: b"# mine\n" + data, "a comment in the head"),
        (lambda data: b"", "line 1"),
    ],
)
def test_a_pointer_that_somebody_edited_is_explained(pushed, change, said):
    path = pushed.root / "model.bin.dvlite"
    path.write_bytes(change(path.read_bytes()))
    for command in (["status"], ["cat", "model.bin"], ["pull", "model.bin"]):
        done = pushed.run(*command)
        assert done.returncode == 1 and said in done.stderr and "git checkout -- model.bin.dvlite" in done.stderr, (
            command
        )


def test_pointers_that_a_merge_put_into_each_other(project):
    project.commit("zero")
    project.git("switch", "-qc", "other")
    project.write({"data/sub/a": "1"})
    project.dv("add", "data/sub")
    project.commit("sub")
    project.git("switch", "-q", "main")
    project.write({"data/b": "2"})
    shutil.rmtree(project.root / "data/sub", ignore_errors=True)
    project.dv("add", "data")
    project.commit("all")
    project.git("merge", "-q", "other", "-m", "both")
    assert "git rm -- data.dvlite" in project.dv("status", code=1)
    project.git("rm", "-q", "--", "data.dvlite")
    project.dv("checkout")
    assert "clean" in project.dv("status")
    assert (project.root / "data/sub/a").read_text() == "1" and (project.root / "data/b").read_text() == "2"


def test_a_gitignore_that_is_a_folder_is_named(project):
    project.write({"a": "1", ".gitignore/x": "y"})
    said = project.dv("add", "a", code=1)
    assert ".gitignore" in said and "directory" in said


def test_the_line_for_a_name_with_a_newline_is_narrow(project):
    project.write({"a\nb": "1", "a?b": "2", "axb": "3"})
    project.dv("add", "a\nb")
    ignored = subprocess.run(
        ["git", "status", "--porcelain", "-z"], cwd=project.root, capture_output=True, text=True, check=True
    ).stdout
    assert "axb" in ignored and "a?b" in ignored and "?? a\nb\0" not in ignored


def test_what_the_system_says_names_the_path_and_a_hint_that_can_be_pasted(pushed):
    (pushed.root / "dvlite.toml").unlink()
    (pushed.root / "dvlite.toml").mkdir()
    assert f"'{pushed.root}/dvlite.toml': is a directory" in pushed.dv("status", code=1)
    refused = explain(PermissionError(errno.EACCES, "", "a b"))
    assert refused.message == "'a b': permission denied" and "ls -ld 'a b'" in refused.hint
    assert "Free some space" in explain(OSError(errno.ENOSPC, ""), "x", "can't write").hint
