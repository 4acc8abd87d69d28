"""The commands about experiments: exp new, run, list, compare, best, plot."""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dvlite import files, plots
from dvlite.cli import render
from dvlite.cli.session import Json, Quiet, Rev, Verbose, session
from dvlite.errors import UsageError
from dvlite.ops import experiments as exps
from dvlite.ops import repro as repros
from dvlite.ops.experiments import Experiment
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Numbered experiments: run, list, compare.")
Everything = Annotated[bool, typer.Option("--all", "-a", help="Also those that only commits have.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="CONDITION", help="Only those: 'metrics.auc >= 0.9'; several.")
]
Columns = Annotated[str, typer.Option("--columns", metavar="A,B", help="Only these values.")]
Csv = Annotated[bool, typer.Option("--csv", help="As CSV.")]
_MOST_COLUMNS = 12


@app.command("new")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--name", "-n", help="A name instead of the next number.")] = "",
    json: Json = False,
) -> int:
    """Make the folder of a new experiment, and print it.

    Example: cp params.json "$(dvlite exp new)"

    Exit codes: 0 done, 2 there is one of that name.
    """
    run_ = session(ctx, json=json)
    repo = run_.open()
    path = exps.new(repo, name)
    if json:
        render.as_json({"path": path})
    else:
        render.out(run_.here(repo, path))
    return 0


@app.command("run")
def run(
    ctx: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND…", help="What to run, here; {exp} is its folder.")
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="A name instead of the next number.")] = "",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="PATH", help="Data, or a file of Git's, that it reads.")
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="PATH", help="What it makes: is copied into the experiment."),
    ] = None,
    params: Annotated[
        list[str] | None, typer.Option("--params", "-p", metavar="FILE", help="Else params.json, if it is here.")
    ] = None,
    no_stage: Annotated[bool, typer.Option("--no-stage", help="Leave 'git add' to you.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run a command as a new experiment: parameters, metrics, log, artifacts and what it was made from are kept in its folder.

    Example: dvlite exp run -i processed_data/sales.parquet -o model.pkl -- python train.py

    What training code writes to metrics.json (and params.json) here is taken along: nothing in it must be changed.
    Exit codes: the command's own; 2 usage, 10 an input is not here.
    """
    run_ = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run_.open(), run_.progress()
    result = exps.run(
        repo,
        command,
        name=name,
        inputs=run_.paths(repo, inputs),
        outputs=run_.paths(repo, outputs),
        params=run_.paths(repo, params),
        folder=repo.in_repo(".", run_.folder),
        is_staged=not no_stage,
        told=lambda path: None if run_.is_quiet else render.note(f"experiment {render.name(run_.here(repo, path))}"),
        progress=progress,
    )
    repros.trust(repo, command, repo.in_repo(".", run_.folder))
    run_.finish(progress)
    if json:
        render.as_json(result)
    elif not run_.is_quiet:
        values = ", ".join(f"{name} {_shown(value)}" for name, value in result.metrics.items())
        failed = (
            f"failed with exit code {result.exit_code}" if result.exit_code else values or "no metrics.json was written"
        )
        render.out(f"{render.name(run_.here(repo, result.path))}: {render.name(failed)}")
    code = render.failures(result.failures, lambda path: run_.here(repo, path), is_alone=False, is_told=json)
    return result.exit_code or code


@app.command("list")
def list_(
    ctx: typer.Context,
    everything: Everything = False,
    rev: Rev = None,
    where: Where = None,
    sort: Annotated[str, typer.Option("--sort", metavar="NAME", help="By a value: metrics.auc.")] = "",
    descending: Annotated[bool, typer.Option("--desc", help="Largest first.")] = False,
    columns: Columns = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="So many at most; 0 for all.")] = 0,
    as_csv: Csv = False,
    json: Json = False,
) -> int:
    """List experiments with their metrics and parameters.

    Example: dvlite exp list --where "metrics.auc >= 0.8" --sort metrics.auc --desc

    Exit codes: 0 done, 1 a condition is none, 2 no experiment has that value.
    """
    run_ = session(ctx, json=json)
    result = exps.read(run_.open(), rev=rev or "", has_history=everything)
    is_any = bool(result.experiments)
    result.experiments = exps.chosen(result.experiments, where=where or (), sort=sort, is_descending=descending)
    result.experiments = result.experiments[: limit or None]
    return _show(result.experiments, result.notes, columns, is_any=is_any, is_csv=as_csv, is_json=json)


def _show(
    found: Sequence[Experiment], notes: Sequence[str], columns: str, *, is_any: bool, is_csv: bool, is_json: bool
) -> int:
    if is_json:
        render.as_json({"experiments": found, "notes": notes})
        return 0
    known = exps.columns(found)
    wanted = [one.strip() for one in columns.split(",") if one.strip()] or known
    for name in wanted:
        if found and all(exps.value_of(one, name) is None for one in found):
            raise UsageError(f"no experiment has '{name}'", f"They have: {', '.join(known[:20]) or 'nothing'}.")
    shown = wanted if columns or is_csv else wanted[:_MOST_COLUMNS]
    if is_csv:
        _write_csv(
            [["experiment", *shown], *([one.name, *(exps.value_of(one, name) for name in shown)] for one in found)]
        )
    elif found:
        rows = [
            ["experiment", *shown],
            *([one.name, *(_shown(exps.value_of(one, name)) for name in shown)] for one in found),
        ]
        render.table([tuple(map(render.name, row)) for row in rows])
    else:
        render.out("no experiment is like that" if is_any else "no experiments: 'dvlite exp run -- COMMAND' makes one")
    if len(shown) < len(wanted):
        render.note(f"and {len(wanted) - len(shown)} more columns: --columns, --csv or --json")
    for note in notes:
        render.note(render.name(note))
    return 0


def _write_csv(rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as CSV: numbers as they are, what is missing as nothing, true and false as JSON has them."""
    plain = [
        ["" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows
    ]
    csv.writer(sys.stdout, lineterminator="\n").writerows(plain)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


@app.command("compare")
def compare(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT…", help="By name, folder or number; the first is the base.")
    ],
    everything: Everything = False,
    rev: Rev = None,
    as_csv: Csv = False,
    json: Json = False,
) -> int:
    """Compare experiments: each value that differs, one in a row.

    Example: dvlite exp compare 1 2

    Exit codes: 0 done, 2 there is no such experiment.
    """
    run_ = session(ctx, json=json)
    result = exps.read(run_.open(), rev=rev or "", has_history=everything)
    found = [exps.find(result.experiments, name) for name in names]
    values = {name: [exps.value_of(one, name) for one in found] for name in exps.columns(found)}
    differing = {name: row for name, row in values.items() if any(value != row[0] for value in row) or len(found) == 1}
    if json:
        render.as_json({"experiments": [one.name for one in found], "values": differing})
        return 0
    rows = [("", *(one.name for one in found))]
    rows += [(name, *map(_shown, row)) for name, row in differing.items()]
    if as_csv:
        _write_csv([["", *(one.name for one in found)], *([name, *row] for name, row in differing.items())])
    elif differing:
        render.table([tuple(map(render.name, row)) for row in rows])
    else:
        render.out("the same parameters and metrics")
    return 0


@app.command("best")
def best(
    ctx: typer.Context,
    value: Annotated[str, typer.Argument(metavar="NAME", help="A value: metrics.auc.")],
    smallest: Annotated[bool, typer.Option("--min", help="The smallest is the best.")] = False,
    where: Where = None,
    everything: Everything = False,
    json: Json = False,
) -> int:
    """Print the experiment with the best value.

    Example: dvlite exp best metrics.auc --where "params.depth <= 4"

    Exit codes: 0 done, 2 no experiment has that value.
    """
    run_ = session(ctx, json=json)
    repo = run_.open()
    found = exps.chosen(
        exps.read(repo, has_history=everything).experiments, where=where or (), sort=value, is_descending=not smallest
    )
    if not found:
        raise UsageError("no experiment is like that", "See 'dvlite exp list'.")
    if json:
        render.as_json(found[0])
    else:
        shown = render.name(_shown(exps.value_of(found[0], value)))
        render.out(f"{render.name(run_.here(repo, found[0].path))}  {value} {shown}")
    return 0


@app.command("plot")
def plot(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="EXPERIMENT…", help="Else all.")] = None,
    target: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to.")] = Path(
        "experiments.html"
    ),
    everything: Everything = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no earlier drawing.")] = False,
    quiet: Quiet = False,
) -> int:
    """Draw the metrics over experiments, and over the steps that they logged, into one HTML file that needs nothing else.

    Example: dvlite exp plot -o report.html

    Exit codes: 0 done, 2 there is no such experiment, or the file is another one.
    """
    run_ = session(ctx, quiet=quiet)
    repo = run_.open()
    found = exps.read(repo, has_history=everything).experiments
    found = [exps.find(found, name) for name in names] if names else found
    place = run_.folder / target
    if place.exists() and not force and not (place.is_file() and plots.is_page(place.read_bytes()[:200])):
        raise UsageError(
            f"'{target}' exists, and is no earlier drawing", "Name another file, or replace it with --force."
        )
    files.write_atomic(place, _page(repo, found).encode("utf-8", "replace"))
    if not run_.is_quiet:
        render.out(f"{render.count(len(found), 'experiment')} in {render.name(str(target))}")
    return 0


def _page(repo: Repo, found: Sequence[Experiment]) -> str:
    charts: list[tuple[str, dict[str, list[tuple[float, float]]], Sequence[str]]] = []
    for name in exps.columns(found):
        points = _points((at, exps.value_of(one, name)) for at, one in enumerate(found))
        if name.startswith("metrics.") and points:
            charts.append((name, {name: points}, [one.name for one in found]))
    steps = {one.name: exps.steps_of(repo, one) for one in found}
    for key in dict.fromkeys(key for rows in steps.values() for row in rows for key in row if key != "step"):
        lines = {
            name: points
            for name, rows in steps.items()
            if (points := _points((row.get("step", at), row.get(key)) for at, row in enumerate(rows)))
        }
        charts.append((f"{key} by step", lines, ()))
    wanted = exps.columns(found)
    rows = [["experiment", *wanted]]
    rows += [[one.name, *(_shown(exps.value_of(one, name)) for name in wanted)] for one in found]
    return plots.page("Experiments", charts, rows)


def _points(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """Return those of two numbers."""
    return [(x, y) for x, y in ((_number(one), _number(two)) for one, two in pairs) if x is not None and y is not None]


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None
