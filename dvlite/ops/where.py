"""Which paths of which commits and registered versions an object belongs to."""

from collections.abc import Collection
from dataclasses import dataclass, field

from dvlite import git, pointer, refs, tree
from dvlite.errors import CorruptError, DvliteError, FormatError
from dvlite.git import Git
from dvlite.oid import Oid
from dvlite.pointer import SUFFIX
from dvlite.repo import Repo
from dvlite.stores.base import Store
from dvlite.stores.local import users


@dataclass(slots=True)
class Place:
    """A path that has an object, in which commits (newest first) and tags; `is_here`: also as the worktree's pointer has it.

    `repository`: the folder of another one that shares the store, whose path it is.
    """

    path: str
    commits: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    is_here: bool = False
    repository: str = ""


def places(repo: Repo, oids: Collection[Oid], *stores: Store) -> dict[Oid, list[Place]]:
    """Return where objects are used, in all commits that any ref or reflog reaches, by the trees in some stores."""
    finder = _Finder(set(oids), stores or (repo.store,))
    found = _in_commits(repo.git, finder)
    for tracked, item in refs.in_worktree(repo.git).found.items():
        for inner, oid in finder.below(item.oid, is_tree=item.is_tree):
            path = _full(tracked, inner)
            found.setdefault(oid, {}).setdefault(path, Place(path)).is_here = True
    return {oid: sorted(by_path.values(), key=lambda place: place.path) for oid, by_path in found.items()}


def elsewhere(repo: Repo, oids: Collection[Oid], *stores: Store) -> list[Place]:
    """Return where the other repositories that share the store use objects; UsageError where one can't be read."""
    finder = _Finder(set(oids), stores or (repo.store,))
    found: list[Place] = []
    for common in users.listed(repo.store.root):
        if common != repo.git.common:
            for by_path in _in_commits(git.of_folder(common), finder).values():
                for place in by_path.values():
                    place.repository = str(common.parent)
                    found.append(place)
    return sorted(found, key=lambda place: (place.repository, place.path))


def _in_commits(repository: Git, finder: "_Finder") -> dict[Oid, dict[str, Place]]:
    found: dict[Oid, dict[str, Place]] = {}
    versions = git.versions(repository, ["--all", "--reflog"], SUFFIX) if git.has_commits(repository) else set()
    contents = dict(git.read_blobs(repository, (blob for _, blob in versions)))
    hits: dict[tuple[str, str], list[tuple[str, Oid]]] = {}
    for name, blob in versions:
        try:
            item = pointer.decode(contents[blob], name)
        except FormatError:
            continue
        if below := finder.below(item.oid, is_tree=item.is_tree):
            hits[name, blob] = [(_full(name.removesuffix(SUFFIX), inner), oid) for inner, oid in below]
    commits = git.commits_having(repository, ["--all", "--reflog"], hits) if hits else {}
    tags = git.tags(repository) if hits else {}
    for pair, below in hits.items():
        mine = commits.get(pair, [])
        for path, oid in below:
            place = found.setdefault(oid, {}).setdefault(path, Place(path))
            place.commits += [one for one in mine if one not in place.commits]
            place.tags = sorted({*place.tags, *(name for name, commit in tags.items() if commit in set(mine))})
    return found


def _full(tracked: str, inner: str) -> str:
    return f"{tracked}/{inner}" if inner else tracked


class _Finder:
    """Finds objects below trees; a tree that versions share is looked through once."""

    def __init__(self, wanted: set[Oid], stores: Collection[Store]) -> None:
        self._wanted = wanted
        self._stores = stores
        self._known: dict[Oid, list[tuple[str, Oid]]] = {}

    def below(self, root: Oid, *, is_tree: bool, depth: int = 0) -> list[tuple[str, Oid]]:
        """Return paths and oids of what is wanted at or below a root."""
        own = [("", root)] if root in self._wanted else []
        if not is_tree or depth > 2 * tree.MAX_DEPTH:
            return own
        if root not in self._known:
            self._known[root] = []
            for entry in self._entries(root):
                is_folder = entry.mode in (tree.TREE, tree.PAGE)
                for inner, oid in self.below(entry.oid, is_tree=is_folder, depth=depth + 1):
                    name = "" if entry.mode == tree.PAGE else entry.name
                    self._known[root].append(("/".join(part for part in (name, inner) if part), oid))
        return own + self._known[root]

    def _entries(self, oid: Oid) -> list[tree.Entry]:
        for store in self._stores:
            try:
                for _, data in store.read_many([oid]):
                    return tree.decode(data, oid.algorithm).entries
            except (CorruptError, FormatError):
                continue
            except DvliteError:
                return []
        return []
