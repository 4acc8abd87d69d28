"""Two versions of a table file to what differs: rows, columns, types. The only room that knows PyArrow (the extra `tables`)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvlite.errors import DvliteError

_MOST_ROWS = 2_000_000  # rows of more are counted, not compared
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES = (".jsonl", ".ndjson")
_ARROW = (".arrow", ".feather", ".ipc")
SUFFIXES = (*_DELIMITERS, *_LINES, *_ARROW, ".parquet")


@dataclass(slots=True)
class TableDiff:
    """What differs. Rows are those of the columns that both have; None where there are too many to compare.

    `types`: column to its type before and after; `note`: why nothing can be told.
    """

    rows_before: int = 0
    rows_after: int = 0
    rows_added: int | None = None
    rows_removed: int | None = None
    columns_added: list[str] = field(default_factory=list)
    columns_removed: list[str] = field(default_factory=list)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""


def is_table(name: str) -> bool:
    """Tell by a file's name whether it is a table."""
    return name.lower().endswith(SUFFIXES)


def differ(old: Path, new: Path, name: str) -> TableDiff:
    """Compare two files that are tables by their `name`; one that can't be read as such is noted."""
    try:
        before, after = _read(old, name), _read(new, name)
    except ImportError as exc:
        raise DvliteError("tables can't be compared without PyArrow", "Run: pip install 'dvlite[tables]'") from exc
    except (ValueError, OSError, KeyError, TypeError) as exc:  # PyArrow's own errors are these
        return TableDiff(note=f"can't be read as a table: {str(exc).splitlines()[0][:200]}")
    types = [{field.name: str(field.type) for field in one.schema} for one in (before, after)]
    shared = [name for name in types[0] if name in types[1]]
    result = TableDiff(
        before.num_rows,
        after.num_rows,
        columns_added=[name for name in types[1] if name not in types[0]],
        columns_removed=[name for name in types[0] if name not in types[1]],
        types={name: (types[0][name], types[1][name]) for name in shared if types[0][name] != types[1][name]},
    )
    if max(before.num_rows, after.num_rows) <= _MOST_ROWS:
        rows = Counter(_rows(before, shared))
        rows.subtract(Counter(_rows(after, shared)))
        result.rows_removed = sum(count for count in rows.values() if count > 0)
        result.rows_added = -sum(count for count in rows.values() if count < 0)
    return result


def _read(path: Path, name: str) -> Any:
    suffix = Path(name).suffix.lower()
    if suffix in _DELIMITERS:
        from pyarrow import csv

        return csv.read_csv(
            path, parse_options=csv.ParseOptions(delimiter=_DELIMITERS[suffix], newlines_in_values=True)
        )
    if suffix in _LINES:
        from pyarrow import json

        return json.read_json(path)
    if suffix in _ARROW:
        from pyarrow import feather

        return feather.read_table(path)
    from pyarrow import parquet

    return parquet.ParquetFile(path).read()


def _rows(table: Any, columns: list[str]) -> Iterator[int]:
    """Yield a number for each row, equal for equal rows."""
    if not columns:
        yield from (0 for _ in range(table.num_rows))
        return
    for batch in table.select(columns).to_batches(max_chunksize=1 << 16):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield hash(repr(row))
