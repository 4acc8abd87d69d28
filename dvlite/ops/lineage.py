"""From what data was made, and what was made from it: by the pointers here, and by history where those have moved on."""

import functools
import shlex
from collections import defaultdict
from dataclasses import dataclass, field

from dvlite import recipe
from dvlite.errors import FormatError, MissingError, UsageError, quote
from dvlite.oid import Oid
from dvlite.ops.base import enclosing, pointers_at, reader
from dvlite.ops.repro import History
from dvlite.pointer import SUFFIX, Pointer
from dvlite.recipe import Recipe
from dvlite.refs import Pointers
from dvlite.repo import Repo
from dvlite.tree import find, heads


@dataclass(slots=True)
class Node:
    """One version of a path. `command` made it, empty where nothing says so; `is_current`: it is what the pointers here have.

    `kind`: data, or git for a file that Git keeps.
    """

    path: str
    oid: str
    kind: str = "data"
    command: str = ""
    is_current: bool = True


@dataclass(slots=True)
class LineageResult:
    """Nodes by key, and edges from what was read to what was made, by keys; `root` is what was asked for."""

    root: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lineage(repo: Repo, path: str, *, rev: str | None = None, is_down: bool = False) -> LineageResult:
    """Return what an in-repo path was made from, all the way up; or (`is_down`) what was made from it, all the way down."""
    pointers = pointers_at(repo, rev)
    tracked = path.removesuffix(SUFFIX)
    walk = _Walk(repo, pointers)
    if is_down:
        result = LineageResult(tracked)
        walk.down(tracked, result, set())
        if not result.edges and not enclosing(pointers.found, tracked) and not (repo.root / tracked).is_file():
            raise UsageError(f"there is no '{tracked}', and nothing was made from it", "See 'dvlite ls'.")
        return result
    owner = enclosing(pointers.found, tracked)
    if not owner:
        raise UsageError(f"'{tracked}' is not tracked by dvlite", f"See 'dvlite lineage --down {quote(tracked)}'.")
    oid = walk.oid_of(owner, tracked)
    assert oid
    result = LineageResult(_key(tracked, oid))
    walk.up(tracked, oid, result)
    return result


def _key(path: str, oid: Oid) -> str:
    return f"{path} {oid.short}"


class _Walk:
    """The walk over pointers: each is read once, history only where the pointers here have moved on."""

    def __init__(self, repo: Repo, pointers: Pointers) -> None:
        self._repo, self._pointers = repo, pointers
        self._read = reader(repo)
        self._recipes: dict[str, Recipe | None] = {}

    @functools.cached_property
    def _history(self) -> History:
        return History(self._repo)

    def recipe(self, tracked: str) -> Recipe | None:
        if tracked not in self._recipes:
            self._recipes[tracked] = recipe.of(self._pointers.found[tracked], f"{tracked}{SUFFIX}")
        return self._recipes[tracked]

    def oid_of(self, owner: str, path: str, item: Pointer | None = None) -> Oid | None:
        """Return what a version of a tracked path has at a path."""
        item = item or self._pointers.found[owner]
        inner = path[len(owner) + 1 :]
        try:
            found = find(item.entry, inner.split("/") if inner else [], self._read)
        except (MissingError, FormatError):
            return None
        return found.oid if found else None

    def _made(self, owner: str, path: str, oid: Oid) -> tuple[Recipe | None, bool]:
        """Return how a version of a path was made, and whether it is the one here."""
        if owner in self._pointers.found and self.oid_of(owner, path) == oid:
            return self.recipe(owner), True
        for item in self._history.of(owner):
            if self.oid_of(owner, path, item) == oid and (made := recipe.of(item, f"{owner}{SUFFIX}")):
                return made, False
        return None, False

    def up(self, path: str, oid: Oid, result: LineageResult) -> None:
        """Add a version and all that it was made from."""
        waiting = [(path, oid)]
        while waiting:
            path, oid = waiting.pop()
            key = _key(path, oid)
            if key in result.nodes:
                continue
            owner = enclosing(self._pointers.found, path) or path
            made, is_current = self._made(owner, path, oid)
            kind = "data" if owner in self._pointers.found or made else "git"
            command = shlex.join(made.command) if made else ""
            result.nodes[key] = Node(path, str(oid), kind, command, is_current or kind == "git")
            for one in made.inputs if made else ():
                result.edges.append((_key(one.path, one.oid), key))
                waiting.append((one.path, one.oid))

    @functools.cached_property
    def _by_input(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Who reads a path, and which paths that are read lie below a folder."""
        readers: dict[str, list[str]] = defaultdict(list)
        below: dict[str, list[str]] = defaultdict(list)
        for tracked in self._pointers.found:
            made = self.recipe(tracked)
            for one in made.inputs if made else ():
                if one.path not in readers:
                    for head in heads(one.path):
                        below[head].append(one.path)
                readers[one.path].append(tracked)
        return readers, below

    def down(self, path: str, result: LineageResult, seen: set[str]) -> None:
        """Add what is made from a path, or from what lies at, above or below it."""
        readers, below = self._by_input
        waiting = [path]
        result.nodes[path] = self._node(path)
        while waiting:
            now = waiting.pop()
            if now in seen:
                continue
            seen.add(now)
            for source in [now, *heads(now), *below.get(now, ())]:
                for made in readers.get(source, ()):
                    if made not in result.nodes:
                        result.nodes[made] = self._node(made)
                    result.edges.append((now, made))
                    waiting.append(made)

    def _node(self, path: str) -> Node:
        owner = enclosing(self._pointers.found, path)
        oid = self.oid_of(owner, path) if owner else None
        made = self.recipe(owner) if owner else None
        command = shlex.join(made.command) if made else ""
        return Node(path, str(oid) if oid else "", "data" if owner else "git", command)


def mermaid(result: LineageResult) -> str:
    """Return the graph as Mermaid writes one."""
    ids = {key: f"n{number}" for number, key in enumerate(result.nodes)}
    lines = ["graph LR"]
    for key, node in result.nodes.items():
        text = node.path.replace('"', "#quot;").replace("\n", " ")
        short = node.oid.partition(":")[2][:8]
        shape = ("([", "])") if node.kind == "git" else ("[", "]")
        lines.append(f'  {ids[key]}{shape[0]}"{text}{f"<br/>{short}" if short else ""}"{shape[1]}')
    lines += [f"  {ids[one]} --> {ids[two]}" for one, two in result.edges]
    return "\n".join(lines)
