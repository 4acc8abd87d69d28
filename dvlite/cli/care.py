"""Commands that look after the store: gc."""

from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Verbose, session
from dvlite.errors import UsageError
from dvlite.ops import gc as ops
from dvlite.ops.gc import GcResult

app = typer.Typer(rich_markup_mode=None)


@app.command()
def gc(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go, and what stays and why.")
    ] = False,
    grace: Annotated[str, typer.Option("--grace", metavar="AGE", help="What is younger stays (14d, 12h, …).")] = "14d",
    restore: Annotated[bool, typer.Option("--restore", help="Bring back all that lies in the trash.")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Delete for good all that lies in the trash.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what may belong to versions whose listings are nowhere.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Move to the trash what no ref, reflog, stash, worktree or Git index names, and empty what lies there longer.

    Example: dvlite gc --dry-run

    Nothing younger than the grace period goes; what went can be brought back with --restore for as long again.
    Exit codes: 0 done, 1 something that names data can't be read, 12 another process is at work.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo = run.open()
    if restore or empty:
        if restore and empty or dry_run:
            raise UsageError("--restore, --empty and --dry-run exclude each other")
        moved = ops.restore(repo) if restore else ops.empty(repo)
        if json:
            render.as_json(moved)
        elif not run.is_quiet:
            what = f"{render.count(moved.files, 'file')} of the store, {render.size(moved.size)}"
            render.out(f"brought back: {what}" if restore else f"deleted for good: {what}")
        return 0
    progress = run.progress()
    try:
        result = ops.gc(repo, grace_s=ops.parse_age(grace), is_dry_run=dry_run, is_forced=force, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        _show(result)
    return 0


def _show(result: GcResult) -> None:
    would = "would go" if result.is_dry_run else "went"
    render.out(f"{would} to the trash: {render.count(result.objects, 'object')}, {render.size(result.size)}")
    rows = [(render.count(one.objects, "object"), render.size(one.size), one.reason) for one in result.stays]
    render.table([("  stays:", *row) for row in rows], right=[1, 2])
    if result.merged_packs:
        render.out(f"small packs put together: {result.merged_packs:,}")
    if result.emptied:
        gone = "would leave" if result.is_dry_run else "left"
        render.out(
            f"{gone} the trash for good: {render.count(result.emptied, 'file')}, {render.size(result.emptied_size)}"
        )
    if result.objects and not result.is_dry_run:
        render.out("'dvlite gc --restore' brings it back, 'dvlite gc --empty' frees the space now")
    for note in result.notes:
        render.note(render.name(note))
    if result.unclear:
        names = ", ".join(map(render.name, result.unclear[:5]))
        render.note(
            f"the listings of some versions are neither here nor on the remote ({names}): what may belong to them stays;"
            " 'dvlite gc --force' lets it go"
        )
