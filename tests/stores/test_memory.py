import pytest

from dvlite.stores.memory import Hashing, MemoryStore
from tests.stores.conformance import StoreConformance, oid


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    def reopen(self, store):
        return store


def test_hashing_keeps_trees_alone(tmp_path):
    work = Hashing()
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert work.put(b"content", "sha256") == work.put_file(path, "sha256").oid == oid(b"content")
    tree = work.put(b"dvlite-tree 1 0\n", "sha256", is_tree=True)
    assert work.trees == {tree: b"dvlite-tree 1 0\n"}
