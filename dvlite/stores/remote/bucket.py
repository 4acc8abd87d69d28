"""The seam to fsspec: names below a remote's root, and bytes. Retries, and translates what drivers raise.

Knows no oids and no packs. A put is atomic here: where the protocol's own isn't, through `tmp/` and a rename.
"""

import contextlib
import datetime
import errno
import importlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from dvlite import config, files
from dvlite.errors import DvliteError, RemoteError
from dvlite.files import Digester

T = TypeVar("T")

# Drivers by class, never through fsspec's entry points: other packages may take those over.
_DRIVERS = {
    "file": ("fsspec.implementations.local", "LocalFileSystem", ""),
    "s3": ("s3fs", "S3FileSystem", ""),
    "gs": ("gcsfs", "GCSFileSystem", "gcs"),
    "az": ("adlfs", "AzureBlobFileSystem", "azure"),
    "sftp": ("fsspec.implementations.sftp", "SFTPFileSystem", "sftp"),
    "webdav": ("webdav4.fsspec", "WebdavFileSystem", "webdav"),
    "https": ("fsspec.implementations.http", "HTTPFileSystem", ""),
}
_ATOMIC = ("s3", "gs", "az")
_ATTEMPTS = 4
_FINAL = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    NotADirectoryError,
    NotImplementedError,
    ImportError,
    TypeError,
    ValueError,
)
_FINAL_NAMES = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "AuthenticationException",
    "ClientAuthenticationError",
)
# What drivers say when a login is refused; never a number that could be a part of an oid.
_REFUSED = re.compile(
    r"forbidden|access ?denied|invalidaccesskeyid|access key id you provided|request signature|credentials|unauthorized"
    r"|(?<![0-9a-f])40[13](?![0-9a-f])",
    re.IGNORECASE,
)


class Listed(NamedTuple):
    """One file of a listing: its size in bytes, and when it was written by the remote's clock (0 where it doesn't tell)."""

    size: int
    time_ns: int


def _time_of(info: dict[str, Any]) -> int:
    for key in ("LastModified", "last_modified", "mtime", "modified", "updated"):
        value = info.get(key)
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, datetime.datetime):
            value = value.timestamp()
        if isinstance(value, int | float):
            return int(value * 1_000_000_000)
    return 0


class Bucket:
    """A folder on a remote, by URL. `jobs` is how many requests may run at once."""

    def __init__(self, url: str, options: Mapping[str, Any], *, jobs: int = 8) -> None:
        self.url = config.redact(url)
        self.protocol = config.check_url(url)
        self.jobs = jobs
        self._url = url
        self._options = options

    # ---- the driver ----

    @cached_property
    def _fs(self) -> Any:
        module, name, extra = _DRIVERS[self.protocol]
        try:
            driver = getattr(importlib.import_module(module), name)
        except ImportError as exc:
            raise RemoteError(
                f"'{self.url}' needs a package that isn't installed ({exc.name})",
                f"Run 'pip install dvlite[{extra}]'.",
            ) from exc
        fs = driver(**self._driver_options())
        if self.protocol == "s3":
            fs.retries = 1  # the one who retries is this room
        return fs

    def _driver_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if self.protocol == "file":
            return {"skip_instance_cache": True, "auto_mkdir": True}
        if self.protocol == "s3":
            kwargs = {
                "max_pool_connections": 64,
                "retries": {"max_attempts": 1},
                "connect_timeout": 10,
                "read_timeout": 60,
            }
            if "endpoint_url" in self._options:
                # Servers that are not Amazon's often know no checksums beyond MD5.
                kwargs |= {
                    "request_checksum_calculation": "when_required",
                    "response_checksum_validation": "when_required",
                }
            options["config_kwargs"] = kwargs | dict(self._options.get("config_kwargs", {}))
            rest = {key: value for key, value in self._options.items() if key not in ("config_kwargs", "region")}
            if "region" in self._options:
                rest["client_kwargs"] = {
                    "region_name": self._options["region"],
                    **rest.get("client_kwargs", {}),
                }
            return options | rest
        return {**options, **self._options}

    @cached_property
    def _root(self) -> str:
        if self.protocol == "file":
            return str(Path(self._url.removeprefix("file://")).expanduser())
        return str(self._fs._strip_protocol(self._url)).rstrip("/")

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _do(self, doing: str, call: Callable[[], T]) -> T:
        """Call the driver, again with backoff where that may help; every failure comes out as RemoteError.

        Drivers raise what their libraries raise, which has no common base: hence the wide except.
        """
        import tenacity  # needs 20 ms, and only where a remote is asked

        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return attempts(call)
        except DvliteError:
            raise
        except Exception as exc:
            raise self._explain(doing, exc) from exc

    def _explain(self, doing: str, exc: Exception) -> RemoteError:
        text = self._without_secrets((str(exc) or type(exc).__name__).strip().split("\n")[0])[:300]
        hint = "Check the network and the url with 'dvlite remote list', then run the command again: it goes on where it stopped."
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            text, hint = "no space left on it", "Free some space there, then run the same command again."
        elif isinstance(exc, FileNotFoundError):
            text, hint = (
                f"not found ({text})",
                "Check the bucket or folder in the url with 'dvlite remote list'.",
            )
        elif isinstance(exc, PermissionError) or type(exc).__name__ in _FINAL_NAMES or _is_refused(exc, text):
            text, hint = f"access refused ({text})", "Check the credentials that this machine uses for it."
        return RemoteError(f"{doing} '{self.url}': {text}", hint)

    def _without_secrets(self, text: str) -> str:
        """Return what a driver says without credentials: drivers quote URLs, headers and options."""
        for key, value in self._options.items():
            if config.is_secret(key) and len(str(value)) > 3:
                text = text.replace(str(value), "***")
        return re.sub(r"(?i)((signature|token|credential|sig|password)=)[^&\s\"']+", r"\1***", config.redact(text))

    # ---- the verbs ----

    def list(self) -> dict[str, Listed]:
        """Return all names below the root with size and time; empty where nothing was ever pushed."""
        return self._do("can't list", self._list)

    def _list(self) -> dict[str, Listed]:
        if self.protocol == "file":
            return self._list_folder()
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            if self.protocol in _ATOMIC:  # a bucket has no folders that could be missing: it is the bucket itself
                raise
            return {}
        if not found and self.protocol == "s3":
            self._fs.ls(self._root.partition("/")[0], refresh=True)
        prefix = len(self._root) + 1
        files_ = ((key, info) for key, info in found.items() if info.get("type") != "directory")
        return {key[prefix:]: Listed(int(info["size"]), _time_of(info)) for key, info in files_}

    def _list_folder(self) -> dict[str, Listed]:
        root = Path(self._root)
        if not root.is_dir():
            # A parent that isn't there either is a disk that isn't mounted, or a typing error.
            if not root.parent.is_dir():
                raise FileNotFoundError(f"no folder '{root.parent}'")
            return {}
        found = {}
        for folder, _, names in os.walk(root, onerror=_raise):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if not stat.S_ISREG(status.st_mode):  # to open a FIFO would wait for ever
                        continue
                    found[path.relative_to(root).as_posix()] = Listed(status.st_size, status.st_mtime_ns)
        return found

    def clock(self) -> int:
        """Return the time by the remote's own clock, in nanoseconds, from a file just written there."""
        name = f"tmp/clock-{files.token(8)}"
        self._do("can't write to", lambda: self._put_raw(name, b"now"))
        try:
            return self._do("can't read from", lambda: _time_of(self._fs.info(self._key(name))))
        finally:
            self.remove(name)

    def _put_raw(self, name: str, data: bytes) -> None:
        if self.protocol not in _ATOMIC:
            self._make_parent(self._key(name))
        self._fs.pipe_file(self._key(name), data)

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone is no error."""

        def call() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._key(name))

        self._do("can't delete on", call)

    def get(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`; short answers are tried again, then refused."""

        def call() -> bytes:
            data: bytes = self._fs.cat_file(self._key(name), start=start, end=end)
            if start is not None and end is not None and len(data) != end - start:
                raise OSError(f"{name}: {len(data)} bytes came, not {end - start}")
            return data

        return self._do("can't read from", call)

    def get_file(self, name: str, path: Path, size: int) -> None:
        """Download a file of `size` bytes to a local path that doesn't exist yet."""

        def call() -> None:
            self._fs.get_file(self._key(name), str(path))
            if (came := path.stat().st_size) != size:
                path.unlink()
                raise OSError(f"{name}: {came} bytes came, not {size}")

        try:
            self._do("can't read from", call)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def local_path(self, name: str) -> Path | None:
        """Return where a file lies, if it lies on this machine."""
        return Path(self._key(name)) if self.protocol == "file" else None

    def put(self, name: str, data: bytes) -> None:
        """Write a small file in one step."""
        self._put(name, len(data), lambda key: self._fs.pipe_file(key, data))

    def put_file(self, name: str, path: Path) -> None:
        """Upload a local file in one step."""
        self._put(name, path.stat().st_size, lambda key: self._fs.put_file(str(path), key))

    def put_hashed(self, path: Path, work: Callable[[], Digester], name_of: Callable[[bytes], str]) -> bytes:
        """Upload a local file under the name that its digest asks for; return the digest.

        A folder is written to while the copy is hashed, and names it then; elsewhere the name is needed first.
        """
        if self.protocol == "file":
            return self._do("can't write to", lambda: self._put_copy(path, work(), name_of))
        digest = files.hash_file(path, work())
        self.put_file(name_of(digest), path)
        return digest

    def _put(self, name: str, size: int, send: Callable[[str], object]) -> None:
        def call() -> None:
            key = self._key(name)
            if self.protocol in _ATOMIC:
                send(key)
            else:
                with self._unfinished() as unfinished:
                    send(unfinished)
                    self._finish(unfinished, key)
            if (arrived := int(self._fs.info(key)["size"])) != size:
                raise OSError(f"{name}: {arrived} bytes arrived, not {size}")

        self._do("can't write to", call)

    def _put_copy(self, path: Path, work: Digester, name_of: Callable[[bytes], str]) -> bytes:
        with self._unfinished() as unfinished:
            digest = files.copy_file_hashed(path, Path(unfinished), work)
            self._finish(unfinished, self._key(name_of(digest)))
        return digest

    @contextlib.contextmanager
    def _unfinished(self) -> Iterator[str]:
        """Yield a key in `tmp/`; what is left there is removed."""
        unfinished = self._key(f"tmp/{files.token(12)}")
        self._make_parent(unfinished)
        try:
            yield unfinished
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(unfinished)
            raise

    def _make_parent(self, key: str) -> None:
        """Make the folder of a key; in a folder that a group may write to, the group may write to it too."""
        parent = PurePosixPath(key).parent
        if self.protocol != "file":
            self._fs.makedirs(str(parent), exist_ok=True)
            return
        shared = _group_rights(Path(self._root))
        new = [one for one in (Path(parent), *Path(parent).parents) if shared and not one.exists()]
        Path(parent).mkdir(parents=True, exist_ok=True)
        for one in new:
            one.chmod(one.stat().st_mode | shared)

    def _finish(self, unfinished: str, key: str) -> None:
        self._make_parent(key)
        if self.protocol == "file":
            if shared := _group_rights(Path(self._root)):
                Path(unfinished).chmod(Path(unfinished).stat().st_mode | (shared & 0o040))
            files.sync(Path(unfinished))
            Path(unfinished).rename(key)
            files.sync(Path(key).parent)
        else:
            self._fs.mv(unfinished, key)


def _group_rights(root: Path) -> int:
    """Return the permissions that a group has in a remote's folder if it may write there, else 0."""
    with contextlib.suppress(FileNotFoundError):
        mode = root.stat().st_mode
        return mode & 0o2070 if mode & 0o020 else 0
    return 0


def _raise(exc: OSError) -> None:
    raise exc


def _may_pass(exc: BaseException) -> bool:
    if isinstance(exc, (DvliteError, *_FINAL)) or not isinstance(exc, Exception):
        return False
    return type(exc).__name__ not in _FINAL_NAMES and not _is_refused(exc, str(exc))


def _is_refused(exc: Exception, text: str) -> bool:
    is_local = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ECONNREFUSED)
    return not is_local and bool(_REFUSED.search(text))
