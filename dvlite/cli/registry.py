"""The registry's commands: versions, stages, what is where, and what others have."""

import sys
from typing import Annotated, Any

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Session, session
from dvlite.errors import DvliteError, UsageError
from dvlite.ops import registry as registries
from dvlite.ops import registry_sync as syncs
from dvlite.ops.diff import diff as diff_op
from dvlite.ops.get import get as get_op
from dvlite.ops.registry import RegistryResult, Tagged
from dvlite.ops.registry_sync import SyncResult
from dvlite.ops.repro import Step, is_trusted
from dvlite.ops.source import open_source
from dvlite.repo import Repo

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Versions and stages of models and data, as Git tags."
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called in the registry.")]
Label = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="NAME@v1.2.0, NAME@STAGE, or NAME for its newest.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.")]
Stage = Annotated[str, typer.Option("--stage", metavar="STAGE", help="For example production.")]
GitRemote = Annotated[str, typer.Argument(metavar="REMOTE", help="A Git remote; else origin.")]
Push = Annotated[bool, typer.Option("--push", help="Push the tag to Git's remote at once.")]


@app.command("register")
def register(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A tracked path, as committed.")],
    name: Annotated[str, typer.Option("--name", help="What to call it, for example churn.")],
    version: Annotated[str, typer.Option("--version", help="Like v1.2.0; auto takes the next.")] = "auto",
    bump: Annotated[str, typer.Option("--bump", help="What auto raises: major, minor or patch.")] = "minor",
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="The commit that has it.")] = "HEAD",
    message: Annotated[str, typer.Option("--message", "-m", help="What is new.")] = "",
    push: Push = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Give a committed version of a model or dataset a name and a number. It stays what it is from now on.

    Example: dvlite registry register models/churn.pkl --name churn

    Exit codes: 0 done (again, too), 2 that version is registered as something else, 10 its data is not here.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    if bump not in ("major", "minor", "patch"):
        raise UsageError(f"'{bump}' is no part of a version", "Take major, minor or patch.")
    inner = repo.in_repo(path, run.folder)
    done = registries.register(repo, inner, name, version=version, bump=bump, rev=rev, message=message)
    return _tagged(run, repo, done, "registered", push=push)


@app.command("promote")
def promote(
    ctx: typer.Context,
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Like v1.2.0.")],
    stage: Stage,
    reason: Reason = "",
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Run its recorded command where a gate asks for repro.")
    ] = False,
    push: Push = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Put a version into a stage, if it meets what dvlite.toml requires there. To go back, promote the one before again.

    Example: dvlite registry promote churn v1.2.0 --stage production --reason "auc 0.93"

    Exit codes: 0 done, 1 it doesn't meet what the stage requires, 2 there is no such version.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()

    def may_run(step: Step) -> bool:
        if yes or is_trusted(repo, step):
            return True
        render.note(f"to see that it is made the same again: {render.name(step.command)}")
        return sys.stdin.isatty() and typer.confirm("May it run?", err=True)

    done = registries.promote(repo, name, version, stage, reason=reason, may_run=may_run)
    return _tagged(run, repo, done, f"in {stage}", push=push)


@app.command("demote")
def demote(
    ctx: typer.Context,
    name: Name,
    stage: Stage,
    reason: Reason = "",
    push: Push = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Leave a stage without a version.

    Example: dvlite registry demote churn --stage production

    Exit codes: 0 done, 2 no version is there.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    return _tagged(run, repo, registries.demote(repo, name, stage, reason=reason), f"no longer in {stage}", push=push)


@app.command("deprecate")
def deprecate(
    ctx: typer.Context, name: Name, reason: Reason = "", push: Push = False, json: Json = False, quiet: Quiet = False
) -> int:
    """Say that a model is not to be used any more; all of it stays.

    Example: dvlite registry deprecate churn --reason "replaced by churn-2"

    Exit codes: 0 done, 2 there is no such model.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    return _tagged(run, repo, registries.deprecate(repo, name, reason=reason), "deprecated", push=push)


@app.command("deregister")
def deregister(
    ctx: typer.Context,
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Like v1.2.0.")],
    reason: Reason = "",
    push: Push = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take a registration back: the version is no longer offered, and its number is never given again.

    Example: dvlite registry deregister churn v1.2.0

    Exit codes: 0 done, 2 there is no such version, or it is in a stage.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    return _tagged(run, repo, registries.deregister(repo, name, version, reason=reason), "deregistered", push=push)


def _tagged(run: Session, repo: Repo, done: Tagged, said: str, *, push: bool) -> int:
    pushed = ""
    if push:
        try:
            pushed = syncs.push(repo).remote
        except DvliteError as exc:
            exc.hint = f"It is done here, and not pushed yet ('dvlite registry push'). {exc.hint}"
            raise
    if run.is_json:
        render.as_json(done, pushed=pushed)
        return 0
    if not run.is_quiet:
        what = done.version.name if said == "deprecated" else f"{done.version.name}@{done.version.version}"
        again = "" if done.is_new else " already"
        render.out(f"{what} is{again} {said} ({render.name(done.version.path) or 'tag'} at {done.version.commit[:10]})")
        if done.replaced:
            render.out(f"before: {done.version.name}@{done.replaced}")
        if done.is_new and not pushed:
            render.note(f"tag '{done.tag}'; others see it after: dvlite registry push")
    return 0


# ---- looking --------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> int:
    """List all names, with their newest version and what each stage has.

    Example: dvlite registry list

    Exit codes: 0 done.
    """
    run = session(ctx, json=json)
    found = registries.read(run.open().git)
    if json:
        render.as_json(RegistryResult(list(found.values())))
        return 0
    rows = [("name", "versions", "newest", "stages")]
    for model in sorted(found.values(), key=lambda one: one.name):
        live = [one.version for one in model.versions.values() if not one.is_deregistered]
        stages = ", ".join(f"{stage}: {version}" for stage, version in sorted(model.stages.items()))
        name = f"{model.name} (deprecated)" if model.is_deprecated else model.name
        rows.append((name, f"{len(live):,}", live[-1] if live else "-", stages or "-"))
    if len(rows) > 1:
        render.table(rows, right=(1,))
    else:
        render.out("nothing is registered: 'dvlite registry register PATH --name NAME'")
    return 0


@app.command("show")
def show(ctx: typer.Context, label: Label, json: Json = False) -> int:
    """Show what a name, version or stage is: data, commit, date, author, metrics, parameters.

    Example: dvlite registry show churn@production

    Exit codes: 0 done, 2 there is no such thing.
    """
    run = session(ctx, json=json)
    one = registries.find(run.open().git, label)
    if json:
        render.as_json(one)
        return 0
    render.out(f"{one.name}@{one.version}{' in ' + ', '.join(one.stages) if one.stages else ''}")
    rows = [("path", one.path), ("oid", one.oid), ("commit", one.commit), ("date", one.date), ("by", one.author)]
    rows += [(f"metric {name}", str(value)) for name, value in one.metrics.items()]
    rows += [(f"param {name}", str(value)) for name, value in one.params.items()]
    render.table([(f"  {render.name(name)}", render.name(value)) for name, value in rows])
    return 0


@app.command("history")
def history(ctx: typer.Context, name: Name, json: Json = False) -> int:
    """Show all that ever happened to a name, newest first.

    Example: dvlite registry history churn

    Exit codes: 0 done, 2 there is no such name.
    """
    run = session(ctx, json=json)
    model = registries.read(run.open().git).get(name)
    if model is None:
        raise UsageError(f"no model is called '{name}'", "See 'dvlite registry list'.")
    if json:
        render.as_json(model)
        return 0
    for one in reversed(model.events):
        render.out(f"{one.date[:19].replace('T', ' ')}  {render.name(one.author)}: {render.name(one.message)}")
    return 0


@app.command("diff")
def diff(
    ctx: typer.Context,
    old: Label,
    new: Label,
    json: Json = False,
) -> int:
    """Compare two versions: metrics, parameters, and what they were made from.

    Example: dvlite registry diff churn@v1.0.0 churn@production

    Exit codes: 0 done, 2 there is no such version.
    """
    run = session(ctx, json=json)
    repo = run.open()
    one, two = registries.find(repo.git, old), registries.find(repo.git, new)
    changed = registries.compare(repo, one, two)
    data = diff_op(repo, one.commit, two.commit, [two.path]) if one.path == two.path and two.path else None
    if json:
        render.as_json(changed, data=data)
        return 0
    rows = [("", f"{one.name}@{one.version}", f"{two.name}@{two.version}")]
    for table in ("metrics", "params", "inputs"):
        for name, (before, after) in getattr(changed, table).items():
            rows.append((f"{table.removesuffix('s')} {render.name(name)}", _shown(before), _shown(after)))
    rows.append(("data", one.oid.partition(":")[2][:10] or "-", two.oid.partition(":")[2][:10] or "-"))
    render.table(rows)
    return 0


def _shown(value: Any) -> str:
    return "-" if value is None else render.name(str(value))


@app.command("get")
def get(
    ctx: typer.Context,
    label: Label,
    target: Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="Where to; else its name, here.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take a registered version out, as plain files, whatever is checked out.

    Example: dvlite registry get churn@production -o model.pkl

    Exit codes: 0 done, 2 there is no such version, or the target exists, 10 its data can't be had.
    """
    from dvlite.cli.elsewhere import place_of, show_got

    run = session(ctx, json=json, quiet=quiet)
    repo, progress = run.open(), run.progress()
    one = registries.find(repo.git, label)
    path, _ = registries.pointer_of(repo, one)
    place = place_of(run, path, target, is_forced=force)
    try:
        source = open_source(str(repo.root), one.commit, run.cache(), run.folder)
        result = get_op(source, path, place, is_forced=force, progress=progress)
    finally:
        run.finish(progress)
    show_got(run, result, place, f": {one.name}@{one.version}", is_json=json)
    return 0


# ---- with others ----------------------------------------------------------------------------------------------------


@app.command("push")
def push(ctx: typer.Context, remote: GitRemote = "", json: Json = False, quiet: Quiet = False) -> int:
    """Push what was registered and promoted here; where somebody else was first, nothing is.

    Example: dvlite registry push

    Exit codes: 0 done, 2 somebody else was first.
    """
    run = session(ctx, json=json, quiet=quiet)
    return _synced(run, syncs.push(run.open(), remote), "pushed")


@app.command("pull")
def pull(ctx: typer.Context, remote: GitRemote = "", json: Json = False, quiet: Quiet = False) -> int:
    """Get what others registered and promoted.

    Example: dvlite registry pull

    Exit codes: 0 done, 2 a version was registered on both sides as something else.
    """
    run = session(ctx, json=json, quiet=quiet)
    return _synced(run, syncs.pull(run.open(), remote), "got")


def _synced(run: Session, result: SyncResult, said: str) -> int:
    if run.is_json:
        render.as_json(result)
    elif not run.is_quiet:
        for tag in result.tags:
            render.out(f"{said} {render.name(tag)}")
        for old, new in result.renumbered.items():
            render.out(f"yours '{old}' is '{new}' now: somebody else was first (push it again)")
        if not result.tags and not result.renumbered:
            render.out(f"nothing to {'push' if said == 'pushed' else 'get'}: '{result.remote}' has the same")
    return 0


@app.command("verify")
def verify(
    ctx: typer.Context,
    remote: Annotated[bool, typer.Option("--remote", help="Also that the Git remote has the same tags.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """See that every registered version is still what was registered.

    Example: dvlite registry verify --remote

    Exit codes: 0 all is as it was, 1 something was changed.
    """
    run = session(ctx, json=json, quiet=quiet)
    result = syncs.verify(run.open(), "" if remote else None)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        for problem in result.problems:
            render.out(render.name(problem))
        if not result.problems:
            render.out(f"{render.count(result.versions, 'version')} as registered")
    return 1 if result.problems else 0
