"""WebDAV, by webdav4's client."""

import contextlib
import io
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from webdav4 import client as dav

from dvlite.stores.remote.drivers.base import Advance, Listed, Page, Walking, login_of, ns_of

_STEP = 1 << 20
_REFUSED = (401, 403)


class Webdav(Walking):
    """A folder on a WebDAV server; `webdavs` and `davs` are by TLS, `webdav` and `dav` are not."""

    is_atomic = False

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        parts = urlsplit(url)
        scheme = "https" if parts.scheme in ("webdavs", "davs") else "http"
        rest = dict(options)
        user, password = rest.pop("username", None) or parts.username, rest.pop("password", None)
        if token := rest.pop("token", None):
            rest["headers"] = {**rest.get("headers", {}), "Authorization": f"Bearer {token}"}
        self.source = login_of(user, token)
        auth = (user, password or "") if user else None
        place = parts.netloc.rpartition("@")[2]
        self.root = unquote(parts.path).strip("/")
        self._client = dav.Client(f"{scheme}://{place}", auth=auth, retry=False, timeout=timeout_s, **rest)
        self._folders: set[str] = set()
        self._lock = threading.Lock()

    def _path(self, name: str) -> str:
        # The client joins URLs: what is special in one is escaped before, once.
        return quote(f"{self.root}/{name}".strip("/"))

    @contextlib.contextmanager
    def _errors(self, name: str) -> Any:
        try:
            yield
        except dav.ResourceNotFound as exc:
            raise FileNotFoundError(name) from exc
        except dav.ForbiddenOperation as exc:
            raise PermissionError(str(exc)) from exc
        except dav.HTTPError as exc:
            if exc.status_code in _REFUSED:
                raise PermissionError(f"the server answered {exc.status_code}") from exc
            raise

    def folder(self, name: str) -> tuple[Page, list[str]]:
        """List one folder."""
        with self._errors(name):
            rows = self._client.ls(self._path(name), detail=True)
        found: Page = {}
        below = []
        for row in rows:
            assert isinstance(row, dict)
            last = PurePosixPath(unquote(row["name"])).name
            full = f"{name}/{last}" if name else last
            if row["type"] == "directory":
                below.append(full)
            else:
                found[full] = _listed(row)
        return found, below

    def info(self, name: str) -> Listed:
        """Ask for one file."""
        with self._errors(name):
            return _listed(self._client.info(self._path(name)))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file or a part of it."""
        if start is not None and start == end:
            return b""
        headers = (
            {} if start is None and end is None else {"Range": f"bytes={start or 0}-{'' if end is None else end - 1}"}
        )
        with self._errors(name):
            answer = self._client.request("GET", self._path(name), headers=headers)
        data: bytes = answer.content
        if headers and answer.status_code != 206:  # it sent all
            self.has_ranges = False
            return data[start or 0 : end]
        return data

    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Write a file here."""
        with self._errors(name), path.open("wb") as target:
            url = self._client.join_url(self._path(name))
            with self._client.http.stream("GET", url) as answer:
                if answer.status_code == 404:
                    raise FileNotFoundError(name)
                if answer.status_code in _REFUSED:
                    raise PermissionError(f"the server answered {answer.status_code}")
                answer.raise_for_status()
                for step in answer.iter_bytes(_STEP):
                    target.write(step)
                    advance(len(step))

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._put(name, io.BytesIO(data), len(data), lambda size: None)

    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Write a local file."""
        with path.open("rb") as source:
            self._put(name, source, path.stat().st_size, advance)

    def _put(self, name: str, source: Any, size: int, advance: Advance) -> None:
        self._make_parent(name)
        with self._errors(name):
            self._client.upload_fileobj(
                source, self._path(name), overwrite=True, callback=advance, chunk_size=_STEP, size=size
            )

    def _make_parent(self, name: str) -> None:
        parent = PurePosixPath(f"{self.root}/{name}".strip("/")).parent
        with self._lock:
            for one in [*reversed(parent.parents), parent]:
                if str(one) not in (".", *self._folders):
                    with self._errors(str(one)), contextlib.suppress(dav.ResourceAlreadyExists):
                        self._client.mkdir(quote(str(one)))
                    self._folders.add(str(one))

    def rename(self, name: str, to: str) -> None:
        """Move a file, over one of that name."""
        self._make_parent(to)
        with self._errors(name):
            self._client.move(self._path(name), self._path(to), overwrite=True)

    def remove_folder(self, name: str) -> None:
        """Delete a folder."""
        with self._errors(name):
            self._client.remove(self._path(name))
        self._folders.clear()

    def remove(self, name: str) -> None:
        """Delete a file."""
        with self._errors(name):
            self._client.remove(self._path(name))


def _listed(row: Mapping[str, Any]) -> Listed:
    if row.get("type") == "directory":
        raise FileNotFoundError(row["name"])
    return Listed(int(row["content_length"] or 0), ns_of(row.get("modified")))
