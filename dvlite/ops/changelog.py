"""What changed in data and models, release by release, from Git's history: what, how much, why, who, from which inputs.

Made of commits alone: the same history gives the same text, so that a file of it can be written anew at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dvlite import compare, git, refs
from dvlite.compare import Count
from dvlite.errors import FormatError, MissingError
from dvlite.git import Commit
from dvlite.ops.base import reader
from dvlite.pointer import SUFFIX, Pointer
from dvlite.refs import Brought
from dvlite.repo import Repo
from dvlite.tree import Read


@dataclass(slots=True)
class Entry:
    """What one commit did to one tracked path. `kind`: added, changed, renamed, removed, metadata or unknown.

    `count` is None where a listing isn't here; `meta`: keys of `[meta]` that changed; `inputs`: paths of `[run]`.
    """

    path: str
    kind: str
    commit: str
    date: str
    author: str
    message: str
    old_path: str = ""
    old_size: int = 0
    new_size: int = 0
    old_files: int = 0
    new_files: int = 0
    count: Count | None = None
    meta: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Section:
    """A release (a tag), or a day where there are none; what came after the last release has no name."""

    name: str
    date: str
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class ChangelogResult:
    """The newest section comes first."""

    sections: list[Section] = field(default_factory=list)


def changelog(repo: Repo, revs: str = "HEAD", paths: Sequence[str] = ()) -> ChangelogResult:
    """Return what the commits of `revs` (`A..B`, or all that a rev reaches) did to tracked in-repo paths (all without)."""
    if not git.has_commits(repo.git):
        return ChangelogResult()
    read = reader(repo)
    by_commit: dict[Commit, list[Entry]] = {}
    for commit, group in _by_commit(refs.brought(repo.git, revs)).items():
        found = [entry for entry in _entries(commit, group, read) if _is_meant(entry, paths)]
        if found:
            by_commit[commit] = found
    return ChangelogResult(_sections(repo, revs, by_commit))


def _by_commit(found: Sequence[Brought]) -> dict[Commit, list[Brought]]:
    groups: dict[Commit, list[Brought]] = {}
    for one in found:
        groups.setdefault(one.touched.commit, []).append(one)
    return groups


def _is_meant(entry: Entry, paths: Sequence[str]) -> bool:
    return not paths or any(
        not path or one == path or one.startswith(f"{path}/")
        for path in paths
        for one in (entry.path, entry.old_path)
        if one
    )


def _entries(commit: Commit, group: Sequence[Brought], read: Read) -> list[Entry]:
    """Return what a commit did, path by path; a pointer that went and came elsewhere with the same data was renamed."""
    gone = {one.touched.path: one.old for one in group if not one.touched.blob and one.old}
    entries = []
    for touched, old, new in sorted(group, key=lambda one: one.touched.path):
        path = touched.path.removesuffix(SUFFIX)
        entry = Entry(path, "changed", commit.id, commit.date, commit.author, commit.subject)
        if touched.blob and new is None:
            entry.kind = "unknown"
            entries.append(entry)
            continue
        if new and not old:
            source = next((path for path, item in gone.items() if item.oid == new.oid), "")
            if source:
                old = gone.pop(source)
                entry.kind, entry.old_path = "renamed", source.removesuffix(SUFFIX)
        if _fill(entry, old, new, read):
            entries.append(entry)
    moved = {entry.old_path for entry in entries if entry.old_path}
    return [entry for entry in entries if entry.kind != "removed" or entry.path not in moved]


def _fill(entry: Entry, old: Pointer | None, new: Pointer | None, read: Read) -> bool:
    """Say what became of a pointer; tell whether anything did."""
    if old:
        entry.old_size, entry.old_files = old.size, old.files
    if new:
        entry.new_size, entry.new_files = new.size, new.files
        entry.inputs = _inputs(new)
    entry.meta = _changed_meta(old, new)
    if not old or not new:
        entry.kind = "added" if new else "removed"
    elif old.entry == new.entry and not entry.old_path:
        entry.kind = "metadata"
        return old.rest != new.rest
    try:
        found = list(compare.differences("", old.entry if old else None, new.entry if new else None, read))
        entry.count = compare.count(compare.with_renames(found, read))
    except (MissingError, FormatError):
        entry.count = None
    return True


def _changed_meta(old: Pointer | None, new: Pointer | None) -> list[str]:
    before, after = (_table(item, "meta") for item in (old, new))
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key)) if new else []


def _table(item: Pointer | None, name: str) -> dict[str, Any]:
    found = item.tables.get(name) if item else None
    return found if isinstance(found, dict) else {}


def _inputs(item: Pointer) -> list[str]:
    found = _table(item, "run").get("inputs", [])
    return [str(one["path"]) for one in found if isinstance(one, dict) and "path" in one]


def _sections(repo: Repo, revs: str, by_commit: dict[Commit, list[Entry]]) -> list[Section]:
    """Group by the release that a commit first came with; by day where there are no tags."""
    named: dict[str, list[str]] = {}
    for name, commit in git.tags(repo.git).items():
        named.setdefault(commit, []).append(name)
    order = git.commit_days(repo.git, revs)
    has_releases = any(commit in named for commit, _ in order)
    found = {commit.id: entries for commit, entries in by_commit.items()}
    sections: list[Section] = []
    release = ("", "")
    for commit, date in order:
        if commit in named:
            release = (", ".join(sorted(named[commit])), date)
        name, day = release if has_releases else (date, date)
        if entries := found.get(commit):
            if not sections or sections[-1].name != name:
                sections.append(Section(name, day or date))
            sections[-1].entries += entries
    return sections
