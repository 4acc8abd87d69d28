import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import hashing, pack
from dvlite.errors import CorruptError, DvliteError, FormatError
from dvlite.oid import Oid

NAMES = [hashing.oid_of("sha256", data) for data in (b"foo", b"bar!")]
GOLDEN = bytes.fromhex(
    "00002c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae000000000000000800000000000000030000000000000003"
    "0000e687b749f2cd93615923a2f705faace4033f35d57ccfca652cdc39616a94a3c2000000000000000b00000000000000040000000000000004"
    "000000000000000f000000000000007400000000000000029656afe41650d47109c3eb130a9b824a44564c5041434b31"
)
objects = st.lists(
    st.tuples(st.sampled_from(["sha256", "blake3"]), st.binary(max_size=6), st.integers(0, 1 << 40)),
    max_size=20, unique_by=lambda one: one[:2],
).map(lambda found: [(hashing.oid_of(algorithm, data), size) for algorithm, data, size in found])  # fmt: skip


def test_golden_bytes():
    id_, tail = pack.encode_index([(NAMES[0], 3), (NAMES[1], 4)])
    assert tail == GOLDEN
    assert id_ == "63d4fa7d6860b65064bbc4cc28a5846c0c6a9d31a9e862ce0be145f544754948"


@given(objects)
def test_decode_reads_what_encode_writes(listed):
    id_, tail = pack.encode_index(listed)
    index = pack.decode_index(tail)
    assert index.id == id_
    assert {oid: place.size for oid, place in index.places.items()} == dict(listed)
    assert index.size == len(pack.MAGIC) + sum(size for _, size in listed) + len(tail)


@given(objects.filter(bool), st.data())
def test_every_flipped_bit_and_cut_is_noticed(listed, data):
    _, tail = pack.encode_index(listed)
    at = data.draw(st.integers(0, len(tail) - 1))
    flipped = bytearray(tail)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    for wrong in (bytes(flipped), tail[:at], tail[at + 1 :]):
        with pytest.raises(DvliteError):
            pack.decode_index(wrong)


def forge(rows, end=None):
    index = b"".join(
        sorted(pack._ROW.pack(0, encoding, oid.digest, at, stored, size) for oid, encoding, at, stored, size in rows)
    )
    end = end or max((at + stored for _, _, at, stored, _ in rows), default=8)
    return index + pack._FOOTER.pack(end, len(index), len(rows), hashing.checksum(index), pack.MAGIC)


@pytest.mark.parametrize(
    "rows",
    [
        [(NAMES[0], 0, 9, 3, 3)],  # a gap behind the magic
        [(NAMES[0], 0, 8, 3, 3), (NAMES[1], 0, 12, 4, 4)],  # a gap
        [(NAMES[0], 0, 8, 3, 3), (NAMES[1], 0, 10, 4, 4)],  # an overlap
        [(NAMES[0], 0, 8, 3, 3), (NAMES[1], 0, 8, 3, 3)],  # both at one place
        [(NAMES[0], 1, 8, 3, 3)],  # an encoding of later
        [(NAMES[0], 0, 8, 3, 5)],  # compressed without saying so
        [(NAMES[0], 0, 8, 3, 3), (NAMES[0], 0, 11, 3, 3)],  # one object twice
        [(NAMES[0], 0, (1 << 64) - 4, 3, 3)],  # far out of range
        [(NAMES[0], 0, 8, 3, 3), (NAMES[1], 0, 9, 0, 0)],  # an empty one within another
    ],
)
def test_what_does_not_tile_or_is_unknown_is_refused(rows):
    with pytest.raises(FormatError):
        pack.decode_index(forge(rows))


def test_objects_that_lie_before_the_first_place_are_refused():
    for rows, end in (([(NAMES[0], 0, 4, 4, 4)], 4), ([(NAMES[0], 0, 2, 3, 3), (NAMES[1], 0, 5, 3, 3)], 2)):
        with pytest.raises(FormatError):
            pack.decode_index(forge(rows, end))


def test_the_index_of_an_empty_pack_is_an_index():
    assert pack.decode_index(forge([])) and len(pack.decode_index(forge([]))) == 0


@given(st.lists(st.binary(max_size=4), max_size=6, unique=True))
def test_merged_indexes_come_apart_again(datas):
    tails = dict(pack.encode_index([(hashing.oid_of("sha256", data), len(data))]) for data in datas)
    id_, merged = pack.encode_merged(tails)
    assert pack.decode_merged(merged) == tails
    assert len(id_) == 64


def test_a_damaged_merged_index_is_refused():
    _, merged = pack.encode_merged({"63" * 32: GOLDEN})
    for at in range(len(merged)):
        flipped = bytearray(merged)
        flipped[at] ^= 4
        with pytest.raises(DvliteError):
            pack.decode_merged(bytes(flipped))
    with pytest.raises(CorruptError):
        pack.decode_merged(merged[:20])


def test_an_index_that_names_an_object_twice_is_refused_although_it_was_written_here():
    oid = Oid("sha256", bytes(32))
    _, tail = pack.encode_index([(oid, 1), (oid, 1)])
    with pytest.raises(FormatError, match="twice"):
        pack.decode_index(tail)


def test_what_was_decoded_is_kept_for_a_while_and_not_for_good():
    tails = []
    for number in range(4):
        objects = [(Oid("sha256", f"{number:8}{at:24}".encode()), 1) for at in range(1 << 15)]
        tails.append(pack.encode_index(objects)[1])
    first = pack.decode_index(tails[0])
    assert pack.decode_index(tails[3]) is pack.decode_index(tails[3])
    assert first == pack.decode_index(tails[0])
    assert sum(len(index.places) for index in pack._lately._indexes.values()) <= 1 << 17
