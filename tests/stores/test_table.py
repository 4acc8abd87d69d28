"""The table over many packs, when several threads ask it and change it."""

import hashlib
import random
import threading
import tracemalloc

import pytest

from dvlite import files
from dvlite.oid import Oid
from dvlite.pack import PackIndex, Place
from dvlite.stores.table import Table


def index_of(name, count=600):
    oids = [Oid("sha256", hashlib.sha256(f"{name} {at}".encode()).digest()) for at in range(count)]
    return PackIndex(
        hashlib.sha256(name.encode()).hexdigest(),
        8 * count + 8,
        {oid: Place(8 + 8 * at, 8) for at, oid in enumerate(oids)},
    )


@pytest.fixture
def indexes():
    return {index.id: index for index in (index_of(f"pack {at}") for at in range(40))}


def assert_true(table, indexes):
    for id_, index in indexes.items():
        oids = list(index.places)[::50]
        assert table.packs_of(oids) == dict.fromkeys(oids, id_)
        assert all(table.find(oid) == (id_, index.places[oid]) for oid in oids)


@pytest.mark.parametrize("step", [1, 50, 300])
def test_places_are_those_in_the_pack_that_is_asked_for(tmp_path, indexes, step):
    """Also where the same objects lie in another, and before a table was written."""
    twin = index_of("pack 7")
    twin = PackIndex("f" * 64, twin.size, {oid: Place(place.offset + 1, 8) for oid, place in twin.places.items()})
    loaded = []
    table = Table(tmp_path / "table", lambda id_: loaded.append(id_) or {**indexes, twin.id: twin}[id_])
    oids = [*twin.places][::step]
    assert table.places(twin.id, oids) == {oid: twin.places[oid] for oid in oids}, "nothing was looked at yet"
    table.refresh({*indexes, twin.id})
    loaded.clear()
    for index in (twin, index_of("pack 7")):
        assert table.places(index.id, [*oids, Oid("sha256", bytes(32))]) == {oid: index.places[oid] for oid in oids}
    assert bool(loaded) == (step == 1), "few are looked up, many are read with their index"


@pytest.mark.parametrize("is_same_thread", [True, False])
def test_a_pack_that_is_dropped_while_the_table_is_written_spoils_no_other(tmp_path, indexes, is_same_thread):
    """Nor for the next process, which trusts the file."""
    first, *_, late = sorted(indexes)

    def load(id_):
        if id_ == late:
            dropping = threading.Thread(target=table.drop, args=[first])
            dropping.start()
            dropping.join(0.1)
            if is_same_thread:
                table.drop(first)
        return indexes[id_]

    table = Table(tmp_path / "table", load)
    table.refresh(indexes)
    left = {id_: index for id_, index in indexes.items() if id_ != first}
    while table.find(next(iter(indexes[first].places))):  # the other thread waits until the table is written
        pass
    assert_true(table, left)
    again = Table(tmp_path / "table", indexes.__getitem__)
    again.refresh(left)
    assert_true(again, left)


def test_threads_that_refresh_and_ask_at_once_get_right_answers(tmp_path, indexes):
    table = Table(tmp_path / "table", indexes.__getitem__)
    ids = sorted(indexes)
    always, errors = ids[:5], []

    def run(number):
        try:
            for step in range(30):
                table.refresh(always + ids[5 + (number * 7 + step) % 30 :])
                assert_true(table, {id_: indexes[id_] for id_ in always})
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_table_goes_from_file_to_file_in_small_parts_and_its_packs_keep_their_numbers(tmp_path, indexes, monkeypatch):
    table = Table(tmp_path / "table", indexes.__getitem__)
    some = sorted(indexes)[::2]
    table.refresh(some)
    assert table._packs == some
    parts, real = [], files.write_atomic

    def write(path, data, **options):
        parts.append(list(data))
        real(path, parts[-1], **options)

    monkeypatch.setattr(files, "write_atomic", write)
    table.refresh(indexes)
    assert table._packs[: len(some)] == some and set(table._packs) == set(indexes)
    ((head, *body),) = parts
    assert max(map(len, body)) < sum(map(len, body)) // 100
    assert_true(table, indexes)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_packs_come_and_go_the_table_answers_for_those_that_are_there(tmp_path, indexes, seed):
    """In one process, and in one that begins with the file that was left."""
    pick = random.Random(seed)
    more = {index.id: index for index in (index_of(f"large {at}", 5000) for at in range(8))}
    every = {**indexes, **more}
    table = Table(tmp_path / "table", every.__getitem__)
    for _ in range(8):
        live = {id_: every[id_] for id_ in pick.sample(sorted(every), pick.randrange(len(every)))}
        for one in (table, Table(tmp_path / "table", every.__getitem__)):
            one.refresh(live)
            assert_true(one, live)
            gone = [oid for id_ in every.keys() - live for oid in list(every[id_].places)[::100]]
            assert one.packs_of(gone) == {} and not any(map(one.find, gone))
            assert one.sizes(gone) == ({}, gone)


def test_what_is_being_listed_is_not_mixed_with_what_comes_meanwhile(tmp_path, indexes):
    table = Table(tmp_path / "table", indexes.__getitem__)
    table.refresh(indexes)
    oids = table.oids()
    found = {next(oids)}
    table.refresh(sorted(indexes)[-1:])
    assert found | set(oids) == {oid for index in indexes.values() for oid in index.places}


def test_a_damaged_width_is_not_reckoned_with(tmp_path, indexes):
    Table(tmp_path / "table", indexes.__getitem__).refresh(indexes)
    data = bytearray((tmp_path / "table").read_bytes())
    data[24] ^= 0x80  # of the fan-out: its width in bits
    (tmp_path / "table").write_bytes(data)
    table = Table(tmp_path / "table", indexes.__getitem__)
    tracemalloc.start()
    table.refresh(indexes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20
    assert_true(table, indexes)
