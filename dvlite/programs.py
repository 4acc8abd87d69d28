"""Starts a user's command in a folder, with the terminal as it is, so that its output is seen as it comes."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from dvlite.errors import DvliteError


def run(command: Sequence[str], folder: Path, *, is_silent: bool = False) -> int:
    """Run a command and return its exit code; 128 and the signal's number where a signal ended it, as shells say.

    What it prints goes to standard error where `is_silent`, so that standard output has nothing but our own.
    """
    try:
        output = 2 if is_silent else None
        code = subprocess.run(list(command), cwd=folder, check=False, stdout=output).returncode
    except FileNotFoundError as exc:
        raise DvliteError(f"there is no program '{command[0]}'", "See that it is on the PATH.") from exc
    except PermissionError as exc:
        raise DvliteError(f"'{command[0]}' can't be run: {exc.strerror}", "Make it executable: chmod +x.") from exc
    return code if code >= 0 else 128 - code
