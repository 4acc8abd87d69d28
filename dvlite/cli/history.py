"""Commands about versions: diff, log, changelog."""

from pathlib import Path
from typing import Annotated

import typer

from dvlite import files
from dvlite.cli import render
from dvlite.cli.session import Json, Session, ask_trust, session
from dvlite.errors import UsageError, quote
from dvlite.ops import diff as diffs
from dvlite.ops.changelog import ChangelogResult, Entry
from dvlite.ops.changelog import changelog as changelog_op
from dvlite.ops.diff import INDEX, WORKTREE, DiffResult, FileDiff, PathDiff
from dvlite.ops.log import Version
from dvlite.ops.log import log as log_op
from dvlite.ops.read import is_rev, revs_of
from dvlite.repo import Repo
from dvlite.tables import TableDiff

app = typer.Typer(rich_markup_mode=None)
_SHOWN = 20
_COLOURS = {"added": "green", "renamed": "green", "removed": "red", "changed": "yellow", "mode": "yellow"}


@app.command()
def diff(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[A [B]] [PATH]…", help="Two revs (A..B too), then paths.")
    ] = None,
    staged: Annotated[bool, typer.Option("--staged", "--cached", help="Compare with Git's index.")] = False,
    stat: Annotated[bool, typer.Option("--stat", help="One line for each tracked path.")] = False,
    content: Annotated[bool, typer.Option("--content", help="Look into tables: rows, columns, types.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get listings that are missing here from the remote.")] = False,
    remote_name: Annotated[str, typer.Option("--remote-name", metavar="NAME", help="From this remote.")] = "",
    everything: Annotated[bool, typer.Option("--all", "-a", help="List every file, however many.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    json: Json = False,
) -> int:
    """Say what differs between two versions of data: files added, removed, changed, renamed, with their sizes.

    Without revs, Git's index with the worktree; with one, that rev with the worktree; with --staged, HEAD (or the rev) with
    Git's index. An argument is a rev where Git knows it as one; './NAME' is always a path.

    Example: dvlite diff v1.0 v2.0 data/raw

    Exit codes: 0 done; with --exit-code 1 if anything differs, 3 on failure.
    """
    run = session(ctx, json=json)
    repo, progress = run.open(), run.progress()
    old, new, paths = _versions(run, repo, arguments or [], is_staged=staged)
    if fetch or remote_name:
        ask_trust(repo, remote_name)
    try:
        given = remote_name if fetch or remote_name else None
        result = diffs.diff(
            repo, old, new, run.paths(repo, paths), remote=given, has_content=content, progress=progress
        )
    finally:
        run.finish(progress)
    if json:
        render.as_json(result)
    elif markdown:
        show_markdown(run, repo, result)
    else:
        _show(run, repo, result, 0 if stat else None if everything else _SHOWN)
    code = render.failures(result.failures, lambda path: run.here(repo, path), is_alone=not result.paths, is_told=json)
    unknown = any(one.unknown for one in result.paths)
    if exit_code:
        return 3 if result.failures or unknown else 1 if result.paths else 0
    return code or (10 if unknown else 0)


def _versions(run: Session, repo: Repo, arguments: list[str], *, is_staged: bool) -> tuple[str, str, list[str]]:
    """Tell revs from paths, as Git does; returns both versions, and the paths."""
    revs: list[str] = []
    paths = list(arguments)
    while paths and len(revs) < 2 and not run.is_after_dashes(len(paths)):
        word = paths[0]
        if ends := revs_of(repo, word) if not revs else None:
            revs, paths = list(ends), paths[1:]
            break
        if word.startswith((".", "/")) or not is_rev(repo, word):
            break
        if (run.folder / word).exists() and not run.has_dashes:
            raise UsageError(
                f"'{word}' is a rev and a path", f"Say './{word}' for the path, or put '--' between revs and paths."
            )
        revs.append(paths.pop(0))
    if is_staged:
        if len(revs) > 1:
            raise UsageError("--staged compares with one rev at most", "See 'dvlite diff --help'.")
        return revs[0] if revs else "HEAD", INDEX, paths
    return revs[0] if revs else INDEX, revs[1] if len(revs) > 1 else WORKTREE, paths


def _show(run: Session, repo: Repo, result: DiffResult, limit: int | None) -> None:
    for one in result.paths:
        path = render.name(run.here(repo, one.path))
        old = f"{render.name(run.here(repo, one.old_path))} -> " if one.old_path else ""
        render.out(f"{old}{path}: {_summary(one)}")
        for change in () if limit == 0 else one.changes[:limit]:
            if change.path or (change.old_path and not one.old_path):
                render.out(f"  {_line(change)}")
            if change.table:
                render.out(f"    {_table(change.table)}")
        if limit and len(one.changes) > limit:
            render.out(f"  and {len(one.changes) - limit:,} more: '--all' lists them")
        if one.unknown:
            render.out(f"  unknown: {one.unknown}")


def _summary(one: PathDiff) -> str:
    """Return what became of a tracked path in one line."""
    sizes = f"{render.size(one.old_size)} -> {render.size(one.new_size)}"
    if one.kind != "changed":
        said = f"{one.kind} ({render.count(one.new_files or one.old_files, 'file')}, {render.size(one.new_size or one.old_size)})"
    elif not one.changes:
        said = "metadata changed" if one.has_meta else "unknown"
    else:
        counted = [(one.count.added, "added"), (one.count.removed, "removed"), (one.count.changed, "changed")]
        parts = [f"{number:,} {kind}" for number, kind in (*counted, (one.count.renamed, "renamed")) if number]
        said = f"{', '.join(parts)} ({sizes})" if len(one.changes) > 1 or one.changes[0].path else f"changed ({sizes})"
    return f"{said}, metadata changed" if one.has_meta and one.changes else said


def _table(table: TableDiff) -> str:
    """Return what became of a table, in one line."""
    if table.note:
        return render.name(table.note)
    rows = f"rows: {table.rows_before:,} -> {table.rows_after:,}"
    if table.rows_added is not None and table.rows_removed is not None:
        rows += f" (+{table.rows_added:,} -{table.rows_removed:,})"
    parts = [
        f"{sign}{name}" for sign, names in (("+", table.columns_added), ("-", table.columns_removed)) for name in names
    ]
    parts += [f"{name}: {old} -> {new}" for name, (old, new) in table.types.items()]
    return rows + (f"; columns: {', '.join(map(render.name, parts))}" if parts else "")


def _line(change: FileDiff) -> str:
    kind = render.paint(f"{change.kind}:", _COLOURS[change.kind])
    path = render.name(change.path) + ("/" if change.is_folder else "")
    old = f"{render.name(change.old_path)}{'/' if change.is_folder else ''} -> " if change.old_path else ""
    files = f"{render.count(change.files, 'file')}, " if change.is_folder else ""
    size = render.size(change.new_size or change.old_size)
    if change.kind == "changed":
        size = f"{render.size(change.old_size)} -> {render.size(change.new_size)}"
    return f"{kind} {old}{path} ({files}{size})"


def show_markdown(run: Session, repo: Repo, result: DiffResult) -> None:
    """Print differences as a Markdown table."""
    render.out("| path | what | before | after |\n|---|---|---|---|")
    for one in result.paths:
        path = run.here(repo, one.path)
        before = f"{render.size(one.old_size)}, {render.count(one.old_files, 'file')}" if one.old_files else ""
        after = f"{render.size(one.new_size)}, {render.count(one.new_files, 'file')}" if one.new_files else ""
        render.out(f"| **{render.markdown(path)}** | {_summary(one).partition(' (')[0]} | {before} | {after} |")
        for change in one.changes[:_SHOWN]:
            if change.path:
                moved = f"`{render.markdown(change.old_path)}` → " if change.old_path else ""
                sizes = [
                    render.size(size) if oid else ""
                    for size, oid in ((change.old_size, change.old_oid), (change.new_size, change.new_oid))
                ]
                render.out(f"| {moved}`{render.markdown(change.path)}` | {change.kind} | {sizes[0]} | {sizes[1]} |")
        if len(one.changes) > _SHOWN:
            render.out(f"| and {len(one.changes) - _SHOWN:,} more below {quote(path)} | | | |")


@app.command()
def log(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="A tracked path, or a file or folder inside it.")],
    rev: Annotated[str, typer.Option("--rev", metavar="REV", help="Of the commits that this one reaches.")] = "HEAD",
    limit: Annotated[int, typer.Option("-n", min=0, metavar="COUNT", help="The newest so many.")] = 0,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    json: Json = False,
) -> int:
    """List the versions of a tracked path, or of one file inside it, under all names that it had.

    Each with commit, date, author, size, number of files, what changed since the version before (+ added, - removed, ~ changed,
    > renamed), tags and message.

    Example: dvlite log data/raw/sales.csv

    Exit codes: 0 done, 2 never tracked.
    """
    run = session(ctx, json=json)
    repo = run.open()
    result = log_op(repo, repo.in_repo(path, run.folder), rev=rev, limit=limit)
    if json:
        render.as_json(result)
        return 0
    rows = []
    for one in result.versions:
        tags = f"({', '.join(one.tags)}) " if one.tags else ""
        files = f"{one.files:,}" if one.oid else ""
        size = render.size(one.size) if one.oid else ""
        rows.append(
            (
                one.commit[:10],
                one.date[:10],
                render.name(one.author),
                size,
                files,
                _changed(one),
                f"{tags}{render.name(one.message)}",
            )
        )
    if markdown:
        render.out("| commit | date | author | size | files | changed | message |\n|---|---|---|---|---|---|---|")
        for row in rows:
            render.out(f"| {' | '.join(map(render.markdown, row))} |")
    else:
        render.table(rows, right=(3, 4))
    return 0


def _changed(one: Version) -> str:
    """Return what became of a version's files: +2 -1 ~3; or, where that says more, a word."""
    if one.kind in ("removed", "metadata", "unknown") or (one.kind == "renamed"):
        return one.kind if one.kind != "renamed" else f"renamed to {render.name(one.path)}"
    if one.count is None:
        return one.kind
    marks = ((one.count.added, "+"), (one.count.removed, "-"), (one.count.changed, "~"), (one.count.renamed, ">"))
    return " ".join(f"{mark}{number:,}" for number, mark in marks if number)


@app.command()
def changelog(
    ctx: typer.Context,
    revs: Annotated[str, typer.Argument(metavar="[A..B]", help="Commits, as in Git; else all of HEAD.")] = "HEAD",
    paths: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATH", help="Of this alone; may come again.")
    ] = None,
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Keep this file up to date.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --write: only say whether it is; exit 1 if not.")
    ] = False,
    json: Json = False,
) -> int:
    """Tell what changed in data and models, release by release (tags; days without): what, how much, why, who, from what.

    Made of the commits alone, so a file of it can be written anew at any time: after a merge, by a hook, in CI.

    Example: dvlite changelog v1.0..v2.0

    Exit codes: 0 done, 1 with --check: the file is not up to date.
    """
    run = session(ctx, json=json)
    repo = run.open()
    result = changelog_op(repo, revs, run.paths(repo, paths))
    if json:
        render.as_json(result)
        return 0
    text = changelog_text(result)
    if write is None:
        render.out(text.rstrip("\n"))
        return 0
    place = run.folder / write
    is_current = place.is_file() and place.read_text(encoding="utf-8", errors="surrogateescape") == text
    if not is_current and not check:
        files.write_atomic(place, text.encode("utf-8", "surrogateescape"))
        render.note(f"written: {render.name(str(write))}")
    elif not is_current:
        render.note(f"'{render.name(str(write))}' is not up to date: dvlite changelog --write {quote(str(write))}")
    return 1 if check and not is_current else 0


def changelog_text(result: ChangelogResult) -> str:
    """Return the changelog as Markdown, one change a line."""
    lines = [
        "# Data changelog",
        "",
        "<!-- Made by 'dvlite changelog' from Git's history: run it again, don't edit. -->",
    ]
    for section in result.sections:
        day = f" ({section.date})" if section.name != section.date and section.name else ""
        lines += ["", f"## {render.name(section.name) or 'Not released'}{day}", ""]
        for one in section.entries:
            old = f"{render.name(one.old_path)} → " if one.old_path else ""
            said = [_change(one)]
            said += [f"metadata: {', '.join(map(render.name, one.meta))}"] if one.meta else []
            said += [f"from {', '.join(map(render.name, one.inputs))}"] if one.inputs else []
            why = f"{render.name(one.message)} ({render.name(one.author)}, {one.commit[:10]})"
            lines.append(f"- **{old}{render.name(one.path)}**: {'; '.join(said)}. {why}")
    return "\n".join(lines) + "\n"


def _change(one: Entry) -> str:
    """Return what became of a path, in words and sizes."""
    files = f"{render.count(one.new_files or one.old_files, 'file')}, {render.size(one.new_size or one.old_size)}"
    if one.kind in ("added", "removed", "renamed"):
        return f"{one.kind} ({files})"
    if one.kind != "changed":
        return one.kind
    sizes = f"{render.size(one.old_size)} → {render.size(one.new_size)}"
    if one.count is None:
        return f"changed ({render.count(one.old_files, 'file')} → {render.count(one.new_files, 'file')}, {sizes})"
    counted = [(one.count.added, "added"), (one.count.removed, "removed"), (one.count.changed, "changed")]
    parts = [f"{number:,} {kind}" for number, kind in (*counted, (one.count.renamed, "renamed")) if number]
    return f"{', '.join(parts) or 'changed'} ({sizes})"
