"""SFTP, by paramiko: one login, a channel for each transfer, requests sent ahead. Hosts and keys as OpenSSH's own files say."""

import contextlib
import io
import queue
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import paramiko

from dvlite.errors import RemoteError
from dvlite.stores.remote.drivers.base import Advance, Listed, Page, Walking

_CHANNELS = 8  # OpenSSH lets a login have ten
_STEP = 1 << 20


class Sftp(Walking):
    """A folder on a host."""

    is_atomic = False

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        parts = urlsplit(url)
        self.root = unquote(parts.path) or "/"
        self.timeout_s = timeout_s
        host = parts.hostname or ""
        if host.startswith("-") or (parts.username or "").startswith("-"):  # an option of what ~/.ssh/config may call
            raise RemoteError(f"'{host}' is no host", "Check the url with 'dvlite remote list'.")
        self._login = (host, parts.username, parts.port, options)
        self._lock = threading.Lock()
        self._client = self._connect(*self._login)
        self._idle: queue.LifoQueue[paramiko.SFTPClient] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(_CHANNELS)
        self._folders: set[str] = set()

    # ---- the connection ----

    def _connect(self, host: str, user: str | None, port: int | None, given: Mapping[str, Any]) -> paramiko.SSHClient:
        options = dict(given)
        known = _ssh_config(host)
        policy = options.pop("host_key_policy", "reject")
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        if hosts := options.pop("known_hosts", ""):
            client.load_host_keys(str(Path(hosts).expanduser()))
        client.set_missing_host_key_policy(
            paramiko.AutoAddPolicy() if policy == "auto_add" else paramiko.RejectPolicy()
        )
        asked = {
            "port": int(options.pop("port", None) or port or known.get("port", 22)),
            "username": options.pop("username", None) or user or known.get("user"),
            "key_filename": options.pop("key_filename", None) or known.get("identityfile"),
            **options,
        }
        if command := known.get("proxycommand"):
            asked["sock"] = paramiko.ProxyCommand(command)
        self.source = _source(asked)
        asked = {key: value for key, value in asked.items() if value is not None}
        wait = {"timeout": self.timeout_s, "banner_timeout": self.timeout_s, "auth_timeout": self.timeout_s}
        try:
            client.connect(known.get("hostname", host), **wait, **asked)
        except paramiko.AuthenticationException as exc:
            raise PermissionError(str(exc)) from exc
        except paramiko.SSHException as exc:
            if "not found in known_hosts" in str(exc):
                raise RemoteError(
                    f"the key of host '{host}' is not known here",
                    f"Look at it with 'ssh {host}', or trust it with 'dvlite remote set --local NAME host_key_policy auto_add'.",
                ) from exc
            raise
        return client

    @contextlib.contextmanager
    def _channel(self) -> Iterator[paramiko.SFTPClient]:
        """Lend a channel; one on which something went wrong is closed."""
        with self._slots:
            try:
                sftp = self._idle.get_nowait()
            except queue.Empty:
                found = self._logged_in().open_sftp()
                assert found is not None
                sftp = found
                channel = sftp.get_channel()
                assert channel is not None
                channel.settimeout(self.timeout_s)
            try:
                yield sftp
            except OSError as exc:
                if exc.errno is None:
                    sftp.close()
                else:
                    self._idle.put(sftp)
                raise
            except BaseException:
                sftp.close()
                raise
            else:
                self._idle.put(sftp)

    def _logged_in(self) -> paramiko.SSHClient:
        """Return the login, made anew where the connection broke."""
        with self._lock:
            transport = self._client.get_transport()
            if transport is None or not transport.is_active():
                self._client.close()
                self._client = self._connect(*self._login)
            return self._client

    # ---- the verbs ----

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def folder(self, name: str) -> tuple[Page, list[str]]:
        """List one folder."""
        found: Page = {}
        below = []
        with self._channel() as sftp:
            for row in sftp.listdir_attr(self._path(name)):
                full = f"{name}/{row.filename}" if name else row.filename
                mode = row.st_mode or 0
                if stat.S_ISDIR(mode):
                    below.append(full)
                elif stat.S_ISREG(mode):
                    found[full] = _listed(row)
        return found, below

    def info(self, name: str) -> Listed:
        """Ask for one file."""
        with self._channel() as sftp:
            return _listed(sftp.stat(self._path(name)))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file or a part of it, all of it asked for at once."""
        with self._channel() as sftp, sftp.open(self._path(name), "rb") as file:
            at = start or 0
            size = (end if end is not None else file.stat().st_size or 0) - at
            if size <= 0:
                return b""
            return b"".join(file.readv([(at, size)]))

    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Write a file here."""
        with self._channel() as sftp, sftp.open(self._path(name), "rb") as source, path.open("wb") as target:
            source.prefetch(source.stat().st_size)
            while step := source.read(_STEP):
                target.write(step)
                advance(len(step))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._put(name, io.BytesIO(data), lambda size: None)

    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Write a local file."""
        with path.open("rb") as source:
            self._put(name, source, advance)

    def _put(self, name: str, source: Any, advance: Advance) -> None:
        with self._channel() as sftp:
            self._make_parent(sftp, name)
            with sftp.open(self._path(name), "wb") as target:
                target.set_pipelined(True)
                while step := source.read(_STEP):
                    target.write(step)
                    advance(len(step))

    def _make_parent(self, sftp: paramiko.SFTPClient, name: str) -> None:
        path = PurePosixPath(self._path(name)).parent
        missing = []
        while str(path) not in self._folders and path != path.parent:
            try:
                sftp.stat(str(path))
                break
            except FileNotFoundError:
                missing.append(path)
                path = path.parent
        for one in reversed(missing):
            try:
                sftp.mkdir(str(one))
            except OSError:
                sftp.stat(str(one))  # somebody else made it
        self._folders.update(map(str, [*missing, PurePosixPath(self._path(name)).parent]))

    def rename(self, name: str, to: str) -> None:
        """Move a file, over one of that name, as POSIX does; by SFTP's own word where the server knows no other."""
        with self._channel() as sftp:
            self._make_parent(sftp, to)
            try:
                sftp.posix_rename(self._path(name), self._path(to))
            except OSError as exc:
                if exc.errno is not None:
                    raise
                with contextlib.suppress(FileNotFoundError):
                    sftp.remove(self._path(to))
                sftp.rename(self._path(name), self._path(to))

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder."""
        with self._channel() as sftp:
            sftp.rmdir(self._path(name))
        self._folders.clear()

    def remove(self, name: str) -> None:
        """Delete a file."""
        with self._channel() as sftp:
            sftp.remove(self._path(name))


def _listed(row: paramiko.SFTPAttributes) -> Listed:
    return Listed(row.st_size or 0, (row.st_mtime or 0) * 1_000_000_000)


def _ssh_config(host: str) -> dict[str, Any]:
    """Return what the user's OpenSSH configuration says of a host."""
    try:
        config = paramiko.SSHConfig.from_path(str(Path("~/.ssh/config").expanduser()))
        return dict(config.lookup(host))
    except (OSError, paramiko.ConfigParseError, ImportError):
        return {}


def _source(asked: Mapping[str, Any]) -> str:
    if asked.get("password"):
        return "the option 'password'"
    keys = asked.get("key_filename")
    named = ", ".join(keys) if isinstance(keys, list) else keys
    who = f"user '{asked['username']}'" if asked.get("username") else "this user"
    return f"{who}, key {named}, then the agent and ~/.ssh" if named else f"{who}, the agent and the keys in ~/.ssh"
