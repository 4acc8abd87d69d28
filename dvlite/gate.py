"""Conditions on metrics, parameters and metadata, as people write them: metrics.auc >= 0.9. Pure."""

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dvlite.errors import FormatError

_GATE = re.compile(r"\s*(metrics|params|meta)\.(.+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


class Gate(NamedTuple):
    """One condition: a value of a table, by its dotted name, against another."""

    text: str
    table: str
    key: str
    sign: str
    value: Any


def parse(text: str) -> Gate:
    """Read a condition; FormatError where it is none."""
    found = _GATE.fullmatch(text)
    if not found:
        raise FormatError(f"'{text}' is no condition", "Write it like 'metrics.auc >= 0.9', or 'repro'.")
    table, key, sign, value = found.groups()
    try:
        value = json.loads(value)
    except ValueError:
        value = value.strip("'\"")
    return Gate(text, table, key, sign, value)


def is_met(one: Gate, known: Mapping[str, Any]) -> bool:
    """Tell whether values by dotted names meet a condition; what isn't there, or can't be compared, does not."""
    value, wanted = known.get(one.key), one.value
    if isinstance(wanted, int | float) and not isinstance(value, int | float):
        try:
            value = float(str(value))
        except ValueError:
            return False
    if value is None:
        return False
    try:
        return bool(_OPERATORS[one.sign](value, wanted))
    except TypeError:
        return False
