"""`dvlite.toml`, the remote's marker, and settings by name: what may stand there, and what each setting means.

Pure: text in, values out. Where settings come from (the committed file, Git's config levels) is the repository's business.
Nothing secret may stand in the committed file. Format: docs/config.md.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dvlite import gate, oid
from dvlite.errors import FormatError, UsageError

FILE = "dvlite.toml"
MAX_BYTES = 1 << 20
FORMAT = 1
MARKER = "dvlite-remote.json"
PROTOCOLS = ("s3", "gs", "az", "sftp", "webdav", "https", "file")

# What the committed file may hand to each protocol's driver: places and manners, never commands or credentials.
OPTIONS = {
    "s3": (
        "endpoint_url",
        "region",
        "profile",
        "anon",
        "requester_pays",
        "use_ssl",
        "acl",
        "sse",
        "addressing_style",
        "driver",
    ),
    "gs": ("endpoint_url", "project", "anon", "requester_pays", "location"),
    "az": ("endpoint_url", "account_name", "anon"),
    "sftp": ("port", "username"),
    "webdav": ("username",),
    "https": (),
    "file": (),
}
_SECRET = (
    r"(?i)secret|password|passphrase|passwd|token|credential|private|connection_string|^auth|authorization|cookie"
    r"|^(access_?)?key(_id)?$|account_key|^sas|_sas$|pkey|^sig"
)
# A colon before an at sign: a password may have slashes in it.
_PASSWORD = r"://[^@]*:[^@]*@"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_ID = r"[0-9a-f]{32}"
_SIZE = r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?"
_UNITS = {
    None: 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_STALE = ("update", "block", "ignore")
_TOP = {
    "dvlite": ("format", "id", "hash", "remote"),
    "policy": ("git_max_size", "stale", "stale_max_size", "append_only", "require"),
    "registry": ("stages",),
    "remote": (),
}
REMOTE_KEYS = ("url", "jobs", "paths", "read_only", "limit_rate", "timeout", "options")


class Remote(NamedTuple):
    """A configured remote. `options` go to its driver; `jobs` is how many transfers run at once.

    `paths`: patterns of what is pushed to it without being asked; `limit_rate`: bytes a second at most, 0 for all there is.
    """

    name: str
    url: str
    jobs: int = 8
    paths: tuple[str, ...] = ()
    is_read_only: bool = False
    limit_rate: int = 0
    timeout_s: float = 60
    options: Mapping[str, Any] = MappingProxyType({})


class Config(NamedTuple):
    """What `dvlite.toml` says. Sizes in bytes."""

    id: str
    hash: str = oid.DEFAULT_ALGORITHM
    remote: str = ""
    remotes: Mapping[str, dict[str, Any]] = MappingProxyType({})
    policy: Mapping[str, Any] = MappingProxyType({})
    stages: Mapping[str, dict[str, Any]] = MappingProxyType({})

    def gates(self, stage: str) -> list[str]:
        """Return what a version must meet before it may be in a stage of the registry."""
        return list(self.stages.get(stage, {}).get("require", []))


def encode_new(id_: str, algorithm: str) -> bytes:
    """Return the text of a new `dvlite.toml`."""
    return f'[dvlite]\nformat = {FORMAT}\nid = "{id_}"\nhash = "{algorithm}"\n'.encode()


def decode(data: bytes, name: str = FILE) -> Config:
    """Read `dvlite.toml`; unknown keys, credentials and unsafe URLs are refused, each by name."""
    if len(data) > MAX_BYTES:
        raise FormatError(f"'{name}' is too large", f"Restore it with 'git checkout -- {name}'.")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"malformed '{name}': {exc}", f"Restore it with 'git checkout -- {name}'.") from exc
    for key, table in values.items():
        _check_key(key, tuple(_TOP), f"'{name}'")
        if not isinstance(table, dict):
            raise FormatError(f"'{name}': '{key}' must be a table")
        for below in table if key != "remote" else ():
            _check_key(below, _TOP[key], f"'{name}' [{key}]")
    head = values.get("dvlite", {})
    _check_head(head, name)
    _check_policy(values.get("policy", {}), name)
    for remote, table in values.get("remote", {}).items():
        _check_remote(remote, table, name)
    return Config(
        id=head["id"],
        hash=head.get("hash", oid.DEFAULT_ALGORITHM),
        remote=head.get("remote", ""),
        remotes=values.get("remote", {}),
        policy=values.get("policy", {}),
        stages=_stages(values.get("registry", {}).get("stages", {}), name),
    )


def _check_key(key: str, known: tuple[str, ...], where: str) -> None:
    if key not in known:
        import difflib  # needed only here

        near = difflib.get_close_matches(key, known, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(known)}."
        raise FormatError(f"{where}: unknown key '{key}'", hint)


def _check_head(head: dict[str, Any], name: str) -> None:
    version = head.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise FormatError(f"'{name}' has format {version}: written by a newer dvlite", "Update dvlite.")
    if version != FORMAT or version is True or not isinstance(head.get("id"), str) or not re.fullmatch(_ID, head["id"]):
        raise FormatError(
            f"'{name}' lacks 'format' or 'id' in [dvlite]",
            "Run 'dvlite init' in a new repository, or restore the file with Git.",
        )
    if not oid.is_algorithm(head.get("hash", oid.DEFAULT_ALGORITHM)):
        raise FormatError(f"'{name}': unknown hash '{head['hash']}'", f"Known are: {', '.join(oid.ALGORITHMS)}.")
    if not isinstance(head.get("remote", ""), str):
        raise FormatError(f"'{name}': 'remote' must be a name")


def _stages(stages: Any, name: str) -> Mapping[str, dict[str, Any]]:
    if not isinstance(stages, dict) or not all(isinstance(table, dict) for table in stages.values()):
        raise FormatError(f"'{name}': registry.stages must be a table of tables")
    for stage, table in stages.items():
        for key in table:
            _check_key(key, ("require",), f"'{name}' [registry.stages.{stage}]")
        _check_texts(table.get("require", []), f"'{name}': registry.stages.{stage}.require")
        for text in table.get("require", []):
            if text != "repro":
                gate.parse(text)
    return stages


def _check_texts(value: Any, what: str) -> None:
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip("./ ") for one in value):
        raise FormatError(f"{what} must be a list of texts", 'For example: ["raw_data/**"]')


def _check_policy(policy: dict[str, Any], name: str) -> None:
    if policy.get("stale", "update") not in _STALE:
        raise FormatError(f"'{name}': policy.stale must be one of {', '.join(_STALE)}")
    _check_texts(policy.get("append_only", []), f"'{name}': policy.append_only")
    require = policy.get("require", [])
    for keys in require.values() if isinstance(require, dict) else [require]:
        _check_texts(keys, f"'{name}': policy.require")
    for key in ("git_max_size", "stale_max_size"):
        if key in policy:
            parse_size(policy[key])


def _check_remote(remote: str, table: Any, name: str) -> None:
    check_name(remote)
    if not isinstance(table, dict) or not isinstance(table.get("url", ""), str):
        raise FormatError(f"'{name}': remote '{remote}' must be a table with a url")
    for key in table:
        _check_key(key, REMOTE_KEYS, f"'{name}' [remote.{remote}]")
    _check_types(remote, table)
    protocol = check_url(table["url"]) if "url" in table else ""
    for key, value in table.get("options", {}).items():
        command = f"'dvlite remote set --local {remote} {key} VALUE'"
        if is_secret(key):
            raise FormatError(
                f"'{name}': remote '{remote}' has a credential in it ('{key}')",
                f"Remove it there, change it if it was ever committed, and set it with {command}.",
            )
        if isinstance(value, str) and re.search(_PASSWORD, value):
            raise FormatError(
                f"'{name}': option '{key}' of remote '{remote}' has a password in it", f"Set it with {command}."
            )
        if key not in OPTIONS.get(protocol, ()):
            raise FormatError(
                f"'{name}': option '{key}' of remote '{remote}' is not one that a committed file may set",
                f"Set it for this machine with {command}.",
            )


def _check_types(remote: str, table: dict[str, Any]) -> None:
    """Refuse values of a wrong type, wherever they come from."""
    jobs = table.get("jobs", 8)
    if type(jobs) is not int or not 1 <= jobs <= 256:
        raise FormatError(f"remote '{remote}': jobs must be a number from 1 to 256")
    if type(table.get("read_only", False)) is not bool:
        raise FormatError(f"remote '{remote}': read_only must be true or false")
    paths = table.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
        hint = f"""Write it like: dvlite remote set {remote} paths '["models/**"]'"""
        raise FormatError(f"remote '{remote}': paths must be a list of patterns", hint)
    if "limit_rate" in table:
        parse_size(table["limit_rate"])
    timeout = table.get("timeout", 60)
    if type(timeout) not in (int, float) or not 0 < timeout <= 3600:
        raise FormatError(f"remote '{remote}': timeout must be a number of seconds, up to 3600")
    if not isinstance(table.get("options", {}), dict):
        raise FormatError(f"remote '{remote}': options must be a table")


def check_name(name: str) -> None:
    """Refuse a remote's name that would not fit into files and Git config."""
    if not re.fullmatch(_NAME, name):
        raise UsageError(f"'{name}' can't be a remote's name", "Use letters, digits, '.', '_' and '-'.")


def is_secret(key: str) -> bool:
    """Tell whether an option's name looks like a credential's."""
    return bool(re.search(_SECRET, key.replace("-", "_")))


def protocol_of(url: str) -> str:
    """Return a URL's protocol; `file` for a plain path."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else "file"


_ALIASES = {
    "gcs": "gs", "abfs": "az", "ssh": "sftp", "dav": "webdav", "davs": "webdav", "webdavs": "webdav", "http": "https"
}  # fmt: skip


def check_url(url: str) -> str:
    """Return a URL's protocol; refuses chained URLs, unknown protocols and credentials in it."""
    if not url:
        raise FormatError("a remote's url is empty")
    protocol = _ALIASES.get(protocol_of(url), protocol_of(url))
    if "::" in url or protocol not in PROTOCOLS:
        raise FormatError(
            f"'{redact(url)}' is not a URL that dvlite accepts",
            f"Use a folder, or one of: {', '.join(f'{one}://' for one in PROTOCOLS[:-1])}.",
        )
    if protocol != "file" and not url.partition("://")[2].strip("/"):
        raise FormatError(f"'{redact(url)}' names no bucket or server", "Write it like 's3://bucket/folder'.")
    if protocol != "file" and ("?" in url or "#" in url):
        raise FormatError(
            f"'{redact(url)}' has a query in it", "Leave it out, and set secrets with 'dvlite remote set --local'."
        )
    if protocol != "file" and re.search(_PASSWORD, url):
        hint = "Leave it out, and set it with 'dvlite remote set --local NAME password VALUE'."
        raise FormatError(f"'{redact(url)}' has a password in it", hint)
    return protocol


def redact(url: str) -> str:
    """Return a URL without password and query, for messages."""
    return re.sub(_PASSWORD, "://***@", re.sub(r"(://[^?]*)\?.*", r"\1?***", url))


def is_below(url: str, prefix: str) -> bool:
    """Tell whether a URL is a prefix or lies below it, at a boundary: the same server, and whole parts of the path."""
    plain = prefix.rstrip("/")
    return bool(plain) and (url.rstrip("/") == plain or url.startswith(f"{plain}/"))


def parse_size(value: object) -> int:
    """Return bytes of `100 MB`, `1.5GiB` or a number."""
    if type(value) is int and value >= 0:
        return value
    found = re.fullmatch(_SIZE, value.strip()) if isinstance(value, str) else None
    if not found:
        raise FormatError(f"'{value}' is not a size", "Write it like '100 MB' or '1.5 GiB'.")
    return int(float(found[1]) * _UNITS[found[2]])


def parse_value(text: str) -> Any:
    """Read a value from Git config: TOML where it parses, else the string itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        return text


def remote(name: str, table: dict[str, Any]) -> Remote:
    """Build a remote from its settings, committed and per machine together."""
    if not isinstance(table.get("url"), str):
        raise UsageError(f"remote '{name}' has no url", f"Set one with 'dvlite remote add {name} URL'.")
    _check_types(name, table)
    return Remote(
        name=name,
        url=table["url"],
        jobs=table.get("jobs", 8),
        paths=tuple(table.get("paths", ())),
        is_read_only=table.get("read_only", False),
        limit_rate=parse_size(table.get("limit_rate", 0)),
        timeout_s=table.get("timeout", 60),
        options=dict(table.get("options", {})),
    )


def encode_marker() -> bytes:
    """Return the marker that says a folder is a dvlite remote, and of which format."""
    return json.dumps({"dvlite": {"format": FORMAT}}, separators=(",", ":")).encode() + b"\n"


def decode_marker(data: bytes) -> int:
    """Return the format version that a remote's marker names; a version that is not known is refused."""
    try:
        version = json.loads(data)["dvlite"]["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise FormatError(f"'{MARKER}' is not a remote marker") from exc
    if version != FORMAT:
        raise FormatError(f"the remote has format {version!r}, this dvlite knows {FORMAT}", "Update dvlite.")
    if data != encode_marker():
        raise FormatError(f"'{MARKER}' is not in the one form that dvlite writes")
    return FORMAT
