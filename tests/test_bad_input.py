"""Bad input and bad days: each with a clear error that names the path, and nothing lost."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
import xxhash

from dvlite import pointer, refs, tree
from dvlite.tree import FILE, TREE, Entry
from tests.conftest import Project, as_user, make_project

is_root = os.geteuid() == 0


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A real file system that can be full."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def folding_disk(folder):
    """A real file system on which upper and lower case are one."""
    if not shutil.which("lowntfs-3g"):
        pytest.skip("no lowntfs-3g here")
    folder.mkdir()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkntfs", "-q", "-F", image], check=True, capture_output=True)
    if subprocess.run(["lowntfs-3g", "-o", "ignore_case", image, folder], capture_output=True).returncode:
        pytest.skip("no right to mount here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"k": "k", "readme": "1", "README": "2"}),  # a fresh folder
        ({"k": "k"}, {"k": "k", "readme": "1", "README": "2"}),  # two new ones
        ({"k": "k", "readme": "1"}, {"k": "two", "readme": "1", "README": "2"}),  # a new one and one that stays
        ({"k": "k", "sub/x": "1"}, {"k": "k", "sub/x": "1", "SUB/y": "2"}),  # folders
    ],
)
def test_names_that_meet_on_a_file_system_are_an_error_before_anything_is_written(project, tmp_path, before, after):
    project.dv("remote", "add", "origin", tmp_path / "remote")
    commits = []
    for version in (before, after):
        shutil.rmtree(project.root / "data", ignore_errors=True)
        project.write(version, "data")
        if version:
            project.dv("add", "data")
        commits.append(project.commit())
        project.dv("push")
    with folding_disk(tmp_path / "disk") as disk:
        subprocess.run(["git", "clone", "-q", project.root, disk / "clone"], check=True)
        clone = Project(disk / "clone")
        clone.git("checkout", "-q", commits[0])
        clone.dv("pull") if before else None
        clone.git("checkout", "-q", commits[1])
        assert "meets another name on this file system" in clone.dv("pull", code=1)
        assert clone.read("data") == {name: data.encode() for name, data in before.items()}


@pytest.mark.skipif(not is_root, reason="mounts a file system")
def test_a_full_disk_while_adding_and_again_when_there_is_room(project, tmp_path):
    with small_disk(tmp_path / "disk", 3) as disk:
        project.dv("config", "store", disk / "store")
        project.write(
            {
                "data/a": os.urandom(900_000),
                "data/b": os.urandom(900_000),
                "data/c": os.urandom(900_000),
                "data/d": os.urandom(900_000),
            }
        )
        project.write({"small": "s"})
        before = project.read("data")
        for path in ("data",):
            said = project.dv("add", path, code=1)
            assert "no space left" in said and "hint:" in said
        assert not (project.root / "data.dvlite").exists() and project.read("data") == before
        assert not list((disk / "store/tmp").iterdir())
        project.dv("add", "small")
        assert "added small" not in project.dv("status")
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        project.dv("add", "data")
        shutil.rmtree(project.root / "data")
        project.dv("checkout")
        assert project.read("data") == before


@pytest.mark.skipif(not is_root, reason="mounts a file system")
def test_a_full_disk_while_adding_one_large_file(project, tmp_path):
    with small_disk(tmp_path / "disk", 3) as disk:
        project.dv("config", "store", disk / "store")
        project.write({"big.bin": os.urandom(5_000_000)})
        assert "no space left" in project.dv("add", "big.bin", code=1)
        assert not (project.root / "big.bin.dvlite").exists() and not list((disk / "store/tmp").iterdir())


@pytest.mark.skipif(not is_root, reason="mounts a file system")
def test_a_full_disk_while_checking_out(tmp_path):
    source = make_project(tmp_path / "source")
    source.write({f"data/{n}": os.urandom(400_000) for n in range(10)})
    source.dv("add", "data")
    source.commit()
    with small_disk(tmp_path / "disk", 3) as disk:
        clone = source.clone("disk/clone")
        clone.dv("config", "store", source.root / ".git/dvlite")
        said = clone.dv("checkout", code=1)
        assert "no space" in said and not (clone.root / "data").exists()
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        clone.dv("checkout")
        assert clone.read("data") == source.read("data")


@pytest.mark.skipif(not is_root, reason="mounts a file system")
def test_a_full_disk_behind_a_remote(pushed, tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        pushed.dv("remote", "add", "tiny", str(disk / "remote"))
        pushed.write({"more.bin": os.urandom(2_000_000)})
        pushed.dv("add", "more.bin")
        pushed.commit()
        said = pushed.dv("push", "-r", "tiny", code=13)
        assert "no space left" in said
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        pushed.dv("push", "-r", "tiny")
        clone = pushed.clone()
        clone.dv("pull", "-r", "tiny")
        assert clone.read("data") == pushed.read("data")


@pytest.mark.skipif(not is_root, reason="mounts a file system")
def test_data_on_another_file_system(project, tmp_path):
    with small_disk(project.root / "data", 5):
        project.write({"data/a": "1", "data/b": os.urandom(1 << 20)})
        before = project.read("data")
        project.dv("add", "data")
        project.commit()
        for path in list((project.root / "data").iterdir()):
            path.unlink()
        project.dv("checkout")
        assert project.read("data") == before and "clean" in project.dv("status")


def test_a_file_that_keeps_changing_while_it_is_read(project):
    path = project.root / "log"
    path.write_bytes(b"x" * 3_000_000)
    stop = threading.Event()

    def grow():
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        done = project.run("add", "log")
    finally:
        stop.set()
        writer.join()
    assert (done.returncode, "keeps changing" in done.stderr) in ((1, True), (0, False))
    if done.returncode:
        assert not (project.root / "log.dvlite").exists()
    project.dv("add", "log")
    assert project.dv("status", "--exit-code", code=0)


def test_a_file_that_changed_once_while_it_was_read_is_read_again(project, monkeypatch):
    from dvlite import files
    from dvlite.ops.add import add

    project.write({"data/a": "before"})
    real, changed = files.read_small, []

    def change_once(path, below):
        if not changed:
            changed.append(path)
            raise files.Moved
        return real(path, below)

    monkeypatch.setattr(files, "read_listed", lambda *_: None)  # as it is where one isn't what was listed
    monkeypatch.setattr(files, "read_small", change_once)
    assert add(project.repo, ["data"]).added[0].size == 6
    assert changed


@pytest.mark.skipif(not is_root, reason="changes users")
def test_an_unreadable_file_is_named_and_its_pointer_left_alone(project):
    for folder in project.root.parents:
        if os.stat(folder).st_uid == 0 and str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o755)
    project.write({"data/a": "1", "good": "2"})
    project.dv("add", "data")
    before = (project.root / "data.dvlite").read_bytes()
    project.write({"data/secret": "s"})
    (project.root / "data/secret").chmod(0)
    assert as_user(project, "add", "data", "good") == 1
    assert (project.root / "data.dvlite").read_bytes() == before
    assert (project.root / "good.dvlite").exists()
    subprocess.run(["chown", "-R", "0:0", project.root], check=True)


def hostile(project, *rows):
    """Put a tree that no honest dvlite writes into the store, and a pointer to it."""
    data = b"dvlite-tree 1 0\n" + b"".join(rows)
    with project.repo.store.batch() as batch:
        oid = batch.put(data, "sha256", is_tree=True)
        blob = batch.put(b"x", "sha256")
    root = Entry(TREE, oid, len(rows), len(rows), "")
    (project.root / "bad.dvlite").write_bytes(pointer.encode(pointer.of(root)))
    return blob


@pytest.mark.parametrize("name", ["../x", "/abs", ".git", ".GIT", "..", "a/b", "git~1"])
def test_a_tree_that_leads_out_is_refused_and_stops_nothing_else(project, name):
    blob = tree.Entry(FILE, hostile(project), 1, 1, "")
    project.write({"fine/a": "1"})
    project.dv("add", "fine")
    shutil.rmtree(project.root / "fine")
    hostile(project, f"100644 {blob.oid} 1 1\t{tree.escape(name)}\n".encode())
    before = {path for path in project.root.parent.rglob("*") if "dvlite" not in str(path)}
    done = project.run("checkout")
    assert done.returncode == 1 and "bad" in done.stderr and "Traceback" not in done.stderr
    after = {path for path in project.root.parent.rglob("*") if "dvlite" not in str(path)}
    assert after - before == {project.root / "fine", project.root / "fine/a"}


def test_a_malformed_pointer_names_file_line_and_reason(project):
    project.write({"a": "1"})
    project.dv("add", "a")
    path = project.root / "a.dvlite"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"size = 1", b"size = one"))
    for command in ("status", "checkout", "push"):
        done = project.run(command)
        if command == "push":
            continue  # reads Git's index, where the pointer is fine
        assert (
            done.returncode == 1
            and "a.dvlite" in done.stderr
            and "line 4" in done.stderr
            and "git checkout -- a.dvlite" in done.stderr
        )
    assert (project.root / "a").read_text() == "1"


def test_a_truncated_pack_in_the_store_loses_nothing_that_a_remote_has(pushed):
    before = pushed.read("data")
    for path in pushed.packs():
        path.chmod(0o644)
        os.truncate(path, path.stat().st_size // 2)
    shutil.rmtree(pushed.root / "data")
    done = pushed.run("checkout")
    assert done.returncode in (10, 11) and not (pushed.root / "data").exists()
    pushed.dv("pull")
    assert pushed.read("data") == before
    assert list((pushed.root / ".git/dvlite/quarantine").iterdir())


def test_a_bit_that_rotted_without_a_trace_in_the_stat_is_never_checked_out(pushed):
    """The file is as it was noted when it was hashed; only the quick checksum tells."""
    store = pushed.repo.store
    path = store.path_of(refs.in_worktree(pushed.repo.git).found["model.bin"].oid)
    before = path.stat()
    assert store.checksum_of(path) == xxhash.xxh3_128_digest(path.read_bytes())
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (pushed.root / "model.bin").unlink()
    assert "corrupt" in pushed.dv("checkout", code=11)
    assert not (pushed.root / "model.bin").exists()
    pushed.dv("pull")
    assert (
        hashlib.sha256((pushed.root / "model.bin").read_bytes()).hexdigest()
        in (pushed.root / "model.bin.dvlite").read_text()
    )


def test_a_flipped_bit_in_the_store_is_never_checked_out(pushed):
    before = pushed.read("data")
    (path, *_) = sorted(pushed.packs(), key=lambda one: -one.stat().st_size)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    shutil.rmtree(pushed.root / "data")
    pushed.run("checkout")
    found = pushed.read("data") if (pushed.root / "data").exists() else {}
    assert found.items() <= before.items() and len(found) < len(before)
    pushed.dv("pull")
    assert pushed.read("data") == before


def test_unsaved_data_survives_a_bad_store(pushed):
    """The store's copy is bad, so the worktree's is the only one: a checkout of another version must keep it."""
    pushed.write({"data/d0/f0.txt": "two"})
    pushed.dv("add", "data")
    pushed.commit("two")
    for path in pushed.packs():
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        at = data.find(b"two")
        if at > 0:
            data[at] ^= 1
            path.write_bytes(data)
            time.sleep(0.01)
    pushed.git("checkout", "-q", "HEAD~1")
    said = pushed.dv("checkout", code=14)
    assert "data/d0/f0.txt" in said and "is not stored" in said
    assert pushed.read("data")["d0/f0.txt"] == b"two"


# ---- where a program is started from --------------------------------------------------------------------------------


def test_names_do_not_depend_on_the_locale(project):
    project.write({"loc/ö": "precious"})
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert project.run("add", "loc", env=os.environ | bare).returncode == 0
    first = (project.root / "loc.dvlite").read_bytes()
    assert "loc/ö" in project.dv("ls", "loc")
    project.dv("add", "loc", "--force")
    assert (project.root / "loc.dvlite").read_bytes() == first


def test_a_program_without_streams_does_its_work(pushed):
    pushed.write({"more": "more"})
    done = subprocess.run(
        f"'{sys.executable}' -m dvlite add more >&- 2>&- <&- && '{sys.executable}' -m dvlite push >&-",
        shell=True,
        cwd=pushed.root,
    )
    assert done.returncode == 0
    assert pushed.json("fsck", "--remote")["problems"] == []


@pytest.mark.parametrize("command", [("add", "data", "--desc", "\udcff"), ("remote", "add", "x", "../\udcff")])
def test_an_argument_that_is_no_text_is_refused(pushed, command):
    assert "not valid UTF-8" in pushed.dv(*command, code=2)


@pytest.mark.parametrize("command", [("status", "nope"), ("add", "nope"), ("status",)])
def test_the_exit_code_is_the_same_with_json(pushed, command):
    if command == ("status",):
        (pushed.root / "data.dvlite").write_text("bad\n")
    assert pushed.run(*command).returncode == pushed.run(*command, "--json").returncode != 0


@pytest.mark.parametrize("name", ["dvlite.toml", ".gitattributes", ".GitIgnore", "sub/.gitmodules", ".dvliteignore"])
def test_a_pointer_for_what_is_gits_or_ours_is_refused_on_reading(pushed, name):
    target = pushed.root / f"{name}.dvlite"
    target.parent.mkdir(exist_ok=True)
    shutil.copy(pushed.root / "data.dvlite", target)
    before = {path: path.read_bytes() for path in pushed.root.glob("*") if path.is_file()}
    assert "own" in pushed.dv("checkout", "--force", code=1)
    assert {path: path.read_bytes() for path in before} == before and not (pushed.root / "sub/.gitmodules").exists()


@pytest.mark.parametrize("url", [".", "data/remote", ".git/remote"])
def test_a_remote_in_the_repository_is_refused(pushed, url):
    assert "outside" in pushed.dv("remote", "add", "inner", url, code=2)
    assert "outside" in pushed.dv("remote", "set", "origin", "url", url, code=2)
