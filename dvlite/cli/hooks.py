"""Commands that wire Git: hooks install, uninstall, status."""

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, session
from dvlite.ops import hooks as ops

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def hooks() -> None:
    """Install, remove or look at the Git hooks and drivers that keep data in step with Git."""


@app.command()
def install(ctx: typer.Context, json: Json = False, quiet: Quiet = False) -> int:
    """Put dvlite's part into Git's hooks, beside what is there, and wire the merge and diff drivers.

    Example: dvlite hooks install

    Exit codes: 0 done.
    """
    run = session(ctx, json=json, quiet=quiet)
    _show(ops.install(run.open(asks_hooks=False)), "installed", json=json, quiet=run.is_quiet)
    return 0


@app.command()
def uninstall(ctx: typer.Context, json: Json = False, quiet: Quiet = False) -> int:
    """Take dvlite's part out of Git's hooks; every file is as it was before.

    Exit codes: 0 done.
    """
    run = session(ctx, json=json, quiet=quiet)
    _show(ops.uninstall(run.open(asks_hooks=False)), "taken out", json=json, quiet=run.is_quiet)
    return 0


def _show(result: ops.HooksResult, done: str, *, json: bool, quiet: bool) -> None:
    if json:
        render.as_json(result)
    elif not quiet:
        render.out(f"hooks {done} in {result.folder}: {', '.join(result.written) or 'nothing to do'}")
        for note in result.notes:
            render.note(note)


@app.command()
def status(ctx: typer.Context, json: Json = False) -> int:
    """Say which hooks are installed, and what else is in them.

    Exit codes: 0 all are, 1 some are not.
    """
    result = ops.status(session(ctx, json=json).open(asks_hooks=False))
    if json:
        render.as_json(result, is_installed=result.is_installed)
    else:
        rows = [(hook.event, hook.state, "beside another hook" if hook.has_other else "") for hook in result.hooks]
        rows.append(("merge and diff driver", "installed" if result.has_drivers else "absent", ""))
        render.table(rows)
    return 0 if result.is_installed else 1
