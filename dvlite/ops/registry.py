"""Register versions of models and data, promote them to stages, tell what is where. Each event is a tag that nobody changes.

Of two people who register or promote the same at once, the first push of the tag decides.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dvlite import files, gate, git, recipe, refs, registry, transfer
from dvlite.errors import DvliteError, MissingError, UsageError, quote
from dvlite.git import Git
from dvlite.ops import repro
from dvlite.ops.base import enclosing
from dvlite.ops.meta import meta_of
from dvlite.pointer import SUFFIX, Pointer
from dvlite.registry import Event, Model, Version
from dvlite.repo import Repo, open_repo

FETCHED = "refs/dvlite/registry"


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


@dataclass(slots=True)
class SyncResult:
    """What was pushed or fetched, and what was given another number because somebody else was first."""

    remote: str
    tags: list[str] = field(default_factory=list)
    renumbered: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class VerifyResult:
    """How many versions were looked at, and what is wrong."""

    versions: int = 0
    problems: list[str] = field(default_factory=list)


def read(repository: Git) -> dict[str, Model]:
    """Return all models that a repository's tags name."""
    return registry.models(_events(repository, "refs/tags"))


def _events(repository: Git, folder: str) -> Iterator[Event]:
    for tag in git.annotated(repository, folder):
        if one := registry.event(tag.name, tag.id, tag.commit, tag.date, tag.author, tag.message):
            yield one


def find(repository: Git, text: str) -> Version:
    """Return the version that NAME@VERSION, NAME@STAGE, NAME#STAGE or NAME alone (its newest) names.

    UsageError where there is none.
    """
    found = registry.label(text)
    name = found.name if found else text
    model = read(repository).get(name)
    if model is None:
        raise UsageError(
            f"no model is called '{name}'", "See 'dvlite registry list'; 'dvlite registry pull' gets others'."
        )
    if found and found.stage:
        if found.stage not in model.stages:
            known = ", ".join(sorted(model.stages)) or "none"
            raise UsageError(f"no version of '{name}' is in stage '{found.stage}'", f"Stages that have one: {known}.")
        return model.versions[model.stages[found.stage]]
    live = [one for one in model.versions.values() if not one.is_deregistered]
    version = found.version if found else live[-1].version if live else ""
    if version not in model.versions or model.versions[version].is_deregistered:
        known = ", ".join(one.version for one in live) or "none"
        raise UsageError(f"'{name}' has no version '{version}'", f"It has: {known}.")
    return model.versions[version]


def pointer_of(repo: Repo, version: Version) -> tuple[str, Pointer]:
    """Return the path and pointer of a version, as its commit has them; of another tool's tag, what that commit changed."""
    found = refs.at(repo.git, version.commit).found
    if version.path in found:
        return version.path, found[version.path]
    names = git.changed_between(repo.git, git.parent(repo.git, version.commit), version.commit, SUFFIX)
    changed = [name.removesuffix(SUFFIX) for name in names if name.removesuffix(SUFFIX) in found]
    if len(changed) == 1 and not version.path:
        return changed[0], found[changed[0]]
    raise MissingError(
        f"'{version.tag}' does not say which data it is of",
        f"Register it here: dvlite registry register PATH --name {version.name}",
    )


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
    known = next((one for one in model.versions.values() if one.commit == commit), None) if model else None
    if known and version in ("auto", known.version) and known.oid == str(item.oid):
        return Tagged(known.tag, False, known)
    if known:
        raise UsageError(
            f"this commit is registered as {name}@{known.version} already", "Make a commit for the next version."
        )
    if version == "auto":
        version = registry.next_version(model, bump)
    registry.check_version(version)
    if model and version in model.versions:
        raise UsageError(
            f"'{name}@{version}' is registered, and stays what it is ({model.versions[version].oid[:17]})",
            f"Register this as the next one: --version {registry.next_version(model, bump)}",
        )
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
            f"the pointer of '{tracked}' differs from {rev}'s", "Commit it first, or name a commit with --rev."
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
    may_run: Callable[[repro.Step], bool] = lambda _: False,
) -> Tagged:
    """Have a stage point to a version, if that meets what `dvlite.toml` requires; what was there stays in history."""
    registry.check_name(stage)
    one = find(repo.git, f"{name}@{version}" if version else name)
    before = read(repo.git)[name].stages.get(stage, "")
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
        _tag(repo, "unassign", model.versions[version], stage, reason)
    return _tag(repo, "unassign", one, stage, reason)


def deprecate(repo: Repo, name: str, *, reason: str = "") -> Tagged:
    """Say that a model is not to be used any more; all of it stays."""
    return _tag(repo, "deprecate", find(repo.git, name), "", reason)


def _tag(repo: Repo, kind: str, one: Version, stage: str, reason: str) -> Tagged:
    what = {"assign": f"to {stage}", "unassign": f"from {stage}"}.get(kind, "")
    said = f"{kind.capitalize()} {one.name} {one.version} {what}".rstrip() + (f": {reason}" if reason else "")
    told = {"version": one.version} | ({"reason": reason} if reason else {})
    with repo.tagging("registry"):
        number = registry.next_number(read(repo.git)[one.name])
        tag = registry.spell(kind, one.name, version=one.version, stage=stage, number=number)
        git.make_tag(repo.git, tag, one.commit, registry.encode(said, told))
    return Tagged(tag, True, find(repo.git, f"{one.name}@{one.version}") if kind != "deregister" else one, stage)


def _check_gates(repo: Repo, one: Version, stage: str, may_run: Callable[[repro.Step], bool]) -> None:
    wanted = repo.config.gates(stage)
    if not wanted:
        return
    tracked, item = pointer_of(repo, one)
    tables = {"metrics": one.metrics, "params": one.params, "meta": dict(recipe.flat(meta_of(item)))}
    failed = []
    for text in wanted:
        condition = gate.parse(text) if text != "repro" else None
        if condition and not gate.is_met(condition, tables[condition.table]):
            value = tables[condition.table].get(condition.key)
            failed.append(f"{text} ({'it is ' + str(value) if value is not None else 'nothing says it'})")
    if "repro" in wanted and not failed:  # it may take long
        failed += _not_reproduced(repo, one, tracked, may_run)
    if failed:
        raise GateError(
            f"'{one.name}@{one.version}' may not go to {stage}: {'; '.join(failed)}",
            f"What a stage requires stands in dvlite.toml, [registry.stages.{stage}].",
        )


class GateError(DvliteError):
    """A version that does not meet what a stage requires."""


def _not_reproduced(repo: Repo, one: Version, tracked: str, may_run: Callable[[repro.Step], bool]) -> list[str]:
    """Return why a version's recorded command doesn't make the same again, at its own commit; nothing where it does."""
    place = files.temporary(repo.tmp(repo.root))
    git.add_worktree(repo.git, place, one.commit)
    try:
        found = repro.check(open_repo(place), [tracked], may_run=may_run, is_silent=True)
    finally:
        git.remove_worktree(repo.git, place)
        files.remove_folder(place)
    if found.failures:
        return [f"repro: {found.failures[0].error.message}"]
    return [] if all(step.state == "same" for step in found.steps) else ["repro: it is made otherwise each time"]


# ---- with others ----------------------------------------------------------------------------------------------------


def push(repo: Repo, remote: str = "") -> SyncResult:
    """Push the tags of the registry that a Git remote lacks, all or none; UsageError where somebody else was first."""
    name = _remote(repo, remote)
    there = git.tags_there(repo.git, name)
    mine = {one.tag: one.id for one in _events(repo.git, "refs/tags")}
    new = [tag for tag in mine if tag not in there]
    clash = [tag for tag, id_ in mine.items() if tag in there and there[tag] != id_]
    clash = clash or (git.push_tags(repo.git, name, new) if new else [])
    if clash:
        raise UsageError(
            f"somebody else was first with {', '.join(clash[:5])}", "Run 'dvlite registry pull': it says what to do."
        )
    return SyncResult(name, new)


def pull(repo: Repo, remote: str = "") -> SyncResult:
    """Fetch the registry's tags of a Git remote. Ours that have a stage's number which others took get the next one."""
    name = _remote(repo, remote)
    result = SyncResult(name)
    folder = f"{FETCHED}/{name}"
    git.fetch_tags(repo.git, name, folder)
    try:
        theirs = {one.tag: one for one in _events(repo.git, folder)}
        mine = {one.tag: one for one in _events(repo.git, "refs/tags")}
        clash = [one for tag, one in mine.items() if tag in theirs and theirs[tag].id != one.id]
        if lost := next((one for one in clash if not one.stage), None):
            other = theirs[lost.tag]
            raise UsageError(
                f"'{lost.tag}' was registered by {other.author} on {other.date[:10]}, as something else than here",
                f"Give yours up and register it as the next version: git tag -d {quote(lost.tag)} && dvlite registry pull",
            )
        for one in clash:
            git.delete_tag(repo.git, one.tag, one.id)
        for tag, other in theirs.items():
            if tag not in mine or mine[tag].id != other.id:
                git.copy_ref(repo.git, f"refs/tags/{tag}", other.id)
                result.tags.append(tag)
        for one in sorted(clash, key=lambda each: each.number):
            number = registry.next_number(read(repo.git)[one.name])
            tag = registry.spell(one.kind, one.name, stage=one.stage, number=number)
            git.make_tag(repo.git, tag, one.commit, registry.encode(one.message, one.told))
            result.renumbered[one.tag] = tag
    finally:
        git.forget_refs(repo.git, git.refs_below(repo.git, folder))
    return result


def _remote(repo: Repo, remote: str) -> str:
    known = git.remotes(repo.git)
    name = remote or ("origin" if "origin" in known else known[0] if known else "")
    if name not in known:
        raise UsageError(f"there is no Git remote '{name or 'origin'}'", "Add one: git remote add origin URL")
    return name


def verify(repo: Repo, remote: str | None = None) -> VerifyResult:
    """See that each version's commit still has what its tag says, and (`remote`) that a Git remote has the same tags."""
    result = VerifyResult()
    there: dict[str, str] = {}
    if remote is not None:
        there = git.tags_there(repo.git, _remote(repo, remote))
    for model in read(repo.git).values():
        for one in model.versions.values():
            result.versions += 1
            if one.path:
                found = refs.at(repo.git, one.commit).found.get(one.path)
                if found is None or str(found.oid) != one.oid:
                    has = str(found.oid)[:17] if found else "nothing"
                    result.problems.append(f"{one.tag} says {one.path} is {one.oid[:17]}, its commit has {has}")
        for event in model.events:
            if event.tag in there and there[event.tag] != event.id:
                result.problems.append(f"{event.tag} is another tag on the Git remote")
    if remote is not None:
        mine = {event.tag for model in read(repo.git).values() for event in model.events}
        result.problems += [
            f"{tag} is on the Git remote, and not here" for tag in there if registry.is_tag(tag) and tag not in mine
        ]
    return result


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
    item = refs.at(repo.git, one.commit).found.get(one.path)
    made = recipe.of(item, one.path) if item else None
    return {each.path: each.oid.short for each in made.inputs} if made else {}


def _differing(old: dict[str, Any], new: dict[str, Any], *, has_same: bool = False) -> dict[str, tuple[Any, Any]]:
    return {
        name: (old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if has_same or old.get(name) != new.get(name)
    }
