"""Commands that configure remotes: remote add, list, set, remove, trust."""

from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Verbose, ask_trust, session
from dvlite.errors import UsageError
from dvlite.ops import remote as ops

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The remote's name.")]
Local = Annotated[bool, typer.Option("--local", help="Only in this clone (Git's config).")]
Global = Annotated[bool, typer.Option("--global", help="For this user (Git's config).")]


@app.callback()
def remote() -> None:
    """Add, list, change, try and remove remotes."""


def _level(local: bool, global_: bool) -> str:
    if local and global_:
        raise UsageError("--local and --global exclude each other")
    return "local" if local else "global" if global_ else ""


def _show(result: ops.RemoteResult) -> None:
    render.out(f"remote '{result.name}' written to {', '.join(dict.fromkeys(result.written))}")
    for line in result.notes:
        render.out(line)


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    url: Annotated[
        str, typer.Argument(help="s3://BUCKET/PREFIX, gs://, az://, sftp://, webdav://, https://, or a folder.")
    ],
    option: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="An option of its driver.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Make it the default remote.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a remote of that name.")] = False,
    local: Local = False,
    global_: Global = False,
    quiet: Quiet = False,
) -> int:
    """Add a remote; the first one is the default.

    Example: dvlite remote add origin s3://bucket/prefix -o endpoint_url=https://s3.example.org

    Exit codes: 0 done, 1 not a url, 2 usage.
    """
    run = session(ctx, quiet=quiet)
    repo = run.open()
    options = {}
    for text in option or ():
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"'{text}' is not KEY=VALUE")
        options[key.replace("-", "_")] = value
    result = ops.add(
        repo, name, url, options=options, is_default=default, level=_level(local, global_), is_forced=force
    )
    if not run.is_quiet:
        _show(result)
    return 0


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> int:
    """List remotes, the default first.

    Exit codes: 0 done.
    """
    repo = session(ctx).open()
    found = ops.listed(repo)
    if json:
        render.as_json({"remotes": found})
        return 0
    rows = []
    for one in found:
        marks = [*(["default"] if one.is_default else []), *(["read-only"] if one.is_read_only else [])]
        options = " ".join(f"{key}={value}" for key, value in sorted(one.options.items()))
        rows.append((one.name, one.url, ", ".join(marks), options))
    render.table(rows)
    if not rows:
        render.note("no remotes: 'dvlite remote add origin URL' adds one")
    elif not any(one.is_default for one in found):
        render.note("none of them is the default: 'dvlite config remote NAME' names one")
    return 0


@app.command("set")
def set_(
    ctx: typer.Context,
    name: Name,
    key: Annotated[str, typer.Argument(help="url, jobs, paths, read_only, or an option of its driver.")],
    value: Annotated[str, typer.Argument()],
    local: Local = False,
    global_: Global = False,
) -> int:
    """Set one key of a remote; what looks like a secret goes to Git's config by itself.

    Example: dvlite remote set origin jobs 16

    Exit codes: 0 done, 1 not valid, 2 usage.
    """
    _show(ops.change(session(ctx).open(), name, key, value, level=_level(local, global_)))
    return 0


@app.command()
def remove(ctx: typer.Context, name: Name) -> int:
    """Remove a remote from the configuration; its data stays.

    Exit codes: 0 done, 2 there is none.
    """
    ops.remove(session(ctx).open(), name)
    render.out(f"remote '{name}' removed; its data was not touched")
    return 0


@app.command()
def trust(ctx: typer.Context, name: Name) -> int:
    """Let your credentials go to the endpoint that this clone's dvlite.toml brought.

    Exit codes: 0 done, 2 there is no such remote.
    """
    endpoint = ops.trust(session(ctx).open(), name)
    render.out(f"credentials may go to {endpoint}" if endpoint else f"remote '{name}' needs no trust")
    return 0


@app.command()
def test(ctx: typer.Context, name: Name, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Try a remote in a scratch folder below its url, and clean up: what works, how far it is, how fast.

    Example: dvlite remote test origin

    Exit codes: 0 dvlite can rely on it, 2 there is none, 13 it can't.
    """
    from dvlite.ops.remote_test import remote_test

    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo = run.open()
    ask_trust(repo, name)
    progress = run.progress()
    try:
        result = remote_test(repo, name, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet or not result.is_good:
        for one in result.checks:
            render.out(f"{'not ok' if one.error else 'ok':8}{one.name}{': ' + one.error if one.error else ''}")
        if result.login:
            render.out(f"login: {result.login}")
        if result.round_trip_s:
            rates = f"up {render.size(result.upload_rate)}/s, down {render.size(result.download_rate)}/s"
            render.out(f"round trip {result.round_trip_s * 1000:.1f} ms; {rates}")
        render.out("; ".join(f"{key}: {'yes' if has else 'no'}" for key, has in result.features.items()))
        render.out(f"'{result.remote}' {'works' if result.is_good else 'does not work'} ({result.url})")
    return 0 if result.is_good else 13
