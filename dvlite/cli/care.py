"""Commands that look after the store and remotes: gc, fsck, purge."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Session, Verbose, session
from dvlite.errors import UsageError, quote
from dvlite.ops import gc as ops
from dvlite.ops import purge as purging
from dvlite.ops.drop import DropResult
from dvlite.ops.drop import drop as drop_op
from dvlite.ops.fsck import FsckResult, Problem
from dvlite.ops.fsck import fsck as fsck_op
from dvlite.ops.fsck_remote import fsck_remote
from dvlite.ops.gc import GcResult
from dvlite.ops.gc_remote import RemoteGcResult, gc_remote
from dvlite.ops.purge import PurgeResult
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)


@app.command()
def gc(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]…", help="With --drop: whose copies to free.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would go, what stays and why.")
    ] = False,
    grace: Annotated[str, typer.Option("--grace", metavar="AGE", help="What is younger stays (14d, 12h, …).")] = "14d",
    restore: Annotated[bool, typer.Option("--restore", help="Bring back all that lies in the trash.")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Delete for good all that lies in the trash.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="Clean the remote instead, in two phases.")] = False,
    remote_name: Annotated[
        str, typer.Option("--remote-name", metavar="NAME", help="Another than the default remote.")
    ] = "",
    repos: Annotated[
        list[Path] | None,
        typer.Option("--repo", metavar="FOLDER", help="Another repository that pushes to that remote."),
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Free local copies of PATHs that the remote has.")] = False,
    rev: Annotated[
        str, typer.Option("--rev", metavar="REV", help="With --drop: only of this commit, or range A..B.")
    ] = "",
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", min=1, help="Free copies of all but the last N versions.")
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Free copies of versions that are older (90d, …).")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Also what can't be told, or is not on the remote.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Move to the trash what no ref, reflog, stash, worktree or Git index names, and empty what lies there longer.

    Example: dvlite gc --dry-run

    Nothing younger than the grace period goes; what went can be brought back with --restore for as long again. On a remote what
    nothing names is written down first, and deleted by a later run. --drop, --keep-last and --older-than free copies of what
    commits name and the remote has. Exit codes: 0 done, 1 or 2 something that names data can't be read, 12 another process is
    at work, 13 remote, 14 the remote lacks what would go.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo = run.open()
    is_dropping = drop or keep_last is not None or bool(older_than)
    if sum((restore, empty, remote or bool(remote_name) and not is_dropping, is_dropping)) > 1 or (paths and not drop):
        raise UsageError("--restore, --empty, --remote and --drop (or --keep-last, --older-than) exclude each other")
    if restore or empty:
        return _trash(run, repo, is_restoring=restore, is_dry_run=dry_run)
    progress = run.progress()
    result: GcResult | RemoteGcResult | DropResult
    try:
        if is_dropping:
            if drop and not paths:
                raise UsageError("--drop needs paths", "For example: dvlite gc --drop data/")
            result = drop_op(
                repo,
                run.paths(repo, paths),
                rev=rev,
                keep_last=keep_last,
                older_s=ops.parse_age(older_than) if older_than else None,
                remote=remote_name,
                is_dry_run=dry_run,
                is_forced=force,
                progress=progress,
            )
        elif remote or remote_name:
            folders = [run.folder / one for one in repos or ()]
            result = gc_remote(
                repo,
                remote_name,
                grace_s=ops.parse_age(grace),
                others=folders,
                is_dry_run=dry_run,
                is_forced=force,
                progress=progress,
            )
        else:
            result = ops.gc(repo, grace_s=ops.parse_age(grace), is_dry_run=dry_run, is_forced=force, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        _show_any(result)
    return 0


def _trash(run: Session, repo: Repo, *, is_restoring: bool, is_dry_run: bool) -> int:
    moved = (ops.restore if is_restoring else ops.empty)(repo, is_dry_run=is_dry_run)
    if run.is_json:
        render.as_json(moved)
    elif not run.is_quiet:
        what = f"{render.count(moved.files, 'file')} of the store, {render.size(moved.size)}"
        would = "would be " if is_dry_run else ""
        render.out(f"{would}brought back: {what}" if is_restoring else f"{would}deleted for good: {what}")
        if moved.left:
            said = f"left in the trash: {render.count(moved.left, 'file')} of which the store has another"
            render.note(f"{said} ('dvlite fsck --repair' takes what is good)")
    return 0


def _show_any(result: GcResult | RemoteGcResult | DropResult) -> None:
    if isinstance(result, GcResult):
        _show(result)
    elif isinstance(result, RemoteGcResult):
        _show_remote(result)
    else:
        would = "would be freed" if result.is_dry_run else "freed"
        render.out(f"{would}: {render.count(result.objects, 'object')}, {render.size(result.size)}")
        for version in result.versions:
            render.out(f"  no local copy: {render.name(version)}")
        if result.trashed:
            render.out(
                f"{render.count(result.trashed, 'object')} of them are on no remote: in the trash (dvlite gc --restore)"
            )


def _show_remote(result: RemoteGcResult) -> None:
    would = "would be " if result.is_dry_run else ""
    render.out(
        f"{would}written down on '{result.remote}': {render.count(result.doomed, 'file')}, {render.size(result.doomed_size)}"
    )
    if result.deleted:
        render.out(f"deleted: {render.count(result.deleted, 'file')}, {render.size(result.deleted_size)}")
    if result.waiting:
        render.out(f"waiting for the end of their grace period: {render.count(result.waiting, 'file')}")
    if result.merged_packs:
        render.out(f"small packs put together: {result.merged_packs:,}")
    rows = [(render.count(one.objects, "object"), one.reason) for one in result.stays]
    render.table([("  stays:", *row) for row in rows], right=[1])


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
    remote: Annotated[bool, typer.Option("--remote", help="Verify the remote instead.")] = False,
    remote_name: Annotated[str, typer.Option("--remote-name", metavar="NAME", help="Verify this remote.")] = "",
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
        if remote or remote_name:
            result = fsck_remote(repo, remote_name, share=share, is_repairing=repair, progress=progress)
        else:
            result = fsck_op(repo, share=share, has_worktree=not no_worktree, is_repairing=repair, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    else:
        _show_fsck(result, is_quiet=run.is_quiet, is_repairing=repair)
    return result.exit_code


def _share(text: str) -> float:
    try:
        share = float(text.rstrip("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"'{text}' is not a share", "Write it like 1% or 25%.")
    return share


def _show_fsck(result: FsckResult, *, is_quiet: bool, is_repairing: bool) -> None:
    where = f"remote '{result.remote}'" if result.remote else "the store"
    for problem in result.problems:
        state = f"healed from {problem.healed}" if problem.healed and problem.kind != "index" else problem.healed
        tail = f" ({state})" if state else ""
        of = ", " if problem.what.startswith("named ") else " of "
        said = f"object {problem.oid.partition(':')[2][:12]}{of}{problem.what}" if problem.oid else problem.what
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
        render.note(f"hint: {_fsck_hint(result, is_repairing=is_repairing)}")
    for note in result.notes:
        render.note(render.name(note))


def _fsck_hint(result: FsckResult, *, is_repairing: bool) -> str:
    there = f" --remote-name {quote(result.remote)}" if result.remote else ""
    if not is_repairing:
        source = "what is good here" if result.remote else "the trash, the worktree and the remotes"
        return f"Run 'dvlite fsck --repair{there}' to heal from {source}."
    if result.remote:
        return f"Nothing here heals the rest. Run 'dvlite fsck --repair{there}' in a clone that still has it."
    return "Nothing here heals the rest. Where the data still is, run 'dvlite add' or 'dvlite push', then 'dvlite pull' here."


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


@app.command()
def purge(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="OID|PATH", help="An object, or a path: all its versions.")],
    remote: Annotated[bool, typer.Option("--remote", help="Also on the remote.")] = False,
    remote_name: Annotated[str, typer.Option("--remote-name", metavar="NAME", help="Also on this remote.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    registered: Annotated[bool, typer.Option("--registered", help="Also what registered versions have.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Allow the content of an OID to come back.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Remove content for good, after showing every commit and registered version that it breaks.

    Example: dvlite purge data/customers.csv --remote

    For a leaked secret, or data that must go by law. Pointers stay in Git; other clones keep their copies until they purge too.
    Exit codes: 0 done, 1 not confirmed, 2 no version has it, or a registered one does.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    where = remote_name if remote or remote_name else None
    if lift:
        lifted = purging.lift(repo, what, remote=where)
        render.out(f"may come back: {', '.join(lifted)}")
        return 0
    is_oid = what.partition(":")[0] in ("sha256", "blake3")
    result = purging.plan(repo, what if is_oid else run.paths(repo, [what])[0], remote=where)
    if not json:
        _show_purge(result)
    if not yes and not (sys.stdin.isatty() and not json and typer.confirm("Remove this content for good?", err=True)):
        if json:
            render.as_json(result)
        render.note("nothing was removed: confirm with --yes")
        return 1
    result = purging.purge(repo, result, remote=where, has_registered=registered)
    if json:
        render.as_json(result)
    else:
        there = f" and on '{result.remote}'" if result.remote else ""
        render.out(f"purged here{there}: {render.count(len(result.oids), 'object')}")
        for path in result.worktree:
            render.note(f"'{render.name(path)}' in the worktree still has it: delete or change it")
        if not result.remote:
            render.note(
                "remotes may still have it: --remote purges there too. Other clones keep their copies until they purge."
            )
    return 0


def _show_purge(result: PurgeResult) -> None:
    render.out(f"{render.count(len(result.oids), 'object')}, {render.size(result.size)} here; this breaks:")
    for place in result.places:
        versions = f", versions {', '.join(map(render.name, place.tags))}" if place.tags else ""
        there = f" of the repository '{render.name(place.repository)}'" if place.repository else ""
        render.out(f"  {render.name(place.path)}{there}: {render.count(len(place.commits), 'commit')}{versions}")
        for commit in place.commits:
            render.out(f"    {commit}")
