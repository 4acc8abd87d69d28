"""Starts a user's command in a folder, with the terminal as it is, so that its output is seen as it comes."""

import contextlib
import os
import subprocess
import threading
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
            copy = threading.Thread(target=_tee, args=(process.stdout, log), daemon=True) if log else None
            try:
                if copy:
                    copy.start()
                code = process.wait()
            except KeyboardInterrupt:  # the terminal told the command too
                code = _ended(process)
            if copy:
                copy.join(0.5)  # what it left in the background may hold the pipe for long
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


def _tee(pipe: IO[bytes], log: Path) -> None:
    with log.open("wb") as file, contextlib.suppress(OSError, ValueError):  # the pipe is closed under it at the end
        while block := os.read(pipe.fileno(), 1 << 16):
            file.write(block)
            file.flush()
            files.write_all(2, block)
