"""Progress on a terminal: a bar once the work is long, or (verbose) a line for each phase with its seconds and rate."""

import sys
import threading
import time
from typing import Any

from dvlite.cli import render

_LONG_S = 0.5


class Bars:
    """Implements Progress; the library that draws is imported when the first bar is."""

    def __init__(self, *, is_verbose: bool) -> None:
        self._is_verbose = is_verbose
        self._lock = threading.Lock()
        self._name = ""
        self._total = self._total_files = self._size = self._files = 0
        self._start = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        """Begin a phase."""
        with self._lock:
            self._end()
            self._name, self._total_files, self._total = name, files, size
            self._files = self._size = 0
            self._start = time.monotonic()

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Move the bar, or begin to show it."""
        with self._lock:
            self._files += files
            self._size += size
            if self._is_verbose or not sys.stderr.isatty():
                return
            if self._bar is None and time.monotonic() - self._start > _LONG_S:
                self._begin()
            if self._bar is not None:
                self._bar.update(self._task, completed=self._size, files=f"{self._files:,} files")

    def _begin(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TextColumn("{task.fields[files]}"),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._name, total=self._total or None, files="")
        self._bar.start()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._is_verbose and self._name:
            seconds = time.monotonic() - self._start
            rate = f", {render.size(int(self._size / seconds))}/s" if self._size and seconds else ""
            done = f", {self._files:,} files, {render.size(self._size)}{rate}" if self._files or self._size else ""
            render.note(f"{self._name}: {seconds:.2f} s{done}")

    def close(self) -> None:
        """End the last phase."""
        with self._lock:
            self._end()
            self._name = ""
