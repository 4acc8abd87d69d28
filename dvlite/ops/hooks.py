"""Wire a repository: Git's hooks, the merge and diff drivers, the attributes that call them; and take it all out again.

A hook of ours is a block of `sh` between two marks, put at the top of the shell hook that is there; one in another language is
kept beside and called. Taking out restores every file byte for byte. Details: docs/hooks.md.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import files, git, refs
from dvlite.ops.follow import remember_pointers
from dvlite.ops.init import ATTRIBUTES
from dvlite.repo import Repo

BEGIN = "# >>> dvlite >>> written by 'dvlite hooks install'; 'dvlite hooks uninstall' takes it out"
END = "# <<< dvlite <<<"
KEPT = ".kept-by-dvlite"
DRIVERS = {
    "merge.dvlite.name": "dvlite: merge what pointers stand for",
    "merge.dvlite.driver": (
        "if command -v dvlite >/dev/null 2>&1; then dvlite merge-driver %O %A %B %L %P;"
        " else git merge-file -L ours -L base -L theirs --marker-size=%L %A %O %B; fi"
    ),
    "diff.dvlite.textconv": (
        'sh -c \'if command -v dvlite >/dev/null 2>&1; then exec dvlite textconv "$1"; else exec cat "$1"; fi\' dvlite'
    ),
}
# What the ids of .pre-commit-hooks.yaml take over.
FRAMEWORK_IDS = {
    "dvlite-sync": ("pre-commit", "pre-merge-commit"),
    "dvlite-large-files": (),
    "dvlite-checkout": ("post-checkout", "post-merge", "post-rewrite"),
    "dvlite-push": ("pre-push",),
}
FRAMEWORK_FILE = ".pre-commit-config.yaml"
_SHELL = re.compile(rb"#! ?(/usr/bin/env (-S )?)?(\S*/)?(sh|bash|dash|ksh|zsh)\b")
_LACKING = 'echo "dvlite: not on the PATH, so data is not looked after here" >&2'

_CALL = f"""if [ -f dvlite.toml ]; then
  if command -v dvlite >/dev/null 2>&1; then
    dvlite hook EVENT "$@" </dev/null || exit $?
  else
    {_LACKING}
  fi
fi
"""
# $1 and $2 are the commits before and after; $3 is 0 after a checkout of files. Where another program has set unstaged changes
# aside for a moment, nothing follows.
_AFTER_CHECKOUT = f"""if [ -f dvlite.toml ] && [ -z "${{_PRE_COMMIT_SKIP_POST_CHECKOUT:-}}" ]; then
  dvlite_git="git --no-literal-pathspecs"
  if [ "${{3:-}}" = 0 ] || ! $dvlite_git diff --quiet "${{1:-}}" "${{2:-}}" -- ':(glob)**/*.dvlite' 2>/dev/null; then
    if command -v dvlite >/dev/null 2>&1; then
      dvlite hook EVENT "$@" </dev/null || :
    else
      {_LACKING}
    fi
  fi
fi
"""
# Fires for everything that writes Git's index; $1 is 1 where the worktree was changed. Pointers that are all as they were when
# data last followed need nothing. In a rebase only its end counts, and an abort, which brings the index back to its beginning.
_AFTER_INDEX = """if [ "${1:-}" = 1 ] && [ -f dvlite.toml ] && [ -z "${_PRE_COMMIT_SKIP_POST_CHECKOUT:-}" ]; then
  if command -v dvlite >/dev/null 2>&1; then
    dvlite_dir=$(git rev-parse --git-dir)
    dvlite_at=
    if grep -q '^[^#]' "$dvlite_dir/rebase-merge/git-rebase-todo" 2>/dev/null; then
      dvlite_at=$(cat "$dvlite_dir/rebase-merge/orig-head")
    elif [ -f "$dvlite_dir/rebase-apply/rebasing" ]; then
      dvlite_at=$(cat "$dvlite_dir/rebase-apply/orig-head")
    fi
    dvlite_git="git --no-literal-pathspecs -c core.quotePath=false"
    if [ -n "$dvlite_at" ] && ! $dvlite_git diff-index --cached --quiet "$dvlite_at" -- ':(glob)**/*.dvlite' 2>/dev/null; then
      :
    elif { $dvlite_git ls-files -s -- ':(glob)**/*.dvlite'; $dvlite_git diff-files -- ':(glob)**/*.dvlite'; } |
      cmp -s - "$dvlite_dir/dvlite/followed"; then
      :
    else
      dvlite hook EVENT "$@" </dev/null || :
    fi
  fi
fi
"""
_AFTER_MERGE = """if [ -f dvlite.toml ] && command -v dvlite >/dev/null 2>&1; then
  git --no-literal-pathspecs diff --quiet ORIG_HEAD HEAD -- ':(glob)**/*.dvlite' 2>/dev/null ||
    dvlite hook EVENT "$@" </dev/null || :
fi
"""
_AFTER_COMMIT = """if [ -f dvlite.toml ] && { [ -f .git/dvlite/after-commit ] ||
  { [ -f .git ] && [ -f "$(git rev-parse --git-dir)/dvlite/after-commit" ]; }; }; then
  if command -v dvlite >/dev/null 2>&1; then
    dvlite hook EVENT "$@" </dev/null || :
  fi
fi
"""
_AFTER_REWRITE = """if [ "${1:-}" = rebase ] && [ -f dvlite.toml ] && command -v dvlite >/dev/null 2>&1; then
  dvlite hook EVENT "$@" </dev/null || :
fi
"""
# Standard input is read once, and handed on to what follows in this file.
_BEFORE_PUSH = """if [ -f dvlite.toml ] || [ -d "$(git rev-parse --git-common-dir)/dvlite" ]; then
  dvlite_refs=$(cat)
  if command -v dvlite >/dev/null 2>&1; then
    printf '%s\\n' "$dvlite_refs" | dvlite hook EVENT "$@" || exit $?
  else
    printf '%s\\n' "$dvlite_refs" | while read -r dvlite_ref dvlite_new dvlite_rest; do
      case $dvlite_new in *[!0]*) ;; *) continue ;; esac
      dvlite_list="git --no-literal-pathspecs rev-list -n 1 --full-history"
      if [ -n "$($dvlite_list "$dvlite_new" --not --remotes="$1" -- ':(glob)**/*.dvlite')" ]; then
        echo "dvlite: not on the PATH, and $dvlite_ref names data that must be pushed first (git push --no-verify skips this)" >&2
        exit 1
      fi
    done || exit $?
  fi
  if [ -n "$dvlite_refs" ]; then
    exec <<DVLITE_REFS
$dvlite_refs
DVLITE_REFS
  fi
fi
"""
_BODIES = {
    "pre-commit": _CALL,
    "pre-merge-commit": _CALL,
    "post-commit": _AFTER_COMMIT,
    "post-checkout": _AFTER_CHECKOUT,
    "post-merge": _AFTER_MERGE,
    "post-rewrite": _AFTER_REWRITE,
    "post-index-change": _AFTER_INDEX,
    "pre-push": _BEFORE_PUSH,
}
EVENTS = tuple(_BODIES)


@dataclass(frozen=True, slots=True)
class Hook:
    """One event. `state`: installed, outdated, absent, or covered (by the pre-commit framework); `has_other`: not ours alone."""

    event: str
    path: str
    state: str
    has_other: bool = False


@dataclass(slots=True)
class HooksResult:
    """All events, whether the drivers are wired, what to know, and the files that were written."""

    folder: str
    hooks: list[Hook] = field(default_factory=list)
    has_drivers: bool = False
    notes: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    @property
    def is_installed(self) -> bool:
        """Whether nothing is lacking."""
        return self.has_drivers and all(hook.state in ("installed", "covered") for hook in self.hooks)


def block(event: str) -> str:
    """Return what a hook has of ours."""
    return f"{BEGIN}\n{_BODIES[event].replace('EVENT', event)}{END}\n"


# ---- where ----------------------------------------------------------------------------------------------------------


def _path(folder: Path, event: str) -> Path:
    """Return the file of a hook. Husky generates what Git calls, and it calls the user's own one folder above."""
    if folder.name == "_" and (folder / "h").exists() and (folder / event).exists():
        return folder.parent / event
    return folder / event


def covered(repo: Repo) -> set[str]:
    """Return the events that a configuration of the pre-commit framework already has with our ids."""
    try:
        text = (repo.root / FRAMEWORK_FILE).read_text()
    except (OSError, UnicodeDecodeError):
        return set()
    found = set(re.findall(r"^\s*-?\s*id:\s*[\"']?(dvlite-[a-z-]+)", text, re.MULTILINE))
    return {event for id_ in found for event in FRAMEWORK_IDS.get(id_, ())}


# ---- the verbs ------------------------------------------------------------------------------------------------------


def status(repo: Repo) -> HooksResult:
    """Look at all hooks and drivers."""
    folder = git.hooks_folder(repo.git)
    result = HooksResult(str(folder))
    skipped = covered(repo)
    for event in EVENTS:
        path = _path(folder, event)
        data = path.read_bytes() if path.is_file() else b""
        has_block = BEGIN.encode() in data
        state = "absent" if not has_block else "installed" if block(event).encode() in data else "outdated"
        other = bool(_without_block(data).strip()) and not _is_ours_alone(data)
        result.hooks.append(Hook(event, str(path), "covered" if event in skipped else state, other))
    result.has_drivers = all(git.get_value(repo.git, key, level="local") == value for key, value in DRIVERS.items())
    return result


def install(repo: Repo) -> HooksResult:
    """Put our block into every hook that isn't covered otherwise, and wire the drivers. Again it changes nothing."""
    folder = git.hooks_folder(repo.git)
    skipped = covered(repo)
    written = [event for event in EVENTS if event not in skipped and _install_one(_path(folder, event), event)]
    for event in skipped:
        _uninstall_one(_path(folder, event))
    for key, value in DRIVERS.items():
        if git.get_value(repo.git, key, level="local") != value:
            git.set_setting(repo.git, key, value)
    # Outranks what a branch says.
    _add_first_line(repo.git.common / "info" / "attributes", ATTRIBUTES)
    remember_pointers(repo, refs.in_worktree(repo.git))
    mark(repo, "installed")
    result = status(repo)
    result.written = written
    if not folder.is_relative_to(repo.git.common) and not folder.is_relative_to(repo.root):
        result.notes.append(
            f"core.hooksPath names '{folder}': other repositories may use it; there our hooks do nothing"
        )
    elif folder.is_relative_to(repo.root) and not folder.is_relative_to(repo.git.common):
        inner = folder.relative_to(repo.root)
        result.notes.append(f"core.hooksPath names '{inner}': commit what changed there, if Git tracks it")
    if (repo.root / FRAMEWORK_FILE).exists() and not skipped:
        result.notes.append(f"pre-commit can run these hooks: 'dvlite help hooks' has the lines for {FRAMEWORK_FILE}")
    return result


def uninstall(repo: Repo) -> HooksResult:
    """Take out our blocks and drivers; every file is as it was before."""
    folder = git.hooks_folder(repo.git)
    written = [event for event in EVENTS if _uninstall_one(_path(folder, event))]
    for section in ("merge.dvlite", "diff.dvlite"):
        git.unset_section(repo.git, section)
    _remove_line(repo.git.common / "info" / "attributes", ATTRIBUTES)
    mark(repo, "declined")
    result = status(repo)
    result.written = written
    return result


def mark(repo: Repo, state: str) -> None:
    """Remember that the question of hooks is settled in this clone."""
    path = repo.hooks_note
    if not path.exists() or path.read_text() != state:
        files.write_atomic(path, state.encode(), is_synced=False)


# ---- one file -------------------------------------------------------------------------------------------------------

_ALONE = b"#!/bin/sh\n# made by dvlite\n"
_CALLER = '#!/bin/sh\n{block}if [ -x "$0{kept}" ]; then exec "$0{kept}" "$@"; fi\n'
_CALLED = re.compile(rb'exec "\$0(\.kept-by-dvlite[.0-9]*)" "\$@"; fi\n\Z')


def _install_one(path: Path, event: str) -> bool:
    data = path.read_bytes() if path.is_file() else b""
    text = block(event).encode()
    if text in data and os.access(path, os.X_OK):
        return False
    if BEGIN.encode() in data:
        new = _with_block(_without_block(data), text)
    elif not data and not os.path.lexists(path):
        new = _ALONE + text
    elif _is_shell(data) and os.access(path, os.X_OK) and not path.is_symlink():
        new = _with_block(data, text)
    else:  # not a shell script, switched off, or a link to one that others share
        kept = _free_name(path)
        path.rename(kept)
        new = _CALLER.format(block=text.decode(), kept=kept.name[len(path.name) :]).encode()
    files.write_atomic(path, new, is_synced=False)
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return True


def _is_shell(data: bytes) -> bool:
    """Tell whether lines of `sh` may stand at the top of a hook: pip's scripts look like shell, and are not."""
    return bool(_SHELL.match(data)) and b"\n" in data and not data.split(b"\n")[1].startswith(b"'''exec")


def _free_name(path: Path) -> Path:
    names = (f"{path.name}{KEPT}{number}" for number in ("", *(f".{count}" for count in range(1, 1000))))
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))


def _with_block(data: bytes, text: bytes) -> bytes:
    if data.startswith(_ALONE):
        return _ALONE + text + data[len(_ALONE) :]
    first, newline, rest = data.partition(b"\n")
    return first + (newline or b"\n") + text + rest


def _without_block(data: bytes) -> bytes:
    begin, end = data.find(BEGIN.encode()), data.find(END.encode() + b"\n")
    return data[:begin] + data[end + len(END) + 1 :] if 0 <= begin < end else data


def _is_ours_alone(data: bytes) -> bool:
    return BEGIN.encode() in data and _without_block(data) == _ALONE


def _uninstall_one(path: Path) -> bool:
    data = path.read_bytes() if path.is_file() else b""
    if BEGIN.encode() not in data:
        return False
    left = _without_block(data)
    called = _CALLED.search(left)
    kept = path.with_name(path.name + called[1].decode()) if called else None
    if kept and os.path.lexists(kept) and left.count(b"\n") == 2:
        kept.rename(path)
    elif _is_ours_alone(data):
        path.unlink()
    else:  # somebody's, with or without a call of what was moved aside
        files.write_atomic(path, left, is_synced=False)
    return True


def _add_first_line(path: Path, line: str) -> None:
    """Put a line at the top of a file: so that taking it out leaves every other byte."""
    data = path.read_bytes() if path.exists() else b""
    if line.encode() not in data.split(b"\n"):
        files.write_atomic(path, line.encode() + b"\n" + data, is_synced=False)


def _remove_line(path: Path, line: str) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    left = data.replace(line.encode() + b"\n", b"")
    if not left:
        path.unlink()
    elif left != data:
        files.write_atomic(path, left, is_synced=False)
