"""What `[policy]` asks of a repository's data: metadata that it must have, and committed data that nobody may change."""

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from dvlite import compare
from dvlite.config import Config
from dvlite.errors import UnsavedError, UsageError, quote
from dvlite.pointer import Pointer
from dvlite.tree import Entry, Read

REASON = "reason"  # the key of [meta] that says why frozen data was changed all the same


def is_match(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path matches one of some patterns, or lies below what one names.

    A leading `**/` matches the root too; `raw` and `raw/` are the folder and all in it, as in `.gitignore`.
    """
    for one in patterns:
        plain = one.removeprefix("./").strip("/")
        if path == plain or path.startswith(f"{plain}/") or fnmatch.fnmatchcase(path, plain):
            return True
        if plain.startswith("**/") and fnmatch.fnmatchcase(path, plain[3:]):
            return True
    return False


def required(config: Config, tracked: str) -> list[str]:
    """Return the keys of `[meta]` that a tracked path must have."""
    found = config.policy.get("require", [])
    if isinstance(found, dict):
        return [key for pattern, keys in found.items() if is_match(tracked, [pattern]) for key in keys]
    return list(found)


def check_meta(config: Config, tracked: str, item: Pointer) -> None:
    """Refuse a pointer that lacks metadata which the policy requires."""
    wanted = required(config, tracked)
    meta = item.tables.get("meta", {}) if wanted else {}
    lacking = [key for key in wanted if not (isinstance(meta, dict) and str(meta.get(key, "")).strip())]
    if lacking:
        example = " ".join(f"{quote(key)}=…" for key in lacking)
        raise UsageError(
            f"'{tracked}' lacks metadata that [policy] requires: {', '.join(lacking)}",
            f"Say it: dvlite meta set {quote(tracked)} {example}",
        )


def frozen(config: Config, path: str) -> bool:
    """Tell whether committed data at a path must stay as it is."""
    return is_match(path, config.policy.get("append_only", ()))


def keeps(config: Config, here: Mapping[str, Pointer], before: Mapping[str, Pointer], tracked: str) -> bool:
    """Tell whether frozen data only moves: the same is tracked at a new place, which is frozen too."""
    oid = before[tracked].oid
    return any(
        item.oid == oid and path not in before and (frozen(config, path) or frozen(config, f"{path}/x"))
        for path, item in here.items()
    )


def rewritten(config: Config, tracked: str, old: Entry, new: Entry | None, read: Read) -> Iterator[str]:
    """Yield the frozen files that a new version of a tracked path changes or lacks; MissingError without its listings."""
    if config.policy.get("append_only"):
        for one in compare.differences(tracked, old, new, read):
            yield from (path for path in compare.old_files(one, read) if frozen(config, path))


def refuse_rewrite(
    config: Config,
    tracked: str,
    old: Pointer,
    new: Entry | None,
    read: Read,
    *,
    known: str = "",
    is_taken: Callable[[str], bool] = lambda _: False,
) -> None:
    """Refuse a version that changes or deletes frozen data; `known`: why it is done all the same; `is_taken`: of a path."""
    if known:
        return
    for path in rewritten(config, tracked, old.entry, new, read):
        free = next_name(path)
        while is_taken(free):
            free = next_name(free)
        raise UnsavedError(
            f"'{path}' is committed, and [policy] append_only keeps it as it is",
            f"Add the new data beside it, as '{free}'."
            f" If it must be: dvlite add --force --reason TEXT {quote(tracked)}",
        )


def reason_of(old: Pointer | None, new: Pointer) -> str:
    """Return why a version changes frozen data, as its own `[meta]` says; not what an earlier one said."""
    before, now = (_reason(item) if item else "" for item in (old, new))
    return now if now != before else ""


def _reason(item: Pointer) -> str:
    meta = item.tables.get("meta", {}) if b"meta" in item.rest else {}
    return str(meta.get(REASON, "")) if isinstance(meta, dict) else ""


def next_name(path: str) -> str:
    """Return what the next version of a file is called: ventas_v1.parquet, ventas_v2.parquet."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.partition(".")
    found = re.fullmatch(r"(.*_v)(\d+)", stem)
    stem = f"{found[1]}{int(found[2]) + 1:0{len(found[2])}d}" if found else f"{stem}_v2"
    return f"{folder}{slash}{stem}{dot}{suffix}"
