"""How results look: sizes, counts, names made safe to print, colour, errors with hints, JSON."""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from dvlite.errors import DvliteError

# Control characters and those that turn the reading direction: a name must not steer a terminal.
# Half a surrogate can't be printed at all; those that stand for bytes of names (U+DC80 to U+DCFF) can.
_UNSAFE = re.compile("[\ud800-\udc7f\udd00-\udfff\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2"}


def name(text: str) -> str:
    """Return a name that is safe to print."""
    return _UNSAFE.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")), text
    )


def markdown(text: str) -> str:
    """Return a name that is safe in a cell of a Markdown table."""
    return name(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")


def relative(path: Path, folder: Path) -> str:
    """Return a path as it is written from a folder."""
    return os.path.relpath(path, folder)


def size(count: int) -> str:
    """Return a size as people read it: 1.2 GB."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def count(number: int, noun: str) -> str:
    """Return a number with separators and its noun: 1,000 files."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def has_colour(stream: Any) -> bool:
    """Tell whether a stream shows colours and the user wants them."""
    return bool(stream.isatty()) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: Any = None) -> str:
    """Return text in a colour where that shows."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if has_colour(stream or sys.stdout) else text


def out(text: str) -> None:
    """Print data."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print what is not data."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")


def error(exc: DvliteError, path: str = "") -> None:
    """Print an error and its hint; a path that the message doesn't name comes first."""
    message = name(exc.message)
    if path and f"'{name(path)}" not in message:
        message = f"'{name(path)}': {message}"
    note(f"{paint('error:', 'red', sys.stderr)} {message}")
    if exc.hint:
        note(f"{paint('hint:', 'yellow', sys.stderr)} {name(exc.hint)}")


def table(rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows in columns; those numbered in `right` are aligned right."""
    listed = [list(map(str, row)) for row in rows]
    if not listed:
        return
    widths = [max(len(row[at]) for row in listed) for at in range(len(listed[0]))]
    for row in listed:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        out("  ".join(cells).rstrip())


def as_json(value: Any, **more: Any) -> None:
    """Print a result as JSON: its fields by name, `version` first."""
    out(json.dumps({"version": 1, **_plain(value), **_plain(more)}, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, DvliteError):
        return {"message": value.message, "hint": value.hint, "exit_code": value.exit_code}
    # A named tuple's fields, or a dataclass's (by their name: hooks load no dataclasses).
    if fields := getattr(value, "_fields", None) or getattr(value, "__dataclass_fields__", None):
        return {field: _plain(getattr(value, field)) for field in fields}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such numbers
        return None
    return str(value) if isinstance(value, Path) else value


def failures(found: Sequence[Any], here: Callable[[str], str], *, is_alone: bool, is_told: bool = False) -> int:
    """Print failures (or not: `is_told`); return the exit code: their own where nothing else was done and they agree, else 1."""
    for path, exc in () if is_told else found:
        error(exc, here(path) if path else "")
    codes = {exc.exit_code for _, exc in found}
    if not codes:
        return 0
    return codes.pop() if is_alone and len(codes) == 1 else 1
