"""Commands around the work: init, config, doctor, help."""

from importlib import resources
from typing import Annotated

import typer

from dvlite import oid
from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, session
from dvlite.errors import UsageError
from dvlite.ops import hooks
from dvlite.ops import settings as ops
from dvlite.ops.doctor import doctor as doctor_op
from dvlite.ops.init import init as init_op
from dvlite.repo import open_repo

app = typer.Typer(rich_markup_mode=None)


@app.command()
def init(
    ctx: typer.Context,
    hash_: Annotated[
        str, typer.Option("--hash", metavar="ALGORITHM", help="sha256 or blake3.")
    ] = oid.DEFAULT_ALGORITHM,
    layout: Annotated[
        bool, typer.Option("--layout", help="Also make raw_data/, processed_data/, models/, experiments/.")
    ] = False,
    no_hooks: Annotated[bool, typer.Option("--no-hooks", help="Leave Git's hooks alone.")] = False,
    no_stage: Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make this Git repository one of dvlite's: writes dvlite.toml and a line in .gitattributes, and installs Git's hooks.

    Example: git init && dvlite init

    Exit codes: 0 done, 2 not a Git repository.
    """
    run = session(ctx, json=json, quiet=quiet)
    result = init_op(run.folder, algorithm=hash_, has_layout=layout, is_staged=not no_stage)
    repo = open_repo(run.folder)
    if no_hooks:
        hooks.mark(repo, "declined")
    wired = hooks.status(repo) if no_hooks else hooks.install(repo)
    if json:
        render.as_json(result, hooks=wired)
    elif not run.is_quiet:
        if result.written:
            render.out(f"dvlite is ready in {result.root}: {', '.join(result.written)} written, to be committed")
        else:
            render.out(f"dvlite was ready in {result.root}: nothing to do")
        if wired.written:
            render.out(f"Git's hooks: {', '.join(wired.written)}")
        for note in wired.notes:
            render.note(note)
    return 0


@app.command()
def config(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="A setting; all without.")] = "",
    value: Annotated[str | None, typer.Argument(help="Set it to this.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Only in this clone (the default).")] = False,
    global_: Annotated[bool, typer.Option("--global", help="For this user.")] = False,
    json: Json = False,
) -> int:
    """Show settings with their origin, or set one of this machine.

    Example: dvlite config link hardlink

    Exit codes: 0 done, 1 the setting has no value, 2 usage.
    """
    if local and global_:
        raise UsageError("--local and --global exclude each other")
    run = session(ctx, json=json)
    repo = run.open()
    if value is not None:
        found = [ops.set_value(repo, key, value, level="global" if global_ else "local")]
    else:
        found = ops.settings(repo, key)
    if json:
        render.as_json({"settings": found})
    else:
        render.table([(one.key, one.value, one.origin) for one in found])
    return 0 if found or not key else 1


@app.command()
def doctor(ctx: typer.Context, json: Json = False) -> int:
    """Look over the environment and this repository, and say how to mend what is not well.

    Exit codes: 0 all is well, 1 something is not.
    """
    run = session(ctx, json=json)
    checks = doctor_op(run.folder)
    if json:
        render.as_json({"checks": checks})
    else:
        for check in checks:
            mark = render.paint("ok", "green") if check.is_well else render.paint("!!", "red")
            render.out(f"{mark}  {check.name}: {render.name(check.value)}")
            if check.hint:
                render.out(f"    {check.hint}")
    return 0 if all(check.is_well for check in checks) else 1


@app.command(name="help")
def help_(ctx: typer.Context, topic: Annotated[str, typer.Argument(help="A topic or a command.")] = "") -> int:
    """Explain a topic, a file format, or a command.

    Example: dvlite help store

    Exit codes: 0 done, 2 there is no such topic.
    """
    folder = resources.files("dvlite") / "docs"
    topics = {one.name.removesuffix(".md"): one for one in folder.iterdir() if one.name.endswith(".md")}
    if not topic:
        render.out("Topics (dvlite help TOPIC):\n")
        render.table([("", name, topics[name].read_text().split("\n")[0].lstrip("# ")) for name in sorted(topics)])
        render.out("\nCommands: dvlite --help")
        return 0
    if topic in topics:
        render.out(topics[topic].read_text().rstrip())
        return 0
    root = ctx.find_root()
    command = root.command.get_command(root, topic)  # type: ignore[attr-defined]
    if command is None:
        raise UsageError(f"there is no topic or command '{topic}'", "See 'dvlite help' for the topics.")
    with command.make_context(topic, ["--help"], parent=root, resilient_parsing=True) as inner:
        render.out(command.get_help(inner))
    return 0
