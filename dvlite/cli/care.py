"""Commands that look after the store: gc, fsck."""

from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Verbose, session
from dvlite.errors import UsageError
from dvlite.ops import gc as ops
from dvlite.ops.fsck import FsckResult, Problem
from dvlite.ops.fsck import fsck as fsck_op
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


@app.command()
def fsck(
    ctx: typer.Context,
    sample: Annotated[
        str, typer.Option("--sample", metavar="P%", help="Verify so much, beginning where the last sample ended.")
    ] = "",
    no_worktree: Annotated[bool, typer.Option("--no-worktree", help="Do not read the worktree's files.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Heal from the trash, the worktree and the remotes.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Verify every object, the index and the worktree, and that nothing is gone; say which paths of which commits are touched.

    Example: dvlite fsck --repair

    What is corrupt goes to quarantine at once. With --sample 1% each day all is verified in a hundred days.
    Exit codes: 0 all is well, 1 something else is wrong, 10 objects are missing, 11 objects are corrupt.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    share = _share(sample) if sample else 1.0
    try:
        result = fsck_op(repo, share=share, has_worktree=not no_worktree, is_repairing=repair, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    else:
        _show_fsck(result, is_quiet=run.is_quiet)
    return result.exit_code


def _share(text: str) -> float:
    try:
        share = float(text.rstrip("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"'{text}' is not a share", "Write it like 1% or 25%.")
    return share


def _show_fsck(result: FsckResult, *, is_quiet: bool) -> None:
    where = f"remote '{result.remote}'" if result.remote else "the store"
    for problem in result.problems:
        state = f"healed from {problem.healed}" if problem.healed and problem.kind != "index" else problem.healed
        tail = f" ({state})" if state else ""
        said = f"object {problem.oid.partition(':')[2][:12]} of {problem.what}" if problem.oid else problem.what
        render.note(f"{render.paint(f'{problem.kind}:', 'red')} {render.name(said)}{tail}")
        for line in _places(problem):
            render.note(f"  {line}")
    if not is_quiet:
        what = f"{render.count(result.files, 'file')}, {render.count(result.objects, 'object')}, {render.size(result.size)}"
        render.out(f"verified {where}: {what}")
        if result.not_here:
            render.out(
                f"not here: {render.count(result.not_here, 'object')} of other versions (dvlite fetch gets them)"
            )
        open_ = [one for one in result.problems if not one.healed and one.kind != "purged"]
        render.out(f"{render.count(len(open_), 'problem')}" if open_ else "all is well")
    if result.exit_code in (10, 11):
        render.note("hint: Run 'dvlite fsck --repair' to heal from the trash, the worktree and the remotes.")
    for note in result.notes:
        render.note(render.name(note))


def _places(problem: Problem, limit: int = 5) -> list[str]:
    lines = []
    for place in problem.places[:limit]:
        commits = ", ".join(commit[:10] for commit in place.commits[:3])
        more = f" and {len(place.commits) - 3:,} more" if len(place.commits) > 3 else ""
        tags = f", versions {', '.join(place.tags[:3])}" if place.tags else ""
        lines.append(f"{render.name(place.path)} in {commits or 'the worktree'}{more}{render.name(tags)}")
    if len(problem.places) > limit:
        lines.append(f"and {len(problem.places) - limit:,} more paths")
    return lines
