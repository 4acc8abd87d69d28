"""Names of registered models and data, and what their tags say: versions, stages, who and why. Pure.

Each event is an annotated Git tag, named as the GTO project names them, with what dvlite knows as JSON in its last line. Events
are only ever added: `churn@v1.2.0` registers, `churn@v1.2.0!` takes that back, `churn#production#3` assigns a stage,
`churn#production!#4` takes that back, `churn@deprecated` deprecates.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dvlite.errors import UsageError

_NAME = r"[a-z](?:[a-z0-9-]*[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_EXTRA = r"(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_VERSION = rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}{_EXTRA}"
_TAG = re.compile(
    rf"(?P<name>{_NAME})(?:@(?P<version>{_VERSION})(?P<gone>!?)|@(?P<deprecated>deprecated)"
    rf"|\#(?P<stage>{_NAME})(?P<off>!?)\#(?P<count>{_NUMBER}))"
)
_LABEL = re.compile(
    rf"(?P<name>{_NAME})(?:@(?P<version>v{_NUMBER}(?:\.{_NUMBER}){{0,2}}{_EXTRA})|[@\#](?P<stage>{_NAME}))"
)
MARK = "dvlite: "


class Event(NamedTuple):
    """One tag. `kind`: register, deregister, assign, unassign or deprecate; `told`: what dvlite wrote into it.

    `tag`: its name, `id` its own, `commit` what it is of.
    """

    kind: str
    name: str
    version: str
    stage: str
    number: int
    tag: str
    id: str
    commit: str
    date: str
    author: str
    message: str
    told: Mapping[str, Any]


@dataclass(slots=True)
class Version:
    """A registered version, and the `stages` that it is in now.

    `metrics` and `params`: by dotted names, as they were when it was registered.
    """

    name: str
    version: str
    path: str
    oid: str
    commit: str
    date: str
    author: str
    tag: str
    stages: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    is_deregistered: bool = False


@dataclass(slots=True)
class Model:
    """A name with its versions (oldest first), which version each stage has, and all events, oldest first.

    `assigned`: the versions that were put into a stage and not taken out; the last one counts.
    """

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    assigned: dict[str, list[str]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    is_deprecated: bool = False


class Label(NamedTuple):
    """NAME@VERSION, NAME@STAGE or NAME#STAGE, as people write them."""

    name: str
    version: str
    stage: str


def check_name(name: str) -> None:
    """Refuse a name, of a model or a stage, that GTO would not read."""
    if not re.fullmatch(_NAME, name) or name == "deprecated":
        raise UsageError(
            f"'{name}' is no name here", "Use lower-case letters, digits, '-' and '/', a letter first: churn-model."
        )


def check_version(version: str) -> None:
    """Refuse what is no version."""
    if not re.fullmatch(_VERSION, version) or version.endswith(".lock"):
        raise UsageError(f"'{version}' is no version", "Write it like v1.2.0.")


def label(text: str) -> Label | None:
    """Read NAME@VERSION, NAME@STAGE or NAME#STAGE; None where a text is none of these."""
    found = _LABEL.fullmatch(text)
    return Label(found["name"], found["version"] or "", found["stage"] or "") if found else None


def is_tag(name: str) -> bool:
    """Tell whether a tag's name is one of the registry's."""
    return bool(_TAG.fullmatch(name))


def event(tag: str, id_: str, commit: str, date: str, author: str, message: str) -> Event | None:
    """Read a tag; None where it is none of the registry's."""
    found = _TAG.fullmatch(tag)
    if not found:
        return None
    version, stage = found["version"] or "", found["stage"] or ""
    if version:
        kind = "deregister" if found["gone"] else "register"
    else:
        kind = "deprecate" if found["deprecated"] else "unassign" if found["off"] else "assign"
    said, told = split(message)
    return Event(
        kind, found["name"], version, stage, int(found["count"] or 0), tag, id_, commit, date, author, said, told
    )


def spell(kind: str, name: str, *, version: str = "", stage: str = "", number: int = 0) -> str:
    """Return the name of a tag."""
    if kind in ("register", "deregister"):
        return f"{name}@{version}{'!' if kind == 'deregister' else ''}"
    if kind == "deprecate":
        return f"{name}@deprecated"
    return f"{name}#{stage}{'!' if kind == 'unassign' else ''}#{number}"


def encode(said: str, told: Mapping[str, Any]) -> str:
    """Return the message of a tag: what people read, then what dvlite reads."""
    line = json.dumps(dict(told), separators=(",", ":"), ensure_ascii=False)
    return f"{said}\n\n{MARK}{line}\n"


def split(message: str) -> tuple[str, Mapping[str, Any]]:
    """Return what a message says to people, and to dvlite; nothing for the latter where another tool wrote it."""
    said, mark, line = message.rpartition(f"\n{MARK}")
    if mark:
        try:
            told = json.loads(line.split("\n")[0])
            json.dumps(told, ensure_ascii=False).encode()  # half a surrogate is no text
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict):
            return said.strip(), told
    return message.strip(), {}


def models(events: Iterable[Event]) -> dict[str, Model]:
    """Return what events come to, in any order but for stages, whose events have numbers. The first of a name counts."""
    found: dict[str, Model] = {}
    for one in events:
        model = found.setdefault(one.name, Model(one.name))
        model.events.append(one)
        if one.kind == "register":
            model.versions.setdefault(one.version, _version(one))
        model.is_deprecated |= one.kind == "deprecate"
    for model in found.values():
        model.versions = dict(sorted(model.versions.items(), key=lambda item: order(item[0])))
        for one in model.events:
            if one.kind == "deregister" and one.version in model.versions:
                model.versions[one.version].is_deregistered = True
        for one in sorted((each for each in model.events if each.stage), key=lambda each: each.number):
            version = assigned(model, one)
            there = model.assigned.setdefault(one.stage, [])
            there[:] = [other for other in there if other != version]
            if one.kind == "assign":
                there.append(version)
        model.stages = {stage: versions[-1] for stage, versions in model.assigned.items() if versions}
        for stage, version in model.stages.items():
            if version in model.versions:
                model.versions[version].stages.append(stage)
    return found


def _version(one: Event) -> Version:
    values = {key: value if isinstance(value, dict) else {} for key, value in one.told.items()}
    return Version(
        one.name,
        one.version,
        str(one.told.get("path", "")),
        str(one.told.get("oid", "")),
        one.commit,
        one.date,
        one.author,
        one.tag,
        metrics=dict(values.get("metrics", {})),
        params=dict(values.get("params", {})),
    )


def assigned(model: Model, one: Event) -> str:
    """Return the version that a stage's event is of: the one it names, else the newest of its commit.

    Its tag may be missing here. Where nothing names it, the commit stands for it.
    """
    if named := str(one.told.get("version", "")):
        return named
    found = [version.version for version in model.versions.values() if version.commit == one.commit]
    return found[-1] if found else one.commit[:10]


def next_number(model: Model | None) -> int:
    """Return the number of the next event about stages."""
    return max((one.number for one in model.events), default=0) + 1 if model else 1


def next_version(model: Model | None, bump: str, taken: Iterable[str] = ()) -> str:
    """Return the version after the highest one; `bump`: major, minor or patch; `taken`: other names that count."""
    staged = {version for versions in model.assigned.values() for version in versions} if model else set()
    known = {one for one in {*(model.versions if model else ()), *staged, *taken} if re.fullmatch(_VERSION, one)}
    if not known:
        return "v1.0.0"
    highest = max(known, key=order)
    major, minor, patch = order(highest)[0]
    if "-" in highest:  # what comes after a release candidate is the release
        return f"v{major}.{minor}.{patch}"
    if bump == "major":
        return f"v{major + 1}.0.0"
    return f"v{major}.{minor + 1}.0" if bump == "minor" else f"v{major}.{minor}.{patch + 1}"


def order(version: str) -> tuple[tuple[int, int, int], bool, list[tuple[int, int, str]]]:
    """Return what versions are sorted by: a candidate comes before its release."""
    plain, _, extra = version[1:].partition("-")
    major, minor, patch = plain.split(".")
    parts = [(0, int(one), "") if one.isdigit() else (1, 0, one) for one in extra.split(".")]
    return (int(major), int(minor), int(patch)), not extra, parts


def is_same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Tell whether two tables, one of them out of JSON, have the same values; not a number is equal to itself here."""
    texts = [json.dumps(dict(each), sort_keys=True, default=str) for each in (one, two)]
    return texts[0] == texts[1]
