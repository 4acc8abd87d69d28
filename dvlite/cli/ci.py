"""The commands that set CI up: ci init."""

from importlib import resources
from typing import Annotated

import typer

from dvlite import files
from dvlite.cli import render
from dvlite.cli.session import Json, session
from dvlite.errors import UsageError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Set up checks and deployment on a Git host.")
_PLACES = {"github": ".github/workflows/data.yml", "gitlab": ".gitlab-ci.yml"}


@app.command("init")
def init(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="github or gitlab.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    json: Json = False,
) -> int:
    """Write a workflow that checks each change, reports what it does to data, and deploys what is promoted to production.

    Example: dvlite ci init github

    Exit codes: 0 done, 2 the file is there already.
    """
    run = session(ctx, json=json)
    repo = run.open(asks_hooks=False)
    if host not in _PLACES:
        raise UsageError(f"'{host}' is no host that is known here", f"Known are: {', '.join(_PLACES)}.")
    name = _PLACES[host]
    place = repo.root / name
    text = resources.files("dvlite").joinpath("workflows", f"{host}.yml").read_bytes()
    if place.exists() and place.read_bytes() != text and not force:
        raise UsageError(f"'{name}' exists", "Replace it with --force, or take what you need out of 'dvlite help ci'.")
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(place, text)
    if json:
        render.as_json({"written": name})
    else:
        render.out(f"written {name}: look at it, then git add {name}")
    return 0
