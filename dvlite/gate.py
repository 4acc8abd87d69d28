"""Conditions on metrics, parameters and metadata, as people write them: metrics.auc >= 0.9. Pure."""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dvlite.errors import FormatError

_GATE = re.compile(
    r"\s*(metrics|params|meta)\.([^\s<>=!]+)\s*(>=|<=|==|!=|>|<)\s*"
    r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\"[^\"]*\"|'[^']*'|[^\W\d][\w./-]*)\s*",
)
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
        raise FormatError(
            f"'{text}' is no condition",
            "Write one like 'metrics.auc >= 0.9' or 'params.kind == tree'; several are several texts.",
        )
    table, key, sign, value = found.groups()
    if value[:1] in "\"'":
        return Gate(text, table, key, sign, value[1:-1])
    try:
        return Gate(text, table, key, sign, json.loads(value.lower() if value in ("True", "False") else value))
    except ValueError:
        return Gate(text, table, key, sign, value)


def is_met(one: Gate, known: Mapping[str, Any]) -> bool:
    """Tell whether values by dotted names meet a condition; what isn't there, or can't be compared, does not."""
    value, wanted = known.get(one.key), one.value
    if one.table == "meta" and is_number(wanted):  # metadata is text
        try:
            value = float(str(value))
        except ValueError:
            return False
    if (
        value is None
        or (is_number(wanted) and not is_number(value))
        or isinstance(wanted, bool) != isinstance(value, bool)
    ):
        return False
    try:
        return bool(_OPERATORS[one.sign](value, wanted))
    except TypeError:
        return False


def is_number(value: Any) -> bool:
    """Tell whether a value is a number that can be compared."""
    return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and math.isfinite(value)
