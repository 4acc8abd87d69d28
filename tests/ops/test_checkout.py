import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import tree_of


@pytest.fixture
def versions(project):
    """A folder in two committed versions, the second checked out."""
    project.write({"same": "s", "changes": "1", "goes": "g", "d/deep": "x", "d/f": "file"}, "data")
    project.dv("add", "data")
    project.one = project.commit("one")
    (project.root / "data/goes").unlink()
    (project.root / "data/d/f").unlink()
    project.write({"changes": "2", "comes": "c", "d/f/now a folder": "y"}, "data")
    project.dv("add", "data")
    project.two = project.commit("two")
    project.first = {"same": b"s", "changes": b"1", "goes": b"g", "d/deep": b"x", "d/f": b"file"}
    project.second = {"same": b"s", "changes": b"2", "comes": b"c", "d/deep": b"x", "d/f/now a folder": b"y"}
    return project


def test_an_old_commit_brings_exactly_its_data_and_back(versions):
    for commit, data in (
        (versions.one, versions.first),
        (versions.two, versions.second),
        (versions.one, versions.first),
    ):
        versions.git("checkout", "-q", commit)
        versions.dv("checkout")
        assert versions.read("data") == data
        assert "clean" in versions.dv("status")


def test_what_is_missing_comes_back(versions):
    shutil.rmtree(versions.root / "data")
    versions.dv("checkout")
    assert versions.read("data") == versions.second
    (versions.root / "data/same").unlink()
    versions.dv("checkout")
    assert versions.read("data") == versions.second


def test_doing_it_again_touches_no_file(versions):
    before = {path: os.stat(versions.root / "data" / path) for path in versions.second}
    versions.dv("checkout")
    assert {path: os.stat(versions.root / "data" / path) for path in versions.second} == before


def test_unsaved_changes_are_kept_and_listed(versions):
    versions.write({"changes": "mine"}, "data")
    versions.git("checkout", "-q", versions.one)
    said = versions.dv("checkout", code=14)
    assert "kept data/changes" in said and "dvlite add" in said
    assert versions.read("data") == {**versions.first, "changes": b"mine"}  # all the rest is done


def test_new_files_are_never_removed(versions):
    versions.write({"mine": "m", "d/mine": "n"}, "data")
    versions.git("checkout", "-q", versions.one)
    versions.dv("checkout")
    assert versions.read("data") == {**versions.first, "mine": b"m", "d/mine": b"n"}


def test_an_edit_that_keeps_size_and_mtime_is_kept(versions):
    path = versions.root / "data/changes"
    before = path.stat()
    path.write_text("X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "modified: changes" in versions.dv("status")
    versions.git("checkout", "-q", versions.one)
    versions.dv("checkout", code=14)
    assert path.read_text() == "X"


def test_a_quoted_glob_reaches_into_tracked_folders(project):
    project.write({"data/a.csv": "a", "data/sub/b.csv": "b", "data/c.txt": "c", "other/d.csv": "d"})
    project.dv("add", "data", "other")
    for pattern, expected in (
        ("data/*.csv", {"data/a.csv", "data/sub/b.csv"}),  # as in Git, * matches a slash
        ("data/s*/?.csv", {"data/sub/b.csv"}),
        ("*/*.csv", {"data/a.csv", "data/sub/b.csv", "other/d.csv"}),
        ("da*", {"data/a.csv", "data/sub/b.csv", "data/c.txt"}),
    ):
        for folder in ("data", "other"):
            shutil.rmtree(project.root / folder, ignore_errors=True)
        project.dv("checkout", pattern)
        assert {path for path in project.read() if path.partition("/")[0] in ("data", "other")} == expected
        listed = {one["path"] for one in project.json("ls", pattern)["entries"]}
        assert listed == (expected if pattern != "da*" else {"data"})
    assert "is not tracked" in project.dv("checkout", "nowhere/*.csv", code=2)


def test_a_quoted_glob_pulls_what_it_matches_and_no_more(pushed):
    clone = pushed.clone()
    clone.dv("pull", "data/d1/*.txt")
    assert clone.read("data").keys() == {name for name in pushed.read("data") if name.startswith("d1/")}


def test_only_the_paths_named(versions):
    shutil.rmtree(versions.root / "data")
    versions.dv("checkout", "data/d/deep")
    assert versions.read("data") == {"d/deep": b"x"}
    versions.dv("checkout", "data/comes", "data/d")
    assert versions.read("data") == {"d/deep": b"x", "comes": b"c", "d/f/now a folder": b"y"}
    assert versions.json("status")["paths"][0]["changes"] != []  # it was all here once: the rest counts as deleted


def test_force_stores_what_it_replaces_first(versions):
    versions.write({"changes": "precious"}, "data")
    said = versions.dv("checkout", "--force")
    assert versions.read("data") == versions.second and "--saved 1" in said
    assert "saved/1" in versions.dv("checkout", "--saved", "0")
    versions.dv("checkout", "--saved", "1")
    assert versions.read("data") == {**versions.second, "changes": b"precious"}
    versions.dv("checkout", "--saved", "7", code=2)


def test_rev_takes_other_data_without_moving_head(versions):
    pointer = (versions.root / "data.dvlite").read_bytes()
    versions.dv("checkout", "data", "--rev", versions.one)
    assert versions.read("data") == versions.first
    assert (versions.root / "data.dvlite").read_bytes() == pointer
    status = versions.json("status")["paths"][0]
    assert status["at"] == versions.one and not status["changes"]
    said = versions.dv("add", "data")
    assert "follow the pointer" in said and (versions.root / "data.dvlite").read_bytes() == pointer
    versions.dv("checkout")
    assert versions.read("data") == versions.second and "clean" in versions.dv("status")


def test_going_back_for_good_takes_force(versions):
    versions.dv("checkout", "data", "--rev", "HEAD~1")
    versions.dv("add", "--force", "data")
    assert versions.git("diff", "HEAD~1", "--", "data.dvlite") == ""
    assert "clean" in versions.dv("status", "data")


def test_a_pointer_that_git_took_away_takes_its_data_along(versions):
    versions.write({"extra": "e"}, "other")
    versions.dv("add", "other")
    versions.commit("three")
    versions.git("checkout", "-q", versions.two)
    versions.dv("checkout")
    assert not (versions.root / "other").exists() and versions.read("data") == versions.second
    versions.git("checkout", "-q", "main")
    versions.dv("checkout")
    assert versions.read("other") == {"extra": b"e"}


def test_objects_that_are_missing_are_listed_and_the_rest_is_done(versions):
    store = versions.repo.store
    versions.write({"large": os.urandom(1 << 20)})
    versions.dv("add", "large")
    shutil.rmtree(store.root / "objects")
    (versions.root / "large").unlink()
    (versions.root / "data/same").unlink()
    said = versions.dv("checkout", code=10)
    assert "missing here: large" in said and "dvlite pull" in said
    assert (versions.root / "data/same").exists()


def test_where_the_base_is_lost_dvlite_asks(versions):
    versions.git("checkout", "-q", versions.one)
    (versions.root / ".git/dvlite/index.db").unlink()
    said = versions.dv("checkout", code=14)
    assert "doesn't know what it put here last" in said
    assert versions.read("data")["changes"] == b"2"
    assert "dvlite checkout --force data" in versions.dv("add", "data", code=14)
    versions.dv("checkout", "--force")
    assert versions.read("data")["changes"] == b"1"


def test_where_the_base_is_lost_and_nothing_differs_all_is_well(versions):
    (versions.root / ".git/dvlite/index.db").unlink()
    assert "clean" in versions.dv("status")
    versions.write({"changes": "3"}, "data")
    versions.dv("add", "data")


def test_a_fresh_folder_appears_in_one_step(versions):
    """While a folder is made, nobody ever sees a part of it."""
    versions.write({f"f{n}": "x" for n in range(3000)}, "many")
    versions.dv("add", "many")
    shutil.rmtree(versions.root / "many")
    work = subprocess.Popen(
        [sys.executable, "-m", "dvlite", "checkout", "many"], cwd=versions.root, stdout=subprocess.DEVNULL
    )
    seen = set()
    while work.poll() is None:
        if (versions.root / "many").exists():
            seen.add(len(os.listdir(versions.root / "many")))
    assert work.returncode == 0 and seen <= {3000}


@pytest.mark.parametrize("delay", [0.05, 0.12, 0.2, 0.3, 0.4])
def test_a_killed_checkout_is_finished_by_the_next(versions, delay):
    versions.write({f"f{n}": f"{n}" for n in range(2000)}, "many")
    versions.dv("add", "many")
    versions.commit("many")
    before = versions.read("many")
    versions.write({f"f{n}": f"new {n}" for n in range(0, 2000, 3)}, "many")
    versions.dv("add", "many")
    versions.commit("changed")
    versions.git("checkout", "-q", "HEAD~1")
    work = subprocess.Popen([sys.executable, "-m", "dvlite", "checkout"], cwd=versions.root, stdout=subprocess.DEVNULL)
    time.sleep(delay)
    work.send_signal(signal.SIGKILL)
    work.wait()
    versions.dv("checkout")
    assert versions.read("many") == before


def test_links_inside_are_links_and_never_followed(project, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("s")
    project.write({"real": "r"}, "data")
    (project.root / "data/link").symlink_to("real")
    (project.root / "data/dangling").symlink_to("nowhere")
    (project.root / "data/out").symlink_to(tmp_path / "outside")
    project.dv("add", "data")
    before = project.read("data")
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert project.read("data") == before and before["link"] == "link:real"


def test_nothing_is_written_through_a_folder_that_became_a_link(versions, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(versions.root / "data/d", outside / "d")
    (versions.root / "data/d").symlink_to(outside / "d")
    before = tree_of(outside)
    versions.git("checkout", "-q", versions.one)
    versions.run("checkout")
    versions.run("checkout", "--force")
    assert tree_of(outside) == before


def test_a_tracked_path_below_a_link_is_refused(versions, tmp_path):
    shutil.rmtree(versions.root / "data")
    (tmp_path / "outside").mkdir()
    (versions.root / "sub").symlink_to(tmp_path / "outside")
    shutil.copy(versions.root / "data.dvlite", tmp_path / "outside/data.dvlite")
    versions.write({"real/x": "1"})
    versions.dv("add", "real/x")
    shutil.rmtree(versions.root / "real")
    (versions.root / "real").symlink_to(tmp_path / "outside")
    versions.run("checkout")
    assert not (tmp_path / "outside/x").exists() and not (tmp_path / "outside/data").exists()


def test_the_executable_bit_survives(project):
    project.write({"data/run.sh": "#!/bin/sh\n", "tool": "x"})
    (project.root / "data/run.sh").chmod(0o755)
    (project.root / "tool").chmod(0o755)
    project.dv("add", "data", "tool")
    assert "executable = true" in (project.root / "tool.dvlite").read_text()
    shutil.rmtree(project.root / "data")
    (project.root / "tool").unlink()
    project.dv("checkout")
    assert os.access(project.root / "data/run.sh", os.X_OK) and os.access(project.root / "tool", os.X_OK)
    (project.root / "data/run.sh").chmod(0o644)
    assert "modified: run.sh" in project.dv("status")
    project.dv("checkout")
    assert os.access(project.root / "data/run.sh", os.X_OK)


def test_a_file_that_changes_between_plan_and_rename_is_put_back(versions, monkeypatch):
    """The plan saw the old content; what is renamed aside is looked at again."""
    from dvlite.ops.checkout import checkout
    from dvlite.worktree import materialise

    versions.git("checkout", "-q", versions.one)
    real = materialise._Builder.build

    def edit_meanwhile(self):
        staged = real(self)
        (versions.root / "data/changes").write_text("typed just now")
        return staged

    monkeypatch.setattr(materialise._Builder, "build", edit_meanwhile)
    result = checkout(versions.repo)
    assert (versions.root / "data/changes").read_text() == "typed just now"
    assert [kept.path for kept in result.kept] == ["data/changes"]


# ---- what testers found ----


@pytest.fixture
def dropped(project):
    """Two versions, of which the second lacks a folder; the first is checked out."""
    project.write({"k": "k", "sub/a": "a"}, "data")
    project.dv("add", "data")
    project.one = project.commit("one")
    shutil.rmtree(project.root / "data/sub")
    project.dv("add", "data")
    project.two = project.commit("two")
    project.git("checkout", "-q", project.one)
    project.dv("checkout")
    return project


def test_a_dropped_folder_keeps_new_files_in_it(dropped):
    dropped.write({"data/sub/new.txt": "unsaved"})
    dropped.git("checkout", "-q", dropped.two)
    dropped.dv("checkout")
    assert dropped.read("data") == {"k": b"k", "sub/new.txt": b"unsaved"}


def test_a_dropped_folder_keeps_modified_files_in_it(dropped):
    dropped.write({"data/sub/a": "modified"})
    dropped.git("checkout", "-q", dropped.two)
    dropped.dv("checkout", code=14)
    assert dropped.read("data")["sub/a"] == b"modified"


def test_a_dropped_folder_keeps_ignored_files_and_is_not_stuck(dropped):
    dropped.write({"data/sub/.DS_Store": "ignored"})
    dropped.git("checkout", "-q", dropped.two)
    dropped.dv("checkout")
    assert dropped.read("data") == {"k": b"k", "sub/.DS_Store": b"ignored"}
    assert "clean" in dropped.dv("status")


def test_a_tracked_path_that_git_took_away_keeps_what_is_new(dropped):
    dropped.git("rm", "-q", "--cached", "data.dvlite")
    (dropped.root / "data.dvlite").unlink()
    dropped.write({"data/new": "n", "data/k": "modified"})
    dropped.dv("checkout", code=14)
    assert dropped.read("data") == {"k": b"modified", "new": b"n"}


def test_one_pointer_above_and_two_below_take_turns(project):
    project.write({"data/x": "x", "data/y": "y"})
    project.dv("add", "data/x", "data/y")
    one = project.commit("one")
    project.git("rm", "-q", "--cached", "data/x.dvlite", "data/y.dvlite", "data/.gitignore")
    for name in ("x.dvlite", "y.dvlite", ".gitignore"):
        (project.root / "data" / name).unlink()
    project.dv("add", "data")
    two = project.commit("two")
    for commit in (one, two, one):
        project.git("checkout", "-q", commit)
        project.dv("checkout")
        assert {name: data for name, data in project.read("data").items() if "." not in name} == {"x": b"x", "y": b"y"}


def test_a_pointer_that_git_does_not_show_is_not_gone(project):
    project.write({".gitignore": "models/\n", "models/m": "m"})
    project.commit()
    project.dv("add", "--no-stage", "models/m")
    project.dv("checkout")
    assert (project.root / "models/m").read_text() == "m"


def test_a_long_folder_that_is_gone_comes_back_whole(project):
    project.write({f"f{n}": str(n) for n in range(3000)}, "data")
    project.dv("add", "data")
    one = project.commit("one")
    project.write({"f1500": "changed"}, "data")
    project.dv("add", "data")
    project.commit("two")
    project.git("checkout", "-q", one)
    project.dv("checkout")
    project.git("checkout", "-q", "main")
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert len(project.read("data")) == 3000 and "clean" in project.dv("status")


def test_another_files_second_name_does_not_hide_an_edit(project):
    project.write({"data/a": "aaaa"})
    (project.root / "data/a").chmod(0o444)
    os.link(project.root / "data/a", project.root / "second")
    project.settle()
    project.dv("add", "data")
    path = project.root / "data/a"
    before = path.stat()
    path.write_text("bbbb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "modified: a" in project.dv("status")


def test_a_file_from_the_future_can_be_replaced(project):
    project.write({"data/a": "1"})
    os.utime(project.root / "data/a", (4_000_000_000, 4_000_000_000))
    project.dv("add", "data")
    one = project.commit("one")
    project.write({"data/a": "2"})
    os.utime(project.root / "data/a", (4_000_000_000, 4_000_000_000))
    project.dv("add", "data")
    project.commit("two")
    project.git("checkout", "-q", one)
    project.dv("checkout")
    assert project.read("data") == {"a": b"1"}


def test_an_algorithm_that_changed_is_no_conflict(project):
    toml = project.root / "dvlite.toml"
    project.write({"data/a": "1", "data/b": "2"})
    project.dv("add", "data")
    project.commit("one")
    toml.write_text(toml.read_text().replace("sha256", "blake3"))
    project.write({"data/a": "changed"})
    project.dv("add", "--rehash", "data")
    project.commit("two")
    for rev, content in (("HEAD~1", b"1"), ("main", b"changed")):
        project.git("checkout", "-q", rev)
        project.dv("checkout")
        assert project.read("data") == {"a": content, "b": b"2"}
        assert "clean" in project.dv("status")


def test_a_failed_checkout_does_not_forget_what_was_put_here(pushed):
    pushed.write({"model.bin": b"v2" * 600_000})
    pushed.dv("add", "model.bin")
    pushed.commit("two")
    pushed.dv("push")
    clone = pushed.clone()
    clone.git("checkout", "-q", "HEAD~1")
    clone.dv("pull")
    clone.git("checkout", "-q", "main")
    clone.dv("checkout", code=10)
    clone.dv("pull")
    assert (clone.root / "model.bin").read_bytes() == b"v2" * 600_000


def test_a_path_that_does_not_exist_is_an_error(pushed):
    assert "no 'data/typo'" in pushed.dv("checkout", "data/typo", code=2)


def test_a_file_in_the_way_of_a_folder_is_kept_and_named(versions):
    shutil.rmtree(versions.root / "data/d")
    versions.write({"data/d": "a file now"})
    said = versions.dv("checkout", "data/d/deep", code=14)
    assert "kept data/d" in said and (versions.root / "data/d").read_text() == "a file now"


def test_an_empty_folder_comes_back(project):
    project.write({"data/s/a": "1"})
    project.dv("add", "data")
    project.commit("one")
    (project.root / "data/s/a").unlink()
    project.dv("add", "data")
    project.commit("two")
    project.git("checkout", "-q", "HEAD~1")
    project.dv("checkout")
    project.git("checkout", "-q", "main")
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert (project.root / "data/s").is_dir() and project.read("data") == {}


def test_a_pointer_whose_size_lies_is_not_believed(project):
    project.write({"a": "12345"})
    project.dv("add", "a")
    path = project.root / "a.dvlite"
    path.write_bytes(path.read_bytes().replace(b"size = 5", b"size = 999"))
    (project.root / "a").unlink()
    assert "not 999" in project.dv("checkout", code=1)
    assert not (project.root / "a").exists()


@pytest.mark.parametrize("name", [".git", "sub/.git", ".GIT", "git~1", ".", "..", "sub/.."])
def test_a_pointer_named_after_git_or_a_way_out_is_refused(project, name):
    project.write({"p/hooks/post-checkout": "#!/bin/sh\n"})
    project.dv("add", "p")
    before = sorted(path for path in (project.root / ".git").rglob("*") if "dvlite" not in str(path))
    path = project.root / f"{name}.dvlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((project.root / "p.dvlite").read_bytes())
    done = project.run("checkout")
    assert done.returncode != 0 and "can't be a pointer" in done.stderr
    assert sorted(path for path in (project.root / ".git").rglob("*") if "dvlite" not in str(path)) == before
