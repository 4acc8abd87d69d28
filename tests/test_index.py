import contextlib
import sqlite3

import pytest

from dvlite import hashing, rows
from dvlite.index import Base, Index
from dvlite.rows import Row
from dvlite.statkey import StatKey
from dvlite.tree import FILE, TREE, Entry

OID = hashing.oid_of("sha256", b"x")
KEYS = [StatKey(0o100644, 5, -1, 2**62, 2**63), StatKey(0o100755, 0, 1, 0, 7)]


def row(names=("a", "tab\there\udcff"), mark=b"m" * 16):
    return Row(mark, b"s", OID, 5, 2, "id:1", rows.pack_stats(KEYS), rows.pack_names(names), rows.pack_oids([OID, OID]))


@pytest.fixture
def db(tmp_path):
    return Index(tmp_path / "git" / "index.db")


def test_reading_makes_no_file(db, tmp_path):
    assert db.rows("data") == {} and db.base("data") is None and db.bases() == {} and db.note("x") == ""
    assert not (tmp_path / "git").exists()


def test_rows_come_back(db, tmp_path):
    db.save({"data": row(), "data/sub": row(("b", "c")), "data2": row(), "data/\udcff": row()})
    again = Index(tmp_path / "git" / "index.db")
    rows = again.rows("data")
    assert set(rows) == {"data", "data/sub", "data/\udcff"}
    assert rows["data"][:6] == row()[:6]
    assert again.entries("data", rows["data"]) == {"a": (KEYS[0], OID), "tab\there\udcff": (KEYS[1], OID)}


def test_folders_that_are_gone_are_forgotten(db):
    db.save({"data": row(), "data/sub": row()})
    db.save({}, ["data/sub"])
    assert set(db.rows("data")) == {"data"}


def test_bases_come_back(db):
    for base in (
        Base(Entry(TREE, OID, 3, 1, "")),
        Base(Entry(FILE, OID, 3, 1, ""), "v1", "100644 x", True),
        Base(None),
    ):
        db.set_base("data", base, {OID: b"tree"})
        assert db.base("data") == base
    assert db.tree(OID) == b"tree" and db.bases() == {"data": Base(None)}
    db.drop_base("data")
    assert db.base("data") is None


@pytest.mark.parametrize("data", [b"", b"not a database" * 100, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_foreign_or_corrupt_index_is_rebuilt_silently(db, tmp_path, data):
    db.save({"data": row()})
    db.close()
    (tmp_path / "git/index.db").write_bytes(data)
    again = Index(tmp_path / "git/index.db")
    assert again.rows("data") == {}
    again.save({"data": row()})
    assert set(again.rows("data")) == {"data"}


def test_the_fingerprint_sees_every_part():
    names, stats = rows.pack_names(["a", "b"]), rows.pack_stats(KEYS)
    marks = {
        rows.fingerprint(names, stats, ["s"]),
        rows.fingerprint(rows.pack_names(["a", "c"]), stats, ["s"]),
        rows.fingerprint(names, stats, ["s", "t"]),
        *(
            rows.fingerprint(names, rows.pack_stats([key._replace(**{field: 1234}), KEYS[1]]), ["s"])
            for key in KEYS[:1]
            for field in StatKey._fields
        ),
    }
    assert len(marks) == 3 + len(StatKey._fields)


def test_an_index_of_the_version_before_keeps_its_bases(tmp_path):
    first = Index(tmp_path / "index.db")
    base = Base(Entry(TREE, OID, 5, 2, ""), "", "mark", False)
    first.save({"data": row(["a", "b"])})
    first.set_base("data", base, {OID: b"a tree"})
    first.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as db:
        db.execute("PRAGMA user_version = 2")
    again = Index(tmp_path / "index.db")
    assert again.rows("data") == {} and again.base("data") == base and again.tree(OID) == b"a tree"
    assert not again.was_lost


@pytest.mark.parametrize("time_ns", [-1, -(1 << 62), (1 << 63) + 5, (1 << 64) - 2])
def test_times_long_ago_and_far_away_are_kept(time_ns):
    key = KEYS[0]._replace(mtime_ns=time_ns)
    (kept,) = rows.unpack_stats(rows.pack_stats([key]))
    assert (kept.mtime_ns - time_ns) % (1 << 64) == 0 and kept._replace(mtime_ns=0) == key._replace(mtime_ns=0)
