"""The commands about metadata: meta show, set, unset."""

import shlex
from typing import Annotated

import typer

from dvlite import recipe
from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Rev, pairs, session
from dvlite.errors import quote
from dvlite.ops import meta as metas
from dvlite.ops.meta import MetaResult

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Read and write what is known of data.")
Path_ = Annotated[str, typer.Argument(metavar="PATH", help="A tracked path.")]
NoStage = Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")]


@app.command("show")
def show(ctx: typer.Context, path: Path_, rev: Rev = None, json: Json = False) -> int:
    """Show metadata, origin, version, inputs and parameters of a tracked path, here or at any rev.

    Example: dvlite meta show models/churn.pkl --rev v1.0

    Exit codes: 0 done, 2 not tracked.
    """
    run = session(ctx, json=json)
    repo = run.open()
    result = metas.show(repo, repo.in_repo(path, run.folder), rev=rev)
    if json:
        render.as_json(result)
        return 0
    render.out(f"{render.name(result.path)} ({render.count(result.files, 'file')}, {render.size(result.size)})")
    render.table([(f"  {render.name(name)}", render.name(value)) for name, value in _lines(result)])
    return 0


def _lines(result: MetaResult) -> list[tuple[str, str]]:
    rows = [(name, str(value)) for name, value in recipe.flat(result.meta)]
    rows += [(f"import {name}", str(value)) for name, value in result.source.items()]
    rows += [("oid", result.oid)]
    if result.commit:
        rows += [("version", f"{result.date[:10]} by {result.author}: {result.message} ({result.commit[:10]})")]
    rows += [("tags", ", ".join(result.tags))] if result.tags else []
    rows += [("made by", shlex.join(result.command))] if result.command else []
    rows += [("made from", f"{one['path']} ({one['oid'].partition(':')[2][:10]})") for one in result.inputs]
    rows += [(f"param {name}", str(value)) for name, value in recipe.merged(result.params).items()]
    rows += [(f"metric {name}", str(value)) for name, value in recipe.merged(result.metrics).items()]
    return rows


@app.command("set")
def set_(
    ctx: typer.Context,
    path: Path_,
    values: Annotated[list[str], typer.Argument(metavar="KEY=VALUE…", help="What to write.")],
    no_stage: NoStage = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Write keys of [meta]; comments and all else in the pointer stay as they are.

    Example: dvlite meta set data/sales.csv licence=CC-BY-4.0 owner=ana

    Exit codes: 0 done, 2 not tracked, or not KEY=VALUE.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    result = metas.change(
        repo,
        repo.in_repo(path, run.folder),
        pairs(values),
        is_staged=not no_stage,
    )
    return _show_change(result, is_json=json, is_quiet=run.is_quiet)


@app.command("unset")
def unset(
    ctx: typer.Context,
    path: Path_,
    keys: Annotated[list[str], typer.Argument(metavar="KEY…", help="What to take out.")],
    no_stage: NoStage = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Take keys out of [meta].

    Example: dvlite meta unset data/sales.csv owner

    Exit codes: 0 done, 2 not tracked, or there is no such key.
    """
    run = session(ctx, json=json, quiet=quiet)
    repo = run.open()
    result = metas.change(repo, repo.in_repo(path, run.folder), {}, keys, is_staged=not no_stage)
    return _show_change(result, is_json=json, is_quiet=run.is_quiet)


def _show_change(result: MetaResult, *, is_json: bool, is_quiet: bool) -> int:
    if is_json:
        render.as_json(result)
    elif not is_quiet:
        for name, value in recipe.flat(result.meta):
            render.out(f"{render.name(name)} = {render.name(str(value))}")
        if result.to_stage:
            render.note(f"to stage: git add {' '.join(map(quote, result.to_stage))}")
    return 0
