"""Where a command's time goes, for `--profile FILE`: its phases, and what the main thread was at, looked at 200 times a second.

The file is in the Trace Event Format (JSON), which Perfetto, speedscope and Chrome's `about:tracing` show as a flame chart.
"""

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from dvlite.errors import UsageError
from dvlite.progress import Progress

_EVERY_S = 0.005
_OURS = f"{os.sep}dvlite{os.sep}"


class Trace:
    """Looks at the main thread by the kernel's timer: no thread of its own, and forks are left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic_ns() - _age_ns()
        self._events: list[dict[str, Any]] = []
        self._stack: list[tuple[str, int]] = []  # names of what is open, and since when
        self._phase = ("start", self._began)
        self._files = self._size = 0
        self._is_looking = False
        try:
            path.open("xb").close()  # what can't be written is said now
        except FileExistsError as exc:
            raise UsageError(f"'{path}' is there already", "Name a file that isn't.") from exc
        signal.signal(signal.SIGALRM, self._look)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, _EVERY_S, _EVERY_S)

    def _look(self, _: int, frame: FrameType | None) -> None:
        if self._is_looking:  # it took longer than the timer waits
            return
        self._is_looking = True
        names = []
        while frame:
            if _OURS in frame.f_code.co_filename:
                room = frame.f_code.co_filename.rpartition(_OURS)[2].removesuffix(".py").removesuffix("/__init__")
                names.append(f"{room}:{frame.f_code.co_qualname}")
            frame = frame.f_back
        self._settle(names[::-1])
        self._is_looking = False

    def _settle(self, names: list[str]) -> None:
        """Close what is over and open what is new."""
        now = time.monotonic_ns()
        same = 0
        while same < min(len(names), len(self._stack)) and names[same] == self._stack[same][0]:
            same += 1
        for name, since in reversed(self._stack[same:]):
            self._note(name, since, now, "calls")
        self._stack[same:] = [(name, now) for name in names[same:]]

    def _note(self, name: str, since: int, now: int, track: str, **told: object) -> None:
        micros = {"ts": (since - self._began) / 1000, "dur": (now - since) / 1000}
        self._events.append({"name": name, "ph": "X", "pid": os.getpid(), "tid": track, **micros, "args": told})

    def phase(self, name: str) -> None:
        """End the phase in hand, and begin one."""
        now = time.monotonic_ns()
        self._note(*self._phase, now, "phases", files=self._files, bytes=self._size)
        self._phase = (name, now)
        self._files = self._size = 0

    def count(self, files: int, size: int) -> None:
        """Add to the phase in hand."""
        self._files += files
        self._size += size

    def write(self) -> None:
        """Stop, and write the file."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._settle([])
        self.phase("")
        self._events.sort(key=lambda event: (event["ts"], -event["dur"]))  # whoever calls before who is called
        self._path.write_text(json.dumps({"traceEvents": self._events, "displayTimeUnit": "ms"}))


class Traced:
    """Passes progress on, and tells a trace of it."""

    def __init__(self, inner: Progress, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def phase(self, name: str, *, files: int = 0, size: int = 0) -> None:
        """Begin a phase."""
        self._trace.phase(name)
        self._inner.phase(name, files=files, size=size)

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Add what was done."""
        self._trace.count(files, size)
        self._inner.advance(files=files, size=size)

    def close(self) -> None:
        """Take away what the inner one shows."""
        if close := getattr(self._inner, "close", None):
            close()


def _age_ns() -> int:
    """Return how long this process has run, where the kernel tells."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 10**9 // os.sysconf("SC_CLK_TCK"))
    return 0
