"""Configure remotes: in the committed `dvlite.toml`, or (per machine, and for secrets always) in Git's config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from dvlite import config, files, git, remotes
from dvlite.config import FILE
from dvlite.errors import UsageError
from dvlite.repo import Repo
from dvlite.stores.remote import drivers


@dataclass(frozen=True, slots=True)
class Described:
    """A remote as it stands; of its options only the names of secret ones are shown."""

    name: str
    url: str
    is_default: bool
    jobs: int
    is_read_only: bool
    options: dict[str, str]


@dataclass(slots=True)
class RemoteResult:
    """What was written, and where: `dvlite.toml` or a level of Git's config."""

    name: str
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def listed(repo: Repo) -> list[Described]:
    """Return all remotes, the default first."""
    default = remotes.default_name(repo.config, repo.settings)
    found = []
    for name in remotes.names(repo.config, repo.settings):
        remote = remotes.resolve(name, repo.config, repo.settings)
        options = {key: "(secret)" if config.is_secret(key) else str(value) for key, value in remote.options.items()}
        found.append(
            Described(name, config.redact(remote.url), name == default, remote.jobs, remote.is_read_only, options)
        )
    return found


def add(
    repo: Repo,
    name: str,
    url: str,
    *,
    options: dict[str, str],
    is_default: bool = False,
    level: str = "",
    is_forced: bool = False,
) -> RemoteResult:
    """Add a remote; the first one is the default. `level`: "local" or "global" for Git's config instead of `dvlite.toml`."""
    config.check_name(name)
    _check_place(repo, url)
    if name in remotes.names(repo.config, repo.settings) and not is_forced:
        raise UsageError(
            f"remote '{name}' exists", f"Change it with 'dvlite remote set {name} KEY VALUE', or use --force."
        )
    result = RemoteResult(name)
    is_first = is_default or not remotes.default_name(repo.config, repo.settings)
    values: dict[str, str] = {"url": url, **options}
    if not level:
        _check_edit(repo, name, values)
    for key, value in values.items():
        _set(repo, name, key, value, level, result, url)
    if is_first:
        if level:
            git.set_setting(repo.git, "dvlite.remote", name, level=level)
        else:
            _edit(repo, lambda document: document["dvlite"].__setitem__("remote", name))
        result.notes.append(f"'{name}' is the default remote")
    if command := drivers.lacking(url):
        result.notes.append(f"to use it here, install what it needs: {command}")
    if not level and (endpoint := options.get("endpoint_url")):
        git.add_setting(repo.git, "dvlite.trust", endpoint)  # whoever adds it trusts it
    return result


def change(repo: Repo, name: str, key: str, value: str, *, level: str = "") -> RemoteResult:
    """Set one key of a remote."""
    remote = remotes.resolve(name, repo.config, repo.settings)
    result = RemoteResult(name)
    key = key.replace("-", "_")
    if key == "url":
        _check_place(repo, value)
    _set(repo, name, key, value, level, result, remote.url)
    if key == "endpoint_url" and not level:
        git.add_setting(repo.git, "dvlite.trust", value)
    return result


def _check_place(repo: Repo, url: str) -> None:
    """Refuse a URL that is none, or a folder in this worktree: what Git or dvlite check out there would take the remote away."""
    if config.check_url(url) == "file":
        place = (repo.root / Path(url.removeprefix("file://")).expanduser()).resolve()
        root = repo.root.resolve()
        if place == root or root in place.parents:
            raise UsageError(f"'{url}' lies in this repository", "Name a folder outside of it.")


def _set(repo: Repo, name: str, key: str, value: str, level: str, result: RemoteResult, url: str) -> None:
    if config.is_secret(key):
        level = level or "local"
        git.set_setting(repo.git, f"dvlite.{url}.{key.replace('_', '-')}", value, level=level)
        result.notes.append(
            f"'{key}' looks like a secret: it is kept in Git's {level} config, bound to {config.redact(url)}"
        )
        result.written.append(f"git config --{level}")
    elif level:
        git.set_setting(repo.git, f"dvlite.remote.{name}.{key.replace('_', '-')}", value, level=level)
        result.written.append(f"git config --{level}")
    else:
        _edit(repo, lambda document: _put(document, name, key, value))
        result.written.append(FILE)


def _put(document: Any, name: str, key: str, value: str) -> None:
    parsed: Any = value if key == "url" else config.parse_value(value)
    tables = document.setdefault("remote", tomlkit.table(is_super_table=True))
    table = tables.setdefault(name, tomlkit.table())
    if key in config.REMOTE_KEYS:
        table[key] = parsed
    else:
        table.setdefault("options", tomlkit.table())[key] = parsed


def _check_edit(repo: Repo, name: str, values: dict[str, str]) -> None:
    """Refuse values that may not stand in the committed file, before the first is written."""
    document = tomlkit.parse((repo.root / FILE).read_text())
    for key, value in values.items():
        if not config.is_secret(key):
            _put(document, name, key, value)
    config.decode(tomlkit.dumps(document).encode())


def _edit(repo: Repo, edit: Any) -> None:
    """Change `dvlite.toml`, keeping its comments; what would not be valid is refused before it is written."""
    path = repo.root / FILE
    document = tomlkit.parse(path.read_text())
    edit(document)
    data = tomlkit.dumps(document).encode()
    config.decode(data)
    if data != path.read_bytes():
        files.write_atomic(path, data, folder=repo.tmp(path.parent))
        if repo.setting("autostage", "true") != "false":
            git.stage(repo.git, [FILE])
    vars(repo).pop("config", None)
    vars(repo).pop("settings", None)


def remove(repo: Repo, name: str) -> RemoteResult:
    """Remove a remote from `dvlite.toml` and from Git's local config; nothing on the remote is touched."""
    if name not in remotes.names(repo.config, repo.settings):
        raise UsageError(f"there is no remote '{name}'", "See 'dvlite remote list'.")

    def edit(document: Any) -> None:
        document.get("remote", {}).pop(name, None)
        if "remote" in document and not document["remote"]:
            document.pop("remote")
        if document["dvlite"].get("remote") == name:
            document["dvlite"].pop("remote")

    _edit(repo, edit)
    files.remove_folder(
        repo.git.common / "dvlite" / "remotes" / name
    )  # what was known of it is not of the next of that name
    section = f"dvlite.remote.{name}"
    for level in {level for level, key, _ in repo.settings if key.startswith(f"{section}.")}:
        git.unset_section(repo.git, section, level=level)
    return RemoteResult(name, [FILE])


def trust(repo: Repo, name: str) -> str:
    """Allow credentials to go to a remote's custom endpoint, in this clone; return the endpoint."""
    endpoint = remotes.untrusted_endpoint(name, repo.config, repo.settings)
    if endpoint:
        git.add_setting(repo.git, "dvlite.trust", endpoint)
        vars(repo).pop("settings", None)
    return endpoint
