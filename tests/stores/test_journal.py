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
