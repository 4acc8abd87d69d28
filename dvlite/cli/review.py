"""Commands for CI and reviews: check, report."""

from collections.abc import Sequence
from typing import Annotated

import typer

from dvlite import git
from dvlite.cli import render
from dvlite.cli.history import changelog_text, show_markdown
from dvlite.cli.session import Json, Quiet, Verbose, session
from dvlite.ops import check as checks
from dvlite.ops.changelog import changelog
from dvlite.ops.check import CheckResult, Found, ReportResult, Values
from dvlite.ops.diff import diff as diff_op
from dvlite.ops.experiments import columns, value_of
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)
Revs = Annotated[str, typer.Argument(metavar="[A..B]", help="Commits; else what HEAD brings to the default branch.")]
CHANGELOG = "CHANGELOG-DATA.md"
_KINDS = {
    "pointer": "pointers can be read",
    "remote": "all data is on the remote",
    "metadata": "required metadata is there",
    "frozen": "append-only data is as it was",
    "registry": "registered versions are as they were",
    "large": "no large file in Git itself",
    "changelog": f"{CHANGELOG} is up to date",
}


@app.command()
def check(
    ctx: typer.Context,
    revs: Revs = "",
    no_remote: Annotated[bool, typer.Option("--no-remote", help="Ask neither the remote nor Git's.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Check all that CI should: pointers, data on the remote, metadata, append-only data, registry, large files, changelog.

    Example: dvlite check origin/main..HEAD

    It needs no data here, only listings. Exit codes: 0 all is well, 1 something is wrong.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(asks_hooks=False), run.progress()
    try:
        result = checks.check(repo, revs, has_remote=not no_remote, progress=progress)
    finally:
        run.finish(progress)
    _check_changelog(repo, result)
    if json:
        render.as_json(result)
    elif markdown:
        _show_markdown(result, has_remote=not no_remote)
    else:
        _show(result, is_quiet=run.is_quiet)
    return 1 if result.problems else 0


def _check_changelog(repo: Repo, result: CheckResult) -> None:
    """See that a changelog that is in Git has all that was known when it was written: a commit can't name itself."""
    text = git.file_at(repo.git, result.new, CHANGELOG)
    if not text:
        return
    for rev in (result.new, f"{result.new}^"):
        if (
            git.has_commit(repo.git, rev)
            and changelog_text(changelog(repo, rev)).encode("utf-8", "surrogateescape") == text
        ):
            return
    said = f"'{CHANGELOG}' is not up to date"
    result.problems.append(Found("changelog", CHANGELOG, said, f"Write it anew: dvlite changelog --write {CHANGELOG}"))


def _show(result: CheckResult, *, is_quiet: bool) -> None:
    for one in result.problems:
        render.out(f"{render.paint(one.kind, 'red')}: {render.name(one.message)}")
        if one.hint:
            render.out(f"  {render.name(one.hint)}")
    for note in result.notes:
        render.note(render.name(note))
    if is_quiet:
        return
    since = f" since {result.old[:10]}" if result.old != result.new else ""
    counts = (render.count(result.pointers, "pointer"), render.count(result.versions, "registered version"))
    what = f"{', '.join(counts)}{since}"
    render.out(
        f"{render.count(len(result.problems), 'problem')}: {what}" if result.problems else f"all is well: {what}"
    )


def _show_markdown(result: CheckResult, *, has_remote: bool) -> None:
    render.out("| check | result |\n|---|---|")
    for kind, said in _KINDS.items():
        found = [one for one in result.problems if one.kind == kind]
        is_asked = has_remote or kind != "remote"
        fine = "not asked" if not is_asked else "not looked at" if kind in result.skipped else "ok"
        state = f"**{len(found)} wrong**" if found else fine
        render.out(f"| {said} | {state} |")
    for one in result.problems:
        render.out(
            f"\n- **{one.kind}**: {render.markdown(render.name(one.message))}. {render.markdown(render.name(one.hint))}"
        )
    for note in result.notes:
        render.out(f"\n- {render.markdown(render.name(note))}")


@app.command()
def report(
    ctx: typer.Context,
    revs: Revs = "",
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown (it is so without, too).")] = False,
    json: Json = False,
) -> int:
    """Say what changed in data, models, metrics and experiments, for a pull request.

    Example: dvlite report --md origin/main..HEAD

    Exit codes: 0 done.
    """
    run = session(ctx, json=json)
    repo = run.open(asks_hooks=False)
    result = checks.report(repo, revs)
    data = diff_op(repo, result.old, result.new, remote="")
    if json:
        render.as_json(result, data=data)
        return 0
    render.out(f"## Data and models, {result.old[:10]}..{result.new[:10]}\n")
    if data.paths:
        show_markdown(run, repo, data)
    else:
        render.out("No data changed.")
    _show_values("Metrics", result.metrics)
    _show_values("Parameters", result.params)
    _show_experiments(result)
    if result.events:
        render.out("\n### Registry\n")
        for event in result.events:
            render.out(f"- {render.markdown(render.name(event))}")
    return 0


def _show_values(title: str, values: Sequence[Values]) -> None:
    if values:
        render.out(f"\n### {title}\n\n| path | name | before | after |\n|---|---|---|---|")
    for one in values:
        cells = [one.path, one.name, *("" if value is None else str(value) for value in (one.old, one.new))]
        render.out(f"| {' | '.join(render.markdown(render.name(cell)) for cell in cells)} |")


def _show_experiments(result: ReportResult) -> None:
    found = result.experiments
    if not found:
        return
    names = columns(found)[:10]
    head = " | ".join(render.markdown(name) for name in names)
    render.out(f"\n### New experiments\n\n| experiment | {head} |\n|---|{'---|' * len(names)}")
    for one in found:
        cells = ["" if (value := value_of(one, name)) is None else str(value) for name in names]
        render.out(f"| {one.name} | {' | '.join(render.markdown(render.name(cell)) for cell in cells)} |")
