import errno
import json
import os
import sys

import pytest

from dvlite import files, hashing, machine, pack, transfer
from dvlite.config import Remote
from dvlite.errors import CorruptError, UsageError
from dvlite.stores import packs
from dvlite.stores.base import Report
from dvlite.stores.local import LocalStore, tombs
from dvlite.stores.memory import MemoryStore
from dvlite.stores.remote import RemoteStore
from tests.stores.conformance import StoreConformance, oid


class TestLocalStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store")

    def reopen(self, store):
        return LocalStore(store.root)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def reopen(store):
    return LocalStore(store.root)


def put(store, *datas, is_synced=True):
    with store.open_batch(is_synced=is_synced) as batch:
        return [batch.put(data, "sha256") for data in datas]


def flip(path, at=20):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def names(store):
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_looking_makes_no_file(store):
    store.find([oid(b"x")])
    assert store.state() == ""
    assert not store.root.exists()


def test_small_objects_are_packed_and_large_ones_are_files(store, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1 << 20))
    with store.batch() as batch:
        for number in range(100):
            batch.put(str(number).encode(), "sha256")
        batch.put(b"dvlite-tree 1 0\n", "sha256", is_tree=True)
        taken = batch.put_file(large, "sha256")
    assert sum(name.startswith("packs/") for name in names(store)) == 2  # contents, and trees
    assert store.path_of(taken.oid) == store.loose_path(taken.oid)
    assert store.loose_path(taken.oid).stat().st_mode & 0o777 == 0o444


def test_a_full_pack_begins_the_next(tmp_path):
    store = LocalStore(tmp_path / "store", pack_size=1000)
    found = put(store, *(os.urandom(300) for _ in range(10)))
    assert len(list((store.root / "packs").iterdir())) >= 3
    assert store.find(found).keys() == set(found)


def test_equal_content_makes_equal_packs(tmp_path):
    datas = [str(number).encode() for number in range(1000)]
    for name in ("one", "two"):
        put(LocalStore(tmp_path / name), *datas)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "packs").iterdir()} for name in ("one", "two")
    )
    assert one == two


def test_many_adds_leave_few_packs(store):
    for number in range(200):
        put(store, f"{number}".encode() * 30)
    assert len(list((store.root / "packs").iterdir())) < 30
    assert len(set(reopen(store).oids())) == 200


def test_the_table_can_be_deleted_or_damaged(store):
    found = put(store, *(str(number).encode() for number in range(6000)))
    table = store.root / "table"
    assert table.exists()
    for data in (
        None,
        b"",
        b"garbage" * 50,
        table.read_bytes()[:-1],
        bytes([table.read_bytes()[0] ^ 1]) + table.read_bytes()[1:],
    ):
        table.unlink()
        if data is not None:
            table.write_bytes(data)
        assert reopen(store).find(found).keys() == set(found)


def test_a_flipped_bit_in_a_pack_is_found_and_the_good_objects_stay(store):
    found = put(store, b"one" * 10, b"two" * 10, b"three" * 10)
    before = store.state()
    flip(next((store.root / "packs").iterdir()))
    fresh = reopen(store)
    with pytest.raises(CorruptError) as caught:
        list(fresh.read_many(found))
    assert "quarantine" in caught.value.message and caught.value.hint
    fresh = reopen(store)
    assert fresh.find(found).keys() == set(found[1:])
    assert fresh.read(found[2]) == b"three" * 10
    assert fresh.state() != before  # whoever remembers must look again
    assert put(fresh, b"one" * 10) == found[:1]
    assert reopen(store).read(found[0]) == b"one" * 10


def test_a_flipped_bit_in_a_large_object_is_found_when_it_is_put_again(store, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20))
    with store.batch() as batch:
        name = batch.put_file(path, "sha256").oid
    flip(store.loose_path(name))
    with reopen(store).batch() as batch:
        batch.put_file(path, "sha256")
    assert reopen(store).loose_path(name).read_bytes() == path.read_bytes()


def test_a_truncated_pack_is_set_aside(store):
    found = put(store, b"one", b"two")
    path = next((store.root / "packs").iterdir())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])
    assert reopen(store).find(found) == {}
    assert list((store.root / "quarantine").iterdir())


def test_only_what_is_secured_counts_as_stored(store):
    found = put(store, b"one", b"two")
    assert store.secured([*found, oid(b"gone")]) == set(found)
    flip(next((store.root / "packs").iterdir()), 8)
    assert reopen(store).secured(found) == {found[1]}


# ---- sync before destroy ----


def journal(store):
    return [json.loads(path.read_bytes()) for path in (store.root / "journal").iterdir()]


def test_a_batch_from_the_worktree_is_journaled_not_synced(store, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    put(store, b"x", is_synced=False)
    (entry,) = journal(store)
    assert entry["host"] == machine.host_id() and entry["boot"] == machine.boot_id()
    assert [name for name in entry["names"] if name.startswith("packs/")]
    assert not any(name.endswith(".pack") for name in synced)
    store.settle()
    assert any(name.endswith(".pack") for name in synced)
    assert journal(store) == []


def test_every_other_batch_is_synced_before_it_is_visible(store, monkeypatch):
    order = []
    real_fsync, real_rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: order.append(("sync", os.readlink(f"/proc/self/fd/{fd}"))) or real_fsync(fd)
    )
    monkeypatch.setattr(
        os, "rename", lambda one, two: order.append(("rename", str(one), str(two))) or real_rename(one, two)
    )
    put(store, b"x")
    (rename,) = [step for step in order if step[0] == "rename" and step[2].endswith(".pack")]
    assert order.index(("sync", rename[1])) < order.index(rename)
    assert ("sync", str(store.root / "packs")) in order[order.index(rename) :]


def after_a_reboot(store):
    for path in (store.root / "journal").iterdir():
        entry = json.loads(path.read_bytes())
        path.write_text(json.dumps({**entry, "boot": "an earlier one"}))
    return reopen(store)


def test_what_a_power_cut_tore_is_set_aside_before_anything_trusts_it(store):
    found = put(store, b"one" * 9, b"two" * 9, is_synced=False)
    state = store.state()
    path = next((store.root / "packs").iterdir())
    path.chmod(0o644)
    path.write_bytes(b"\0" * path.stat().st_size)  # the name reached the disk, the bytes did not
    fresh = after_a_reboot(store)
    assert fresh.state() != state
    assert fresh.find(found) == {}
    assert journal(store) == []
    assert put(fresh, b"one" * 9) == found[:1]


def test_what_survived_a_power_cut_is_verified_and_kept(store):
    found = put(store, b"one", b"two", is_synced=False)
    state = store.state()
    fresh = after_a_reboot(store)
    assert fresh.find(found).keys() == set(found) and fresh.state() == state
    assert journal(store) == []


def test_another_hosts_journal_is_not_judged(store):
    put(store, b"one", is_synced=False)
    (path,) = (store.root / "journal").iterdir()
    entry = {**json.loads(path.read_bytes()), "host": "another", "boot": "another"}
    path.write_text(json.dumps(entry))
    reopen(store).settle()
    assert journal(store) == [entry]


def test_a_sync_that_fails_is_never_believed(store, monkeypatch):
    found = put(store, b"one", is_synced=False)
    real = files.sync

    def fail(path):
        if str(path).endswith(".pack"):
            raise OSError(5, "input/output error")
        real(path)

    monkeypatch.setattr(files, "sync", fail)
    with pytest.raises(CorruptError, match="could not be written"):
        store.settle()
    monkeypatch.undo()
    assert reopen(store).find(found) == {}


# ---- sending ----


def test_a_whole_pack_goes_as_it_is_only_if_all_of_it_is_wanted(tmp_path):
    store = LocalStore(tmp_path / "store", pack_size=1 << 16)
    found = put(store, *(os.urandom(4000) for _ in range(10)))
    path = next((store.root / "packs").iterdir())
    for wanted, is_whole in ((found, True), (found[1:], False)):
        target = LocalStore(tmp_path / f"target{is_whole}")
        transfer.copy(store, target, store.find(wanted), jobs=2)
        assert set(target.oids()) == set(wanted)  # nothing that was added and taken back leaks
        assert (target.pack_path(packs.read_index(path).id).exists()) == is_whole


def test_a_corrupt_object_does_not_stop_the_others(tmp_path):
    store = LocalStore(tmp_path / "store", pack_size=1 << 10)
    found = put(store, *(bytes([number]) * 90 for number in range(8)))
    flip(next((store.root / "packs").iterdir()), len(pack.MAGIC) + 95)
    target, report = MemoryStore(), Report()
    with target.batch() as batch:
        reopen(store).send(dict.fromkeys(found, 90), batch, report)
    assert report.failed.keys() == {found[1]} and isinstance(report.failed[found[1]], CorruptError)
    assert set(target.oids()) == set(found) - {found[1]}


@pytest.mark.parametrize("spoil", [b"\xff\n", b"garbage\n", b"packs/x 1 2 3 zz .\n"])
def test_a_damaged_note_of_what_was_seen_is_no_obstacle(store, tmp_path, spoil):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20))
    with store.batch() as batch:
        name = batch.put_file(path, "sha256").oid
    with (store.root / "seen").open("ab") as file:
        file.write(spoil)
    assert reopen(store).secured([name]) == {name}


def test_a_wrong_checksum_in_the_note_is_not_a_corrupt_object(store, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20))
    with store.batch() as batch:
        name = batch.put_file(path, "sha256").oid
    text = (store.root / "seen").read_text()
    line = next(line for line in text.splitlines() if line.startswith("objects/"))
    checksum = line.split(" ")[4]
    (store.root / "seen").write_text(text.replace(checksum, "0" * len(checksum)))
    target = RemoteStore(Remote("r", str(tmp_path / "remote")), tmp_path / "known")
    report = transfer.copy(reopen(store), target, {name: 1 << 20}, jobs=1)
    assert report.copied == {name: 1 << 20} and not report.failed


def test_only_a_pack_itself_says_what_is_in_it(tmp_path):
    """The table is derived, and may be wrong."""
    store = LocalStore(tmp_path / "store", pack_size=1 << 14)
    found = put(store, *(f"{at:05} ".encode() * 20 for at in range(40)))
    other = hashing.oid_of("sha256", b"what no pack has")
    path = next((store.root / "packs").iterdir())
    store.table.share = lambda oids: ({path.stem: [*found[1:], other]}, [])
    target, report = MemoryStore(), Report()
    with target.batch() as batch:
        store.send(dict.fromkeys([*found[1:], other], 120), batch, report)
    assert set(report.copied) == set(found[1:]) and set(report.failed) == {other}


def test_packs_put_together_make_nobody_look_again(project):
    project.write({f"f{number}": str(number) for number in range(20)}, "data")
    project.dv("add", "data")
    state = project.repo.store.state()
    for number in range(6):
        project.write({"f0": f"again {number}"}, "data")
        project.dv("add", "data")
        assert project.repo.store.state() == state
    assert len(list((project.root / ".git/dvlite/packs").iterdir())) < 14, "some were put together"


def test_a_pack_that_a_hand_took_away_is_missed_although_packs_were_put_together_since(project, monkeypatch):
    from dvlite.stores.local import repack

    for number in range(3):
        project.write({"f": f"content {number}"}, "data")
        project.dv("add", "data")
    store = project.repo.store
    state = store.state()
    first, second, *_ = sorted((store.root / "packs").iterdir())
    first.unlink()
    repack.drop(store, [f"packs/{second.name}"])
    assert project.repo.store.state() != state, "another process sees what is gone"


def test_a_full_disk_does_not_keep_packs_from_going(project, monkeypatch):
    from dvlite.stores.local import repack

    project.write({"f": "content"}, "data")
    project.dv("add", "data")
    store = project.repo.store
    store.state()
    packs = sorted((store.root / "packs").iterdir())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", full)
        store._generation.let_go([one.stem for one in packs])
    repack.drop(store, [f"packs/{one.name}" for one in packs])
    assert not list((store.root / "packs").iterdir())


def test_several_corrupt_packs_cost_the_objects_that_are_bad_in_them_alone(tmp_path):
    """Threads that send one pack each set what is bad aside while others look for where its objects lie now."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for number in range(4):
            store = LocalStore(tmp_path / f"store {number}", pack_size=1 << 14)
            found = put(store, *(f"{at:05} ".encode() * 20 for at in range(2000)))
            paths = sorted((store.root / "packs").iterdir())
            for path in paths[::3]:
                flip(path)
            report = transfer.copy(
                reopen(store), LocalStore(tmp_path / f"copy {number}"), dict.fromkeys(found, 120), jobs=4
            )
            assert {type(error) for error in report.failed.values()} == {CorruptError}
            assert len(report.failed) == len(paths[::3]) and len(report.copied) == 2000 - len(report.failed)
    finally:
        sys.setswitchinterval(before)


def test_no_view_is_kept_where_one_of_several_is_refused(store):
    room = bytearray(b"abc")
    pieces = [memoryview(room)[at : at + 1] for at in range(3)]
    oids = [oid(piece) for piece in pieces]
    tombs.note(store.root, [oids[2]])
    with store.open_batch(is_synced=False) as batch:
        with pytest.raises(UsageError):
            batch.take_all(zip(oids, pieces, strict=True))
        room[:] = b"xyz"
    assert dict(reopen(store).read_many(oids[:2])) == {oids[0]: b"a", oids[1]: b"b"}
