"""Commands that change data here: add, checkout, unprotect."""

from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Paths, Quiet, Rev, Session, SomePaths, Verbose, pairs, session
from dvlite.errors import UsageError, quote
from dvlite.ops import move, saved
from dvlite.ops.add import AddResult
from dvlite.ops.add import add as add_op
from dvlite.ops.bring import CheckoutResult
from dvlite.ops.checkout import bring_back
from dvlite.ops.checkout import checkout as checkout_op
from dvlite.ops.links import unprotect as unprotect_op
from dvlite.repo import Repo
from dvlite.worktree.settle import IN_THE_WAY

app = typer.Typer(rich_markup_mode=None)


@app.command()
def add(
    ctx: typer.Context,
    paths: SomePaths,
    meta: Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Set a key of [meta].")] = None,
    desc: Annotated[str | None, typer.Option("--desc", help="Set the description in [meta].")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Set the source in [meta].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take the data as it is, whatever its pointer says.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="With --force: why data that [policy] append_only keeps is changed.")
    ] = None,
    rehash: Annotated[bool, typer.Option("--rehash", help="Convert to the repository's hash.")] = False,
    no_stage: Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Store files and folders, and write the pointers that stand for them in Git.

    Example: dvlite add data/ models/model.pkl --desc "cleaned in March"

    A path inside a tracked folder updates just that part. Again on unchanged data it changes nothing.
    Exit codes: 0 done, 1 some could not be added, 2 usage, 14 pointer and data both changed.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    values = pairs(meta)
    values |= {
        key: value
        for key, value in (("description", desc), ("source", source), ("reason", reason))
        if value is not None
    }
    try:
        result = add_op(
            repo,
            run.paths(repo, paths),
            meta=values,
            is_forced=force,
            is_rehashed=rehash,
            is_staged=not no_stage,
            progress=progress,
        )
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        _show_added(run, repo, result)
    return render.failures(result.failures, lambda path: run.here(repo, path), is_alone=not result.added, is_told=json)


def _show_added(run: Session, repo: Repo, result: AddResult) -> None:
    for one in result.added:
        what = f"{render.count(one.files, 'file')}, {render.size(one.size)}"
        state = "added" if one.is_changed else "unchanged"
        render.out(f"{state} {render.name(run.here(repo, one.path))} ({what})")
        if one.note:
            render.note(one.note)
    if result.to_stage:
        render.out("to stage: git add " + " ".join(quote(run.here(repo, path)) for path in result.to_stage))


@app.command()
def checkout(
    ctx: typer.Context,
    paths: Paths = None,
    rev: Rev = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also replace what is not stored; it is stored first.")
    ] = False,
    saved_number: Annotated[
        int | None, typer.Option("--saved", metavar="N", help="Bring back what --force replaced; 0 lists.")
    ] = None,
    ours: Annotated[bool, typer.Option("--ours", help="In a conflict, take this branch's version.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="In a conflict, take the other branch's version.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Make data match the pointers, here or at another rev; what is not stored stays, and is named.

    Example: dvlite checkout data/ --rev v1.0

    With --rev the pointers stay as they are, and 'dvlite status' says at which rev the data is.
    Exit codes: 0 done, 1 some could not, 10 objects are missing here, 11 corrupt, 14 unsaved data was kept.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo = run.open()
    if ours or theirs:
        if ours and theirs or not paths:
            raise UsageError("--ours and --theirs take paths, and exclude each other")
        return _take_side(run, repo, run.paths(repo, paths), is_theirs=theirs)
    if saved_number == 0:
        rows = [
            (f"saved/{number}", name, item.tables["meta"]["time"])
            for number, (name, item) in saved.entries(repo).items()
        ]
        render.table(rows)
        return 0
    progress = run.progress()
    try:
        if saved_number is not None:
            result = bring_back(repo, saved_number, progress=progress)
        else:
            result = checkout_op(repo, run.paths(repo, paths), rev=rev, is_forced=force, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
        return checkout_code(result)
    return show_checkout(run, repo, result)


def checkout_code(result: CheckoutResult) -> int:
    """Return the exit code that a checkout's result stands for."""
    if result.failures:
        codes = {failure.error.exit_code for failure in result.failures}
        return codes.pop() if len(codes) == 1 else 1
    return 10 if result.missing else 14 if result.kept else 0


def show_checkout(run: Session, repo: Repo, result: CheckoutResult, *, is_partial: bool = False) -> int:
    """Print what a checkout did; return its exit code. `is_partial`: that something is missing was said already."""
    if not run.is_quiet:
        done = []
        if result.written:
            done.append(f"{render.count(result.written, 'file')} written ({render.size(result.size)})")
        if result.removed:
            done.append(f"{render.count(result.removed, 'file')} removed")
        if done or not (is_partial or result.kept or result.missing or result.failures):
            at = f", at {result.rev}" if result.rev else ""
            render.out(f"checked out: {', '.join(done) or 'everything is in place'}{at}")
        if result.saved:
            render.out(f"what was replaced is kept as saved/{result.saved}: dvlite checkout --saved {result.saved}")
    if result.ignored:
        names = ", ".join(render.name(run.here(repo, path)) for path in result.ignored)
        render.note(f"to keep the data out of Git, '.gitignore' has a line more for: {names}")
    for kept in result.kept:
        render.note(f"kept {render.name(run.here(repo, kept.path))}: {kept.reason}")
    if any(one.reason != IN_THE_WAY for one in result.kept):
        render.note(
            f"hint: store it with 'dvlite add', or give it up with 'dvlite checkout --force'. {len(result.kept)} kept."
        )
    if result.missing:
        shown = [render.name(run.here(repo, path)) for path in dict.fromkeys(result.missing)]
        render.note(f"missing here: {', '.join(shown[:5])}{f' and {len(shown) - 5:,} more' if len(shown) > 5 else ''}")
        bring = f"fetch --rev {result.rev}" if result.rev else "pull"
        render.note(f"hint: Run 'dvlite {bring}' to get them from the remote.")
    render.failures(result.failures, lambda path: run.here(repo, path), is_alone=True)
    return checkout_code(result)


def _take_side(run: Session, repo: Repo, paths: list[str], *, is_theirs: bool) -> int:
    from dvlite.ops.merge import resolve

    result = resolve(repo, paths, is_theirs=is_theirs)
    if run.is_json:
        render.as_json(result)
    elif not run.is_quiet:
        for tracked in result.resolved:
            said = "staged" if result.staged else f"to stage: git add {quote(run.here(repo, tracked) + '.dvlite')}"
            render.out(f"resolved {render.name(run.here(repo, tracked))} ({said})")
        for path in result.left:
            render.out(f"still in conflict: {render.name(run.here(repo, path))}")
    failures = [*result.failures, *result.checkout.failures]
    if result.checkout.missing:
        render.note("not all of it is here: run 'dvlite pull'")
    return render.failures(
        [] if run.is_json else failures, lambda path: run.here(repo, path), is_alone=not result.resolved
    ) or (1 if failures else 10 if result.checkout.missing else 0)


@app.command()
def unprotect(ctx: typer.Context, paths: SomePaths, json: Json = False, quiet: Quiet = False) -> int:
    """Replace links into the store by copies that can be written to.

    Example: dvlite unprotect models/model.pkl

    Exit codes: 0 done, 1 some could not.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo, progress = run.open(), run.progress()
    try:
        result = unprotect_op(repo, run.paths(repo, paths), progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        render.out(f"{render.count(result.files, 'file')} made writable ({render.size(result.size)})")
    return render.failures(result.failures, lambda path: run.here(repo, path), is_alone=not result.files)


NoStage = Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")]


@app.command()
def mv(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(help="A tracked path.")],
    new: Annotated[str, typer.Argument(help="Its new name, or a folder to put it into.")],
    no_stage: NoStage = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Move a tracked path: its data, pointer, ignore line and metadata. Nothing is overwritten.

    Example: dvlite mv data/raw raw_data

    Exit codes: 0 done, 2 not tracked, or something is there.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    places = [repo.in_repo(path, run.folder) for path in (old, new)]
    return _show_move(run, repo, move.move(repo, places[0], places[1], is_staged=not no_stage), is_json=json)


@app.command()
def rm(
    ctx: typer.Context,
    paths: SomePaths,
    data: Annotated[bool, typer.Option("--data", help="Delete the data here too, if it is stored.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --data: also what is not stored; it is stored first.")
    ] = False,
    no_stage: NoStage = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Let go of tracked paths: pointer and ignore line go, the data stays where it is unless --data says otherwise.

    Versions in commits can be had as before; 'dvlite gc' never takes what a commit names.

    Example: dvlite rm data/old --data

    Exit codes: 0 done, 1 some could not, 2 not tracked, 14 data is not stored.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo, progress = run.open(), run.progress()
    try:
        result = move.remove(
            repo, run.paths(repo, paths), has_data=data, is_forced=force, is_staged=not no_stage, progress=progress
        )
    finally:
        run.finish(progress)
    code = _show_move(run, repo, result, is_json=json)
    if result.moved and not data and not json and not run.is_quiet:
        render.note("the data stays, and Git sees it now; --data would have deleted it")
    return code


def _show_move(run: Session, repo: Repo, result: move.MoveResult, *, is_json: bool) -> int:
    if is_json:
        render.as_json(result)
    elif not run.is_quiet:
        for old, new in result.moved.items():
            shown = render.name(run.here(repo, old))
            render.out(f"moved {shown} -> {render.name(run.here(repo, new))}" if new else f"let go of {shown}")
        if result.to_stage:
            render.out("to stage: git add -A -- " + " ".join(quote(run.here(repo, path)) for path in result.to_stage))
        if result.saved:
            render.note(f"what was not stored is saved: 'dvlite checkout --saved {result.saved}' brings it back")
    return render.failures(
        result.failures, lambda path: run.here(repo, path), is_alone=not result.moved, is_told=is_json
    )
