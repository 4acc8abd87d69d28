import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import hashing, pointer
from dvlite.errors import FormatError
from dvlite.pointer import Pointer

OID = hashing.oid_of("sha256", b"foo")
GOLDEN_BLOB = (
    b'version = 1\noid = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"\n'
    b'type = "blob"\nsize = 3\nexecutable = true\n'
)
GOLDEN_TREE = (
    b'version = 1\noid = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"\n'
    b'type = "tree"\nsize = 1048576\nfiles = 1000\n'
)
REST = b'\n# mine\n[meta]\ndescription = "Sales, cleaned" # yes\n\n[other.table]\nx = [1,\n  2]\n'

pointers = st.builds(
    lambda digest, is_tree, size, files, is_executable, rest: Pointer(
        hashing.oid_of("sha256", digest), is_tree, size, files if is_tree else 1, is_executable and not is_tree, rest
    ),
    st.binary(max_size=4), st.booleans(), st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.booleans(),
    st.sampled_from([b"", REST, b"[meta]\n", b"\n\n", b"# only a comment\n"]),
)  # fmt: skip


@given(pointers)
def test_decode_reads_what_encode_writes(one):
    assert pointer.decode(pointer.encode(one)) == one


def test_golden_bytes():
    assert pointer.encode(Pointer(OID, False, 3, is_executable=True)) == GOLDEN_BLOB
    assert pointer.encode(Pointer(OID, True, 1048576, 1000)) == GOLDEN_TREE


def test_what_is_the_users_is_kept_byte_for_byte():
    one = pointer.decode(GOLDEN_TREE + REST)
    moved = one.pointing_to(one.entry._replace(size=5, files=2))
    assert pointer.encode(moved).endswith(REST)
    assert one.tables["meta"]["description"] == "Sales, cleaned"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"not toml at all [",
        GOLDEN_TREE.replace(b"version = 1\n", b""),
        GOLDEN_TREE.replace(b"version = 1", b"version = true"),
        GOLDEN_TREE.replace(b"version = 1", b"version=1"),
        GOLDEN_TREE.replace(b'type = "tree"', b"type = 'tree'"),
        GOLDEN_TREE.replace(b'"tree"', b'"folder"'),
        GOLDEN_TREE.replace(b"files = 1000\n", b""),
        GOLDEN_TREE.replace(b"1048576", b"1_048_576"),
        GOLDEN_TREE.replace(b"1048576", b"-1"),
        GOLDEN_TREE.replace(b"1048576", b"9223372036854775808"),
        GOLDEN_TREE.replace(b"sha256:", b"sha1:"),
        GOLDEN_TREE.replace(b"\n", b"\r\n"),
        GOLDEN_TREE + b"executable = true\n",
        GOLDEN_BLOB.replace(b"true", b"false"),
        b"# a comment first\n" + GOLDEN_BLOB,
        GOLDEN_BLOB + b"[meta]\nbroken",
        GOLDEN_BLOB[:-1],
        GOLDEN_BLOB + b"#" * (1 << 20),
    ],
)
def test_malformed_pointers_are_refused_by_name(data):
    with pytest.raises(FormatError, match=r"data\.dvlite"):
        pointer.decode(data, "data.dvlite")


def test_the_line_and_the_reason_are_named():
    with pytest.raises(FormatError, match="line 4"):
        pointer.decode(GOLDEN_TREE.replace(b"size = ", b"size =  "), "x.dvlite")


@pytest.mark.parametrize("change", [(b"version = 1", b"version = 2"), (b"size =", b"chunks = 3\nsize =")])
def test_a_newer_version_or_key_says_so(change):
    with pytest.raises(FormatError, match="newer dvlite"):
        pointer.decode(GOLDEN_TREE.replace(*change), "x.dvlite")


def test_conflict_markers_have_an_error_of_their_own():
    text = b'version = 1\n<<<<<<< HEAD\noid = "a"\n=======\noid = "b"\n>>>>>>> other\n'
    with pytest.raises(FormatError, match="line 2: Git conflict markers") as caught:
        pointer.decode(text, "x.dvlite")
    assert "dvlite checkout --ours PATH" in caught.value.hint


def test_meta_changes_only_its_line():
    one = pointer.decode(GOLDEN_TREE + REST)
    changed = pointer.encode(pointer.with_meta(one, {"description": "new"}))
    assert changed == (GOLDEN_TREE + REST).replace(b'"Sales, cleaned"', b'"new"')
    assert pointer.with_meta(one, {"description": "Sales, cleaned"}) == one


def test_meta_is_made_where_there_is_none():
    one = pointer.with_meta(pointer.decode(GOLDEN_TREE), {"source": "https://example.org/é"})
    assert pointer.encode(one) == GOLDEN_TREE + '\n[meta]\nsource = "https://example.org/é"\n'.encode()
    assert pointer.decode(pointer.encode(one)) == one
