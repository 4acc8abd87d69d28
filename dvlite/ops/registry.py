"""Register versions of models and data, promote them to stages, tell what is where. Each event is a tag that nobody changes.

Of two people who register or promote the same at once, the first push of the tag decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dvlite import gate, git, pointer, recipe, refs, registry, transfer
from dvlite.errors import DvliteError, MissingError, UsageError, quote
from dvlite.git import Git
from dvlite.ops.base import enclosing
from dvlite.ops.meta import meta_of
from dvlite.ops.repro import Step
from dvlite.ops.reproduce import check
from dvlite.pointer import SUFFIX, Pointer
from dvlite.registry import Event, Model, Version
from dvlite.repo import Repo


@dataclass(slots=True)
class RegistryResult:
    """Models by name."""

    models: list[Model] = field(default_factory=list)


@dataclass(slots=True)
class Tagged:
    """An event that was made: its tag, and whether it is new. `version` is what it is about."""

    tag: str
    is_new: bool
    version: Version
    stage: str = ""
    replaced: str = ""


def read(repository: Git) -> dict[str, Model]:
    """Return all models that a repository's tags name."""
    return registry.models(events(repository, "refs/tags"))


def events(repository: Git, folder: str) -> Iterator[Event]:
    """Yield the registry's events among the tags below a ref."""
    for tag in git.annotated(repository, folder):
        if one := registry.event(tag.name, tag.id, tag.commit, tag.date, tag.author, tag.message):
            yield one


def find(repository: Git, text: str) -> Version:
    """Return the version that NAME@VERSION, NAME@STAGE, NAME#STAGE or NAME alone (its newest) names; v1 is the newest v1.x.y.

    UsageError where there is none.
    """
    found = registry.label(text)
    name = found.name if found else text.partition("@")[0].partition("#")[0]
    model = read(repository).get(name)
    if model is None:
        hint = "See 'dvlite registry list'; 'dvlite registry pull' gets others'."
        raise UsageError(f"no model is called '{name}'", hint)
    if found is None and name != text:
        raise UsageError(f"'{text}' is no version", f"Write it like {name}@v1.2.0, {name}@production, or {name}.")
    if found and found.stage:
        return _in_stage(model, found.stage)
    live = [one for one in model.versions.values() if not one.is_deregistered]
    wanted = found.version if found else ""
    fitting = [one for one in live if not wanted or f"{one.version}.".startswith(f"{wanted}.")]
    if not fitting:
        known = ", ".join(one.version for one in live) or "none"
        gone = " any more" if wanted in model.versions else ""
        raise UsageError(f"'{name}' has no version '{wanted}'{gone}", f"It has: {known}.")
    releases = [one for one in fitting if "-" not in one.version]
    return (releases or fitting)[-1]


def _in_stage(model: Model, stage: str) -> Version:
    if stage not in model.stages:
        known = ", ".join(sorted(model.stages)) or "none"
        raise UsageError(f"no version of '{model.name}' is in stage '{stage}'", f"Stages that have one: {known}.")
    version = model.stages[stage]
    if version not in model.versions:
        raise UsageError(f"{stage} has '{model.name}@{version}', whose tag is not here", "Get it: dvlite registry pull")
    return model.versions[version]


def pointer_of(repo: Repo, version: Version) -> tuple[str, Pointer]:
    """Return the path and pointer of a version, as its commit has them; of another tool's tag, what that commit changed."""
    path = version.path
    if not path:
        names = git.changed_between(repo.git, git.parent(repo.git, version.commit), version.commit, SUFFIX)
        changed = [name.removesuffix(SUFFIX) for name, state in names.items() if state != "D"]
        path = changed[0] if len(changed) == 1 else ""
    if item := at_commit(repo, version.commit, path):
        return path, item
    raise MissingError(
        f"'{version.tag}' does not say which data it is of",
        f"Register it here: dvlite registry register PATH --name {version.name}",
    )


def at_commit(repo: Repo, commit: str, path: str) -> Pointer | None:
    """Return the pointer that a commit has of one path, which a tag names; FormatError where either can't be one."""
    if not path:
        return None
    refs.check_path(path)
    name = f"{path}{SUFFIX}"
    data = git.file_at(repo.git, commit, name)
    return pointer.decode(data, name) if data else None


# ---- register -------------------------------------------------------------------------------------------------------


def register(
    repo: Repo,
    path: str,
    name: str,
    *,
    version: str = "auto",
    bump: str = "minor",
    rev: str = "HEAD",
    message: str = "",
) -> Tagged:
    """Register the version of a tracked in-repo path that a commit has, under a name. Once made, it stays what it is."""
    registry.check_name(name)
    commit = git.resolve(repo.git, rev)
    tracked, item = _committed(repo, path, commit, rev)
    model = read(repo.git).get(name)
    live = [one for one in model.versions.values() if not one.is_deregistered] if model else []
    known = next((one for one in live if one.commit == commit), None)
    if known and version in ("auto", known.version) and known.oid == str(item.oid):
        return Tagged(known.tag, False, known)
    if known:
        raise UsageError(
            f"this commit is registered as {name}@{known.version} already", "Make a commit for the next version."
        )
    taken = [tag.removeprefix(f"refs/tags/{name}@").removesuffix("!") for tag in git.refs_below(repo.git, "refs/tags")]
    following = registry.next_version(model, bump, taken)
    version = following if version == "auto" else version
    registry.check_version(version)
    _refuse_taken(model, name, version, following, taken)
    _check_stored(repo, tracked, item)
    made = recipe.of(item, f"{tracked}{SUFFIX}")
    told: dict[str, Any] = {"path": tracked, "oid": str(item.oid)}
    if made and made.metrics:
        told["metrics"] = recipe.merged(made.metrics)
    if made and made.params:
        told["params"] = recipe.merged(made.params)
    tag = registry.spell("register", name, version=version)
    git.make_tag(repo.git, tag, commit, registry.encode(message or f"Register {name} {version}: {tracked}", told))
    return Tagged(tag, True, read(repo.git)[name].versions[version])


def _refuse_taken(model: Model | None, name: str, version: str, following: str, taken: list[str]) -> None:
    """Refuse a number that was ever given, here or as far as the events of stages tell."""
    hint = f"Register this as the next one: --version {following}"
    one = model.versions.get(version) if model else None
    if one and one.is_deregistered:
        raise UsageError(f"'{name}@{version}' was deregistered, and its number is not given again", hint)
    if one:
        raise UsageError(f"'{name}@{version}' is registered, and stays what it is ({one.oid[:17]})", hint)
    if model and any(version in versions for versions in model.assigned.values()):
        raise UsageError(f"'{name}@{version}' was in a stage, and its tag is not here", "Get it: dvlite registry pull")
    if version in taken:
        raise UsageError(
            f"there is a tag '{name}@{version}' of another kind", f"Look at it: git show {name}@{version}. {hint}"
        )


def _committed(repo: Repo, path: str, commit: str, rev: str) -> tuple[str, Pointer]:
    tracked = path.removesuffix(SUFFIX)
    found = refs.at(repo.git, commit).found
    here = refs.in_worktree(repo.git).found if rev == "HEAD" else found
    if tracked not in found:
        owner = enclosing(found, tracked)
        hint = (
            f"Register '{owner}', in which it lies." if owner else "Add it with 'dvlite add', and commit its pointer."
        )
        raise UsageError(f"'{tracked}' has no pointer in {rev}", hint)
    if tracked in here and here[tracked].oid != found[tracked].oid:
        raise UsageError(
            f"the pointer of '{tracked}' differs from {rev}'s",
            f"Commit it first; --rev {commit[:10]} is the one before.",
        )
    return tracked, found[tracked]


def _check_stored(repo: Repo, tracked: str, item: Pointer) -> None:
    """Refuse a version whose data isn't here: nobody could have it."""
    reach = transfer.reach([item.entry], repo.store)
    if reach.missing or transfer.lacking(reach.blobs, repo.store):
        raise MissingError(f"the data of '{tracked}' is not here", f"Bring it here: dvlite pull {quote(tracked)}")


def deregister(repo: Repo, name: str, version: str, *, reason: str = "") -> Tagged:
    """Take a registration back; the version stays readable in history, and no stage may have it."""
    one = find(repo.git, f"{name}@{version}")
    if one.stages:
        raise UsageError(
            f"'{name}@{version}' is in {', '.join(one.stages)}",
            f"Take it out: dvlite registry demote {name} {one.stages[0]}",
        )
    return _tag(repo, "deregister", one, "", reason or "no longer offered")


# ---- stages ---------------------------------------------------------------------------------------------------------


def promote(
    repo: Repo,
    name: str,
    version: str,
    stage: str,
    *,
    reason: str = "",
    may_run: Callable[[Step], bool] = lambda _: False,
) -> Tagged:
    """Have a stage point to a version, if that meets what `dvlite.toml` requires; what was there stays in history."""
    registry.check_name(stage)
    one = find(repo.git, f"{name}@{version}" if version else name)
    model = read(repo.git)[name]
    before = model.stages.get(stage, "")
    if model.is_deprecated:
        raise UsageError(f"'{name}' is deprecated", f"See why: dvlite registry history {name}")
    if before == one.version:
        return Tagged("", False, one, stage)
    _check_gates(repo, one, stage, may_run)
    tagged = _tag(repo, "assign", one, stage, reason)
    tagged.replaced = before
    return tagged


def demote(repo: Repo, name: str, stage: str, *, reason: str = "") -> Tagged:
    """Have a stage point to nothing: those that were there before don't come back."""
    one = find(repo.git, f"{name}@{stage}")
    model = read(repo.git)[name]
    for version in model.assigned[stage][:-1]:
        if version in model.versions:
            _tag(repo, "unassign", model.versions[version], stage, reason)
    return _tag(repo, "unassign", one, stage, reason)


def deprecate(repo: Repo, name: str, *, reason: str = "") -> Tagged:
    """Say that a model is not to be used any more; all of it stays."""
    one = find(repo.git, name)
    if read(repo.git)[name].is_deprecated:
        return Tagged(registry.spell("deprecate", name), False, one)
    return _tag(repo, "deprecate", one, "", reason)


def _tag(repo: Repo, kind: str, one: Version, stage: str, reason: str) -> Tagged:
    what = {"assign": f"to {stage}", "unassign": f"from {stage}"}.get(kind, "")
    said = f"{kind.capitalize()} {one.name} {one.version} {what}".rstrip() + (f": {reason}" if reason else "")
    told = {"version": one.version} | ({"reason": reason} if reason else {})
    with repo.tagging("registry"):
        number = registry.next_number(read(repo.git)[one.name])
        tag = registry.spell(kind, one.name, version=one.version, stage=stage, number=number)
        git.make_tag(repo.git, tag, one.commit, registry.encode(said, told))
    return Tagged(tag, True, find(repo.git, f"{one.name}@{one.version}") if kind != "deregister" else one, stage)


def unmet(repo: Repo, one: Version, stage: str) -> list[str]:
    """Return which conditions of a stage a version doesn't meet, by what its pointer records; without `repro`."""
    wanted = [gate.parse(text) for text in repo.config.gates(stage) if text != "repro"]
    if not wanted:
        return []
    _, item = pointer_of(repo, one)
    made = recipe.of(item)
    tables = {
        "metrics": recipe.merged(made.metrics) if made else {},
        "params": recipe.merged(made.params) if made else {},
        "meta": dict(recipe.flat(meta_of(item))),
    }
    failed = []
    for condition in wanted:
        if not gate.is_met(condition, tables[condition.table]):
            value = tables[condition.table].get(condition.key)
            failed.append(f"{condition.text} ({'it is ' + str(value) if value is not None else 'nothing says it'})")
    return failed


def _check_gates(repo: Repo, one: Version, stage: str, may_run: Callable[[Step], bool]) -> None:
    failed = unmet(repo, one, stage)
    if not failed and "repro" in repo.config.gates(stage):  # it may take long
        failed = _not_reproduced(repo, one, pointer_of(repo, one)[0], may_run)
    if failed:
        raise GateError(
            f"'{one.name}@{one.version}' may not go to {stage}: {'; '.join(failed)}",
            f"What a stage requires stands in dvlite.toml, [registry.stages.{stage}].",
        )


class GateError(DvliteError):
    """A version that does not meet what a stage requires."""


def _not_reproduced(repo: Repo, one: Version, tracked: str, may_run: Callable[[Step], bool]) -> list[str]:
    """Return why a version's recorded command doesn't make the same again, at its own commit; nothing where it does."""
    try:
        found = check(repo, [tracked], rev=one.commit, may_run=may_run, is_silent=True)
    except MissingError as exc:
        return [f"repro: {exc.message}"]
    if found.failures:
        return [f"repro: {found.failures[0].error.message}"]
    return [] if all(step.state == "same" for step in found.steps) else ["repro: it is made otherwise each time"]


# ---- comparing ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Compared:
    """What differs between two versions: by name, what the old and the new one have (None: nothing). Inputs by oid."""

    old: Version
    new: Version
    metrics: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    params: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    inputs: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def compare(repo: Repo, old: Version, new: Version) -> Compared:
    """Compare two versions by what was recorded when they were made."""
    result = Compared(old, new)
    result.metrics = _differing(old.metrics, new.metrics, has_same=True)
    result.params = _differing(old.params, new.params)
    result.inputs = _differing(_inputs(repo, old), _inputs(repo, new))
    return result


def _inputs(repo: Repo, one: Version) -> dict[str, str]:
    item = at_commit(repo, one.commit, one.path)
    made = recipe.of(item, one.path) if item else None
    return {each.path: each.oid.short for each in made.inputs} if made else {}


def _differing(old: dict[str, Any], new: dict[str, Any], *, has_same: bool = False) -> dict[str, tuple[Any, Any]]:
    return {
        name: (old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if has_same or old.get(name) != new.get(name)
    }
