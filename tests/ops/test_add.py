import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from dvlite import machine, pointer
from dvlite.stores.local import quarantine
from tests.conftest import Project, make_project


def snapshot(root):
    """Every file with content and mtime, but for the index (which may be rewritten once)."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not name.startswith("index.db"):
                with open(path, "rb") as file:
                    found[path] = (file.read(), os.stat(path).st_mtime_ns)
    return found


def test_one_file_gets_a_pointer_with_its_sha256(project):
    project.write({"a file.csv": "a,b\n1,2\n"})
    project.dv("add", "a file.csv")
    said = subprocess.run(["sha256sum", "a file.csv"], cwd=project.root, capture_output=True, text=True).stdout.split()[
        0
    ]
    item = pointer.decode((project.root / "a file.csv.dvlite").read_bytes())
    assert str(item.oid) == f"sha256:{said}" and item.size == 8 and not item.is_tree
    assert (project.root / ".gitignore").read_text() == "/a file.csv\n"
    assert project.git("diff", "--cached", "--name-only").split("\n")[:3] == [
        ".gitattributes",
        ".gitignore",
        "a file.csv.dvlite",
    ]


def test_a_large_file_gets_a_pointer_with_its_sha256(project):
    data = os.urandom((1 << 20) + 3)
    project.write({"big.bin": data})
    project.dv("add", "big.bin")
    item = pointer.decode((project.root / "big.bin.dvlite").read_bytes())
    assert item.oid.hex == hashlib.sha256(data).hexdigest()
    assert project.repo.store.path_of(item.oid).read_bytes() == data


def test_a_folder_gets_one_pointer_with_files_and_size(project):
    project.write({"a": "12", "b/c": "345", "b/d/e": ""}, "data")
    project.dv("add", "data/")
    item = pointer.decode((project.root / "data.dvlite").read_bytes())
    assert (item.is_tree, item.files, item.size) == (True, 3, 5)


def test_adding_unchanged_data_again_changes_nothing(project):
    project.write({"a": "12", "b/c": "345"}, "data")
    project.write({"x.bin": os.urandom(1 << 20)})
    project.settle()
    project.dv("add", "data", "x.bin")
    project.commit()
    project.dv("status")
    project.dv("checkout")  # the first makes the lock's file
    before = snapshot(project.root)
    assert "unchanged" in project.dv("add", "data", "x.bin")
    project.dv("status")
    project.dv("checkout")
    assert snapshot(project.root) == before


def test_a_changed_folder_reads_only_the_changed_files(project):
    project.write({f"f{n}": str(n) for n in range(50)}, "data")
    project.settle()
    project.dv("add", "data")
    project.write({"f7": "changed"}, "data")
    (added,) = project.json("add", "data")["added"]
    assert added["files_read"] == 1 and added["is_changed"]


def test_a_path_inside_updates_only_that_part_even_without_the_rest(pushed):
    clone = pushed.clone()
    clone.dv("pull", "data/d0/f0.txt")
    clone.write({"data/d0/f0.txt": "new", "data/d0/extra.txt": "extra"})
    clone.dv("add", "data/d0/f0.txt")
    assert "data/d0/extra.txt" not in {one["path"] for one in clone.json("ls", "data/d0")["entries"]}
    assert {one["path"] for one in clone.json("ls", "data")["entries"]} == {"data/d0", "data/d1", "data/d2"}
    assert clone.dv("cat", "data/d0/f0.txt") == "new"
    clone.dv("add", "data/d0/extra.txt")
    item = pointer.decode((clone.root / "data.dvlite").read_bytes())
    assert item.files == 31


def test_whole_folder_add_in_a_partial_clone_drops_nothing(pushed):
    clone = pushed.clone()
    clone.dv("pull", "data/d0/f0.txt")
    clone.write({"data/d0/f0.txt": "new", "data/new.txt": "n"})
    clone.dv("add", "data")
    item = pointer.decode((clone.root / "data.dvlite").read_bytes())
    assert item.files == 31
    assert clone.json("status")["paths"][0]["absent_files"] == 29


def test_a_deleted_file_is_recorded(project):
    project.write({"a": "1", "b": "2"}, "data")
    project.dv("add", "data")
    (project.root / "data/a").unlink()
    project.dv("add", "data")
    assert pointer.decode((project.root / "data.dvlite").read_bytes()).files == 1


def test_empty_files_empty_folders_and_equal_files(project):
    project.write({f"same/{n}": "equal" for n in range(1000)} | {"none": ""}, "data")
    (project.root / "data/empty/deep").mkdir(parents=True)
    project.dv("add", "data")
    assert len(list(project.repo.store.oids())) == 6  # 2 contents, 4 trees
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert (project.root / "data/empty/deep").is_dir() and len(os.listdir(project.root / "data/same")) == 1000


def test_a_path_that_git_tracks_is_refused_with_the_line_to_paste(project):
    project.write({"data/in git.csv": "x"})
    project.commit()
    said = project.dv("add", "data", code=2)
    assert "git rm -r --cached -- data" in said and "in git.csv" in said
    assert not (project.root / "data.dvlite").exists()


@pytest.mark.parametrize("path", [".git", ".git/config", "dvlite.toml", ".", "..", "/etc", "x.dvlite", "../elsewhere"])
def test_what_cannot_be_tracked_is_refused_by_name(project, path):
    project.write({"x": "1"})
    project.dv("add", "x")
    said = project.dv("add", path, code=2)
    assert "error:" in said and "hint:" in said or "outside" in said


def test_special_files_are_refused_by_name(project):
    project.write({"data/a": "1"})
    os.mkfifo(project.root / "data/pipe")
    assert "'data/pipe' is a FIFO" in project.dv("add", "data", code=2)
    (project.root / "data/pipe").unlink()
    subprocess.run(["git", "init", "-q", project.root / "data/inner"], check=True)
    assert ".git" in project.dv("add", "data", code=2)
    shutil.rmtree(project.root / "data/inner")
    project.write({"data/x.dvlite": "a pointer"})
    assert "x.dvlite" in project.dv("add", "data", code=2)


def test_overlap_names_both_paths(project):
    project.write({"data/sub/a": "1"})
    project.dv("add", "data/sub")
    said = project.dv("add", "data", code=2)
    assert "'data'" in said and "'data/sub'" in said


def test_a_missing_path_fails_and_leaves_its_pointer(project):
    project.write({"a": "1"})
    project.dv("add", "a")
    before = (project.root / "a.dvlite").read_bytes()
    (project.root / "a").unlink()
    assert "does not exist" in project.dv("add", "a", code=2)
    assert (project.root / "a.dvlite").read_bytes() == before


def test_meta_comments_and_unknown_keys_survive(project):
    project.write({"a": "1"})
    project.dv("add", "a", "--desc", "first", "--meta", "owner=me")
    path = project.root / "a.dvlite"
    path.write_bytes(path.read_bytes() + b"# kept\n\n[theirs]\nx = 1 # too\n")
    project.write({"a": "2"})
    project.dv("add", "a")
    text = path.read_text()
    assert 'description = "first"' in text and text.endswith("# kept\n\n[theirs]\nx = 1 # too\n")


def test_good_paths_are_added_and_the_bad_one_is_named(project):
    project.write({"a": "1", "b": "2"})
    said = project.dv("add", "a", "missing", "b", code=1)
    assert "'missing' does not exist" in said
    assert (project.root / "a.dvlite").exists() and (project.root / "b.dvlite").exists()


def test_globs_are_expanded(project):
    project.write({"m1.bin": "1", "m2.bin": "2", "other": "3"})
    project.dv("add", "*.bin")
    assert sorted(path.name for path in project.root.glob("*.dvlite")) == ["m1.bin.dvlite", "m2.bin.dvlite"]


def test_in_a_subfolder_paths_are_relative_to_it(project):
    project.write({"sub/deep/data/a": "1"})
    said = project.dv("add", "data", folder=project.root / "sub/deep")
    assert "added data (" in said and (project.root / "sub/deep/data.dvlite").exists()
    assert (project.root / "sub/deep/.gitignore").read_text() == "/data\n"
    assert "clean" in project.dv("-C", "sub", "status")


def test_in_a_git_worktree_the_store_is_shared_and_the_index_is_not(project):
    project.write({"data/a": "1"})
    project.dv("add", "data")
    project.commit()
    project.git("worktree", "add", "-q", "../other", "-b", "other")
    other = Project(project.root.parent / "other")
    other.dv("checkout")
    assert other.read("data") == {"a": b"1"}
    other.write({"data/b": "2"})
    other.dv("add", "data")
    assert (project.root / ".git/worktrees/other/dvlite/index.db").exists()
    assert "clean" in project.dv("status")


def test_in_a_submodule(project, tmp_path):
    inner = make_project(tmp_path / "inner")
    inner.commit()
    project.commit()
    project.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "sub")
    sub = Project(project.root / "sub")
    sub.write({"data/a": "1"})
    sub.dv("add", "data")
    shutil.rmtree(sub.root / "data")
    sub.dv("checkout")
    assert sub.read("data") == {"a": b"1"}


def test_below_a_symbolic_link_to_the_repository(project, tmp_path):
    (tmp_path / "link").symlink_to(project.root)
    project.write({"data/a": "1"})
    project.dv("add", "data", folder=tmp_path / "link")
    assert (project.root / "data.dvlite").exists()
    project.dv("add", tmp_path / "link/data")


NAMES = [
    "sp ace", "quo'te", 'dou"ble', "é", "e\u0301", "new\nline", "-dash", "star*[b]?!#", "trailing ", "\udcff\udcfe", "x" * 255, "%41",
    "#start", "!start", "back\\slash", "tab\t",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_name_survives_inside_a_folder(project, name):
    project.write({name: "content", f"{name[:100]}.d/{name}": "more"}, "data")
    before = project.read("data")
    project.dv("add", "data")
    project.commit()
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert project.read("data") == before
    assert "clean" in project.dv("status")


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 200])
def test_every_name_can_be_a_tracked_path(project, name):
    project.write({name: "content"})
    project.dv("add", "--", name)
    assert (project.root / f"{name}.dvlite").exists()
    assert (
        project.git("status", "--porcelain", "-z", "--untracked-files=all").count("\0") == 4
    )  # all staged, the data ignored
    project.commit()
    (project.root / name).unlink()
    project.dv("checkout", "--", name)
    assert (project.root / name).read_text() == "content"
    project.dv("remote", "add", "origin", "../remote")
    project.commit()
    project.dv("push")
    clone = project.clone()
    clone.dv("pull")
    assert (clone.root / name).read_text() == "content"


def test_no_stage_prints_the_line_instead(project):
    project.write({"a": "1"})
    assert "git add a.dvlite .gitignore" in project.dv("add", "--no-stage", "a")
    assert "a.dvlite" not in project.git("diff", "--cached", "--name-only")
    project.git("config", "dvlite.autostage", "false")
    project.write({"b": "1"})
    assert "git add" in project.dv("add", "b")


def test_the_ignore_file_keeps_files_out(project):
    project.write(
        {"keep.csv": "1", "x.tmp": "2", "sub/y.tmp": "3", "sub/z.csv": "4", ".DS_Store": "5", "sub/only.log": "6"},
        "data",
    )
    project.write({".dvliteignore": "*.tmp\n"})
    project.write({"data/sub/.dvliteignore": "*.log\n!y.tmp\n"})
    project.dv("add", "data")
    listed = {one["path"] for one in project.json("ls", "data", "-R")["entries"] if one["kind"] == "file"}
    assert listed == {"data/keep.csv", "data/sub/z.csv", "data/sub/y.tmp", "data/sub/.dvliteignore"}


def test_two_machines_write_the_same_pointer_and_packs(tmp_path):
    projects = [make_project(tmp_path / name) for name in ("one", "two")]
    for project in projects:
        order = range(500) if project is projects[0] else reversed(range(500))
        for n in order:
            project.write({f"d{n % 7}/f{n}": os.urandom(0) + f"{n}".encode() * n}, "data")
        project.write({"data/medium": b"m" * 300_000, "data/other": b"o" * 200_000})
        project.dv("add", "data")
    one, two = projects
    assert (one.root / "data.dvlite").read_bytes() == (two.root / "data.dvlite").read_bytes()
    assert [p.name for p in one.packs()] == [p.name for p in two.packs()]
    assert [p.read_bytes() for p in one.packs()] == [p.read_bytes() for p in two.packs()]


def test_another_hash(tmp_path):
    project = make_project(tmp_path / "one")
    toml = project.root / "dvlite.toml"
    project.write({"old/a": "1"})
    project.dv("add", "old")
    toml.write_text(toml.read_text().replace("sha256", "blake3"))
    project.write({"new/a": "1", "old/b": "2"})
    project.dv("add", "old", "new")
    assert "sha256:" in (project.root / "old.dvlite").read_text()  # a re-add keeps the algorithm
    assert "blake3:" in (project.root / "new.dvlite").read_text()
    project.dv("add", "--rehash", "old")
    assert "blake3:" in (project.root / "old.dvlite").read_text()
    before = project.read("old")
    shutil.rmtree(project.root / "old")
    project.dv("checkout")
    assert project.read("old") == before


def test_after_the_store_lost_something_add_stores_it_anew(project):
    project.write({f"f{n}": str(n) for n in range(20)}, "data")
    project.settle()
    project.dv("add", "data")
    (pack, *_) = project.packs()
    project.repo.store.create()
    store = project.repo.store
    quarantine.set_aside(store, f"packs/{pack.name}")
    assert project.json("status")["paths"][0]["missing_here"] > 0
    project.dv("add", "data")
    shutil.rmtree(project.root / "data")
    project.dv("checkout")
    assert len(project.read("data")) == 20


# ---- what testers found ----


def test_rehash_keeps_metadata_and_refuses_what_is_not_all_here(project):
    project.write({"data/a": "1", "data/b": "2"})
    project.dv("add", "data", "--desc", "hello")
    path = project.root / "data.dvlite"
    path.write_bytes(path.read_bytes() + b"# mine\n[theirs]\nx = 1\n")
    toml = project.root / "dvlite.toml"
    toml.write_text(toml.read_text().replace("sha256", "blake3"))
    (project.root / "data/b").unlink()
    (project.root / ".git/dvlite/index.db").unlink()
    assert "dvlite pull" in project.dv("add", "--rehash", "data", code=14)
    project.dv("checkout")
    project.dv("add", "--rehash", "data")
    text = path.read_text()
    assert (
        "blake3:" in text
        and 'description = "hello"' in text
        and "# mine\n[theirs]\nx = 1" in text
        and "files = 2" in text
    )


@pytest.mark.parametrize("order", [("data", "data/sub"), ("data/sub", "data")])
def test_a_folder_and_a_part_of_it_make_one_pointer(project, order):
    project.write({"data/sub/a": "1"})
    project.dv("add", *order)
    assert (project.root / "data.dvlite").exists() and not (project.root / "data/sub.dvlite").exists()
    assert "clean" in project.dv("status")


@pytest.mark.parametrize("path", ["data/.git/x", "n/.git/config", ".gitignore", "sub/.gitignore", ".gitattributes"])
def test_what_is_gits_can_not_be_added(project, path):
    project.write({"data/a": "1"})
    project.dv("add", "data")
    project.write({path: "z"})
    assert project.run("add", path).returncode != 0
    project.dv("ls", "data")


def test_two_parts_at_once_are_both_remembered(project):
    project.write({"data/a": "1", "data/b": "2"})
    project.dv("add", "data")
    project.write({"data/a": "11", "data/b": "22"})
    project.dv("add", "data/a", "data/b")
    assert "clean" in project.dv("status")
    project.write({"data/a": "111"})
    project.dv("add", "data/a")
    project.write({"data/b": "222"})
    project.dv("add", "data")
    assert "clean" in project.dv("status")


def test_one_path_that_cannot_be_written_stops_no_other(project):
    project.write({"y" * 250: "1", "good": "2"})
    said = project.dv("add", "y" * 250, "good", code=1)
    assert (project.root / "good.dvlite").exists() and "name too long" in said


def test_thousands_of_paths_at_once(project):
    names = [f"some/rather/long/folder/name/file-{number:05}.bin" for number in range(1500)]
    project.write(dict.fromkeys(names, "x"))
    project.dv("add", *names, "-q")
    assert project.git("ls-files").count(".dvlite") == 1500


def test_another_repository_inside_is_refused(project):
    subprocess.run(["git", "init", "-q", project.root / "sub"], check=True)
    project.write({"sub/d": "1"})
    assert "another Git repository" in project.dv("add", "sub/d", code=2)
    assert not (project.root / "sub/.gitignore").exists()


def test_a_busy_index_is_not_thrown_away(project):
    import sqlite3

    from dvlite.errors import LockedError
    from dvlite.index import Index

    project.write({"data/a": "1"})
    project.dv("add", "data")
    path = project.root / ".git/dvlite/index.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    index = Index(path)
    index.timeout_s = 0.1
    with pytest.raises(LockedError):
        index.base("data")
    holder.execute("ROLLBACK")
    holder.close()
    assert index.base("data") is not None


def test_what_a_killed_add_left_is_swept(project):
    project.write({"data/a": "1"})
    project.dv("add", "data")
    store = project.repo.store
    dead = subprocess.Popen(["true"])
    dead.wait()
    from dvlite import files

    left = store.tmp / f"{machine.host_mark()}-{dead.pid:x}-0123"
    left.write_bytes(b"half a pack")
    aside = store.tmp / f"{machine.host_mark()}-{dead.pid:x}-4567"
    aside.mkdir()
    (aside / f"0{files.ASIDE}").write_bytes(b"an edit that a killed checkout had moved aside")
    project.write({"data/b": "2"})
    project.dv("add", "data")
    assert not left.exists() and (aside / f"0{files.ASIDE}").exists()
    assert "moved aside" in project.dv("doctor", code=1)


@pytest.mark.parametrize("stage", ["true", "false"])
def test_many_adds_at_once_lose_no_ignore_line_and_no_staging(project, stage):
    project.git("config", "dvlite.autostage", stage)
    names = [f"d{number}" for number in range(8)]
    project.write({f"{name}/a": name for name in names})
    running = [
        subprocess.Popen([sys.executable, "-m", "dvlite", "add", "-q", name], cwd=project.root) for name in names
    ]
    assert [one.wait() for one in running] == [0] * 8
    assert sorted((project.root / ".gitignore").read_text().split()) == [f"/{name}" for name in names]
    if stage == "true":
        assert {f"{name}.dvlite" for name in names} <= set(project.git("diff", "--cached", "--name-only").split())


@pytest.mark.parametrize("seconds", [-1_000_000, 9_300_000_000])
def test_a_file_of_another_century_is_added_once(project, seconds):
    project.write({"old": "x", "d/other": "y"}, "data")
    os.utime(project.root / "data/old", (seconds, seconds))
    project.settle()
    project.dv("add", "data")
    assert "clean" in project.dv("status")
    # One from the future may have been changed at any time: it is read again.
    assert project.json("add", "data")["added"][0]["files_read"] == (seconds > 0)


def test_a_pattern_hits_none_of_gits_own(project):
    project.write({"d/a": "1", "d/.hidden": "2"})
    project.dv("add", "d/*")
    project.dv("add", "d/*")
    assert sorted(project.repo.index.bases()) == ["d/.hidden", "d/a"]
