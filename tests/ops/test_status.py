import os
import shutil
import time


def changes(project):
    return {one["path"]: one["kind"] for one in project.json("status")["paths"][0]["changes"]}


def test_clean_is_one_line_and_exit_0(pushed):
    assert pushed.dv("status") == "clean: 2 tracked paths up to date\n"
    pushed.dv("status", "--exit-code")


def test_modified_new_deleted_and_renamed_are_told_apart_per_file(pushed):
    pushed.write({"d0/f0.txt": "modified", "d1/new.txt": "new", "fresh/x": "1"}, "data")
    (pushed.root / "data/d2/f2.txt").unlink()
    os.rename(pushed.root / "data/d0/f3.txt", pushed.root / "data/d1/moved.txt")
    assert changes(pushed) == {
        "d0/f0.txt": "modified", "d1/new.txt": "new", "fresh/x": "new", "d2/f2.txt": "deleted", "d1/moved.txt": "renamed",
    }  # fmt: skip
    said = pushed.dv("status", "--exit-code", code=1)
    assert "renamed: d0/f3.txt -> d1/moved.txt" in said and "dvlite add data" in said


def test_a_renamed_folder_is_renames(pushed):
    os.rename(pushed.root / "data/d0", pushed.root / "data/other")
    assert set(changes(pushed).values()) == {"renamed"}


def test_the_pointers_own_state_in_git(pushed):
    pushed.write({"d0/f0.txt": "modified"}, "data")
    pushed.dv("add", "data")
    assert pushed.json("status")["paths"][0]["git"] == "modified, staged"
    pushed.commit()
    assert pushed.json("status")["paths"][0]["git"] == ""


def test_a_moved_pointer_is_told_from_changed_data(pushed):
    pushed.write({"d0/f0.txt": "two"}, "data")
    pushed.dv("add", "data")
    pushed.commit()
    pushed.git("checkout", "-q", "HEAD~1")
    assert changes(pushed) == {"d0/f0.txt": "outdated"}
    pushed.write({"d0/f0.txt": "three"}, "data")
    assert changes(pushed) == {"d0/f0.txt": "conflict"}


def test_missing_in_the_store_and_not_here(pushed):
    clone = pushed.clone()
    item = next(one for one in clone.json("status")["paths"] if one["path"] == "data")
    assert item["absent_files"] == 30 and item["missing_here"] > 0
    assert "dvlite pull data" in clone.dv("status")
    clone.dv("fetch")
    item = next(one for one in clone.json("status")["paths"] if one["path"] == "data")
    assert item["absent_files"] == 30 and item["missing_here"] == 0


def test_not_on_the_remote(pushed):
    assert "remote 'origin'" in pushed.dv("status", "--remote")
    pushed.write({"d0/f0.txt": "unpushed"}, "data")
    pushed.dv("add", "data")
    pushed.commit()
    item = pushed.json("status", "--remote")["paths"][0]
    assert item["missing_there"] == 3  # a file and the trees above it


def test_it_works_without_remote_and_without_commits(project):
    project.write({"data/a": "1"})
    project.dv("add", "data")
    assert "pointer: added, staged" in project.dv("status")
    assert "no remote" in project.dv("status", "--remote", code=2)


def test_a_tree_that_is_not_here_is_unknown_not_a_traceback(pushed):
    clone = pushed.clone()
    clone.write({"data/d0/f0.txt": "by hand"})
    said = clone.dv("status")
    assert "unknown:" in said and "fetch" in said and "Traceback" not in said


def test_a_malformed_pointer_does_not_hide_the_others(pushed):
    (pushed.root / "model.bin.dvlite").write_text("<<<<<<< HEAD\n")
    done = pushed.run("status")
    assert done.returncode == 1 and "conflict markers" in done.stderr


def test_data_put_there_by_hand_is_taken_for_ours(pushed):
    clone = pushed.clone()
    shutil.copytree(pushed.root / "data", clone.root / "data")
    clone.dv("fetch", "data")
    clone.dv("status")
    (clone.root / "data/d0/f0.txt").unlink()
    assert changes(clone)["d0/f0.txt"] == "deleted"


def test_json_has_the_documented_schema(pushed):
    found = pushed.json("status")
    assert set(found) == {"version", "paths", "failures", "remote", "lost_index", "is_clean"}
    assert set(found["paths"][0]) == {
        "path", "oid", "size", "files", "git", "changes", "absent_files", "missing_here", "missing_there", "remote", "at", "unknown",
    }  # fmt: skip


def test_a_lost_index_is_rebuilt_and_said(pushed):
    (pushed.root / ".git/dvlite/index.db").write_bytes(b"garbage" * 1000)
    assert "begun anew" in pushed.dv("status")
    assert "clean" in pushed.dv("status")


def test_an_entry_too_young_to_be_trusted_leaves_no_fingerprint(project):
    """An edit in the same tick as the scan would not show in the stat: what is that young is read again."""
    project.write({"data/a": "1", "data/b": "2"})
    ahead = time.time_ns() + 10**10
    os.utime(project.root / "data/a", ns=(ahead, ahead))
    project.dv("add", "data")
    assert project.repo.index.rows("data")["data"].fingerprint == b""
    assert project.json("add", "data")["added"][0]["files_read"] == 1  # a is read again, b is not
    now = time.time_ns() - 10**9
    os.utime(project.root / "data/a", ns=(now, now))
    project.settle()
    project.dv("status")
    assert project.repo.index.rows("data")["data"].fingerprint
    assert project.json("add", "data")["added"][0]["files_read"] == 0


def test_empty_folders_are_told(project):
    project.write({"data/a": "a", "data/b": "b"})
    project.dv("add", "data")
    (project.root / "data/a").unlink()
    (project.root / "data/a").mkdir()
    (project.root / "data/new").mkdir()
    assert changes(project) == {"a/": "modified", "new/": "new"}
    project.dv("status", "--exit-code", code=1)


def test_a_small_change_is_read_again_and_not_written_down_until_it_is_added(project):
    project.write({f"d{number % 3}/f{number}": str(number) for number in range(30)}, "data")
    project.settle()
    project.dv("add", "data")
    project.dv("status")
    index = project.root / ".git/dvlite/index.db"
    before = index.read_bytes()
    project.write({"d0/f0": "changed"}, "data")
    for _ in range(2):
        assert "modified" in project.dv("status")
    assert index.read_bytes() == before
    project.dv("add", "data")
    assert index.read_bytes() != before and "clean" in project.dv("status")


def test_after_the_index_is_lost_nothing_is_read_twice(project):
    project.write({"a": "1", "b": "2"}, "data")
    project.settle()
    project.dv("add", "data")
    (project.root / ".git/dvlite/index.db").unlink()
    project.dv("status")
    result = project.json("add", "data")
    assert result["added"][0]["files_read"] == 0
