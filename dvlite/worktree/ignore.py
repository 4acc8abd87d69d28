"""Which files a scan leaves out: the built-in names, and `.dvliteignore` files (gitignore syntax) in any folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvlite.errors import FormatError

if TYPE_CHECKING:
    from pathspec import PathSpec

FILE = ".dvliteignore"
BUILT_IN = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".dvlite-tmp"})


class Ignore(NamedTuple):
    """The rules that hold in a folder: specs, each with the in-repo folder that it is relative to, outermost first."""

    specs: tuple[tuple[str, PathSpec], ...] = ()  # type: ignore[type-arg]

    def within(self, folder: str, path: Path) -> Ignore:
        """Return the rules that hold below `folder` (in-repo), whose ignore file is at `path`."""
        from pathspec import GitIgnoreSpec  # needs 50 ms, and only where there is an ignore file

        if not path.is_file():  # a FIFO, a dangling link
            return self
        lines = path.read_text(errors="surrogateescape").splitlines()
        try:
            return Ignore((*self.specs, (folder, GitIgnoreSpec.from_lines(lines))))
        except ValueError as exc:
            raise FormatError(
                f"'{path}' has a pattern that is not valid: {exc}", "Patterns are those of gitignore."
            ) from exc

    def has(self, path: str, *, is_folder: bool = False) -> bool:
        """Tell whether an in-repo path is left out; the innermost rule that speaks of it decides."""
        for folder, spec in reversed(self.specs):
            inner = path[len(folder) + 1 :] if folder else path
            verdict = spec.check_file(f"{inner}/" if is_folder else inner).include
            if verdict is not None:
                return bool(verdict)
        return False


def rules_for(root: Path, tracked: str) -> Ignore:
    """Return the rules that hold at a tracked path, from the ignore files of the folders above it."""
    rules = Ignore()
    folder = ""
    for part in ["", *tracked.split("/")[:-1]]:
        folder = f"{folder}/{part}".strip("/")
        path = root / folder / FILE
        if path.is_file():
            rules = rules.within(folder, path)
    return rules
