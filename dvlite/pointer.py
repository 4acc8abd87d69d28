"""The pointer: the small text file in Git that stands for one blob or tree.

The head is dvlite's and has one valid encoding; `[run]` is canonical as a whole; everything else is the user's and is kept
byte for byte. A pointer has no dates, hosts or users in it. Format: docs/pointer.md.
"""

import functools
import json
import re
import tomllib
from collections.abc import Collection
from typing import Any, NamedTuple

from dvlite import oid as oids
from dvlite.errors import FormatError, quote
from dvlite.oid import Oid
from dvlite.tree import EXECUTABLE, FILE, TREE, Entry

SUFFIX = ".dvlite"
MAX_BYTES = 1 << 20
_HEAD_KEYS = ("version", "oid", "type", "size", "files", "executable")
_HEAD = re.compile(
    rb'version = 1\noid = "((?:sha256|blake3):[0-9a-f]{64})"\ntype = "(blob|tree)"\nsize = (0|[1-9][0-9]{0,18})\n'
    rb"(?:files = (0|[1-9][0-9]{0,18})\n)?(executable = true\n)?"
)
_RUN_KEYS = frozenset(["command", "folder", "code", "dirty", "exit", "outputs", "params", "metrics", "inputs"])
_INPUT = re.compile(r'  \{path = "([^"]*)", oid = "([^"]*)"\},')
_NOT_QUICK = re.compile(rb"[\\\x00-\x09\x0b-\x1f\x7f#']|[\xed][\xa0-\xbf]")  # escapes, comments, other quotes
_CONFLICT = re.compile(rb"^(<{7}|={7}|>{7}|\|{7})( |\r?$)", re.MULTILINE)


class Pointer(NamedTuple):
    """What a pointer says. `size` is in bytes, `files` counts a tree's files; `rest` is all after the head, as it was written."""

    oid: Oid
    is_tree: bool
    size: int
    files: int = 1
    is_executable: bool = False
    rest: bytes = b""

    @property
    def entry(self) -> Entry:
        """The root as an entry with no name."""
        mode = TREE if self.is_tree else EXECUTABLE if self.is_executable else FILE
        return Entry(mode, self.oid, self.size, self.files, "")

    @property
    def tables(self) -> dict[str, Any]:
        """The tables after the head, parsed: meta, run and what else the user wrote. Not to be changed."""
        return _tables(self.rest)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the data stays at the source that `[import]` names: here it is only recorded."""
        if b'stored = "no"' not in self.rest:  # most pointers are not parsed for this
            return False
        found = self.tables.get("import")
        return isinstance(found, dict) and found.get("stored") == "no"

    def pointing_to(self, entry: Entry) -> "Pointer":
        """Return this pointer with another root, metadata kept."""
        return self._replace(
            oid=entry.oid,
            is_tree=entry.is_tree,
            size=entry.size,
            files=entry.files,
            is_executable=entry.mode == EXECUTABLE,
        )


def of(entry: Entry) -> Pointer:
    """Return a new pointer to a root."""
    return Pointer(entry.oid, entry.is_tree, entry.size, entry.files, entry.mode == EXECUTABLE)


def encode(pointer: Pointer) -> bytes:
    """Return the bytes of the pointer file."""
    kind = "tree" if pointer.is_tree else "blob"
    head = f'version = 1\noid = "{pointer.oid}"\ntype = "{kind}"\nsize = {pointer.size}\n'
    if pointer.is_tree:
        head += f"files = {pointer.files}\n"
    elif pointer.is_executable:
        head += "executable = true\n"
    return head.encode() + pointer.rest


@functools.lru_cache(1 << 14)
def _tables(rest: bytes) -> dict[str, Any]:
    quick = _quick_run(rest)
    return tomllib.loads(rest.decode()) if quick is None else quick


def _quick_run(rest: bytes) -> dict[str, Any] | None:
    """Read `[run]` as dvlite writes it, where nothing else stands and no text has an escape; None for all else.

    There may be thousands: a reader of all of TOML takes ten times as long.
    """
    if not rest.startswith(b"\n[run]\ncommand = ") or _NOT_QUICK.search(rest):
        return None
    found: dict[str, Any] = {}
    inputs: list[dict[str, str]] | None = None
    try:
        for line in rest[7:].decode().split("\n")[:-1]:
            key, _, value = line.partition(" = ")
            if inputs is not None:
                if line == "]":
                    found["inputs"], inputs = inputs, None
                    continue
                one = _INPUT.fullmatch(line)
                if one is None:
                    return None
                inputs.append({"path": one[1], "oid": one[2]})
            elif key in found or key not in _RUN_KEYS:
                return None
            elif line == "inputs = [":
                inputs = []
            else:
                found[key] = _quick_value(value)
    except (ValueError, RecursionError):
        return None
    return {"run": found} if inputs is None else None


def _quick_value(text: str) -> Any:
    """Read text, a list of texts, a number, true, or a table in one line; ValueError for all else."""
    if text[:1] == "{":
        return tomllib.loads(f"x = {text}")["x"]
    value = json.loads(text)
    is_one = isinstance(value, str) or value is True or (type(value) is int and text.isdigit())
    if not is_one and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise ValueError(text)
    return value


def _quick(data: bytes) -> Pointer | None:
    """Read a pointer as dvlite writes it; None for one that has to be looked at closely."""
    head = _HEAD.match(data)
    if not head or (head[2] == b"tree") != (head[4] is not None) or (head[4] and head[5]):
        return None
    rest = data[head.end() :]
    size, files = int(head[3]), int(head[4] or 1)
    if rest[:1] not in (b"", b"\n", b"[") or max(size, files) >= 1 << 63:
        return None
    try:
        if rest and not all(isinstance(one, dict | list) for one in _tables(rest).values()):
            return None
    except (ValueError, RecursionError):
        return None
    return Pointer(oids.parse(head[1].decode()), head[2] == b"tree", size, files, bool(head[5]), rest)


def decode(data: bytes, name: str = "pointer") -> Pointer:
    """Read a pointer file; `name` is for errors, which say the line and the reason."""
    if len(data) <= MAX_BYTES and (quick := _quick(data)):
        return quick
    if len(data) > MAX_BYTES:
        raise FormatError(f"'{name}' is too large for a pointer")
    if found := _CONFLICT.search(data):
        line = data.count(b"\n", 0, found.start()) + 1
        raise FormatError(
            f"'{name}' line {line}: Git conflict markers",
            "Take a side for each path in conflict ('dvlite status' lists them): 'dvlite checkout --ours PATH', or '--theirs'.",
        )
    values = _parse(data, name)
    _check_head(values, name)
    head = encode(pointer := _from_head(values, name))
    rest = data[len(head) :]
    if not data.startswith(head) or rest[:1] not in (b"", b"\n", b"[", b"#"):
        line = _first_difference(head, data)
        text = (data.split(b"\n") + [b""])[min(line - 1, data.count(b"\n") + 1)]
        reason = "line ends are CRLF" if text.endswith(b"\r") else "not in the one form that dvlite writes"
        if text.startswith(b"#"):
            reason = "a comment in the head; it may stand below"
        raise _malformed(name, f"line {line}: {reason}")
    return pointer._replace(rest=rest)


def _from_head(values: dict[str, Any], name: str) -> Pointer:
    return Pointer(
        oid=_parse_oid(values, name),
        is_tree=values["type"] == "tree",
        size=values["size"],
        files=values.get("files", 1),
        is_executable=values.get("executable", False),
    )


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as exc:
        raise _malformed(name, f"byte {exc.start}: not UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise _malformed(name, str(exc)[:200]) from exc


def _check_head(values: dict[str, Any], name: str) -> None:
    version = values.get("version")
    if isinstance(version, int) and version > 1:
        raise FormatError(f"'{name}' has format version {version}: written by a newer dvlite", "Update dvlite.")
    if version != 1 or version is True:
        raise _malformed(name, "line 1: 'version = 1' expected")
    for key, value in values.items():
        if key not in _HEAD_KEYS and not isinstance(value, dict | list):
            raise FormatError(
                f"'{name}': unknown key '{key}' in the head: written by a newer dvlite",
                "Update dvlite, or move your own keys below [meta].",
            )
    kind = values.get("type")
    if kind not in ("tree", "blob"):
        raise _malformed(name, '\'type\' must be "tree" or "blob"')
    if type(values.get("size")) is not int or not 0 <= values["size"] < 1 << 63:
        raise _malformed(name, "'size' must be a number of bytes")
    if kind == "tree" and (type(values.get("files")) is not int or not 0 <= values["files"] < 1 << 63):
        raise _malformed(name, "'files' must be a number")
    if values.get("executable", True) is not True:
        raise _malformed(name, "'executable' must be true or left out")


def _parse_oid(values: dict[str, Any], name: str) -> Oid:
    text = values.get("oid")
    if not isinstance(text, str):
        raise _malformed(name, "'oid' is missing")
    try:
        return oids.parse(text)
    except FormatError as exc:
        raise FormatError(f"'{name}': {exc.message}", exc.hint) from exc


def _malformed(name: str, reason: str) -> FormatError:
    return FormatError(
        f"malformed pointer '{name}': {reason}",
        f"Restore it with 'git checkout -- {quote(name)}', or remove it and run 'dvlite add {quote(name.removesuffix(SUFFIX))}'.",
    )


def _first_difference(one: bytes, two: bytes) -> int:
    lines = zip(one.split(b"\n"), two.split(b"\n"), strict=False)
    return next((number for number, (a, b) in enumerate(lines, 1) if a != b), one.count(b"\n") + 1)


def with_meta(pointer: Pointer, meta: dict[str, str]) -> Pointer:
    """Set keys of `[meta]`, touching only their lines; comments and everything else stay as they are."""
    if not meta:
        return pointer
    import tomlkit  # needs 30 ms, and only here and below

    document = tomlkit.parse(pointer.rest.decode())
    if "meta" not in document:
        document["meta"] = tomlkit.table()
    table = document["meta"]
    for key, value in meta.items():
        if key not in table or table[key] != value:
            table[key] = value
    return pointer._replace(rest=_dumped(tomlkit.dumps(document), pointer.rest))


def with_table(pointer: Pointer, name: str, values: dict[str, str]) -> Pointer:
    """Set a whole table of strings, such as `[import]`; everything else stays as it is."""
    import tomlkit

    document = tomlkit.parse(pointer.rest.decode())
    if document.get(name) == values:
        return pointer
    table = tomlkit.table()
    table.update(values)
    document[name] = table
    return pointer._replace(rest=_dumped(tomlkit.dumps(document), pointer.rest))


def without_meta(pointer: Pointer, keys: Collection[str]) -> Pointer:
    """Take keys out of `[meta]`."""
    import tomlkit

    document = tomlkit.parse(pointer.rest.decode())
    table: Any = document.get("meta", {})
    found = [key for key in keys if key in table]
    for key in found:
        table.remove(key)
    return pointer._replace(rest=_dumped(tomlkit.dumps(document), pointer.rest)) if found else pointer


def _dumped(text: str, before: bytes) -> bytes:
    rest = text.encode()
    if rest and not rest.startswith(b"\n"):
        rest = b"\n" + rest
    return before if rest.lstrip(b"\n") == before.lstrip(b"\n") else rest


# ---- merging --------------------------------------------------------------------------------------------------------


def merge_rest(base: bytes, ours: bytes, theirs: bytes, *, prefers_theirs: bool = False) -> bytes:
    """Merge what stands after the head, `[meta]` key by key and other tables as wholes; a conflict goes to one side.

    So the two preferences give the same bytes where nothing is in conflict.
    """
    if theirs in (base, ours):
        return ours
    if ours == base:
        return theirs
    import tomlkit

    old, new = (tomlkit.parse(text.decode()) for text in (base, theirs))
    document = tomlkit.parse(ours.decode())
    for name in dict.fromkeys([*document, *new, *old]):
        tables = [one.get(name) for one in (old, document, new)]
        if name == "meta" and isinstance(tables[1], dict) and isinstance(tables[2], dict):
            before = tables[0] if isinstance(tables[0], dict) else {}
            _merge_keys(before, tables[1], tables[2], prefers_theirs)
        elif _takes_theirs(tables[0], tables[1], tables[2], prefers_theirs):
            _put(document, name, tables[2])
    return _dumped(tomlkit.dumps(document), ours)


def _merge_keys(base: Any, ours: Any, theirs: Any, prefers_theirs: bool) -> None:
    for key in dict.fromkeys([*ours, *theirs, *base]):
        if _takes_theirs(base.get(key), ours.get(key), theirs.get(key), prefers_theirs):
            _put(ours, key, theirs.get(key))


def _takes_theirs(base: Any, ours: Any, theirs: Any, prefers_theirs: bool) -> bool:
    return bool(theirs not in (ours, base) and (prefers_theirs or ours == base))


def _put(table: Any, key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def conflict(ours: bytes, theirs: bytes, *, marker_size: int = 7) -> bytes:
    """Return two pointer files as one with ordinary conflict markers around what differs."""
    one, two = (data.splitlines(keepends=True) for data in (ours, theirs))
    one, two = ([*lines[:-1], lines[-1].rstrip(b"\n") + b"\n"] if lines else [] for lines in (one, two))
    head = _common(one, two)
    tail = _common(one[head:][::-1], two[head:][::-1])
    middle = [lines[head : len(lines) - tail] for lines in (one, two)]
    marks = [mark * marker_size for mark in (b"<", b"=", b">")]
    return b"".join(
        [*one[:head], marks[0] + b" ours\n", *middle[0], marks[1] + b"\n", *middle[1], marks[2] + b" theirs\n"]
        + one[len(one) - tail :]
    )


def _common(one: list[bytes], two: list[bytes]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def named(data: bytes) -> set[Oid]:
    """Return all that looks like an oid in a file that can't be read as a pointer: for those who must keep what it may mean."""
    return {oids.parse(found.decode()) for found in re.findall(rb"\b(?:sha256|blake3):[0-9a-f]{64}\b", data)}


def sides(data: bytes) -> tuple[bytes, bytes]:
    """Return both sides of a file with conflict markers, whoever wrote them."""
    found: tuple[list[bytes], list[bytes]] = ([], [])
    state = ""
    for line in data.splitlines(keepends=True):
        mark = _CONFLICT.match(line)
        if mark and mark[1][:1] in b"<|=>":
            state = {b"<": "ours", b"|": "base", b"=": "theirs", b">": ""}[mark[1][:1]]
            continue
        if state in ("", "ours"):
            found[0].append(line)
        if state in ("", "theirs"):
            found[1].append(line)
    return b"".join(found[0]), b"".join(found[1])
