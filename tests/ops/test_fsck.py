"""fsck finds every flipped bit, cut byte and missing file, names what is touched, and heals what can be healed."""

import os
import shutil
import sqlite3

import pytest

from dvlite import files, hashing
from dvlite.stores.local import audit


@pytest.fixture
def kept(pushed):
    """A pushed project with a second version that is not pushed, in a folder and as a large file."""
    pushed.write({"data/d1/f1.txt": "second version"})
    pushed.write({"model.bin": os.urandom(1 << 20)})
    pushed.settle()
    pushed.dv("add", "-q", "data", "model.bin")
    pushed.commit("second")
    pushed.git("tag", "-a", "-m", "x", "model@v1.0.0")
    return pushed


def store_files(project):
    root = project.root / ".git/dvlite"
    return sorted(path for folder in ("packs", "objects") for path in (root / folder).rglob("*") if path.is_file())


def damage(path, how):
    path.chmod(0o644)
    data = path.read_bytes()
    status = path.stat()
    if how == "gone":
        path.unlink()
        return
    if how == "flip first":
        data = bytes([data[0] ^ 1]) + data[1:]
    elif how == "flip middle":
        data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    elif how == "flip last":
        data = data[:-1] + bytes([data[-1] ^ 1])
    elif how == "cut":
        data = data[:-1]
    elif how == "empty":
        data = b""
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


HOWS = ["flip first", "flip middle", "flip last", "cut", "empty", "gone"]


def test_a_healthy_store_is_well_and_nothing_changes(kept):
    before = {path: path.stat() for path in store_files(kept)}
    result = kept.json("fsck")
    assert result["problems"] == []
    assert result["files"] == len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == {path: old.st_mtime_ns for path, old in before.items()}


@pytest.mark.parametrize("how", HOWS)
def test_damage_at_every_file_of_the_store_is_found_named_and_healed(kept, how):
    before = {path: path.read_bytes() for path in kept.root.rglob("data/**/*") if path.is_file()}
    for number, path in enumerate(store_files(kept)):
        backup = path.read_bytes()
        damage(path, how)
        is_whole = how == "flip first" and path.suffix == ".pack"  # no object is touched
        result = kept.json("fsck", code=0 if is_whole else 10 if how == "gone" else 11)
        assert any(one["kind"] == ("missing" if how == "gone" else "corrupt") for one in result["problems"]), (
            path,
            result,
        )
        named = [place for one in result["problems"] for place in one["places"]]
        assert named or is_whole, (path, result)
        healed = kept.json("fsck", "--repair")
        assert all(one["healed"] or one["kind"] == "corrupt" for one in healed["problems"]), (number, path, healed)
        assert kept.json("fsck")["problems"] == []
        assert backup or path.exists()
    assert {path: path.read_bytes() for path in before} == before
    for rev in ("HEAD", "HEAD~1"):
        kept.dv("checkout", "--rev", rev)
    kept.dv("checkout")


@pytest.mark.parametrize("how", HOWS)
def test_damage_at_all_files_at_once_is_found_and_healed_from_the_remote(kept, how):
    kept.dv("push", "-q")
    kept.settle()
    before = store_files(kept)
    for path in before:
        damage(path, how)
    found = kept.json("fsck", code=10 if how == "gone" else 11)
    names = {one["what"] for one in found["problems"]}
    wanted = {path.relative_to(kept.root / ".git/dvlite").as_posix() for path in before}
    assert wanted <= names or how == "gone"  # what was in a pack that nobody looked into is known by its pointers alone
    kept.json("fsck", "--repair")
    assert kept.json("fsck")["problems"] == []
    kept.dv("checkout", "-q", "--rev", "HEAD~1")
    kept.dv("checkout", "-q")


def test_a_touched_path_is_named_with_its_commits_and_versions(kept):
    big = hashing.oid_of_file("sha256", kept.root / "model.bin")
    path = kept.repo.store.loose_path(big)
    damage(path, "flip middle")
    (problem,) = kept.json("fsck", code=11)["problems"]
    assert problem["oid"] == str(big)
    assert problem["places"] == [
        {
            "path": "model.bin",
            "commits": [kept.git("rev-parse", "HEAD").strip()],
            "tags": ["model@v1.0.0"],
            "is_here": True,
            "repository": "",
        }
    ]
    said = kept.dv("fsck", code=10)
    assert "model.bin" in said and "model@v1.0.0" in said


def test_it_heals_from_the_worktree_where_no_remote_has_it(kept):
    (kept.root.parent / "remote").rename(kept.root.parent / "away")
    shutil.rmtree(kept.root / ".git/dvlite/packs")
    shutil.rmtree(kept.root / ".git/dvlite/objects")
    assert kept.json("fsck", code=10)["problems"]
    result = kept.json("fsck", "--repair", code=10)  # the first version is only on the remote
    assert {one["healed"] for one in result["problems"]} <= {"the worktree", ""}
    kept.dv("checkout", "--rev", "HEAD")
    (kept.root.parent / "away").rename(kept.root.parent / "remote")
    kept.dv("fetch", "--rev", "HEAD~1")
    assert kept.json("fsck")["problems"] == []


def test_it_heals_from_another_remote(kept):
    kept.dv("remote", "add", "second", "../second")
    kept.dv("push", "--remote", "second", "--all")
    shutil.rmtree(kept.root.parent / "remote")
    for path in store_files(kept):
        damage(path, "gone")
    shutil.rmtree(kept.root / "data")
    (kept.root / "model.bin").unlink()
    result = kept.json("fsck", "--repair")
    assert {one["healed"] for one in result["problems"]} == {"remote 'second'"}
    kept.dv("checkout")


def test_it_heals_from_the_trash(kept):
    from dvlite.stores.local import trash

    names = [path.relative_to(kept.root / ".git/dvlite").as_posix() for path in store_files(kept)]
    trash.put(kept.root / ".git/dvlite", names)
    (kept.root.parent / "remote").rename(kept.root.parent / "away")
    result = kept.json("fsck", "--repair")
    assert {one["healed"] for one in result["problems"]} == {"the trash"}


def test_a_clone_that_fetched_only_some_versions_is_well(kept):
    kept.dv("push")
    clone = kept.clone()
    clone.dv("pull")
    result = clone.json("fsck")
    assert (result["problems"], result["not_here"] > 0) == ([], True)


def test_an_index_that_lies_is_found_and_forgets(kept):
    kept.settle()
    kept.dv("status")
    path = kept.root / "data/d1/f1.txt"
    old = path.stat()
    db = sqlite3.connect(kept.root / ".git/dvlite/index.db")
    (oids,) = db.execute("SELECT oids FROM folders WHERE path = ?", (b"data/d1",)).fetchone()
    lie = bytearray(oids)
    lie[5] ^= 1
    db.execute("UPDATE folders SET oids = ? WHERE path = ?", (bytes(lie), b"data/d1"))
    db.commit()
    db.close()
    result = kept.json("fsck")
    assert [one["kind"] for one in result["problems"]] == ["index"]
    assert kept.json("fsck")["problems"] == []
    assert path.stat() == old
    assert kept.dv("status").startswith("clean")


def test_a_damaged_index_database_is_begun_anew(kept):
    (kept.root / ".git/dvlite/index.db").write_bytes(b"no database at all" * 100)
    assert [one["kind"] for one in kept.json("fsck")["problems"]] == ["index"]
    assert kept.json("fsck")["problems"] == []


def test_what_a_killed_checkout_left_aside_is_named(kept):
    stage = kept.root / ".git/dvlite/tmp/00000000-1-00"
    stage.mkdir(parents=True)
    (stage / f"0{files.ASIDE}").write_text("precious")
    (stage / f"1{files.ASIDE}").write_text("second version")
    (problem,) = kept.json("fsck", code=1)["problems"]
    assert problem["kind"] == "aside" and "0.aside" in problem["what"]
    assert (stage / f"0{files.ASIDE}").read_text() == "precious"
    assert not (stage / f"1{files.ASIDE}").exists()


def test_samples_go_around_all_files(kept):
    for number in range(6):
        kept.write({f"big{number}": os.urandom(1 << 20)})
        kept.dv("add", "-q", f"big{number}")
    total = len(store_files(kept))
    seen = 0
    for _ in range(40):
        result = kept.json("fsck", "--sample", "10%")
        assert 0 < result["files"] < total
        seen += result["files"]
    assert seen >= 2 * total
    names = [(f"objects/{n}", 10) for n in range(10)]
    after, taken = "", []
    for _ in range(4):
        turn = audit.take_turn(names, after, 0.25)
        taken += turn
        after = turn[-1]
    assert set(taken) == {name for name, _ in names}


def test_many_bytes_are_verified_by_all_cores(project):
    project.write({f"f{n}": os.urandom(1 << 20) for n in range(80)}, "data")
    project.dv("add", "-q", "data")
    damage(store_files(project)[7], "flip middle")
    result = project.json("fsck", "--no-worktree", code=11)
    assert result["files"] == len(store_files(project)) + 1
    assert len([one for one in result["problems"] if one["kind"] == "corrupt"]) == 1


@pytest.mark.parametrize("how", ["branch", "stash"])
def test_unpushed_data_that_only_a_branch_or_a_stash_names_is_missed(project, how):
    project.write({"a": "a" * 50})
    project.dv("add", "-q", "a")
    project.commit("one")
    if how == "branch":
        project.git("switch", "-q", "-c", "other")
    project.write({"b": "b" * 50})
    project.dv("add", "-q", "b")
    before = set(store_files(project))
    if how == "branch":
        project.commit("two")
        project.git("switch", "-q", "main")
    else:
        project.git("stash", "-q")
    for path in before:
        if b"b" * 50 in path.read_bytes():
            path.unlink()
    assert "missing" in {one["kind"] for one in project.json("fsck", code=10)["problems"]}


def test_what_others_add_meanwhile_is_not_missed(project, monkeypatch):
    """Another process adds and commits just after this one has looked which packs there are."""
    from dvlite.ops import fsck, roots

    def add(text):
        project.write({"data/a.txt": text})
        project.dv("add", "-q", "data")
        project.commit(text[:10])

    def add_first(*arguments, real=roots.gather):
        add("second " * 1000)
        return real(*arguments)

    add("first")
    monkeypatch.setattr(roots, "gather", add_first)
    assert fsck.fsck(project.repo).problems == []
