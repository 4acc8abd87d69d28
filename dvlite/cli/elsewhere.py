"""Commands about data of other repositories: get."""

from pathlib import Path
from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Jobs, Json, Quiet, Verbose, session
from dvlite.ops.get import get as get_op
from dvlite.ops.source import open_source

app = typer.Typer(rich_markup_mode=None)
Repository = Annotated[str, typer.Argument(metavar="REPO", help="A folder, or a URL that 'git clone' takes.")]


@app.command()
def get(
    ctx: typer.Context,
    repository: Repository,
    path: Annotated[str, typer.Argument(help="A path there: tracked by dvlite, inside one, or in Git itself.")],
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="A commit, branch or tag there.")] = "",
    target: Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="Where to; else its name, here.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Take a file or folder out of any repository, at any rev. Nothing of it is tracked here: see 'dvlite import' for that.

    Example: dvlite get https://example.org/data.git raw/sales.csv --rev v1.0

    Exit codes: 0 done, 2 not there, or the target exists, 10 its objects can't be had, 11 corrupt, 13 remote.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    progress = run.progress()
    place = run.folder / (target or Path(path.removesuffix(".dvlite")).name)
    if target and place.is_dir() and not force:
        place = place / Path(path.removesuffix(".dvlite")).name  # as cp does
    try:
        progress.phase("look")
        source = open_source(repository, rev, run.cache(), run.folder)
        result = get_op(source, path, place, is_forced=force, jobs=jobs or 8, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        what = f"{render.count(result.files, 'file')}, {render.size(result.size)}"
        render.out(f"got {render.name(render.relative(place, run.folder))} ({what}) of commit {result.commit[:10]}")
    return 0
