"""Git's config."""

from collections.abc import Callable

from dvlite.git.call import Git, begin, run

SHARED = "core.sharedrepository"


def begin_settings(git: Git) -> Callable[[], list[tuple[str, str, str]]]:
    """Ask for all `dvlite.*` settings, and whom Git shares with, of all config levels: level, key, value; later ones win.

    Return what waits for the answer.
    """
    pattern = rf"^(dvlite\.|{SHARED}$)"
    asked = begin(git, "config", "-z", "--show-scope", "--get-regexp", pattern, is_checked=False)
    return lambda: _settings(asked())


def _settings(output: bytes) -> list[tuple[str, str, str]]:
    parts = output.decode("utf-8", "surrogateescape").split("\0")
    found = []
    for level, text in zip(parts[::2], parts[1::2], strict=False):
        key, _, value = text.partition("\n")
        found.append((level, key, value))
    return found


def set_setting(git: Git, key: str, value: str, *, level: str = "local") -> None:
    """Write one setting to a Git config level."""
    run(git, "config", f"--{level}", key, value)


def add_setting(git: Git, key: str, value: str, *, level: str = "local") -> None:
    """Add a value to a setting that has several."""
    run(git, "config", f"--{level}", "--add", key, value)


def get_value(git: Git, key: str, *, level: str = "") -> str:
    """Return one value of Git's config, of all levels or one; empty where there is none."""
    where = [f"--{level}"] if level else []
    return run(git, "config", *where, "--get", key, is_checked=False).decode("utf-8", "surrogateescape").rstrip("\n")


def unset_section(git: Git, section: str, *, level: str = "local") -> None:
    """Remove a whole section of a Git config level, if it is there."""
    run(git, "config", f"--{level}", "--remove-section", section, is_checked=False)
