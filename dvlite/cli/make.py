"""Commands about how data is made: run, repro, lineage."""

import sys
from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.session import Json, Paths, Quiet, Rev, Session, Verbose, pairs, session
from dvlite.errors import UsageError, quote
from dvlite.ops import lineage as lineages
from dvlite.ops import repro as repros
from dvlite.ops.lineage import LineageResult
from dvlite.ops.repro import ReproResult, Step
from dvlite.ops.reproduce import check as check_op
from dvlite.ops.run import RunResult
from dvlite.ops.run import run as run_op
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)
_COLOURS = {"run": "green", "from history": "green", "out of date": "yellow", "different": "red", "same": "green"}


@app.command()
def run(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="What to run, here.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="PATH", help="Data, or a file of Git's, that it reads.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="PATH", help="Data that it makes; is stored.")
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option("--params", "-p", metavar="FILE", help="JSON or TOML that it reads; its values are recorded."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-m", metavar="FILE", help="JSON or TOML that it writes; its values are recorded."),
    ] = None,
    desc: Annotated[str | None, typer.Option("--desc", help="Set the description in [meta].")] = None,
    meta: Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Set a key of [meta].")] = None,
    no_stage: Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run a command, store what it makes, and record how: inputs by checksum, parameters, metrics, the code's commit.

    Example: dvlite run -i raw_data/sales.csv -o processed_data/sales.parquet -p params.json -- python prep.py

    Exit codes: the command's own where it fails; 0 done, 2 usage, 10 an input is not here, 14 data that is not stored.
    """
    here = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = here.open(), here.progress()
    result = run_op(
        repo,
        command,
        inputs=here.paths(repo, inputs),
        outputs=here.paths(repo, outputs),
        params=here.paths(repo, params),
        metrics=here.paths(repo, metrics),
        folder=repo.in_repo(".", here.folder),
        meta=pairs(meta) | ({"description": desc} if desc else {}),
        is_silent=json,
        is_staged=not no_stage,
        told=lambda line: None if here.is_quiet else render.note(f"running: {render.name(line)}"),
        progress=progress,
    )
    repros.trust(repo, result.command, repo.in_repo(".", here.folder))
    here.finish(progress)
    if json:
        render.as_json(result)
    else:
        _show_run(here, repo, result)
    return render.failures(result.failures, lambda path: here.here(repo, path), is_alone=not result.made, is_told=json)


def _show_run(here: Session, repo: Repo, result: RunResult) -> None:
    for one in result.made if not here.is_quiet else ():
        what = f"{render.count(one.files, 'file')}, {render.size(one.size)}"
        render.out(f"{'made' if one.is_changed else 'unchanged'} {render.name(here.here(repo, one.path))} ({what})")
    for note in result.notes:
        render.note(render.name(note))
    if result.undeclared:
        shown = ", ".join(render.name(here.here(repo, path)) for path in result.undeclared[:5])
        more = f" and {len(result.undeclared) - 5:,} more" if len(result.undeclared) > 5 else ""
        render.note(f"warning: it also changed {shown}{more}, which no -o or -m names")
    if result.to_stage:
        render.note(f"to stage: git add {' '.join(quote(here.here(repo, path)) for path in result.to_stage)}")


@app.command()
def repro(
    ctx: typer.Context,
    paths: Paths = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run the commands aside, and compare what they make with what is stored.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what is out of date, and why.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also run what is up to date.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run recorded commands without asking.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Make again what is out of date, in order; what was made before of the same is taken from there.

    Example: dvlite repro models/churn.pkl

    Exit codes: 0 all is up to date, 1 some could not, or --check finds differences, 2 a command may not run; a command's own.
    """
    here = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = here.open(), here.progress()
    given = here.paths(repo, paths)

    def may_run(step: Step) -> bool:
        if yes or repros.is_trusted(repo, step):
            return True
        where = f" in {step.recipe.folder}" if step.recipe.folder else ""
        render.note(f"{render.name(step.paths[0])} is made by{where}: {render.name(step.command)}")
        return sys.stdin.isatty() and typer.confirm("May it run?", err=True)

    def told(line: str) -> None:
        if not here.is_quiet:
            render.note(f"running: {render.name(line)}")

    try:
        if check:
            result = check_op(repo, given, may_run=may_run, is_silent=json, told=told)
        else:
            result = repros.repro(
                repo,
                given,
                may_run=may_run,
                is_dry_run=dry_run,
                is_forced=force,
                is_silent=json,
                told=told,
                progress=progress,
            )
    finally:
        here.finish(progress)
    if json:
        render.as_json(result)
    else:
        _show_repro(here, repo, result)
    code = render.failures(result.failures, lambda path: here.here(repo, path), is_alone=not result.steps, is_told=json)
    return code or (1 if any(one.state == "different" for one in result.steps) else 0)


def _show_repro(here: Session, repo: Repo, result: ReproResult) -> None:
    for one in result.steps if not here.is_quiet else ():
        state = render.paint(one.state, _COLOURS.get(one.state, "")) if one.state in _COLOURS else one.state
        why = f" ({render.name(one.why)})" if one.why else ""
        shown = ", ".join(render.name(here.here(repo, path)) for path in one.paths)
        render.out(f"{state}: {shown}{why}")
        for path in one.different:
            render.out(f"  {render.name(here.here(repo, path))} is made otherwise each time, or on another machine")
    for note in result.notes:
        render.note(render.name(note))
    if not result.steps and not result.failures and not here.is_quiet:
        render.out("nothing here was made by 'dvlite run'")


@app.command()
def lineage(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Data; with --down also a file of Git's.")],
    rev: Rev = None,
    down: Annotated[bool, typer.Option("--down", help="What was made from it.")] = False,
    up: Annotated[bool, typer.Option("--up", help="What it was made from (this is so without, too).")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid graph.")] = False,
    json: Json = False,
) -> int:
    """Show from what data was made, and how, all the way up; or what was made from it.

    Example: dvlite lineage models/churn.pkl

    Exit codes: 0 done, 2 not tracked.
    """
    here = session(ctx, json=json)
    repo = here.open()
    if up and down:
        raise UsageError("--up and --down are two questions", "Ask one of them.")
    result = lineages.lineage(repo, repo.in_repo(path, here.folder), rev=rev, is_down=down and not up)
    if json:
        render.as_json(result)
    elif mermaid:
        render.out(lineages.mermaid(result))
    else:
        _show_lineage(here, repo, result, is_down=down and not up)
    return 0


def _show_lineage(here: Session, repo: Repo, result: LineageResult, *, is_down: bool) -> None:
    """Print a tree; what was shown before is not opened again."""
    below: dict[str, list[str]] = {}
    for one, two in dict.fromkeys(result.edges):
        below.setdefault(one if is_down else two, []).append(two if is_down else one)
    seen: set[str] = set()
    waiting: list[tuple[str, str, str]] = [(result.root, "", "")]
    while waiting:
        key, lead, indent = waiting.pop()
        node = result.nodes[key]
        state = "" if node.is_current else ", not the version here"
        how = f" <- {render.name(node.command)}" if node.command else ""
        again = " (see above)" if key in seen and below.get(key) else ""
        short = f" ({node.oid.partition(':')[2][:10]}{state})" if node.oid else ""
        render.out(f"{lead}{render.name(here.here(repo, node.path))}{short}{again or how}")
        if key not in seen:
            seen.add(key)
            children = sorted(below.get(key, ()))
            last = len(children) - 1
            for number, child in reversed(list(enumerate(children))):
                mark, more = ("└─ ", "   ") if number == last else ("├─ ", "│  ")
                waiting.append((child, f"{indent}{mark}", f"{indent}{more}"))
