"""Look once more at what was pushed: each file by its name, its size, and the checksum that the server keeps, where it keeps one.

That is less than `fsck --remote`, which reads all bytes: here what the server says is compared with what is here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dvlite import copying, pack
from dvlite.errors import CorruptError, DvliteError, MissingError, quote
from dvlite.oid import Oid
from dvlite.pack import Place
from dvlite.stores.base import loose_name
from dvlite.stores.local import LocalStore

if TYPE_CHECKING:
    from dvlite.stores.remote import RemoteStore


@dataclass(slots=True)
class Verified:
    """How many files of the remote were looked at, and of how many the server's checksum is that of the bytes here."""

    files: int = 0
    by_checksum: int = 0
    errors: list[DvliteError] = field(default_factory=list)


def verify(store: RemoteStore, oids: Collection[Oid], source: LocalStore) -> Verified:
    """Ask for all files that hold these oids; `source` has the bytes to compare with."""
    store.look(is_whole=False)
    shared, loose, absent = store.share(oids)
    sizes = source.find(loose)
    expected: dict[str, int | None] = {loose_name(oid): sizes.get(oid) for oid in loose}
    for id_ in shared:
        expected[f"packs/{id_}.idx"], expected[f"packs/{id_}.pack"] = store.indexes.sizes(id_)
    found = store.bucket.infos(expected)
    result = Verified(len(expected))
    heal = f"Run 'dvlite fsck --remote-name {quote(store.remote.name)} --repair'."
    result.errors += [MissingError(f"object {oid.short} is not on {store.name}", "Push again.") for oid in absent]
    for name, size in sorted(expected.items()):
        if name not in found:
            result.errors.append(MissingError(f"'{name}' is not on {store.name}", "Push again."))
        elif size is not None and found[name].size != size:
            what = f"'{name}' on {store.name} has {found[name].size} bytes, not {size}"
            result.errors.append(CorruptError(what, heal))
    for name, digest in store.bucket.md5s(name for name in found if not name.endswith(".idx")).items():
        here = _md5_of(store, name, source)
        if here and here == digest:
            result.by_checksum += 1
        elif here:
            result.errors.append(CorruptError(f"'{name}' on {store.name} has other bytes than were sent", heal))
    return result


def _md5_of(store: RemoteStore, name: str, source: LocalStore) -> bytes | None:
    """Return the MD5 that a remote's file must have, by the bytes here; None where they aren't all here."""
    hasher = hashlib.md5(usedforsecurity=False)
    if name.startswith("packs/"):
        id_ = name[len("packs/") : -len(".pack")]
        places = store.index_of(id_).places
        if not places or len(source.find(places)) != len(places):
            return None
        return _md5_of_pack(source, places, store.indexes.tail(id_), hasher)
    _, algorithm, head, rest = name.split("/")
    path = source.path_of(Oid(algorithm, bytes.fromhex(head + rest)))
    return copying.hash_file(path, hasher) if path else None


def _md5_of_pack(source: LocalStore, places: Mapping[Oid, Place], tail: bytes, hasher: Any) -> bytes:
    data = bytearray(max(place.offset + place.size for place in places.values()))
    data[: len(pack.MAGIC)] = pack.MAGIC
    for oid, content in source.read_many(places):
        data[places[oid].offset : places[oid].offset + len(content)] = content
    hasher.update(data)
    hasher.update(tail)
    digest: bytes = hasher.digest()
    return digest
