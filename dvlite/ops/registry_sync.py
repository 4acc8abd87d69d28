"""The registry's tags between people: pushed without force, fetched beside ours, compared; what was pushed is remembered.

Of two who register or promote the same at once, the first push of the tag decides.
"""

from dataclasses import dataclass, field

from dvlite import git, recipe, registry, remotes, transfer
from dvlite.errors import DvliteError, FormatError, UsageError, quote
from dvlite.ops.push import missing_error, push_all
from dvlite.ops.registry import at_commit, events, pointer_of, read, unmet
from dvlite.registry import Event, Version
from dvlite.repo import Repo
from dvlite.tree import Entry

_FETCHED = "refs/dvlite/registry"
_KNOWN = "refs/dvlite/registered"  # what a Git remote was seen to have: such a tag is never another's


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


def push(repo: Repo, remote: str = "") -> SyncResult:
    """Push the tags of the registry that a Git remote lacks, all or none, after the data of their versions.

    UsageError where somebody else was first, or where a tag there was changed since it was pushed.
    """
    name = _remote(repo, remote)
    there = git.tags_there(repo.git, name)
    mine = {one.tag: one for one in events(repo.git, "refs/tags")}
    new = [tag for tag in mine if tag not in there]
    _refuse_changed(repo, name, {tag: id_ for tag, id_ in there.items() if tag in mine and mine[tag].id != id_})
    _push_data(repo, [mine[tag] for tag in new])
    clash = git.push_tags(repo.git, name, new) if new else []
    clash += [tag for tag in mine if tag in there and there[tag] != mine[tag].id]
    if clash:
        raise UsageError(
            f"somebody else was first with {', '.join(clash[:5])}", "Run 'dvlite registry pull': it says what to do."
        )
    git.set_refs(repo.git, {f"{_KNOWN}/{name}/{tag}": one.id for tag, one in mine.items()})
    return SyncResult(name, new)


def _push_data(repo: Repo, new: list[Event]) -> None:
    """Push the data of versions that are about to be known to others, each to its own remote."""
    if not remotes.default_name(repo.config, repo.settings):
        return
    found = read(repo.git)
    for one in new:
        if one.kind == "register":
            path, _ = pointer_of(repo, found[one.name].versions[one.version])
            for result in push_all(repo, [path], rev=one.commit):
                for failure in result.failures:
                    raise failure.error
                if result.missing:
                    raise missing_error(result)


def _refuse_changed(repo: Repo, name: str, other: dict[str, str]) -> None:
    """Refuse to go on where a remote has other tags than it had: somebody has overwritten them by force."""
    known = git.refs_with_ids(repo.git, f"{_KNOWN}/{name}")
    for tag, id_ in other.items():
        if tag in known and known[tag] != id_:
            raise UsageError(
                f"'{tag}' was changed on '{name}' by force: it was {known[tag][:10]}, and is {id_[:10]}",
                f"To restore it: git push --no-verify --force {quote(name)} {known[tag]}:refs/tags/{quote(tag)}",
            )


def pull(repo: Repo, remote: str = "") -> SyncResult:
    """Fetch the registry's tags of a Git remote. Ours that have a stage's number which others took get the next one."""
    name = _remote(repo, remote)
    result = SyncResult(name)
    folder = f"{_FETCHED}/{name}"
    git.fetch_tags(repo.git, name, folder)
    try:
        theirs = {one.tag: one for one in events(repo.git, folder)}
        mine = {one.tag: one for one in events(repo.git, "refs/tags")}
        _refuse_changed(repo, name, {tag: one.id for tag, one in theirs.items()})
        clash = [one for tag, one in mine.items() if tag in theirs and theirs[tag].id != one.id]
        if lost := next((one for one in clash if not one.stage), None):
            _refuse_lost(lost, theirs[lost.tag])
        _refuse_light(repo, theirs.keys() - mine.keys())
        with repo.tagging("registry pull"):
            _take(repo, theirs, mine, clash, result)
        git.set_refs(repo.git, {f"{_KNOWN}/{name}/{tag}": one.id for tag, one in theirs.items()})
    finally:
        git.forget_refs(repo.git, git.refs_below(repo.git, folder))
    return result


def _refuse_lost(mine: Event, other: Event) -> None:
    raise UsageError(
        f"'{mine.tag}' was registered by {other.author} on {other.date[:10]}, as something else than here",
        f"Give yours up and register it as the next version: git tag -d {quote(mine.tag)} && dvlite registry pull",
    )


def _refuse_light(repo: Repo, tags: set[str]) -> None:
    """Refuse where a tag that isn't annotated stands in the place of one that others have."""
    here = set(git.refs_below(repo.git, "refs/tags"))
    for tag in sorted(tags):
        if f"refs/tags/{tag}" in here:
            raise UsageError(
                f"the tag '{tag}' here is none of the registry's, and stands where it has one",
                f"Delete it, then pull again: git tag -d {quote(tag)} && dvlite registry pull",
            )


def _take(repo: Repo, theirs: dict[str, Event], mine: dict[str, Event], clash: list[Event], result: SyncResult) -> None:
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


def _remote(repo: Repo, remote: str) -> str:
    known = git.remotes(repo.git)
    name = remote or ("origin" if "origin" in known else known[0] if known else "")
    if name not in known:
        raise UsageError(f"there is no Git remote '{name or 'origin'}'", "Add one: git remote add origin URL")
    return name


# ---- is it what was registered? -------------------------------------------------------------------------------------


def verify(repo: Repo, remote: str | None = None) -> VerifyResult:
    """See that each version's commit still has what its tag says, and that stages have what may be there.

    `remote` (of Git; empty for origin): also that it has the same tags, and the default remote the data of all versions.
    """
    result = VerifyResult()
    found = read(repo.git)
    for model in found.values():
        for one in model.versions.values():
            result.versions += 1
            _verify_version(repo, one, result)
        for stage, version in model.stages.items():
            _verify_stage(repo, model.versions.get(version), f"{model.name}@{version}", stage, result)
    seen = {event.tag for model in found.values() for event in model.events}
    for ref in git.refs_below(repo.git, "refs/tags"):
        tag = ref.removeprefix("refs/tags/")
        if registry.is_tag(tag) and tag not in seen:
            result.problems.append(f"the tag '{tag}' is not annotated, or not of a commit: it registers nothing")
    if remote is not None:
        mine = {event.tag: event for model in found.values() for event in model.events}
        _verify_there(repo, _remote(repo, remote), mine, result)
        _verify_data(repo, [one for model in found.values() for one in model.versions.values()], result)
    return result


def _verify_version(repo: Repo, one: Version, result: VerifyResult) -> None:
    if not one.path:  # another tool's
        return
    try:
        found = at_commit(repo, one.commit, one.path)
        made = recipe.of(found, one.path) if found else None
    except FormatError as exc:
        result.problems.append(f"{one.tag}: {exc.message}")
        return
    if found is None or str(found.oid) != one.oid:
        has = str(found.oid)[:17] if found else "nothing"
        result.problems.append(f"{one.tag} says {one.path} is {one.oid[:17]}, its commit has {has}")
        return
    metrics = recipe.merged(made.metrics) if made else {}
    if one.metrics and not registry.is_same(one.metrics, metrics):
        result.problems.append(f"{one.tag} says other metrics than the pointer of {one.path} at its commit")


def _verify_stage(repo: Repo, one: Version | None, name: str, stage: str, result: VerifyResult) -> None:
    if one is None:
        result.problems.append(f"{stage} has {name}, whose tag is not here")
        return
    if one.is_deregistered:
        result.problems.append(f"{stage} has {name}, which was deregistered")
    try:
        failed = unmet(repo, one, stage)
    except DvliteError as exc:
        failed = [exc.message]
    if failed:
        result.problems.append(f"{stage} has {name}, which doesn't meet: {'; '.join(failed)}")


def _verify_there(repo: Repo, name: str, mine: dict[str, Event], result: VerifyResult) -> None:
    there = git.tags_there(repo.git, name)
    known = git.refs_with_ids(repo.git, f"{_KNOWN}/{name}")
    for tag, one in mine.items():
        if tag in there and there[tag] != one.id:
            result.problems.append(f"{tag} is another tag on the Git remote")
        elif tag not in there and tag in known:
            result.problems.append(f"{tag} was on the Git remote, and is gone: 'dvlite registry push' brings it back")
    absent = [tag for tag in there if registry.is_tag(tag) and tag not in mine]
    result.problems += [f"{tag} is on the Git remote, and not here" for tag in absent]


def _verify_data(repo: Repo, versions: list[Version], result: VerifyResult) -> None:
    """See that the data of all versions that are offered is on the remote that their path is pushed to, by a listing each."""
    if not remotes.default_name(repo.config, repo.settings):
        return
    routes = remotes.routes(repo.config, repo.settings)
    by_remote: dict[str, dict[str, Entry]] = {}
    for one in versions:
        if not one.is_deregistered:
            try:
                path, item = pointer_of(repo, one)
                by_remote.setdefault(routes.of(path), {})[one.tag] = item.entry
            except DvliteError as exc:
                result.problems.append(exc.message)
    for name, entries in by_remote.items():
        try:
            store = repo.remote(name)
            reaches = {tag: transfer.seen([entry], repo.store, store) for tag, entry in entries.items()}
            absent = transfer.absent({oid: size for one in reaches.values() for oid, size in one.blobs.items()}, store)
        except DvliteError as exc:
            result.problems.append(exc.message)
            continue
        for tag, reach in reaches.items():
            if reach.missing or absent.keys() & reach.blobs.keys():
                result.problems.append(f"not all data of {tag} is on remote '{store.remote.name}'")
