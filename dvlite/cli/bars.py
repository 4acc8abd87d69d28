"""Progress on a terminal: a bar once the work is long, or (verbose) a line for each phase with its seconds and rate."""

import sys
import threading
import time
from typing import Any

from dvlite.cli import render

_LONG_S = 0.5
_SHORT_S = 0.1  # phases that take less and come again and again are told together


class _Told:
    """What is told of a phase, or of several of one name."""

    def __init__(self) -> None:
        self.times = self.files = self.size = 0
        self.seconds = 0.0

    def add(self, seconds: float, files: int, size: int) -> None:
        self.times += 1
        self.seconds += seconds
        self.files += files
        self.size += size

    def __str__(self) -> str:
        rate = f", {render.size(int(self.size / self.seconds))}/s" if self.size and self.seconds else ""
        done = f", {self.files:,} files, {render.size(self.size)}{rate}" if self.files or self.size else ""
        return f"{self.seconds:.2f} s{done}" + (f", {self.times:,} times" if self.times > 1 else "")


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
        self._told: dict[str, _Told] = {}  # what is still to be told, by phase

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
            self._told.setdefault(self._name, _Told()).add(seconds, self._files, self._size)
            if seconds >= _SHORT_S:
                self._tell()

    def _tell(self) -> None:
        for name, told in self._told.items():
            render.note(f"{name}: {told}")
        self._told.clear()

    def close(self) -> None:
        """End the last phase."""
        with self._lock:
            self._end()
            self._tell()
            self._name = ""
