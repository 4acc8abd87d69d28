import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlite import hashing, lines, tree
from dvlite.errors import FormatError
from dvlite.reach import walk
from dvlite.tree import EXECUTABLE, FILE, PAGE, SYMLINK, TREE, Entry, Page, Slot


def blob(data=b"x", algorithm="sha256"):
    return hashing.oid_of(algorithm, data)


def file(name, data=b"x"):
    return Entry(FILE, blob(data), len(data), 1, name)


def is_allowed(name):
    try:
        tree.check_name(name)
        return True
    except FormatError:
        return False


raw_names = st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name)
names = raw_names.map(lambda name: name.decode("utf-8", "surrogateescape")).filter(is_allowed)
entries = st.builds(
    lambda mode, data, name: Entry(mode, blob(data), len(data), 1, name),
    st.sampled_from([FILE, EXECUTABLE, SYMLINK]),
    st.binary(max_size=9),
    names,
)
listings = st.lists(entries, unique_by=lambda entry: entry.name, max_size=30)

GOLDEN = b"""dvlite-tree 1 0
040000 sha256:94cf265405c952b1f0cebfb80e8641db841bccefa56512257865b339bb05060b 0 0\tempty
100644 sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae 3 1\tfoo.txt
120000 sha256:ddab29ff2c393ee52855d21a240eb05f775df88e3ce347df759f0c4b80356c35 7 1\tlink
100755 sha256:a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf 10 1\trun me.sh
100644 sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 1 1\ttab%09here%FF%25
"""


def store(folder):
    return dict(folder.objects).__getitem__


def root(folder):
    return Entry(TREE, folder.oid, folder.size, folder.files, "")


def test_golden_bytes():
    listed = [
        Entry(SYMLINK, blob(b"foo.txt"), 7, 1, "link"),
        file("foo.txt", b"foo"),
        Entry(EXECUTABLE, blob(b"#!/bin/sh\n"), 10, 1, "run me.sh"),
        Entry(TREE, blob(b"dvlite-tree 1 0\n"), 0, 0, "empty"),
        file("tab\there\udcff%"),
    ]
    folder = tree.build("sha256", listed)
    assert folder.objects == [(folder.oid, GOLDEN)]
    assert str(folder.oid) == "sha256:83c6704b0e4fbf09c44cdb0b4892922f966d0fc8c6582c2a1d12f2dfc21bd7be"
    assert (folder.size, folder.files) == (21, 4)


@given(listings)
def test_decode_reads_what_encode_writes(listed):
    folder = tree.build("sha256", listed)
    assert sorted(tree.entries(root(folder), store(folder))) == sorted(listed)


@given(st.permutations([file(f"n{number}") for number in range(12)]))
def test_the_order_of_entries_does_not_matter(listed):
    assert tree.build("sha256", listed).oid == tree.build("sha256", sorted(listed)).oid


@given(listings.filter(bool), st.data())
def test_a_changed_byte_is_refused_or_means_something_else(listed, data):
    encoded = tree.build("sha256", listed).objects[-1][1]
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = bytearray(encoded)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        page = tree.decode(bytes(changed), "sha256")
    except FormatError:
        return
    assert tree.encode(page) == bytes(changed)  # another valid listing, in its own one encoding


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "/abs",
        "a\0b",
        ".git",
        ".GIT",
        ".Git",
        "git~1",
        "GIT~1",
        ".git ",
        ".git.",
        ".git. .",
        ".g\u200cit",
        "\ufeff.git",
        ".git:stream",
        ".git::$INDEX_ALLOCATION",
    ],
)
def test_names_that_could_escape_are_refused(name):
    with pytest.raises(FormatError):
        tree.check_name(name)
    escaped = tree.escape(name).encode()
    line = b"dvlite-tree 1 0\n100644 " + str(blob()).encode() + b" 1 1\t" + escaped + b"\n"
    with pytest.raises(FormatError):
        tree.decode(line, "sha256")


@pytest.mark.parametrize(
    "name", [".gitignore", "git", ".github", "..x", "...", "git~12", "a b", "-x", "é", "e\u0301", "\n"]
)
def test_names_that_only_look_like_it_are_fine(name):
    tree.check_name(name)


def line(mode=FILE, oid=None, size="1", files="1", name="a"):
    return f"{mode} {oid or blob()} {size} {files}\t{name}\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"dvlite-tree 1 0",
        b"dvlite-tree 2 0\n",
        b"dvlite-tree 1 00\n",
        b"dvlite-tree 1 0\r\n",
        b"dvlite-tree 1 0\n" + line(size="01"),
        b"dvlite-tree 1 0\n" + line(size="-1"),
        b"dvlite-tree 1 0\n" + line(files="2"),
        b"dvlite-tree 1 0\n" + line(mode="100600"),
        b"dvlite-tree 1 0\n" + line(mode=PAGE),
        b"dvlite-tree 1 1\n" + line(mode=FILE),
        b"dvlite-tree 1 0\n" + line(name="%61"),  # a needless escape
        b"dvlite-tree 1 0\n" + line(name="%0a"),  # lower case
        b"dvlite-tree 1 0\n" + line(name="%C3%A9"),  # valid UTF-8 escaped
        b"dvlite-tree 1 0\n" + line(name="\x01"),  # a missing escape
        b"dvlite-tree 1 0\n" + line(name="%"),
        b"dvlite-tree 1 0\n" + line()[:-3] + b"\xff\n",
        b"dvlite-tree 1 0\n" + line(name="b") + line(name="a"),
        b"dvlite-tree 1 0\n" + line(name="a") + line(name="a"),
        b"dvlite-tree 1 0\n" + line()[:-1],
        b"dvlite-tree 1 0\n\n" + line(),
        b"dvlite-tree 1 0\n" + line(oid=blob(algorithm="blake3")),
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_refused(data):
    with pytest.raises(FormatError):
        tree.decode(data, "sha256")


# ---- pages ----


def flat(count, prefix="f"):
    return [file(f"{prefix}{number:06}") for number in range(count)]


def test_a_short_folder_is_one_object():
    assert len(tree.build("sha256", flat(1024)).objects) == 1
    assert len(tree.build("sha256", flat(1025)).objects) > 1


def test_golden_pages():
    folder = tree.build("sha256", flat(3000))
    assert str(folder.oid) == "sha256:2aaae60ca3866c36c902a9dbda523d1da62894381b6c833e66eecb51125e8a7c"
    assert len(folder.objects) == 12


def test_a_paged_folder_reads_back_whole():
    folder = tree.build("sha256", flat(5000))
    assert tree.entries(root(folder), store(folder)) == flat(5000)
    assert (folder.size, folder.files) == (5000, 5000)


def test_one_changed_file_in_200000_rewrites_under_300_kb():
    listed = flat(200_000)
    before = dict(tree.build("sha256", listed).objects)
    listed[123_456] = file("f123456", b"changed")
    after = tree.build("sha256", listed).objects
    new = [data for oid, data in after if oid not in before]
    assert sum(map(len, new)) < 300_000
    assert len(new) == 2


def test_comparing_reads_only_the_pages_that_differ():
    listed = flat(20_000)
    one = tree.build("sha256", listed)
    listed[777] = file("f000777", b"changed")
    two = tree.build("sha256", listed)
    objects = dict(one.objects) | dict(two.objects)
    read = []

    def count(oid):
        read.append(oid)
        return objects[oid]

    below = lines.differing(root(one), root(two), read=count)
    assert "f000777" in below[0] and below[0]["f000777"] != below[1]["f000777"]
    assert len(read) == 4  # two lists, two pages
    assert len(below[0]) < 2048


def test_finding_one_name_reads_one_page():
    folder = tree.build("sha256", flat(20_000))
    read = []
    found = tree.find(root(folder), ["f012345"], lambda oid: read.append(oid) or store(folder)(oid))
    assert found == file("f012345")
    assert len(read) == 2
    assert tree.find(root(folder), ["nothing"], store(folder)) is None
    assert tree.find(root(folder), ["zzz"], store(folder)) is None


def forge(pages, level=1):
    """A paged folder from pages that may be wrong."""
    objects, rows = {}, []
    for page in pages:
        data = tree.encode(Page(level - 1, page))
        oid = hashing.oid_of("sha256", data)
        objects[oid] = data
        rows.append(Entry(PAGE, oid, sum(row.size for row in page), sum(row.files for row in page), page[-1].name))
    data = tree.encode(Page(level, rows))
    oid = hashing.oid_of("sha256", data)
    objects[oid] = data
    return Entry(TREE, oid, sum(row.size for row in rows), sum(row.files for row in rows), ""), objects


def right_pages(count=3000):
    return list(tree._cut(flat(count), 0))


def test_forged_pages_are_refused():
    pages = right_pages()
    good, objects = forge(pages)
    assert len(tree.entries(good, objects.__getitem__)) == 3000
    wrong = {
        "cut elsewhere": [pages[0] + pages[1][:1], pages[1][1:], *pages[2:]],
        "put together": [pages[0] + pages[1], *pages[2:]],
        "overlap": [pages[0], pages[0][-1:] + pages[1], *pages[2:]],
    }
    for name, forged in wrong.items():
        entry, objects = forge(forged)
        with pytest.raises(FormatError):
            tree.entries(entry, objects.__getitem__)
            raise AssertionError(name)


def test_a_page_whose_sums_lie_is_refused():
    entry, objects = forge(right_pages())
    with pytest.raises(FormatError, match="size"):
        tree.entries(entry._replace(size=entry.size + 1), objects.__getitem__)
    with pytest.raises(FormatError, match="files"):
        tree.entries(entry._replace(files=entry.files - 1), objects.__getitem__)


def test_a_level_too_high_is_refused():
    inner, objects = forge(right_pages())
    data = tree.encode(Page(5, [Entry(PAGE, inner.oid, inner.size, inner.files, "f002999")]))
    oid = hashing.oid_of("sha256", data)
    objects[oid] = data
    with pytest.raises(FormatError, match="level"):
        tree.entries(inner._replace(oid=oid), objects.__getitem__)


def test_a_long_listing_in_one_object_is_refused():
    data = tree.encode(Page(0, flat(1500)))
    slot = Slot(hashing.oid_of("sha256", data), 1500, 1500)
    with pytest.raises(FormatError, match="too long"):
        tree.open_slot(slot, data)


# ---- walks ----


def nest(depth):
    objects = {}
    inner = file("leaf")
    for _ in range(depth):
        folder = tree.build("sha256", [inner])
        objects |= dict(folder.objects)
        inner = Entry(TREE, folder.oid, folder.size, folder.files, "d")
    return inner, objects


def read_many(objects):
    return lambda oids: ((oid, objects[oid]) for oid in oids if oid in objects)


def test_a_walk_finds_everything_and_names_what_is_missing():
    top, objects = nest(5)
    reach = walk([top], read_many(objects))
    assert len(reach.trees) == 5 and reach.blobs == {blob(): 1} and not reach.missing
    lost = next(iter(objects))
    reach = walk([top], read_many({oid: data for oid, data in objects.items() if oid != lost}))
    assert reach.missing == {lost}


def test_a_walk_refuses_what_is_too_deep():
    top, objects = nest(tree.MAX_DEPTH + 5)
    with pytest.raises(FormatError, match="deep"):
        walk([top], read_many(objects))


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(tuple), st.binary(max_size=3), max_size=8
    )
)
def test_graft_puts_and_takes_paths(paths):
    """A folder built path by path has what was put last, and nothing else."""
    current, objects, model = None, {}, {}
    for path, data in paths.items():
        if any(other != path and (other[: len(path)] == path or path[: len(other)] == other) for other in model):
            continue
        current, made = tree.graft(current, {path: file(path[-1], data)}, objects.__getitem__)
        objects |= dict(made)
        model[path] = data
    for path, data in model.items():
        assert tree.find(current, path, objects.__getitem__) == file(path[-1], data)
    for path in list(model):
        current, made = tree.graft(current, {path: None}, objects.__getitem__)
        objects |= dict(made)
        assert tree.find(current, path, objects.__getitem__) is None
    if current:
        assert current.files == 0


@given(
    st.lists(
        st.tuples(st.text(max_size=4), st.sampled_from([FILE, EXECUTABLE, TREE, PAGE]), st.integers(0, 3)), max_size=5
    ),
    st.binary(max_size=3),
    st.integers(0, 400),
)
def test_what_the_quick_check_lets_pass_the_full_one_does_too(rows, noise, at):
    """The check that goes over a listing at once must refuse all that `decode` and `open_slot` refuse."""
    entries = [
        Entry(mode, hashing.oid_of("sha256", name.encode("utf-8", "replace")), size, size if mode == TREE else 1, name)
        for name, mode, size in rows
    ]
    data = (
        tree.encode(Page(0, sorted(entries, key=lambda entry: entry.name.encode("utf-8", "replace"))))
        if all(_encodable(entry.name) for entry in entries)
        else b""
    )
    data = data[:at] + noise + data[at:]
    slot = tree.Slot(
        hashing.oid_of("sha256", data), sum(entry.size for entry in entries), sum(entry.files for entry in entries)
    )
    if lines._is_plain(slot, data):
        page = tree.open_slot(slot, data)
        assert [lines._entry(line) for line in data.split(b"\n")[1:-1]] == page.entries
        has_folders = any(row.is_tree for row in page.entries)
        assert lines.blobs(slot, data) == (None if has_folders else [(row.oid, row.size) for row in page.entries])
    else:
        assert lines.blobs(slot, data) is None


def _encodable(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("bad", [b"a\tb", b"..", b".", b"a%41", b".GIT", b"x/y", b"a\x01", b"a\r"])
def test_the_quick_check_knows_no_bad_names(bad):
    digits = "0" * 64
    data = b"dvlite-tree 1 0\n100644 sha256:" + digits.encode() + b" 1 1\t" + bad + b"\n"
    assert not lines._is_plain(tree.Slot(hashing.oid_of("sha256", data), 1, 1), data)


OID = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "spelled",
    [
        ["100644 OID 1 1\t!", "100644 OID 1 1\t#", "100644 OID 1 1\t."],
        ["100644 OID 1 1\t!", "100644 OID 1 1\t#", "100644 OID 1 1\t.."],
        ["100644 OID 1 1", "a\t100644 OID 1 1\tb"],  # as many tabs as lines
        ["100644 OID 1 1 100644\ta", "OID 1 1\tb"],  # as many fields
        ["100644 OID 1 1\t\t", "a"],
        ["100644 OID 1 1\t"],
        ["100644 OID 01 1\ta"],
        ["100644 OID 1 01\ta"],
        ["100644 OID  1\ta"],
        ["100644 OID 1 2\ta"],
        ["040001 OID 1 1\ta"],
        ["100645 OID 1 1\ta"],
        ["100644 OID -1 1\ta"],
        ["100644 OID 1 1\tb", "100644 OID 1 1\ta"],
        ["100644 OID 1 1\ta", "100644 OID 1 1\ta"],
        [f"100644 OID {'1' * 20} 1\ta"],
        ["100644 0OI 1 1\ta"],
        ["100644 OIG 1 1\ta"],
        ["100644 blake3:OID 1 1\ta"],
        ["100644 OID 1 1\ta", "1 END"],
    ],
)
def test_the_quick_check_refuses_what_is_not_one_valid_listing(spelled):
    text = "\n".join(spelled).replace("OID", OID).replace("0OI", f"0{OID[:-1]}").replace("OIG", f"{OID[:-1]}g")
    data = f"dvlite-tree 1 0\n{text}\n".encode().removesuffix(b" END\n")
    slot = tree.Slot(hashing.oid_of("sha256", data), None, None)
    with pytest.raises(FormatError):
        tree.open_slot(slot, data)
    assert not lines._is_plain(slot, data)


@pytest.mark.parametrize("good", ["a", "A b", "x.csv", "~tilde", "-dash", "{}", "sha256"])
def test_the_quick_check_knows_ordinary_names(good):
    folder = tree.build("sha256", [Entry(FILE, hashing.oid_of("sha256", b""), 0, 1, good)])
    assert lines._is_plain(tree.Slot(folder.oid, 0, 1), folder.objects[-1][1])
    assert not lines._is_plain(tree.Slot(folder.oid, 1, 1), folder.objects[-1][1])
    assert not lines._is_plain(tree.Slot(folder.oid, 0, 2), folder.objects[-1][1])
    assert not lines._is_plain(tree.Slot(folder.oid._replace(algorithm="blake3"), 0, 1), folder.objects[-1][1])
