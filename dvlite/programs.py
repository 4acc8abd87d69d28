"""Starts a user's command in a folder, with the terminal as it is, so that its output is seen as it comes."""

import contextlib
import math
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from dvlite import files
from dvlite.errors import DvliteError


def run(
    command: Sequence[str],
    folder: Path,
    *,
    is_silent: bool = False,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command and return its exit code; 128 and the signal's number where a signal ended it, as shells say.

    What it prints goes to standard error where `is_silent`, so that standard output has nothing but our own; and to `log` too.
    """
    output = subprocess.PIPE if log else 2 if is_silent else None
    env = {**os.environ, **environment} if environment else None
    try:
        with subprocess.Popen(
            list(command), cwd=folder, stdout=output, stderr=subprocess.STDOUT if log else None, env=env
        ) as process:
            with _Tee(process.stdout, log) if log and process.stdout else contextlib.nullcontext():
                try:
                    code = process.wait()
                except KeyboardInterrupt:  # the terminal told the command too
                    code = _ended(process)
    except FileNotFoundError as exc:
        raise DvliteError(f"there is no program '{command[0]}'", "See that it is on the PATH.") from exc
    except PermissionError as exc:
        raise DvliteError(f"'{command[0]}' can't be run: {exc.strerror}", "Make it executable: chmod +x.") from exc
    return code if code >= 0 else 128 - code


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait a little for a command that was interrupted, then end it; return 130, as shells say."""
    try:
        process.wait(10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    return 130


class _Tee:
    """Copies what comes out of a pipe to a log and to standard error, until the block ends and what has come by then is taken."""

    def __init__(self, pipe: IO[bytes], log: Path) -> None:
        self._fd = os.dup(pipe.fileno())  # of its own: a number that is closed elsewhere may be another file's soon
        self._log = log
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> "_Tee":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()  # what the command left in the background may hold the pipe for long
        self._thread.join()

    def _copy(self) -> None:
        try:
            with self._log.open("wb") as file:
                end = math.inf
                while time.monotonic() < end:
                    is_over = self._is_over.is_set()  # before the look: what came until then is taken
                    end = min(end, time.monotonic() + 1) if is_over else end  # something may go on writing
                    is_there = bool(select.select([self._fd], [], [], 0 if is_over else 0.05)[0])
                    block = os.read(self._fd, 1 << 16) if is_there else b""
                    if (is_there and not block) or (is_over and not is_there):
                        return
                    file.write(block)
                    files.write_all(2, block)
        finally:
            os.close(self._fd)
