import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvlite import hashing, tree
from dvlite.tree import FILE, TREE, Entry
from dvlite.worktree import plan as plans
from dvlite.worktree.plan import Kind

OBJECTS = {}


def blob(text):
    return Entry(FILE, hashing.oid_of("sha256", text.encode()), len(text), 1, "")


def folder(content):
    """A tree from a nested dict of names to texts."""
    rows = [
        (folder(inner) if isinstance(inner, dict) else blob(inner))._replace(name=name)
        for name, inner in content.items()
    ]
    built = tree.build("sha256", rows)
    OBJECTS.update(built.objects)
    return Entry(TREE, built.oid, built.size, built.files, "")


def make(content):
    return None if content is None else folder(content) if isinstance(content, dict) else blob(content)


def run(base, data, target, **options):
    return {
        change.path: change.kind
        for change in plans.plan(make(base), make(data), make(target), OBJECTS.__getitem__, **options)
    }


@pytest.mark.parametrize(
    ("base", "data", "target", "kind"),
    [
        ("A", "A", "A", None),
        ("A", "B", "B", None),
        (None, "A", "A", None),
        ("A", "A", "B", Kind.OUTDATED),
        ("A", "A", None, Kind.DROPPED),
        ("A", "B", "A", Kind.MODIFIED),
        (None, "B", None, Kind.NEW),
        ("A", None, "A", Kind.DELETED),
        ("A", None, "B", Kind.DELETED),
        (None, None, "B", Kind.ABSENT),
        ("A", None, None, None),
        ("A", "B", "C", Kind.CONFLICT),
        ("A", "B", None, Kind.CONFLICT),
        (None, "B", "C", Kind.CONFLICT),
    ],
)
def test_the_table_of_docs_data(base, data, target, kind):
    assert run(base, data, target) == ({} if kind is None else {"": kind})
    inside = run(*({"other": "same"} | ({"f": one} if one else {}) for one in (base, data, target)))
    assert inside == ({} if kind is None else {"f": kind})


def test_absent_is_not_deleted():
    assert run(None, {}, {"a": "1", "b": {"c": "2"}}) == {"a": Kind.ABSENT, "b": Kind.ABSENT}
    assert run({"a": "1"}, {}, {"a": "1", "b": "2"}) == {"a": Kind.DELETED, "b": Kind.ABSENT}


def test_where_the_base_is_unknown_nothing_is_guessed():
    found = run(
        None, {"same": "1", "other": "2", "mine": "3"}, {"same": "1", "other": "X", "gone": "4"}, is_base_known=False
    )
    assert found == {"other": Kind.UNKNOWN, "mine": Kind.NEW, "gone": Kind.ABSENT}


def test_a_file_that_becomes_a_folder_and_back():
    assert run({"x": "1"}, {"x": "1"}, {"x": {"y": "2"}}) == {"x": Kind.OUTDATED}
    assert run({"x": {"y": "2"}}, {"x": {"y": "2"}}, {"x": "1"}) == {"x": Kind.OUTDATED}
    assert run({"x": {"y": "2"}}, {"x": {"y": "mine"}}, {"x": "1"}) == {"x": Kind.CONFLICT}


def test_a_dropped_folder_keeps_what_is_new_in_it():
    found = run({"d": {"a": "1", "b": "2"}}, {"d": {"a": "1", "b": "2", "mine": "3"}}, {})
    assert found == {"d/a": Kind.DROPPED, "d/b": Kind.DROPPED, "d/mine": Kind.NEW, "d": Kind.DROPPED}


def test_only_what_is_wanted_is_planned():
    wanted = plans.only(["b/x"])
    found = run(None, None, {"a": "1", "b": {"x": {"p": "1", "q": "2"}, "y": "3"}}, wanted=wanted)
    assert found == {"b/x": Kind.ABSENT}
    assert run({"a": "1"}, {"a": "2"}, {"a": "1"}, wanted=plans.only(["b"])) == {}


def test_equal_subtrees_are_not_read():
    same = {"deep": {f"f{n}": str(n) for n in range(50)}}
    one, two = folder({"a": same, "x": "1"}), folder({"a": same, "x": "2"})
    read = []
    changes = list(plans.plan(one, one, two, lambda oid: read.append(oid) or OBJECTS[oid]))
    assert [change.path for change in changes] == ["x"]
    assert folder(same).oid not in read


def test_in_long_folders_too_what_is_deleted_and_what_is_absent_is_found():
    many = {f"f{number:05}": "1" for number in range(3000)}
    less = {name: text for name, text in many.items() if name != "f01500"}
    assert run(many, less, many) == {"f01500": Kind.DELETED}
    assert run(None, less, many) == {"f01500": Kind.ABSENT}
    assert len(run(many, {}, many)) == 3000
    assert run({"d": many}, {}, {"d": many}) == {"d": Kind.DELETED}
    assert len(run({"d": many}, {}, {"d": less})) == 2999


texts = st.sampled_from(["1", "2", "3"])
contents = st.recursive(
    st.dictionaries(st.sampled_from("abc"), texts, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.one_of(texts, inner), max_size=3),
    max_leaves=6,
)


def flatten(content, path=()):
    found = {}
    for name, inner in content.items():
        if isinstance(inner, dict):
            found |= flatten(inner, (*path, name))
        else:
            found["/".join((*path, name))] = inner
    return found


@given(contents, contents, contents)
def test_a_plan_never_calls_unsaved_what_it_would_remove(base, data, target):
    """Whatever is OUTDATED or DROPPED is byte for byte what was put here."""
    flat = flatten(base)
    for change in plans.plan(folder(base), folder(data), folder(target), OBJECTS.__getitem__):
        if change.kind in (Kind.OUTDATED, Kind.DROPPED) and change.data.files:
            below = {
                path: text
                for path, text in flatten(data).items()
                if path == change.path or path.startswith(f"{change.path}/")
            }
            assert all(flat.get(path) == text for path, text in below.items())


@given(contents)
def test_equal_data_and_target_need_nothing(content):
    assert run({}, content, content) == {} and run(None, content, content, is_base_known=False) == {}
