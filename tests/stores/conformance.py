"""What every store must do: subclass it, give it a `store` fixture and a way to open the same store anew."""

import os
import threading

import pytest

from dvlite import hashing, pack, transfer
from dvlite.errors import CorruptError, MissingError
from dvlite.stores import packs
from dvlite.stores.base import Report
from dvlite.stores.memory import MemoryStore


def oid(data, algorithm="sha256"):
    return hashing.oid_of(algorithm, data)


class StoreConformance:
    def reopen(self, store):
        """Return the same store, with nothing remembered."""
        raise NotImplementedError

    def test_an_empty_store_has_nothing(self, store):
        assert store.find([oid(b"x")]) == {}
        assert list(store.oids()) == []
        assert list(store.read_many([oid(b"x")])) == []
        with pytest.raises(MissingError):
            store.read(oid(b"x"))

    def test_what_is_put_is_there(self, store):
        with store.batch() as batch:
            names = [batch.put(data, "sha256") for data in (b"", b"a", b"b" * 5000)]
        for one in (store, self.reopen(store)):
            assert one.find(names) == {names[0]: 0, names[1]: 1, names[2]: 5000}
            assert dict(one.read_many(names)) == {names[0]: b"", names[1]: b"a", names[2]: b"b" * 5000}
            assert set(one.oids()) == set(names)

    def test_both_algorithms_live_together(self, store):
        with store.batch() as batch:
            names = [batch.put(b"same", "sha256"), batch.put(b"same", "blake3")]
        assert set(self.reopen(store).oids()) == set(names)
        assert [data for _, data in store.read_many(names)] == [b"same", b"same"]

    def test_nothing_is_visible_before_the_batch_is_closed(self, store):
        batch = store.batch()
        name = batch.put(b"later", "sha256")
        assert self.reopen(store).find([name]) == {}
        batch.publish()
        assert self.reopen(store).find([name]) == {name: 5}

    def test_an_abandoned_batch_leaves_nothing(self, store):
        with pytest.raises(RuntimeError), store.batch() as batch:
            name = batch.put(b"never", "sha256")
            raise RuntimeError
        assert self.reopen(store).find([name]) == {}

    def test_putting_again_is_the_same(self, store):
        for _ in range(3):
            with store.batch() as batch:
                name = batch.put(b"again", "sha256")
                assert batch.put(b"again", "sha256") == name
        assert list(self.reopen(store).oids()) == [name]

    @pytest.mark.parametrize("size", [30, 90_000, 900_000])
    def test_views_are_done_with_when_they_were_taken(self, store, size):
        room = bytearray(size)
        pieces = [memoryview(room)[: size // 3], memoryview(room)[size // 3 :]]
        expected = {}
        with store.batch() as batch:
            for byte in b"abc":
                room[:] = bytes([byte]) * size
                its = {oid(piece): bytes(piece) for piece in pieces}
                batch.take_all(zip(its, pieces, strict=True))
                expected |= its
        assert dict(self.reopen(store).read_many(expected)) == expected

    def test_many_batches_all_stay(self, store):
        names = []
        for number in range(12):
            with store.batch() as batch:
                names.append(batch.put(f"batch {number}".encode(), "sha256"))
        assert self.reopen(store).find(names).keys() == set(names)
        assert {data for _, data in store.read_many(names)} == {f"batch {n}".encode() for n in range(12)}

    def test_large_files_are_taken_and_sent(self, store, tmp_path):
        path = tmp_path / "large"
        path.write_bytes(os.urandom(3 << 20))
        with store.batch() as batch:
            taken = batch.put_file(path, "sha256")
        assert taken.oid == oid(path.read_bytes())
        assert path.exists()
        assert self.reopen(store).find([taken.oid]) == {taken.oid: 3 << 20}
        target, report = MemoryStore(), Report()
        with target.batch() as batch:
            store.send({taken.oid: 3 << 20}, batch, report)
        assert target.read(taken.oid) == path.read_bytes()
        assert report.copied == {taken.oid: 3 << 20}

    def test_a_given_file_may_be_kept(self, store, tmp_path):
        path = tmp_path / "given"
        path.write_bytes(b"given" * 300_000)
        with store.batch() as batch:
            taken = batch.put_file(path, "sha256", is_given=True)
        assert self.reopen(store).find([taken.oid]) == {taken.oid: 1_500_000}

    def test_a_file_that_is_not_what_it_must_be_is_refused_and_leaves_nothing(self, store, tmp_path):
        path = tmp_path / "large"
        for is_given in (False, True):
            path.write_bytes(b"other" * 300_000)
            with store.batch() as batch, pytest.raises(CorruptError):
                batch.put_file(path, "sha256", oid=oid(b"wanted"), is_given=is_given)
        assert list(self.reopen(store).oids()) == []

    def make_pack(self, folder, datas):
        writer = packs.PackWriter(folder, 1 << 30)
        for data in datas:
            writer.add(oid(data), data)
        return writer.finish()

    def test_whole_packs_are_taken(self, store, tmp_path):
        written = self.make_pack(tmp_path, [b"one", b"two", b"three"])
        with store.batch() as batch:
            assert set(batch.put_pack(written.path)) == {oid(b"one"), oid(b"two"), oid(b"three")}
        assert self.reopen(store).find([oid(b"two")]) == {oid(b"two"): 3}
        assert store.read(oid(b"three")) == b"three"

    def test_a_pack_with_a_flipped_bit_is_refused(self, store, tmp_path):
        written = self.make_pack(tmp_path, [b"one", b"two", b"three"])
        data = bytearray(written.path.read_bytes())
        data[len(pack.MAGIC) + 4] ^= 1
        written.path.chmod(0o644)
        written.path.write_bytes(data)
        with pytest.raises(CorruptError), store.batch() as batch:
            batch.put_pack(written.path)
        assert self.reopen(store).find([oid(b"one"), oid(b"two")]) == {}

    @pytest.mark.parametrize("keep", [0, 7, 20, -1, -60])
    def test_a_pack_that_is_cut_is_refused(self, store, tmp_path, keep):
        written = self.make_pack(tmp_path, [b"one", b"two"])
        written.path.chmod(0o644)
        written.path.write_bytes(written.path.read_bytes()[:keep])
        with pytest.raises(CorruptError), store.batch() as batch:
            batch.put_pack(written.path)

    def test_sending_reports_what_is_not_there_and_sends_the_rest(self, store):
        with store.batch() as batch:
            name = batch.put(b"here", "sha256")
        target, report = MemoryStore(), Report()
        with target.batch() as batch:
            store.send({name: 4, oid(b"gone"): 4}, batch, report)
        assert target.read(name) == b"here"
        assert isinstance(report.failed[oid(b"gone")], MissingError)
        assert report.copied == {name: 4}

    def test_many_threads_put_at_once(self, store):
        with store.batch() as batch:
            threads = [
                threading.Thread(
                    target=lambda at=at: [batch.put(f"{at % 2} {n}".encode(), "sha256") for n in range(200)]
                )
                for at in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(set(self.reopen(store).oids())) == 400

    def test_a_round_trip_through_another_store(self, store):
        source = MemoryStore()
        with source.batch() as batch:
            names = [batch.put(os.urandom(number * 37), "sha256") for number in range(60)]
        wanted = source.find(names)
        assert not transfer.copy(source, store, wanted, jobs=3).failed
        back = MemoryStore()
        assert not transfer.copy(self.reopen(store), back, wanted, jobs=3).failed
        assert back.objects == source.objects
