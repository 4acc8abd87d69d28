"""Damage at every kind of place on a remote is found, and healed from what is here."""

import os

import pytest

from tests.ops.test_fsck import HOWS, damage


@pytest.fixture
def there(pushed):
    """A project whose remote has packs, indexes, a merged index and a large file."""
    for number in range(2):
        pushed.write({"data/d1/f1.txt": f"version {number}"})
        pushed.dv("add", "-q", "data")
        pushed.commit(f"version {number}")
        pushed.dv("push")
    store = pushed.repo.remote()
    store.indexes.merge(store.look(), at_least=1)
    return pushed


def remote_files(project):
    root = project.root.parent / "remote"
    return sorted(
        path for folder in ("packs", "objects", "indexes") for path in (root / folder).rglob("*") if path.is_file()
    )


def test_a_healthy_remote_is_well(there):
    result = there.json("fsck", "--remote")
    assert result["problems"] == []
    assert result["files"] == len(remote_files(there))


@pytest.mark.parametrize("how", HOWS)
def test_damage_at_every_file_is_found_and_healed(there, how):
    for path in remote_files(there):
        before = path.read_bytes()
        damage(path, how)
        result = there.run("fsck", "--remote", "--json")
        is_help = path.parent.name == "indexes" and how == "gone"  # only a help for readers
        assert (result.returncode in (10, 11)) != is_help, (path, result.stdout)
        healed = there.json("fsck", "--remote", "--repair", code=0)
        assert all(one["healed"] for one in healed["problems"]), (path, healed)
        assert there.json("fsck", "--remote")["problems"] == [], path
        assert before
    clone = there.clone()
    clone.dv("pull")
    assert clone.read("data") == there.read("data")


@pytest.mark.parametrize("how", HOWS)
def test_no_command_delivers_wrong_bytes_from_a_damaged_remote(there, how):
    wanted = there.read("data") | {"model.bin": (there.root / "model.bin").read_bytes()}
    for number, path in enumerate(remote_files(there)):
        before = path.read_bytes()
        damage(path, how)
        clone = there.clone(f"clone{number}")
        clone.run("pull")
        found = {**(clone.read("data") if (clone.root / "data").exists() else {})}
        if (clone.root / "model.bin").exists():
            found["model.bin"] = (clone.root / "model.bin").read_bytes()
        assert all(wanted[name] == data for name, data in found.items()), path
        path.write_bytes(before)


def test_samples_of_a_remote_go_around(there):
    seen = 0
    for _ in range(30):
        seen += there.json("fsck", "--remote", "--sample", "20%")["files"]
    assert seen >= len(remote_files(there))
    assert os.path.exists(there.root / ".git/dvlite/remotes/origin/audited")


@pytest.mark.parametrize("damaged", [None, b"", b"something else"])
def test_a_marker_that_is_gone_or_damaged_is_written_anew(there, damaged):
    marker = there.root.parent / "remote/dvlite-remote.json"
    good = marker.read_bytes()
    marker.unlink() if damaged is None else marker.write_bytes(damaged)
    clone = there.clone("fresh")
    done = clone.run("pull")
    assert done.returncode in (1, 13)
    assert "dvlite fsck --remote-name origin --repair" in done.stderr
    clone.dv("fsck", "--remote-name", "origin", "--repair")
    assert marker.read_bytes() == good
    clone.dv("pull")
    assert clone.json("fsck", "--remote")["problems"] == []


def test_a_marker_of_a_newer_dvlite_or_a_foreign_folder_is_not_written_over(there, tmp_path):
    marker = there.root.parent / "remote/dvlite-remote.json"
    newer = b'{"dvlite":{"format":2}}\n'
    marker.write_bytes(newer)
    assert "Update dvlite" in there.dv("fsck", "--remote", "--repair", code=1)
    assert marker.read_bytes() == newer
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "objects").mkdir()
    (foreign / "objects/theirs").write_text("theirs")
    there.dv("remote", "add", "other", "../foreign", "--local")
    assert "doesn't look like a dvlite remote" in there.dv("fsck", "--remote-name", "other", "--repair", code=13)
    assert sorted(path.name for path in foreign.rglob("*")) == ["objects", "theirs"]


def test_a_remote_that_is_gone_is_not_well(there, tmp_path):
    (there.root.parent / "remote").rename(there.root.parent / "gone")
    result = there.json("fsck", "--remote", code=10)
    assert "empty or not there" in result["problems"][0]["what"]


@pytest.mark.parametrize("damaged", [b"garbage", b'{"oids":["sha256:' + b"0" * 64 + b'"]}\n'])
def test_a_damaged_claim_is_found_and_written_anew(there, damaged):
    claim = sorted((there.root.parent / "remote/claims").rglob("*.json"))[-1]
    claim.write_bytes(damaged)
    name = claim.relative_to(there.root.parent / "remote").as_posix()
    assert [one["what"] for one in there.json("fsck", "--remote", code=11)["problems"]] == [name]
    there.dv("fsck", "--remote", "--repair")
    there.dv("push", "-q")
    assert there.json("fsck", "--remote")["problems"] == []


TEXTS = {name: (f"{name} line\n" * 400).encode() for name in "abc"}


@pytest.fixture
def pack(project):
    """The one pack of three files on a remote."""
    project.write(TEXTS)
    project.dv("remote", "add", "origin", "../remote")
    project.dv("add", "-q", *TEXTS)
    project.commit("all")
    project.dv("push", "-q")
    packs = (project.root.parent / "remote/packs").glob("*.pack")
    found = next(path for path in packs if b"a line" in path.read_bytes())
    found.chmod(0o644)
    return found


def test_each_clone_heals_what_it_has_and_nothing_is_healed_in_words_alone(project, pack):
    """Two objects of one pack are bad; two clones have one each."""
    pack.write_bytes(pack.read_bytes().replace(b"a line", b"A line", 1).replace(b"b line", b"B line", 1))
    clones = {name: project.clone(f"has-{name}") for name in "ab"}
    for name, clone in clones.items():
        clone.write({name: TEXTS[name]})
        clone.dv("add", "-q", name)
        clone.dv("fsck", "--remote", "--repair", code=11 if name == "a" else 0)
    assert project.json("fsck", "--remote")["problems"] == []
    fresh = project.clone("fresh")
    fresh.dv("pull", "-q")
    assert all((fresh.root / name).read_bytes() == data for name, data in TEXTS.items())


def test_a_pack_that_is_cut_short_gives_what_is_good_in_it(project, pack):
    pack.write_bytes(pack.read_bytes()[:-1])
    clone = project.clone("empty-handed")
    clone.dv("fsck", "--remote", "--repair")
    clone.dv("pull", "-q")
    assert all((clone.root / name).read_bytes() == data for name, data in TEXTS.items())


def test_a_remote_that_is_gone_is_made_anew_when_that_is_asked_for(there):
    (there.root.parent / "remote").rename(there.root.parent / "gone")
    there.dv("fsck", "--remote", "--repair")
    assert there.json("fsck", "--remote")["problems"] == []
    clone = there.clone("fresh")
    clone.dv("pull", "-q")
    assert (clone.root / "data/d1/f1.txt").read_text() == "version 1"


def test_what_uploads_left_is_said_and_goes_in_time(there):
    packs = there.root.parent / "remote/packs"
    (packs / f"{'a' * 64}.pack").write_bytes(b"DVLPACK1 and so on")
    (packs / f"{'b' * 64}.idx").write_bytes(next(packs.glob("*.idx")).read_bytes())
    before = set(packs.iterdir())
    result = there.json("fsck", "--remote", code=11)  # an index that is another pack's
    assert "and 1 more: a pack or an index without the other" in result["notes"][0]
    for path in packs.iterdir():
        os.utime(path, (0, 0))
    there.dv("gc", "--remote", "--force")
    assert before == set(packs.iterdir())
    for path in (packs.parent / "doomed").iterdir():
        os.utime(path, (1, 1))
    there.dv("gc", "--remote", "--force")
    assert before - set(packs.iterdir()) == {packs / f"{'a' * 64}.pack"}
