"""What Git calls: hooks, the merge driver, the diff driver. Light, because it is called often: no parser, no colours, no bars.

A hook that comes after something always exits 0: what it could not do is said, and the next command does it.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvlite import git
from dvlite.cli import render
from dvlite.errors import DvliteError, UsageError, explain, quote
from dvlite.repo import Repo, open_repo

_MERGE_FAILED = 129  # up to 128 Git takes what the driver left for a conflict, here "ours" without markers
_PATIENCE_S = 3.0  # Git's user waits too: what could not be done is said, and the next command does it

if TYPE_CHECKING:
    from dvlite.ops.commit import CommitResult
    from dvlite.ops.prepush import PrepushResult


def run(arguments: Sequence[str]) -> int:
    """Run `hook EVENT …`, `merge-driver …` or `textconv FILE`; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    name, rest = arguments[0], arguments[1:]
    is_after = name == "hook" and bool(rest) and rest[0].startswith(("post-", "checkout"))
    try:
        if name == "hook":
            event = rest[0] if rest else ""
            if event not in _EVENTS:
                raise UsageError(f"there is no hook '{event}'", f"There are: {', '.join(_EVENTS)}.")
            return _EVENTS[event](rest[1:])
        return {"merge-driver": _merge_driver, "textconv": _textconv}[name](rest)
    except DvliteError as exc:
        _say_error(exc)
        return 0 if is_after else exc.exit_code
    except KeyboardInterrupt:
        _say("interrupted: nothing is lost")
        return 130
    except BrokenPipeError:  # the reader of a diff has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as exc:
        _say_error(explain(exc))
        return 0 if is_after else _MERGE_FAILED if name == "merge-driver" else 1
    except Exception as exc:
        if not is_after:
            raise
        _say(f"a bug: {type(exc).__name__}: {exc}; 'dvlite checkout' may do what this hook could not")
        return 0


def _say(text: str) -> None:
    render.note(f"dvlite: {render.name(text)}")


def _say_error(exc: DvliteError, path: str = "") -> None:
    where = f"'{path}': " if path and f"'{path}" not in exc.message else ""
    _say(f"{where}{exc.message}" + (f" -> {exc.hint}" if exc.hint else ""))


def _open() -> Repo:
    gc.enable()
    repo = open_repo(Path.cwd())
    repo.waiting, repo.patience_s = _say, _PATIENCE_S
    repo.here = Path(os.environ.get("GIT_PREFIX", ""))  # hooks are called at the root
    return repo


def _is_foreign() -> bool:
    """Tell whether Git was called with another worktree than the repository's own: what lies there is not looked after."""
    return "GIT_DIR" in os.environ and not any((one / ".git").exists() for one in (Path.cwd(), *Path.cwd().parents))


# ---- before a commit, before a push ---------------------------------------------------------------------------------


def _merged() -> list[str]:
    """Return the commits that Git merges just now: it has not written MERGE_HEAD yet when it calls pre-merge-commit."""
    return [name.removeprefix("GITHEAD_") for name in os.environ if name.startswith("GITHEAD_")]


def _is_rebasing() -> bool:
    return os.environ.get("GIT_REFLOG_ACTION", "").startswith("rebase")


def _pre_commit(_: Sequence[str], *, is_made: bool = False) -> int:
    from dvlite.ops.commit import before_commit

    # Git makes a commit of some paths in an index of its own, named so.
    index = Path(os.environ.get("GIT_INDEX_FILE", "")).name
    is_partial, is_aside = index.startswith("next-index-"), index == "index.lock"  # the second: commit -a
    is_made = is_made or _is_rebasing()
    return _show_commit(
        before_commit(_open(), is_partial=is_partial, is_aside=is_aside, is_made=is_made, sides=_merged())
    )


def _pre_merge_commit(arguments: Sequence[str]) -> int:
    return _pre_commit(arguments, is_made=True)


def _show_commit(result: "CommitResult", *, done: str = "is updated and staged") -> int:
    for tracked in result.updated:
        _say(f"'{tracked}' changed: its pointer {done}")
    for note in result.notes:
        _say(note)
    for path, error in result.blocks:
        _say_error(error, path)
    return 1 if result.blocks else 0


def _pre_push(arguments: Sequence[str]) -> int:
    from dvlite.ops.prepush import Update, before_push, open_for

    gc.enable()

    updates = []
    for line in sys.stdin.read().split("\n"):
        fields = line.split(" ")
        if len(fields) == 4:
            updates.append(Update(fields[0], fields[1], fields[3], fields[2]))
    repo = open_for(git.discover(Path.cwd(), may_be_bare=True), [update.here for update in updates])
    if repo is None:
        return 0
    return _show_push(before_push(repo, arguments[0] if arguments else "", updates, announce=_announce))


def _announce(size: int) -> None:
    _say(
        f"sending {render.size(size)} before Git's push: if the server drops the connection meanwhile, push again"
        " ('dvlite push' before 'git push' avoids that)"
    )


def _show_push(result: "PrepushResult") -> int:
    for note in result.notes:
        _say(note)
    for one in result.pushes:
        if one.pushed:
            _say(f"pushed to '{one.remote}': {render.count(one.pushed, 'object')}, {render.size(one.size)}")
    return 0


# ---- after Git moved something --------------------------------------------------------------------------------------


def _post_checkout(arguments: Sequence[str]) -> int:
    old, new = (*arguments[:2], "", "")[:2]
    return _follow(old, new) if old != new else _follow()


def _post_merge(_: Sequence[str]) -> int:
    return _follow("ORIG_HEAD", "HEAD")


def _post_commit(_: Sequence[str]) -> int:
    from dvlite.ops.commit import after_commit

    repo = _open()
    after_commit(repo)
    return _follow(repo=repo)


def _post_index_change(_: Sequence[str]) -> int:
    return _follow()


def _follow(old: str = "", new: str = "", *, repo: Repo | None = None) -> int:
    from dvlite.ops.follow import follow, told

    if repo is None and _is_foreign():
        return 0
    repo = repo or _open()
    result = follow(repo, old=old, new=new, may_fetch=repo.flag("hooks.fetch", default=False))
    for tracked, rev in result.at_rev.items():
        _say(f"'{tracked}' has the data of {rev}: 'dvlite checkout {quote(tracked)}' brings it to its pointer")
    for kept in result.checkout.kept:
        _say(f"kept '{kept.path}': {kept.reason}")
    for path, error in result.checkout.failures:
        _say_error(error, path)
    if result.fetch_error:
        _say_error(result.fetch_error)
    missing = result.checkout.missing
    if not told(repo, missing) and missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        _say(f"not here yet: {', '.join(missing[:3])}{more} -> run 'dvlite pull'")
    if result.checkout.saved:
        _say(f"what no commit names is kept as saved/{result.checkout.saved} (dvlite checkout --saved)")
    return 0


# ---- the pre-commit framework's ids ---------------------------------------------------------------------------------


def _sync(_: Sequence[str]) -> int:
    from dvlite import refs
    from dvlite.ops.commit import check_pointers, sync_data

    repo = _open()
    # The framework doesn't tell a merge, or a step of a rebase, from a commit.
    result = sync_data(repo, refs.in_worktree(repo.git), is_made=bool(_merged()) or _is_rebasing())
    result.blocks.extend(check_pointers(repo, git.staged(repo.git)))
    done = "is updated; the same 'git commit' once more has it"
    return _show_commit(result, done=done) or (1 if result.updated else 0)


def _large_files(_: Sequence[str]) -> int:
    from dvlite import refs
    from dvlite.ops.commit import CommitResult, check_files

    repo = _open()
    return _show_commit(CommitResult([], [], check_files(repo, refs.in_worktree(repo.git), git.staged(repo.git))))


def _checkout(_: Sequence[str]) -> int:
    old, new = os.environ.get("PRE_COMMIT_FROM_REF", ""), os.environ.get("PRE_COMMIT_TO_REF", "")
    return _follow(old, new) if old and new and old != new else _follow("ORIG_HEAD", "HEAD")


def _push(_: Sequence[str]) -> int:
    from dvlite.ops.prepush import before_any_push

    tips = ["HEAD", os.environ.get("PRE_COMMIT_TO_REF", "")]
    return _show_push(before_any_push(_open(), tips, announce=_announce))


_EVENTS: dict[str, Callable[[Sequence[str]], int]] = {
    "pre-commit": _pre_commit,
    "pre-merge-commit": _pre_merge_commit,
    "pre-push": _pre_push,
    "post-checkout": _post_checkout,
    "post-merge": _post_merge,
    "post-rewrite": _post_merge,
    "post-commit": _post_commit,
    "post-index-change": _post_index_change,
    "sync": _sync,
    "large-files": _large_files,
    "checkout": _checkout,
    "push": _push,
}


# ---- drivers --------------------------------------------------------------------------------------------------------


def _merge_driver(arguments: Sequence[str]) -> int:
    from dvlite.ops.merge import merge, note_conflict

    if len(arguments) != 5:
        raise UsageError(
            "merge-driver is called by Git", "Usage: dvlite merge-driver BASE OURS THEIRS MARKER-SIZE PATH"
        )
    base, ours, theirs = (Path(one).absolute() for one in arguments[:3])
    try:
        repo = _open()
        tracked = repo.in_repo(arguments[4], Path.cwd()).removesuffix(".dvlite")
        result = merge(repo, tracked, base, ours, theirs, marker_size=int(arguments[3]))
    except (DvliteError, OSError) as exc:  # Git would take an error for "ours", without markers
        text, is_clean = git.merge_texts(Path.cwd(), ours, base, theirs, marker_size=int(arguments[3]))
        ours.write_bytes(text)
        _say_error(exc if isinstance(exc, DvliteError) else explain(exc))
        return 0 if is_clean else 1
    ours.write_bytes(result.text)
    note_conflict(repo)
    if result.error:
        _say_error(result.error, tracked)
    for path in result.conflicts:
        _say(f"CONFLICT (data): '{path}' -> take a side: dvlite checkout --ours {quote(path)}, or --theirs")
    return 1 if result.conflicts else 0


def _textconv(arguments: Sequence[str]) -> int:
    from dvlite.ops.textconv import textconv

    if len(arguments) != 1:
        raise UsageError("textconv is called by Git", "Usage: dvlite textconv FILE")
    data = Path(arguments[0]).read_bytes()
    try:
        repo = _open()
    except DvliteError:
        sys.stdout.buffer.write(data)
        return 0
    for line in textconv(repo, data):
        text = line.decode("utf-8", "surrogateescape")
        sys.stdout.buffer.write("\n".join(map(render.name, text.split("\n"))).encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    return 0
