"""Git's annotated tags: made once, read all at once, pushed and fetched so that nobody's is replaced."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dvlite.errors import DvliteError, UsageError
from dvlite.git.call import Git, run

_FIELDS = (
    "refname",
    "objectname",
    "*objectname",
    "*objecttype",
    "taggerdate:unix",
    "taggerdate:iso-strict",
    "taggername",
    "contents",
)
_SHAPE = "%00".join(f"%({one})" for one in _FIELDS) + "%00%01"


class Tag(NamedTuple):
    """One annotated tag of a commit. `id`: of the tag itself; `time_s` since the epoch, `date` as ISO 8601."""

    name: str
    id: str
    commit: str
    time_s: int
    date: str
    author: str
    message: str


def annotated(git: Git, *prefixes: str) -> list[Tag]:
    """Return all annotated tags below some refs (refs/tags), oldest first."""
    text = run(git, "for-each-ref", f"--format={_SHAPE}", *(prefixes or ("refs/tags",))).decode("utf-8", "replace")
    found = []
    base = len((prefixes or ("refs/tags",))[0]) + 1
    for row in text.split("\0\x01\n"):
        fields = row.split("\0")
        if len(fields) == 8 and fields[3] == "commit":
            name, id_, commit, _, seconds, date, author, message = fields
            found.append(Tag(name[base:], id_, commit, int(seconds or 0), date, author, message))
    return sorted(found, key=lambda tag: (tag.time_s, tag.name))


def make_tag(git: Git, name: str, commit: str, message: str) -> None:
    """Make an annotated tag; UsageError where there is one of that name: of two who try, one succeeds."""
    try:
        run(git, "tag", "--annotate", "--file=-", "--cleanup=verbatim", name, commit, stdin=message.encode())
    except DvliteError as exc:
        if "already exists" in exc.message:
            raise UsageError(f"there is a tag '{name}' already", f"See it: git show {name}") from exc
        raise


def delete_tag(git: Git, name: str, id_: str) -> None:
    """Delete a tag that is what its id says."""
    run(git, "update-ref", "-d", f"refs/tags/{name}", id_)


def copy_ref(git: Git, ref: str, id_: str) -> None:
    """Make a ref that isn't there yet."""
    run(git, "update-ref", ref, id_, "0" * len(id_))


def push_tags(git: Git, remote: str, names: Sequence[str]) -> list[str]:
    """Push tags, all or none, none by force; return those that the other side has otherwise (then nothing was pushed)."""
    specs = [f"refs/tags/{name}:refs/tags/{name}" for name in names]
    try:
        run(git, "push", "--quiet", "--atomic", remote, *specs)
        return []
    except DvliteError:
        there = tags_there(git, remote)
        here = {tag.name: tag.id for tag in annotated(git)}
        if clash := [name for name in names if name in there and there[name] != here.get(name)]:
            return clash
        raise


def tags_there(git: Git, remote: str) -> dict[str, str]:
    """Return the tags of a Git remote: name to the id of the tag."""
    rows = run(git, "ls-remote", "--tags", "--refs", remote).decode("utf-8", "replace").splitlines()
    return {name.removeprefix("refs/tags/"): id_ for id_, _, name in (row.partition("\t") for row in rows)}


def fetch_tags(git: Git, remote: str, folder: str) -> None:
    """Fetch all tags of a Git remote to refs of their own, so that none of ours is touched."""
    run(git, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune", remote, f"+refs/tags/*:{folder}/*")


def refs_below(git: Git, folder: str) -> list[str]:
    """Return the full names of all refs below one."""
    return (
        run(git, "for-each-ref", "--format=%(refname)", f"{folder}/")
        .decode("utf-8", "surrogateescape")
        .split("\n")[:-1]
    )


def set_refs(git: Git, refs: Mapping[str, str]) -> None:
    """Have refs be what they are to be, in one step."""
    if lines := "".join(f"update {ref} {id_}\n" for ref, id_ in refs.items()):
        run(git, "update-ref", "--stdin", stdin=lines.encode("utf-8", "surrogateescape"))


def refs_with_ids(git: Git, folder: str) -> dict[str, str]:
    """Return all refs below one, by the rest of their names, with what they are."""
    rows = run(git, "for-each-ref", "--format=%(objectname) %(refname)", f"{folder}/").decode(
        "utf-8", "surrogateescape"
    )
    return {name[len(folder) + 1 :]: id_ for id_, _, name in (row.partition(" ") for row in rows.split("\n") if row)}


def forget_refs(git: Git, refs: Iterable[str]) -> None:
    """Delete refs."""
    lines = "".join(f"delete {ref}\n" for ref in refs)
    if lines:
        run(git, "update-ref", "--stdin", stdin=lines.encode("utf-8", "surrogateescape"))
