"""The entry point: which module has which command, what every command shares, and how each ending becomes an exit code.

A command's module is imported when the command is called, so that a quick one starts quickly.
"""

import difflib
import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dvlite import __version__, config
from dvlite.cli import render
from dvlite.cli.session import Session
from dvlite.errors import DvliteError, UsageError, explain

COMMANDS = {
    "init": "setup",
    "add": "data",
    "status": "look",
    "checkout": "data",
    "push": "sync",
    "pull": "sync",
    "fetch": "sync",
    "diff": "history",
    "log": "history",
    "changelog": "history",
    "get": "elsewhere",
    "import": "elsewhere",
    "import-url": "elsewhere",
    "update": "elsewhere",
    "export": "elsewhere",
    "verify": "elsewhere",
    "meta": "meta",
    "run": "make",
    "repro": "make",
    "lineage": "make",
    "registry": "registry",
    "exp": "exp",
    "check": "review",
    "report": "review",
    "ci": "ci",
    "mv": "data",
    "rm": "data",
    "ls": "look",
    "cat": "look",
    "du": "look",
    "unprotect": "data",
    "gc": "care",
    "fsck": "care",
    "purge": "care",
    "remote": "remote",
    "hooks": "hooks",
    "config": "setup",
    "doctor": "setup",
    "help": "setup",
}

FIRST = """The five commands to begin with:

  dvlite init                     make this Git repository one of dvlite's
  dvlite remote add origin URL    say where data is pushed to (s3://…, a folder, …)
  dvlite add PATH…                store data; commit the small pointer that stands for it
  dvlite push                     send data to the remote, beside 'git push'
  dvlite pull                     get the data of this commit, after 'git clone' or 'git pull'

'dvlite status' says what differs; 'dvlite --help' lists all commands, 'dvlite help TOPIC' explains.
"""


class Commands(TyperGroup):
    """The group of all commands, each loaded from its module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all names, the first needed first."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dvlite.cli.{COMMANDS[cmd_name]}")
        group = typer.main.get_group(module.app)
        return group if cmd_name == COMMANDS[cmd_name] else group.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; a typing error gets the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"Did you mean 'dvlite {near[0]}'?" if near else "See 'dvlite --help' for all commands."
            raise UsageError(f"there is no command '{name}'", hint)
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        render.out(f"dvlite {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def top(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Option("-C", help="Run as if started in this folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what took how long.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    profile: Annotated[Path | None, typer.Option(metavar="FILE", hidden=True)] = None,
) -> None:
    """Version data and models beside Git: small pointers in Git, content in a store and on remotes.

    Exit codes: 0 done, 1 could not, 2 usage, 10 object missing, 11 corrupt, 12 locked, 13 remote, 14 would lose data,
    70 a bug, 130 interrupted.
    """
    start = Path.cwd() / folder if folder else Path.cwd()
    if not start.is_dir():
        raise UsageError(f"'{folder}' is not a folder")
    ctx.obj = Session(start.resolve(), is_quiet=quiet, is_verbose=verbose, after_dashes=ctx.obj)
    if profile:
        from dvlite.cli.trace import Trace

        ctx.obj.trace = Trace(profile)
        ctx.call_on_close(ctx.obj.trace.write)
    if ctx.invoked_subcommand is None:
        render.out(FIRST.rstrip())


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    dashes = len(arguments) - arguments.index("--") - 1 if "--" in arguments else None
    # Names that are not UTF-8 are printed as the bytes they are.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        code = int(app(arguments, standalone_mode=False, prog_name="dvlite", obj=dashes) or 0)
        return _interrupted() if code == 130 else code  # the parser's own way to end on Ctrl-C
    except DvliteError as exc:
        if "--json" in arguments:
            render.as_json({"error": exc})
        render.error(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return _unread()
    except SystemExit as exc:  # the parser's own way to end where nobody reads on
        if isinstance(exc.__context__, BrokenPipeError):
            return _unread()
        raise
    except Exception as exc:
        return _foreign(exc)


def _without_secret(word: str) -> str:
    """Return a word of the command line as it may stand in a log: values and URLs may hold credentials."""
    key, separator, _ = word.partition("=")
    return f"{key}=***" if separator and config.is_secret(key.lstrip("-")) else config.redact(word)


def _unread() -> int:
    """End as a program does that the signal ends: the reader has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def _interrupted() -> int:
    render.note("interrupted: nothing is lost, and the same command goes on from there")
    return 130


def _foreign(exc: Exception) -> int:
    """Deal with the parser's own errors, and with bugs."""
    if hasattr(exc, "format_message") and hasattr(exc, "exit_code"):
        context = getattr(exc, "ctx", None)
        if type(exc).__name__ == "NoArgsIsHelpError":  # a group without its command
            render.note(exc.format_message())
            return 2
        where = context.command_path if context else "dvlite"
        render.error(UsageError(exc.format_message().rstrip("."), f"See '{where} --help'."))
        return 2
    if type(exc).__name__ == "Abort":  # what the parser makes of Ctrl-C
        return _interrupted()
    if isinstance(exc, OSError):
        render.error(explain(exc))
        return 1
    if isinstance(exc, MemoryError) or "can't start new thread" in str(exc):
        hint = "Look at 'ulimit -a', then run the same command again; nothing was lost."
        render.error(DvliteError("the system gives no more memory, or threads", hint))
        return 1
    if isinstance(exc, UnicodeEncodeError) and set(exc.object[exc.start : exc.end]) & set(" ".join(sys.argv)):
        render.error(UsageError("an argument is not valid UTF-8", "Only names of files may have other bytes."))
        return 2
    with tempfile.NamedTemporaryFile(
        "w", errors="surrogateescape", prefix="dvlite-", suffix=".log", delete=False
    ) as log:
        called = " ".join(_without_secret(word) for word in sys.argv)
        log.write(f"dvlite {__version__}, Python {sys.version}\n{called}\n{traceback.format_exc()}")
    render.error(DvliteError(f"a bug in dvlite: {type(exc).__name__}: {exc}", f"Please report it with '{log.name}'."))
    return 70
