"""Commands about data that comes from elsewhere, or goes there: get, import, import-url, update, export, verify."""

from pathlib import Path
from typing import Annotated

import typer

from dvlite import config, registry
from dvlite.cli import render
from dvlite.cli.session import Jobs, Json, Paths, Quiet, Session, Verbose, session
from dvlite.errors import UsageError, quote
from dvlite.ops import export as exports
from dvlite.ops import imports
from dvlite.ops.base import enclosing
from dvlite.ops.get import GetResult
from dvlite.ops.get import get as get_op
from dvlite.ops.imports import ImportResult
from dvlite.ops.source import Source, open_source
from dvlite.repo import Repo

app = typer.Typer(rich_markup_mode=None)
NoDownload = Annotated[
    bool, typer.Option("--no-download", help="Record it alone: the data stays there until 'dvlite update' brings it.")
]
NoStage = Annotated[bool, typer.Option("--no-stage", help="Print the 'git add' line instead of staging.")]
Target = Annotated[
    str, typer.Option("--output", "-o", metavar="PATH", help="Track it as this; else by its name, here.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-O", metavar="KEY=VALUE", help="What its driver needs to know.")
]
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
    try:
        progress.phase("look")
        source = open_source(repository, rev, run.cache(), run.folder)
        if registry.label(path) and (found := _registered(source, path)):  # a version by its name
            source = open_source(repository, found[0], run.cache(), run.folder)
            path = found[1]
        place = place_of(run, path.removesuffix(".dvlite"), target, is_forced=force)
        result = get_op(source, path, place, is_forced=force, jobs=jobs or 8, progress=progress)
    finally:
        run.finish(progress)
    show_got(run, result, place, f" of commit {result.commit[:10]}", is_json=json)
    return 0


def place_of(run: Session, path: str, target: str, *, is_forced: bool) -> Path:
    """Return where `path` goes: to `target`, or into it where it is a folder, as cp does; without one, here."""
    place = run.folder / (target or Path(path).name)
    return place / Path(path).name if target and place.is_dir() and not is_forced else place


def show_got(run: Session, result: GetResult, place: Path, of: str, *, is_json: bool) -> None:
    """Say what was taken out to `place`, and `of` what."""
    if is_json:
        render.as_json(result)
    elif not run.is_quiet:
        what = f"{render.count(result.files, 'file')}, {render.size(result.size)}"
        render.out(f"got {render.name(render.relative(place, run.folder))} ({what}){of}")


def _registered(source: Source, label: str) -> tuple[str, str] | None:
    """Return commit and path of a registered version; None where the label is a path there."""
    if enclosing(source.pointers.found, label):
        return None
    from dvlite.ops.registry import find, pointer_of

    version = find(source.repo.git, label)
    return version.commit, pointer_of(source.repo, version)[0]


@app.command("import")
def import_(
    ctx: typer.Context,
    repository: Repository,
    path: Annotated[str, typer.Argument(help="A path there that dvlite tracks, or one inside it.")],
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="A commit, branch or tag there.")] = "",
    target: Target = "",
    no_download: NoDownload = False,
    no_stage: NoStage = False,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Track data of another repository. The pointer records where it came from, and stays at that commit: see 'dvlite update'.

    Example: dvlite import https://example.org/data.git raw/sales.csv --rev v1.0

    Exit codes: 0 done, 2 not there, or the target exists, 10 its objects can't be had, 13 remote.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    place = repo.in_repo(target or Path(path.removesuffix(".dvlite")).name, run.folder)
    try:
        progress.phase("look")
        source = open_source(repository, rev, run.cache(), run.folder)
        result = imports.import_data(
            repo,
            source,
            path,
            place,
            rev=rev,
            is_recorded=no_download,
            is_staged=not no_stage,
            jobs=jobs or 8,
            progress=progress,
        )
    finally:
        run.finish(progress)
    return _show(run, repo, result, is_json=json)


@app.command("import-url")
def import_url(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Argument(help="A file, or a folder: s3://, gs://, az://, sftp://, webdav://, https://, a path.")
    ],
    target: Target = "",
    options: Options = None,
    no_download: NoDownload = False,
    no_stage: NoStage = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Track data that lies at a URL. The pointer records the URL and the version there: see 'dvlite update'.

    Example: dvlite import-url s3://bucket/raw/sales.csv -O anon=true

    Exit codes: 0 done, 2 not there, or the target exists, 13 the URL can't be read.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    place = repo.in_repo(target or url.rstrip("/").rpartition("/")[2], run.folder)
    full = url if config.check_url(url) != "file" else str(run.folder / Path(url.removeprefix("file://")).expanduser())
    try:
        result = imports.import_url(
            repo,
            full,
            place,
            options=_options(options),
            is_recorded=no_download,
            is_staged=not no_stage,
            progress=progress,
        )
    finally:
        run.finish(progress)
    return _show(run, repo, result, is_json=json)


@app.command()
def update(
    ctx: typer.Context,
    paths: Paths = None,
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="Move to this commit, branch or tag there.")] = "",
    options: Options = None,
    no_download: NoDownload = False,
    no_stage: NoStage = False,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Bring what was imported to what its source has now. Where that is the same, nothing changes.

    Example: dvlite update sales.csv --rev v2.0

    Exit codes: 0 done, 1 some could not, 2 not imported, 10 objects can't be had, 13 remote, 14 data here is not stored.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    repo, progress = run.open(), run.progress()
    try:
        result = imports.update(
            repo,
            run.paths(repo, paths),
            lambda url, at: open_source(url, at, run.cache(), repo.root),
            rev=rev,
            options=_options(options),
            is_recorded=no_download,
            is_staged=not no_stage,
            jobs=jobs or 8,
            progress=progress,
        )
    finally:
        run.finish(progress)
    if not result.imported and not result.failures and not json:
        render.note("nothing was imported here")
    return _show(run, repo, result, is_json=json)


def _options(given: list[str] | None) -> dict[str, object]:
    """Read KEY=VALUE options; values are TOML where they parse."""
    found: dict[str, object] = {}
    for one in given or ():
        key, separator, value = one.partition("=")
        if not separator or not key:
            raise UsageError(f"'{one}' is not KEY=VALUE")
        found[key] = value if config.is_secret(key) else config.parse_value(value)
    return found


def _show(run: Session, repo: Repo, result: ImportResult, *, is_json: bool) -> int:
    """Print what was imported; return the exit code."""
    if is_json:
        render.as_json(result)
    elif not run.is_quiet:
        for one in result.imported:
            what = f"{render.count(one.files, 'file')}, {render.size(one.size)}"
            at = f" of commit {one.source['commit'][:10]}" if "commit" in one.source else ""
            done = "recorded" if "stored" in one.source else "imported"
            said = f"{done} {render.name(run.here(repo, one.path))} ({what}){at}"
            render.out(said if one.is_changed else f"unchanged: {render.name(run.here(repo, one.path))}")
        if result.to_stage:
            render.note(f"to stage: git add {' '.join(quote(run.here(repo, name)) for name in result.to_stage)}")
    return render.failures(
        result.failures, lambda path: run.here(repo, path), is_alone=not result.imported, is_told=is_json
    )


@app.command("export")
def export_(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A tracked path, or one inside it.")],
    target: Annotated[str, typer.Argument(metavar="DEST", help="A folder, or a URL: s3://, sftp://, …")],
    rev: Annotated[str | None, typer.Option("--rev", metavar="REV", help="Of another commit, branch or tag.")] = None,
    repository: Annotated[str, typer.Option("--repo", metavar="REPO", help="Of another repository.")] = "",
    options: Options = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Write data as plain files, with their checksums beside them (SHA256SUMS, for 'sha256sum -c').

    Example: dvlite export data/raw /mnt/handover --rev v1.0

    Exit codes: 0 done, 2 not tracked, or something is there, 10 objects can't be had, 13 remote.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    progress = run.progress()
    try:
        source, inner = _source(run, repository, path, rev)
        result = exports.export(source, inner, target, run.folder, options=_options(options), progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif not run.is_quiet:
        what = f"{render.count(result.files, 'file')}, {render.size(result.size)}"
        render.out(
            f"exported {render.name(path)} ({what}) to {render.name(config.redact(target))}, with {exports.SUMS}"
        )
    return 0


@app.command()
def verify(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A tracked path, or one inside it; with --sums any folder.")],
    rev: Annotated[str | None, typer.Option("--rev", metavar="REV", help="Compare with another version.")] = None,
    sums: Annotated[
        Path | None, typer.Option("--sums", metavar="FILE", help="Compare with a list of sha256sum.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Read data anew, every byte, and compare it with its pointer (or a rev, or a list of checksums), whatever is remembered.

    Example: dvlite verify data/raw --rev v1.0

    Exit codes: 0 all is as it should be, 1 something isn't, 2 not tracked.
    """
    run = session(ctx, json=json, quiet=quiet, verbose=verbose)
    progress = run.progress()
    try:
        if sums:
            result = exports.verify_sums(run.folder / path, run.folder / sums, progress=progress)
        else:
            source, inner = _source(run, "", path, rev)
            result = exports.verify(source, inner, run.folder / path.removesuffix(".dvlite"), progress=progress)
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    else:
        for name, what in result.wrong.items():
            render.out(f"{render.paint(f'{what}:', 'red')} {render.name(name or path)}")
        if not run.is_quiet:
            said = f"verified: {render.count(result.files, 'file')}, {render.size(result.size)}"
            render.out(said + (f"; {len(result.wrong):,} are not as they should be" if result.wrong else ""))
    return 1 if result.wrong else 0


def _source(run: Session, repository: str, path: str, rev: str | None) -> tuple[Source, str]:
    """Open another repository, or this one; return it and the path in it."""
    if repository:
        return open_source(repository, rev or "", run.cache(), run.folder), path
    repo = run.open()
    return open_source(str(repo.root), rev, run.cache(), run.folder), repo.in_repo(path, run.folder)
