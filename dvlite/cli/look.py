"""Commands that look: status, ls, cat, du."""

import functools
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Paths, Quiet, Rev, Session, ask_trust, session
from dvlite.errors import quote
from dvlite.ops.du import du as du_op
from dvlite.ops.read import cat as cat_op
from dvlite.ops.read import ls as ls_op
from dvlite.ops.status import PathStatus, StatusResult
from dvlite.ops.status import status as status_op
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)
Elsewhere = Annotated[str, typer.Option("--repo", metavar="REPO", help="Of another repository: a folder, or a URL.")]
_SHOWN = 20
_COLOURS = {"new": "green", "renamed": "green", "modified": "yellow", "deleted": "red", "conflict": "red"}


@app.command()
def status(
    ctx: typer.Context,
    paths: Paths = None,
    remote: Annotated[bool, typer.Option("--remote", help="Also say what the remote lacks.")] = False,
    remote_name: Annotated[str, typer.Option("--remote-name", metavar="NAME", help="Compare with this remote.")] = "",
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything differs, 3 on failure.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="List every file, however many.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Say what differs between data, pointers, the store and (if asked) a remote.

    Example: dvlite status data/

    Exit codes: 0 done; with --exit-code 1 if anything differs, 3 on failure.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo, progress = run.open(), run.progress()
    if remote or remote_name:
        ask_trust(repo, remote_name)
    try:
        compared = remote_name if remote or remote_name else None
        result = status_op(repo, run.paths(repo, paths), remote=compared, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result, is_clean=result.is_clean)
    elif not run.is_quiet:
        _show(run, repo, result, None if everything else _SHOWN)
    code = render.failures(result.failures, lambda path: run.here(repo, path), is_alone=not result.paths, is_told=json)
    if exit_code:
        return 3 if result.failures else 0 if result.is_clean else 1
    return code


def _show(run: Session, repo: Repo, result: StatusResult, limit: int | None) -> None:
    if result.lost_index:
        render.note("the index could not be read and was begun anew")
    dirty = [one for one in result.paths if not one.is_clean or one.git]
    for one in dirty:
        render.out(
            f"{render.name(run.here(repo, one.path))} ({render.count(one.files, 'file')}, {render.size(one.size)})"
        )
        for line in _lines(run, repo, one, limit):
            render.out(f"  {line}")
    if result.is_clean:
        tail = f", and so is remote '{result.remote}'" if result.remote else ""
        if result.paths:
            render.out(f"clean: {render.count(len(result.paths), 'tracked path')} up to date{tail}")
        else:
            render.out("nothing is tracked yet: 'dvlite add PATH' begins")


def _lines(run: Session, repo: Repo, one: PathStatus, limit: int | None) -> list[str]:
    where = quote(run.here(repo, one.path))
    lines = [f"pointer: {one.git}"] if one.git else []
    if one.at:
        lines.append(f"at {one.at}: 'dvlite checkout {where}' returns to the pointer's version")
    for change in one.changes[:limit]:
        name = render.name(change.path or one.path.rpartition("/")[2])
        old = f"{render.name(change.old_path)} -> " if change.old_path else ""
        kind = render.paint(f"{change.kind}:", _COLOURS.get(change.kind, "yellow"))
        lines.append(f"{kind} {old}{name} ({render.size(change.size)})")
    if limit is not None and len(one.changes) > limit:
        lines.append(f"and {len(one.changes) - limit:,} more: 'dvlite status --all {where}' lists them")
    return lines + _advice(one, where)


def _advice(one: PathStatus, where: str) -> list[str]:
    kinds = {change.kind for change in one.changes}
    bring = "pull" if one.missing_here else "checkout"
    is_in_git = one.git not in ("untracked", "modified")
    send = "dvlite push" if is_in_git else f"stage its pointer with 'dvlite add {where}', then dvlite push"
    is_gone = kinds == {"deleted"} and len(one.changes) == one.files
    said = [
        (is_gone, f"to bring it back: dvlite {bring} {where}; to let go of it: git rm -- {where}.dvlite"),
        (not is_gone and kinds & {"new", "modified", "deleted", "renamed"}, f"to store it: dvlite add {where}"),
        (kinds & {"outdated", "dropped"}, f"the pointer moved: dvlite checkout {where}"),
        (
            kinds & {"conflict", "unknown"},
            f"keep the data: dvlite add --force {where}; or the pointer's: dvlite checkout --force {where}",
        ),
        (one.absent_files, f"not here: {render.count(one.absent_files, 'file')}: dvlite {bring} {where}"),
        (
            one.missing_here,
            f"missing in the store: {render.count(one.missing_here, 'object')}:"
            f" dvlite pull {where}, or dvlite add {where} where all of the data is",
        ),
        (one.missing_there, f"not on remote '{one.remote}': {render.count(one.missing_there or 0, 'object')}: {send}"),
        (one.unknown, f"unknown: {one.unknown}"),
    ]
    return [text for applies, text in said if applies]


@app.command()
def ls(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A tracked path, or one inside it.")] = "",
    rev: Rev = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Also all that lies below.")] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="With oids.")] = False,
    repository: Elsewhere = "",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only what has this in [meta]; KEY!=VALUE, or KEY alone."),
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get listings that are missing here from the remote.")] = False,
    json: Json = False,
) -> int:
    """List tracked paths, or what lies in one, at any rev, whether it is checked out or not.

    Example: dvlite ls data/raw --rev HEAD~3

    Exit codes: 0 done, 2 not tracked, 10 a listing is not here: see --fetch.
    """
    run = session(ctx, json=json)
    here: Callable[[str], str] = str
    if repository:
        from dvlite.ops import source as source_ops  # with all of remotes, which status needs not

        source = source_ops.open_source(repository, rev or "", run.cache(), run.folder)
        result = source_ops.ls(source, path, where=where or (), is_recursive=recursive)
    else:
        repo = run.open()
        given = repo.in_repo(path, run.folder) if path else ""
        if fetch:
            ask_trust(repo, "")
        result = ls_op(repo, given, rev=rev, where=where or (), is_recursive=recursive, remote="" if fetch else None)
        here = functools.partial(run.here, repo)
    if json:
        render.as_json(result)
        return 0
    rows = []
    for one in result.entries:
        shown = render.name(here(one.path)) + ("/" if one.kind == "folder" else "")
        rows.append((render.size(one.size), f"{one.files:,}", *([one.oid] if long else []), shown))
    render.table(rows, right=(0, 1))
    return 0


@app.command()
def cat(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A file.")],
    rev: Rev = None,
    repository: Elsewhere = "",
) -> int:
    """Print a tracked file's content, at any rev, whether it is checked out or not.

    Example: dvlite cat data/raw/sales.csv --rev v1.0 | head

    Exit codes: 0 done, 2 not tracked, 10 not here: fetch it, 11 corrupt.
    """
    run = session(ctx)
    if repository:
        from dvlite.ops import source as source_ops

        blocks = source_ops.cat(source_ops.open_source(repository, rev or "", run.cache(), run.folder), path)
    else:
        repo = run.open()
        blocks = cat_op(repo, repo.in_repo(path, run.folder), rev=rev)
    for block in blocks:
        sys.stdout.buffer.write(block)
    sys.stdout.flush()
    return 0


@app.command()
def du(ctx: typer.Context, paths: Paths = None, rev: Rev = None, json: Json = False) -> int:
    """Say how much room tracked paths take: as files, as distinct content, and how much of that is in the local store.

    Example: dvlite du --rev v1.0

    Exit codes: 0 done, 1 some could not, 2 not tracked.
    """
    run = session(ctx, json=json)
    repo = run.open()
    result = du_op(repo, run.paths(repo, paths), rev=rev)
    if json:
        render.as_json(result)
    elif result.paths:
        rows: list[tuple[str, ...]] = [("files", "count", "distinct", "stored", "")]
        for one in [*result.paths, result.total]:
            shown = render.name(run.here(repo, one.path)) if one.path else "together"
            sizes = [render.size(size) + ("" if one.is_whole else "+") for size in (one.distinct, one.stored)]
            rows.append((render.size(one.size), f"{one.files:,}", *sizes, shown))
        render.table(rows, right=(0, 1, 2, 3))
        if not result.total.is_whole:
            render.note("+: some listings are not here; 'dvlite fetch' gets them")
    return render.failures(result.failures, lambda path: run.here(repo, path), is_alone=not result.paths, is_told=json)
