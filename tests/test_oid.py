import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import hashing, oid
from dvlite.errors import FormatError
from dvlite.oid import Oid

digests = st.binary(min_size=32, max_size=32)


@given(st.sampled_from(oid.ALGORITHMS), digests)
def test_parse_reads_what_str_writes(algorithm, digest):
    one = Oid(algorithm, digest)
    assert oid.parse(str(one)) == one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "md5:" + "0" * 32,
        "SHA256:" + "0" * 64,
        "sha256:" + "0" * 63 + " ",
        " sha256:" + "0" * 64,
        "sha256:" + "0 " * 32,
        "sha256:" + "g" * 64,
    ],
)
def test_every_other_spelling_is_refused(text):
    with pytest.raises(FormatError):
        oid.parse(text)


def test_the_default_is_what_sha256sum_prints():
    data = b"some content"
    assert hashing.oid_of(oid.DEFAULT_ALGORITHM, data).hex == hashlib.sha256(data).hexdigest()


def test_golden_digests():
    assert hashing.oid_of("sha256", b"foo").hex == "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    assert hashing.oid_of("blake3", b"foo").hex == "04e0bb39f30b1a3feb89f536c93be15055482df748674b00d26e5a75777702e9"
    assert hashing.checksum(b"foo").hex() == "79aef92e83454121ab6e5f64077e7d8a"


def test_hashing_in_parts_is_hashing_the_whole():
    for algorithm in oid.ALGORITHMS:
        work = hashing.hasher(algorithm)
        work.update(b"fo")
        work.update(b"o")
        assert work.digest() == hashing.digest(algorithm, b"foo")
