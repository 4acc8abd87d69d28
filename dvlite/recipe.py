"""How data was made, as its pointer records it in `[run]`: command, inputs by oid, parameters, metrics. Pure.

One valid encoding, with no dates, hosts or users in it: the same work gives the same bytes. Format: docs/pointer.md.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dvlite import oid as oids
from dvlite.errors import FormatError
from dvlite.oid import Oid
from dvlite.pointer import Pointer

TABLE = "run"
_BLOCK = re.compile(rb"^\n?\[run\]\n(?:[a-z]+ = .*\n|  \{.*\n|\]\n)*", re.MULTILINE)  # as `encode` writes it
_OUTSIDE = re.compile(r"(?:^|/)(?:\.{0,2}|\.git)(?:/|\Z)", re.IGNORECASE)
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Input(NamedTuple):
    """Data, or a file of Git's, that a command read; `path` is in-repo."""

    path: str
    oid: Oid


class Recipe(NamedTuple):
    """One run of a command. `folder`: where it ran, in-repo; `outputs`: all data that it made, in-repo.

    `params` and `metrics`: by in-repo file, what stood in it. `code`: the commit of the code, `is_dirty` where the worktree had
    something else than that.
    """

    command: tuple[str, ...]
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    params: Mapping[str, Any] = {}
    metrics: Mapping[str, Any] = {}
    folder: str = ""
    code: str = ""
    is_dirty: bool = False
    exit_code: int = 0

    @property
    def work(self) -> tuple[Any, ...]:
        """What decides on what is made: two recipes that agree in it make the same, if the command is reproducible."""
        return self.command, self.folder, self.inputs, self.outputs, _value(dict(self.params))


def of(pointer: Pointer, name: str = "pointer") -> Recipe | None:
    """Return what a pointer records of how its data was made; None where it records nothing.

    FormatError, which names the pointer `name`, where `[run]` isn't as dvlite writes it: it may be a stranger's.
    """
    if b"[run]" not in pointer.rest:  # most pointers are not parsed for this
        return None
    table = pointer.tables.get(TABLE)
    if table is None:
        return None
    try:
        return Recipe(
            command=_command(table["command"]),
            inputs=tuple(Input(_path(one["path"]), oids.parse(_text(one["oid"]))) for one in table.get("inputs", [])),
            outputs=tuple(map(_path, _texts(table.get("outputs", [])))),
            params=_by_file(table.get("params", {})),
            metrics=_by_file(table.get("metrics", {})),
            folder=_path(table["folder"]) if table.get("folder") else "",
            code=_text(table.get("code", "")),
            is_dirty=table.get("dirty", False) is True,
            exit_code=int(table.get("exit", 0)),
        )
    except (KeyError, TypeError, ValueError, FormatError) as exc:
        raise FormatError(
            f"'{name}': [run] is not as 'dvlite run' writes it ({exc})",
            "Run it anew, or take [run] out of the pointer.",
        ) from exc


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return tuple(map(_text, value))


def _command(value: Any) -> tuple[str, ...]:
    words = _texts(value)
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError(f"{value!r} is no command")
    return words


def _path(value: Any) -> str:
    """Return an in-repo path: one that leads out of the repository, or to Git's own folder, is a stranger's trick."""
    path = _text(value)
    if _OUTSIDE.search(path) or "\0" in path or not path:
        raise ValueError(f"{path!r} is no path in the repository")
    return path


def _by_file(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a table")
    for path in value:
        _path(path)
    return value


def put(pointer: Pointer, recipe: Recipe) -> Pointer:
    """Record how a pointer's data was made, in place of what it recorded before."""
    rest = without(pointer).rest
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"
    return pointer._replace(rest=rest + b"\n" + encode(recipe))


def without(pointer: Pointer) -> Pointer:
    """Take out how a pointer's data was made: it was changed since. What stands around it stays byte for byte."""
    rest = _BLOCK.sub(b"", pointer.rest)
    return pointer._replace(rest=rest if rest.strip() else b"")


def same_run(one: Pointer, two: Pointer) -> bool:
    """Tell whether two pointers record the same of how their data was made."""
    return one.rest == two.rest or one.tables.get(TABLE) == two.tables.get(TABLE)


def encode(recipe: Recipe) -> bytes:
    """Return the text of `[run]`."""
    lines = ["[run]", f"command = {_value(list(recipe.command))}"]
    lines += [f"folder = {_value(recipe.folder)}"] if recipe.folder else []
    lines += [f"code = {_value(recipe.code)}"] if recipe.code else []
    lines += ["dirty = true"] if recipe.is_dirty else []
    lines += [f"exit = {recipe.exit_code}", f"outputs = {_value(list(recipe.outputs))}"]
    lines += [f"params = {_value(dict(recipe.params))}"] if recipe.params else []
    lines += [f"metrics = {_value(dict(recipe.metrics))}"] if recipe.metrics else []
    if recipe.inputs:
        rows = [f"  {{path = {_value(one.path)}, oid = {_value(str(one.oid))}}}," for one in recipe.inputs]
        lines += ["inputs = [", *rows, "]"]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _value(value: Any) -> str:
    """Return a value as TOML, tables in one line; null, which TOML lacks, is the text "null"."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(key))} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    text = "null" if value is None else str(value)
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if key and set(key) <= _BARE else _value(key)


def check_depth(values: Any, depth: int = 0) -> None:
    """Refuse values that are nested so deep that nobody wrote them; ValueError."""
    if depth > 40:
        raise ValueError("nested more than 40 deep")
    for one in values.values() if isinstance(values, Mapping) else values if isinstance(values, list) else ():
        check_depth(one, depth + 1)


def is_same(one: Any, two: Any) -> bool:
    """Tell whether values are the same as far as a pointer can say: 1 is not 1.0, and null is its text."""
    return _value(one) == _value(two)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values by dotted names, as people write them; lists are values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield _whole(f"{prefix}{key}"), _whole(value) if isinstance(value, str) else value


def _whole(text: str) -> str:
    """Return a text without halves of surrogates, which JSON can spell and nothing can print."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def merged(by_file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of several files as one, by dotted names; a later file wins."""
    return {name: value for values in by_file.values() if isinstance(values, Mapping) for name, value in flat(values)}
