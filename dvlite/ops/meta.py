"""What is known of data beside its bytes: read and write `[meta]` of pointers, and show all that a pointer and Git tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dvlite import git, pointer, recipe
from dvlite.errors import UsageError, quote
from dvlite.ops.base import pointers_at
from dvlite.ops.track import stage, write
from dvlite.pointer import SUFFIX, Pointer
from dvlite.repo import Repo


@dataclass(slots=True)
class MetaResult:
    """All that is known of one tracked path at a rev. `date`, `author` and `commit` are of its version; `tags` name it.

    `versions`: names under which it is registered; `inputs`: paths that it was made from, with their oids.
    """

    path: str
    oid: str
    size: int
    files: int
    meta: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    author: str = ""
    commit: str = ""
    message: str = ""
    tags: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    inputs: list[dict[str, str]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    staged: list[str] = field(default_factory=list)
    to_stage: list[str] = field(default_factory=list)


def show(repo: Repo, path: str, *, rev: str | None = None) -> MetaResult:
    """Return what is known of a tracked path, here or at a rev."""
    tracked, item = _find(repo, path, rev)
    found = recipe.of(item, f"{tracked}{SUFFIX}")
    result = MetaResult(tracked, str(item.oid), item.size, item.files, meta_of(item))
    result.source = dict(item.tables.get("import", {})) if b"[import]" in item.rest else {}
    if found:
        result.command = list(found.command)
        result.inputs = [{"path": one.path, "oid": str(one.oid)} for one in found.inputs]
        result.params, result.metrics = dict(found.params), dict(found.metrics)
    if git.has_commits(repo.git):
        _tell_version(repo, tracked, item, rev or "HEAD", result)
    return result


def _tell_version(repo: Repo, tracked: str, item: Pointer, rev: str, result: MetaResult) -> None:
    """Say which commit made this version: the oldest of those, newest first, that have its data; and the tags since."""
    found = list(git.touched(repo.git, rev, f"{tracked}{SUFFIX}"))
    contents = dict(git.read_blobs(repo.git, [one.blob for one in found if one.blob]))
    made = None
    for one in found:
        if not one.blob or pointer.decode(contents[one.blob], one.path).oid != item.oid:
            break
        made = one.commit
    if made:
        result.date, result.author, result.commit, result.message = made.date, made.author, made.id, made.subject
        result.tags = sorted(
            git.tags_since(repo.git, made.id, f"{tracked}{SUFFIX}", {one.blob for one in found if one.blob})
        )


def meta_of(item: Pointer) -> dict[str, Any]:
    """Return what stands in `[meta]`."""
    found = item.tables.get("meta", {}) if b"meta" in item.rest else {}
    return found if isinstance(found, dict) else {}


def _find(repo: Repo, path: str, rev: str | None) -> tuple[str, Pointer]:
    pointers = pointers_at(repo, rev)
    tracked = path.removesuffix(SUFFIX)
    if not tracked:
        raise UsageError("the repository itself has no metadata", "Name a tracked path: see 'dvlite ls'.")
    if tracked in pointers.broken:
        raise pointers.broken[tracked]
    if tracked not in pointers.found:
        owner = next((one for one in pointers.found if tracked.startswith(f"{one}/")), "")
        hint = f"It lies in '{owner}', which has them." if owner else f"Add it: dvlite add {quote(tracked)}"
        raise UsageError(f"'{tracked}' has no pointer, and so no metadata", hint)
    return tracked, pointers.found[tracked]


def change(
    repo: Repo, path: str, values: dict[str, str], unset: Sequence[str] = (), *, is_staged: bool = True
) -> MetaResult:
    """Set keys of `[meta]`, take keys out, and stage the pointer."""
    tracked, item = _find(repo, path, None)
    absent = [key for key in unset if key not in meta_of(item)]
    if absent:
        raise UsageError(f"'{tracked}' has no '{absent[0]}' in [meta]", f"See 'dvlite meta show {quote(tracked)}'.")
    new = pointer.without_meta(pointer.with_meta(item, values), unset)
    with repo.writing_pointers("meta"):
        _, to_stage = write(repo, tracked, new)
        staged, to_stage = stage(repo, [tracked], to_stage, is_staged=is_staged)
    result = show(repo, tracked)
    result.staged, result.to_stage = staged, to_stage
    return result


def is_where(item: Pointer, conditions: Sequence[str]) -> bool:
    """Tell whether a pointer's `[meta]` meets conditions: KEY=VALUE, KEY!=VALUE, or KEY alone (it is there)."""
    known = {name: str(value) for name, value in recipe.flat(meta_of(item))}
    for condition in conditions:
        key, is_equal, value = condition.partition("=")
        is_negated = key.endswith("!")
        found = known.get(key.removesuffix("!").strip())
        is_met = found == value.strip() if is_equal else found is not None
        if is_met == is_negated:
            return False
    return True
