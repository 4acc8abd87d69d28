"""Show and set settings, each with where it comes from."""

import difflib
import tomllib
from dataclasses import dataclass
from typing import Any

from dvlite import config, git
from dvlite.errors import UsageError
from dvlite.repo import SETTINGS, Repo, check_setting


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that holds, and where it comes from: `dvlite.toml` or a level of Git's config."""

    key: str
    value: str
    origin: str


def settings(repo: Repo, key: str = "") -> list[Setting]:
    """Return all settings, or those of one key; secrets are not shown."""
    found = [
        Setting(name, str(value), config.FILE)
        for name, value in _flat(tomllib.loads((repo.root / config.FILE).read_text()), "")
    ]
    for level, name, value in repo.settings:
        if not name.startswith("dvlite."):
            continue
        short = name.removeprefix("dvlite.")
        found.append(Setting(config.redact(short), _shown(short, value), f"git config --{level}"))
    wanted = _canonical(key)
    return [one for one in found if not key or one.key == wanted]


def _shown(key: str, value: str) -> str:
    return "(secret)" if config.is_secret(key.rpartition(".")[2]) else config.redact(value)


def _canonical(key: str) -> str:
    return key.removeprefix("dvlite.")


def _flat(table: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}." if prefix or key != "dvlite" else "")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def set_value(repo: Repo, key: str, value: str, *, level: str = "local") -> Setting:
    """Set a setting of this machine in Git's config."""
    name = _canonical(key)
    name = name.lower() if name.lower() in SETTINGS else name
    is_remotes = name.startswith("remote.") and name.count(".") >= 2
    if name not in SETTINGS and not is_remotes and "/" not in name:
        near = difflib.get_close_matches(name.lower(), SETTINGS, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(SETTINGS)}."
        raise UsageError(f"unknown setting '{key}'", hint)
    check_setting(name, value)
    git.set_setting(repo.git, f"dvlite.{name}", value, level=level)
    return Setting(config.redact(name), _shown(name, value), f"git config --{level}")
