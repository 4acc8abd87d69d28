"""A configured remote's name to a store: settings of the committed file and of this machine put together, trust checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dvlite import config
from dvlite.config import Config, Remote
from dvlite.errors import RemoteError, UsageError
from dvlite.stores.remote import RemoteStore

if TYPE_CHECKING:
    import pathspec

Settings = Sequence[tuple[str, str, str]]  # level, key, value; of Git's config


def names(committed: Config, settings: Settings) -> list[str]:
    """Return the names of all remotes, the default first."""
    found = dict.fromkeys(committed.remotes)
    for _, key, _ in settings:
        parts = key.split(".")
        if len(parts) >= 4 and parts[1] == "remote":
            found[".".join(parts[2:-1])] = None
    default = default_name(committed, settings)
    return sorted(found, key=lambda name: (name != default, name))


def default_name(committed: Config, settings: Settings) -> str:
    """Return the default remote's name, empty where there is none."""
    local = [value for _, key, value in settings if key == "dvlite.remote"]
    return local[-1] if local else committed.remote


class Routes(NamedTuple):
    """Which remote a path is pushed to: the first one whose `paths` match it, else the default one (may be empty)."""

    patterns: Sequence[tuple[str, "pathspec.GitIgnoreSpec"]]
    default: str

    def of(self, path: str) -> str:
        """Return the remote of a tracked path; a pattern of what lies in a folder means the folder too."""
        for name, spec in self.patterns:
            if spec.match_file(path) or spec.match_file(f"{path}/_"):
                return name
        return self.default

    def sources(self, path: str, known: Sequence[str]) -> list[str]:
        """Return the remotes to ask for a path, in order: its own, the default, the others."""
        return [name for name in dict.fromkeys([self.of(path), self.default, *known]) if name]


def routes(committed: Config, settings: Settings) -> Routes:
    """Return how paths are shared out among remotes."""
    patterns = []
    for name in names(committed, settings):
        if paths := resolve(name, committed, settings).paths:
            import pathspec  # needs 10 ms, and few have routes

            patterns.append((name, pathspec.GitIgnoreSpec.from_lines(paths)))
    return Routes(patterns, default_name(committed, settings))


def resolve(name: str, committed: Config, settings: Settings) -> Remote:
    """Return a remote with all its settings; UsageError where there is none of that name."""
    if not name:
        raise UsageError("no remote is configured", "Add one with 'dvlite remote add origin URL'.")
    known = names(committed, settings)
    if name not in known:
        raise UsageError(
            f"there is no remote '{name}'", f"Known are: {', '.join(known) or 'none'}. See 'dvlite remote add'."
        )
    table: dict[str, Any] = dict(committed.remotes.get(name, {}))
    table["options"] = dict(table.get("options", {}))
    prefix = f"dvlite.remote.{name}."
    for _, key, value in settings:
        if key.startswith(prefix) and key != f"{prefix}options":
            _put(table, key[len(prefix) :], value)
    for _, key, value in settings:  # bound to a URL, so that a remote that moves takes no credentials along
        url, _, option = key.removeprefix("dvlite.").rpartition(".")
        if "/" in url and config.is_below(str(table.get("url", "")), url):
            _put(table, option, value)
    return config.remote(name, table)


def _put(table: dict[str, Any], key: str, value: str) -> None:
    name = key.replace("-", "_")
    if name in config.REMOTE_KEYS:
        table[name] = value if name == "url" else config.parse_value(value)
    else:
        table["options"][name] = value if config.is_secret(name) else config.parse_value(value)


def untrusted_endpoint(name: str, committed: Config, settings: Settings) -> str:
    """Return the custom endpoint that only the committed file brings and that nobody here has trusted; else empty."""
    endpoint = committed.remotes.get(name, {}).get("options", {}).get("endpoint_url", "")
    remote = resolve(name, committed, settings)
    if not endpoint or remote.options.get("endpoint_url") != endpoint or remote.options.get("anon"):
        return ""
    trusted = [value for _, key, value in settings if key == "dvlite.trust"]
    return "" if any(config.is_below(endpoint, prefix) for prefix in trusted) else str(endpoint)


def open_store(
    name: str, committed: Config, settings: Settings, *, root: Path, folder: Path, rate: int = 0
) -> RemoteStore:
    """Open a remote's store. A relative folder is relative to the repository's `root`; `folder` keeps what is known of it.

    `rate`: bytes a second at most, over what the settings say, if it isn't 0.
    """
    remote = resolve(name, committed, settings)
    remote = remote._replace(limit_rate=rate or remote.limit_rate)
    if endpoint := untrusted_endpoint(name, committed, settings):
        raise RemoteError(
            f"remote '{name}' wants to be reached at '{endpoint}', which this clone's {config.FILE} brought",
            f"If your credentials may go there, run 'dvlite remote trust {name}'.",
        )
    if config.check_url(remote.url) == "file":
        path = Path(remote.url.removeprefix("file://")).expanduser()
        remote = remote._replace(url=str(root / path))
    return RemoteStore(remote, folder / "remotes" / name)
