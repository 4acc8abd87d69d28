"""How long work reports itself: the Progress protocol, and the silent one that is the default.

The library never prints. Whoever calls it may hand in an object with these two methods; `cli.render` draws bars.
"""

from typing import Protocol


class Progress(Protocol):
    """Receives the phases of a command and how far each is. Called from several threads."""

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        """Begin a phase; `files` and `size` (bytes) are its totals, 0 where they are unknown."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Add what was done since the last call."""


class Silent:
    """Says nothing."""

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        """Say nothing."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Say nothing."""


class FilesOnly:
    """Passes on how many files; of bytes somebody else tells."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        """Begin a phase."""
        self._inner.phase(name, files=files, size=size)

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Add files."""
        self._inner.advance(files=files)


SILENT = Silent()
