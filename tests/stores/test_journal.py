"""What the store notes of its files survives being torn."""

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
