"""Commands that meet a remote: fetch, pull, push."""

from typing import Annotated

import typer

from dvlite.cli import render
from dvlite.cli.data import checkout_code, show_checkout
from dvlite.cli.session import (
    Jobs,
    Json,
    LimitRate,
    Paths,
    Quiet,
    RemoteName,
    Rev,
    Session,
    Verbose,
    ask_trust,
    rate,
    session,
)
from dvlite.ops.fetch import FetchResult
from dvlite.ops.fetch import fetch as fetch_op
from dvlite.ops.fetch import pull as pull_op
from dvlite.ops.push import missing_error
from dvlite.ops.push import push_all as push_op
from dvlite.ops.send import PushResult
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)


@app.command()
def fetch(
    ctx: typer.Context,
    paths: Paths = None,
    remote: RemoteName = "",
    rev: Rev = None,
    limit_rate: LimitRate = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Get objects from the remote into the local store; the worktree stays as it is.

    Example: dvlite fetch data/raw --rev v1.0

    Exit codes: 0 done, 10 objects are on no remote, 11 corrupt there, 13 remote.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    ask_trust(repo, remote)
    repo.limit_rate = rate(limit_rate)
    try:
        result = fetch_op(repo, run.paths(repo, paths), remote=remote, rev=rev, jobs=jobs, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
        return fetch_code(result)
    return _show_fetch(run, repo, result)


def fetch_code(result: FetchResult) -> int:
    """Return the exit code that a fetch's result stands for."""
    if result.failures:
        codes = {failure.error.exit_code for failure in result.failures}
        return codes.pop() if len(codes) == 1 else 1
    return 10 if result.missing else 0


def _show_fetch(run: Session, repo: Repo, result: FetchResult, *, is_said: bool = False) -> int:
    """Print what a fetch did; return its exit code. `is_said`: that it isn't all is said elsewhere."""
    if not run.is_quiet:
        if result.fetched:
            what = f"{render.count(result.fetched, 'object')}, {render.size(result.size)}"
            render.out(f"fetched from '{result.remote}': {what}")
        elif not (result.failures or result.missing or is_said):
            render.out("fetched: everything is here")
    if result.purged:
        names = sorted({run.here(repo, path) for path in result.purged.values()})
        gone = render.count(len(result.purged), "object")
        render.note(f"{gone} of {', '.join(map(render.name, names))} were purged: their content is gone for good")
    if result.missing:
        names = sorted({run.here(repo, path) for path in result.missing.values()})
        render.note(
            f"{render.count(len(result.missing), 'object')} neither here nor on '{result.remote}',"
            f" wanted by: {', '.join(map(render.name, names))}"
        )
        where = f"No dvlite remote lies at '{render.name(result.no_remote_at)}': is that the right place? If it is: "
        render.note(
            f"hint: {where if result.no_remote_at else ''}Run 'dvlite push --branches' in the clone that added them."
        )
    render.failures(result.failures, lambda path: run.here(repo, path), is_alone=True)
    return fetch_code(result)


@app.command()
def pull(
    ctx: typer.Context,
    paths: Paths = None,
    remote: RemoteName = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also replace what is not stored; it is stored first.")
    ] = False,
    limit_rate: LimitRate = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Get what the pointers name from the remote, and check it out.

    Example: dvlite pull data/raw/2026.csv

    Exit codes: 0 done, 1 some could not, 10 objects are on no remote, 11 corrupt, 13 remote, 14 unsaved data was kept.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    ask_trust(repo, remote)
    repo.limit_rate = rate(limit_rate)
    try:
        given = run.paths(repo, paths)
        result = pull_op(repo, given, remote=remote, is_forced=force, jobs=jobs, progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
        return fetch_code(result.fetch) or checkout_code(result.checkout)
    code = _show_fetch(run, repo, result.fetch, is_said=bool(result.checkout.failures))
    if result.fetch.purged and not result.fetch.missing:
        result.checkout.missing = []  # said already: it is gone on purpose
    if code:
        result.checkout.missing = []  # said already, with the reason
        show_checkout(run, repo, result.checkout, is_partial=True)
    return code or show_checkout(run, repo, result.checkout)


@app.command()
def push(
    ctx: typer.Context,
    paths: Paths = None,
    remote: Annotated[
        list[str] | None,
        typer.Option("--remote", "-r", metavar="NAME", help="Another remote than the default; several."),
    ] = None,
    rev: Rev = None,
    branches: Annotated[bool, typer.Option("--branches", help="What all branches name.")] = False,
    tags: Annotated[bool, typer.Option("--tags", help="What all tags name.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="What all refs name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be sent.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Then look at each file there once more: sizes, and the server's checksums."),
    ] = False,
    limit_rate: LimitRate = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Send what the commits name that Git has not pushed yet, and what HEAD and Git's index name, to the remote.

    Example: dvlite push && git push

    Exit codes: 0 everything is there, 10 objects are nowhere, 11 corrupt here, 13 remote.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo = run.open()
    scopes = [name for name, wanted in (("branches", branches), ("tags", tags), ("all", everything)) if wanted]
    for name in remote or [""]:
        ask_trust(repo, name)
    repo.limit_rate = rate(limit_rate)
    progress = run.progress()

    def show(result: PushResult) -> None:
        run.finish(progress)
        if not json:
            _show_push(run, repo, result)

    try:
        results = push_op(
            repo,
            run.paths(repo, paths),
            names=remote or (),
            rev=rev,
            scopes=scopes,
            is_dry_run=dry_run,
            is_verified=verify,
            each=show,
            jobs=jobs,
            progress=progress,
        )
    finally:
        run.finish(progress)
    if json:
        render.as_json(results[0] if len(results) == 1 else {"pushes": results})
    return next((code for code in map(push_code, results) if code), 0)


def push_code(result: PushResult) -> int:
    """Return the exit code that a push's result stands for."""
    codes = {failure.error.exit_code for failure in result.failures}
    if codes:
        return codes.pop() if len(codes) == 1 else 13 if 13 in codes else 1
    return 10 if result.missing else 0


def _show_push(run: Session, repo: Repo, result: PushResult) -> None:
    if not run.is_quiet:
        _say_pushed(run, repo, result)
    if result.was_emptied and result.pushed:
        render.note(f"'{result.remote}' was empty, though this clone has seen data there before")
        render.note("hint: Older versions are there again after 'dvlite push --all' in each clone that has data.")
    if result.missing:
        render.error(missing_error(result))
    for path, exc in result.failures:
        render.error(exc, run.here(repo, path) if path else "")


def _say_pushed(run: Session, repo: Repo, result: PushResult) -> None:
    what = f"{render.count(result.pushed, 'object')}, {render.size(result.size)}"
    if not result.pointers:
        if not result.failures:
            render.out("nothing to push: no commit, and nothing staged, names data")
    elif result.pushed:
        render.out(f"{'would push' if result.is_dry_run else 'pushed'} to '{result.remote}': {what}")
        for path, (objects, size) in result.by_path.items():
            name = render.name(run.here(repo, path))
            render.out(f"  {name}: {render.count(objects, 'object')}, {render.size(size)}")
    elif not result.failures and not result.missing and not result.present and result.elsewhere:
        render.out("nothing to push: all of it stays at its source")
    elif not result.failures and not result.missing:
        render.out(f"everything is on '{result.remote}' ({render.count(result.pointers, 'pointer')})")
    if result.elsewhere and result.present + result.pushed:
        render.out(f"not sent: {render.count(len(result.elsewhere), 'path')} whose data stays at its source")
    if result.verified and not result.verified.errors:
        looked = f"{render.count(result.verified.files, 'file')} by size, {result.verified.by_checksum:,} of them"
        render.out(f"verified on '{result.remote}': {looked} by the server's checksum too")
