"""All that CI asks of a repository, in one go: nothing here needs data, but the listings that say which data there is."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dvlite import config, git, recipe, refs, remotes
from dvlite.errors import DvliteError, FormatError, UsageError, quote
from dvlite.ops import experiments, policy, registry, registry_sync
from dvlite.ops.commit import GIT_MAX_SIZE
from dvlite.ops.experiments import Experiment
from dvlite.ops.fetch import tree_reader
from dvlite.ops.push import push
from dvlite.pointer import SUFFIX, Pointer
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.tree import Read


@dataclass(slots=True)
class Found:
    """One thing that is wrong. `kind`: pointer, remote, metadata, frozen, registry, large or changelog."""

    kind: str
    path: str
    message: str
    hint: str = ""


@dataclass(slots=True)
class CheckResult:
    """What was looked at, and what is wrong. `old` and `new`: the commits compared.

    `skipped`: kinds that could not be looked at; `notes` say why.
    """

    old: str = ""
    new: str = ""
    pointers: int = 0
    versions: int = 0
    problems: list[Found] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(repo: Repo, revs: str = "", *, has_remote: bool = True, progress: Progress = SILENT) -> CheckResult:
    """Check a commit (HEAD without), and what came to it since another (A..B; without, since where the default branch is).

    `has_remote`: also that all data is on the remote, and that the Git remote has the same registry.
    """
    old, new = ends(repo, revs)
    result = CheckResult(old, new)
    pointers = refs.at(repo.git, new)
    result.pointers = len(pointers.found)
    for path, error in pointers.broken.items():
        result.problems.append(Found("pointer", path, error.message, error.hint))
    for path, item in pointers.found.items():
        try:
            recipe.of(item, f"{path}{SUFFIX}")
            policy.check_meta(repo.config, path, item)
        except DvliteError as exc:
            kind = "pointer" if isinstance(exc, FormatError) else "metadata"
            result.problems.append(Found(kind, path, exc.message, exc.hint))
    if has_remote:
        _check_remote(repo, new, result, progress)
    _check_frozen(repo, old, new, has_remote, result)
    _check_registry(repo, has_remote, result)
    _check_large(repo, new, result)
    return result


def ends(repo: Repo, revs: str) -> tuple[str, str]:
    """Return two commits: of A..B; of B alone, where it left the default branch, or its parent where it is on that."""
    old, dots, new = revs.partition("...") if "..." in revs else revs.partition("..")
    if dots:
        return git.resolve(repo.git, old or "HEAD"), git.resolve(repo.git, new or "HEAD")
    commit = git.resolve(repo.git, revs or "HEAD")
    hosts = sorted(git.remotes(repo.git), key=lambda name: name != "origin")
    for name in (f"{host}/{branch}" for host in hosts for branch in ("HEAD", "main", "master", "trunk", "develop")):
        if git.has_commit(repo.git, name):
            try:
                base = git.merge_base(repo.git, name, commit)
            except UsageError:  # a shallow clone need not have it
                continue
            if base != commit:
                return base, commit
    parent = git.parent(repo.git, commit)
    return (parent if parent.strip("0") and git.has_commit(repo.git, parent) else commit), commit


def _check_remote(repo: Repo, commit: str, result: CheckResult, progress: Progress) -> None:
    """See that all that the pointers name is on their remotes, by listings."""
    routes = remotes.routes(repo.config, repo.settings)
    known = [name for name in dict.fromkeys([*(name for name, _ in routes.patterns), routes.default]) if name]
    if not known:
        if result.pointers:
            hint = "Add one: dvlite remote add origin URL"
            result.problems.append(
                Found("remote", "", "there is no remote, so the data is on this machine alone", hint)
            )
        return
    for name in known:
        its = (lambda path, name=name: routes.of(path) == name) if routes.patterns else None
        try:
            found = push(repo, remote=name, rev=commit, is_its=its, is_dry_run=True, progress=progress)
        except DvliteError as exc:
            result.problems.append(Found("remote", "", exc.message, exc.hint))
            continue
        lacking = {label.partition(" (")[0] for label in [*found.missing.values(), *found.by_path]}
        for path in sorted(lacking):
            said = f"not all of '{path}' is on remote '{name}'"
            result.problems.append(Found("remote", path, said, "In the clone that added it: dvlite push"))
        broken = {one.path for one in result.problems if one.kind == "pointer"}
        result.problems += [
            Found("remote", path, error.message, error.hint) for path, error in found.failures if path not in broken
        ]


def _check_frozen(repo: Repo, old: str, new: str, has_remote: bool, result: CheckResult) -> None:
    """See that no commit since the old one changed data that must stay, nor all together; by the policies of both ends."""
    kept = _with_policies(repo, old, new)
    if not kept.policy.get("append_only"):
        return
    if old == new:
        result.skipped.append("frozen")
        result.notes.append("there is no earlier commit here to compare with: append-only data was not looked at")
        return
    before, after = (refs.at(repo.git, commit).found for commit in (old, new))
    changes: list[tuple[str, Pointer, Pointer | None, str]] = [
        (path, item, after.get(path), "")
        for path, item in before.items()
        if path in after or not policy.keeps(kept, after, before, path)
    ]
    try:
        changes += _changes(repo, kept, old, new)
    except DvliteError as exc:
        result.skipped.append("frozen")
        result.notes.append(f"what came since {old[:10]} can't all be told: {exc.message}")
    read = tree_reader(repo, repo.remote) if has_remote else repo.store.read
    told: set[str] = set()
    with repo.writing("check"):  # listings come into the store
        for path, one, two, commit in changes:
            if path in told or (two and (policy.reason_of(one, two) or one.oid == two.oid)):
                continue
            for frozen in _rewritten(kept, path, one, two, read, result):
                if frozen not in told:
                    told |= {frozen, path}
                    result.problems.append(_of_frozen(frozen, path, old, commit, is_gone=two is None))


def _of_frozen(frozen: str, path: str, old: str, commit: str, *, is_gone: bool) -> Found:
    by = f" by commit {commit[:10]}" if commit else ""
    said = f"'{frozen}' was {'deleted' if is_gone else 'changed'}{by}, and [policy] append_only keeps it"
    back = f"git checkout {old[:10]} -- {quote(path + SUFFIX)}"
    hint = f"Bring it back ('git revert', or {back}), and add new data beside it, as '{policy.next_name(frozen)}'."
    return Found("frozen", frozen, said, hint)


def _with_policies(repo: Repo, *commits: str) -> config.Config:
    """Return the config with what the policies of some commits keep: a change can't take its own guard away."""
    kept: list[str] = []
    for commit in commits:
        text = git.file_at(repo.git, commit, config.FILE)
        with contextlib.suppress(DvliteError):  # one that can't be read keeps nothing; that it can't is Git's to show
            kept += config.decode(text).policy.get("append_only", []) if text else []
    return repo.config._replace(policy={"append_only": kept})


def _rewritten(
    kept: config.Config, path: str, one: Pointer, two: Pointer | None, read: Read, result: CheckResult
) -> list[str]:
    try:
        return list(policy.rewritten(kept, path, one.entry, two.entry if two else None, read))
    except DvliteError as exc:
        result.skipped = ["frozen"]
        result.notes.append(f"what became of '{path}' can't be told: {exc.message}")
        return []


def _changes(repo: Repo, kept: config.Config, old: str, new: str) -> Iterator[tuple[str, Pointer, Pointer | None, str]]:
    """Yield what commits did to pointers, one by one: path, before, after (None: it went, and did not only move), commit."""
    found = refs.brought(repo.git, f"{old}..{new}")
    came: dict[str, dict[str, Pointer]] = {}
    for touched, before, after in found:
        if after and not before:
            came.setdefault(touched.commit.id, {})[touched.path.removesuffix(SUFFIX)] = after
    for touched, before, after in found:
        path = touched.path.removesuffix(SUFFIX)
        if before and (after or not policy.keeps(kept, came.get(touched.commit.id, {}), {path: before}, path)):
            yield path, before, after, touched.commit.id


def _check_registry(repo: Repo, has_remote: bool, result: CheckResult) -> None:
    is_asked = has_remote and bool(git.remotes(repo.git))
    try:
        found = registry_sync.verify(repo, "" if is_asked else None)
    except DvliteError as exc:
        result.skipped.append("registry")
        result.notes.append(f"the Git remote's registry can't be looked at: {exc.message}")
        found = registry_sync.verify(repo)
    result.versions = found.versions
    hint = "Get the tags as they were: dvlite registry pull"
    result.problems += [Found("registry", "", said, hint) for said in found.problems]


def _check_large(repo: Repo, commit: str, result: CheckResult) -> None:
    """See that no file in Git itself is larger than the policy allows."""
    limit = config.parse_size(repo.config.policy.get("git_max_size", GIT_MAX_SIZE))
    for path, size in git.sizes_at(repo.git, commit):
        if size > limit:
            said = f"'{path}' has {size:,} bytes in Git itself: more than it should hold ({limit:,})"
            hint = f"Track it: git rm --cached -- {quote(path)} && dvlite add {quote(path)}"
            result.problems.append(Found("large", path, said, hint))


# ---- what a pull request changes ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Values:
    """What became of one value of a path: a metric, or a parameter."""

    path: str
    name: str
    old: object
    new: object


@dataclass(slots=True)
class ReportResult:
    """What changed between two commits beside data itself: values recorded by runs, experiments, and events of the registry."""

    old: str
    new: str
    metrics: list[Values] = field(default_factory=list)
    params: list[Values] = field(default_factory=list)
    experiments: list[Experiment] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def report(repo: Repo, revs: str = "") -> ReportResult:
    """Compare what runs recorded, and which experiments there are, at two commits; list the registry's events in between."""
    old, new = ends(repo, revs)
    result = ReportResult(old, new)
    before, after = (refs.at(repo.git, commit).found for commit in (old, new))
    for path in sorted({*before, *after}):
        recorded = [_values(side.get(path), path) for side in (before, after)]
        for target, number in ((result.metrics, 0), (result.params, 1)):
            one, two = recorded[0][number], recorded[1][number]
            target += [
                Values(path, name, one.get(name), two.get(name))
                for name in dict.fromkeys([*one, *two])
                if one.get(name) != two.get(name)
            ]
    known = {one.name for one in experiments.read(repo, rev=old).experiments}
    result.experiments = [one for one in experiments.read(repo, rev=new).experiments if one.name not in known]
    between = git.commits_between(repo.git, old, new)
    for model in registry.read(repo.git).values():
        result.events += [f"{event.date[:10]} {event.message}" for event in model.events if event.commit in between]
    return result


def _values(item: Pointer | None, path: str) -> Sequence[dict[str, object]]:
    if item is None or path.startswith(f"{experiments.FOLDER}/"):  # those have a table of their own
        return {}, {}
    try:
        made = recipe.of(item, path)
    except FormatError:
        made = None
    return (recipe.merged(made.metrics), recipe.merged(made.params)) if made else ({}, {})
