"""What the store notes of its files survives being torn."""

from dvlite.stores.local import LocalStore
from dvlite.stores.local.journal import Seen, mark


def test_half_a_line_does_not_lend_its_beginning_to_the_next(tmp_path):
    pack = tmp_path / "packs" / f"{'0' * 64}.pack"
    pack.parent.mkdir()
    pack.write_bytes(b"x")
    name = pack.relative_to(tmp_path).as_posix()
    (tmp_path / "seen").write_text("objects/sha2")
    Seen(tmp_path / "seen").note(name, pack)
    assert Seen(tmp_path / "seen").names() == []
    Seen(tmp_path / "seen").note_many({name: mark(pack.stat())})
    assert Seen(tmp_path / "seen").names() == [name]


def test_who_noted_before_does_not_bring_back_what_others_took_out(tmp_path):
    """Two processes: each has read the notes before the other took a file out of the store."""
    names = [f"packs/{digit * 64}.pack" for digit in "012"]
    (tmp_path / "packs").mkdir()
    marks = {}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
        marks[name] = mark((tmp_path / name).stat())
    one, two = Seen(tmp_path / "seen"), Seen(tmp_path / "seen")
    one.note_many(marks)
    assert two.names() == names
    for seen, name in ((one, names[0]), (two, names[1])):
        with seen.leaving([name]):
            (tmp_path / name).unlink()
    one.note_many(marks)
    assert Seen(tmp_path / "seen").names() == names[2:]


def test_a_pack_that_another_process_folded_is_looked_for_anew(tmp_path):
    """A store whose table still has the old packs asks whether it has an object."""
    one, two = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "store")
    oids = []
    for number in range(3):
        with one.open_batch(is_synced=False) as batch:
            oids.append(batch.put(f"{number}".encode(), "sha256"))
    batch = two.open_batch(is_synced=False)
    assert two.find(oids).keys() == set(oids)
    with one.open_batch(is_synced=False) as more:
        oids.append(more.put(b"3", "sha256"))
    assert len(list((tmp_path / "store/packs").iterdir())) == 1, "folded"
    assert all(batch.has(oid) for oid in oids[:3])
    batch.abandon()
