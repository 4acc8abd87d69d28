"""Files by HTTP, read only: a mirror with folder listings as web servers write them, or a bucket that may be listed."""

import datetime
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.etree import ElementTree

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from dvlite.errors import RemoteError
from dvlite.stores.remote.drivers.base import UNTOLD, Advance, Listed, Page, Walking, login_of, ns_of
from dvlite.stores.remote.drivers.cloud import Telling

_MAX_LISTING = 1 << 26


class Http(Walking):
    """A folder of a web server."""

    is_read_only = True

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        rest = dict(options)
        user, password = rest.pop("username", None), rest.pop("password", None)
        client: dict[str, Any] = {
            "timeout": aiohttp.ClientTimeout(sock_connect=min(10, timeout_s), sock_read=timeout_s)
        }
        if token := rest.pop("token", None):
            client["headers"] = {"Authorization": f"Bearer {token}"}
        if user:
            client["auth"] = aiohttp.BasicAuth(user, password or "")
        self.source = login_of(user, token)
        self.fs = HTTPFileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            client_kwargs={**rest.pop("client_kwargs", {}), **client},
            **rest,
        )
        self.url = url.rstrip("/")
        self._is_bucket: bool | None = None

    def _url(self, name: str) -> str:
        return f"{self.url}/{quote(name)}"

    # ---- listings ----

    @property
    def is_flat(self) -> bool:  # type: ignore[override]
        """Whether the place lists itself as a bucket does."""
        if self._is_bucket is None:
            self._is_bucket = self._look()
        return self._is_bucket

    def folder(self, name: str) -> tuple[Page, list[str]]:
        """Read the page on which the server shows a folder."""
        place = self._url(f"{name}/" if name else "")
        names = _links(self._text(place), place)
        full = [f"{name}/{one}" if name else one for one in names]
        return {one: Listed(UNTOLD, 0) for one in full if not one.endswith("/")}, [
            one.rstrip("/") for one in full if one.endswith("/")
        ]

    def pages(self, prefix: str, after: str = "") -> Iterator[Page]:
        """Yield the bucket's own listing."""
        yield from self._bucket_pages(prefix)

    def _look(self) -> bool:
        """Tell whether the place lists itself as a bucket does; RemoteError where it lists nothing."""
        try:
            text = self._text(f"{self.url}/")
        except (FileNotFoundError, PermissionError):
            text = ""
        if "<a " in text.lower():
            return False
        try:
            next(self._bucket_pages(""), None)
        except (FileNotFoundError, PermissionError, ValueError) as exc:
            raise RemoteError(
                f"'{self.url}' lists no files: neither as a folder nor as a bucket",
                "Let the server list its folders (nginx: autoindex on; Apache: Options Indexes), or the bucket be listed.",
            ) from exc
        return True

    def _text(self, url: str) -> str:
        data: bytes = self._errors(lambda: self.fs.cat_file(url))
        if len(data) > _MAX_LISTING:
            raise ValueError("a listing is too long")
        return data.decode("utf-8", "replace")

    def _errors(self, call: Any) -> Any:
        try:
            return call()
        except aiohttp.ClientResponseError as exc:
            if exc.status in (401, 403):
                raise PermissionError(f"the server answered {exc.status}") from exc
            if exc.status in (404, 410):
                raise FileNotFoundError(self.url) from exc
            raise

    def _bucket_pages(self, prefix: str) -> Iterator[Page]:
        """Ask as S3 is asked: the host may be the bucket, or the path's first part."""
        parts = urlsplit(self.url)
        path = parts.path.strip("/")
        bucket, _, below = path.partition("/")
        errors: list[Exception] = []
        for place, root in (
            (f"{parts.scheme}://{parts.netloc}/", path),
            (f"{parts.scheme}://{parts.netloc}/{bucket}", below),
        ):
            try:
                yield from self._asked_pages(place, f"{root}/" if root else "", prefix)
                return
            except (FileNotFoundError, PermissionError, ValueError) as exc:
                errors.append(exc)
        raise errors[-1]

    def _asked_pages(self, place: str, base: str, prefix: str) -> Iterator[Page]:
        token = ""
        while True:
            more = f"&continuation-token={quote(token, safe='')}" if token else ""
            text = self._text(f"{place}?list-type=2&prefix={quote(base + prefix, safe='')}{more}")
            if "<!DOCTYPE" in text:  # entities that grow without end are declared there
                raise ValueError("no listing")
            try:
                tree = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", text, count=1))
            except ElementTree.ParseError as exc:
                raise ValueError("no listing") from exc
            if tree.tag != "ListBucketResult":
                raise ValueError("no listing")
            yield {
                row.findtext("Key", "")[len(base) :]: Listed(
                    int(row.findtext("Size", "-1")), _time(row.findtext("LastModified", ""))
                )
                for row in tree.iter("Contents")
            }
            token = tree.findtext("NextContinuationToken", "")
            if tree.findtext("IsTruncated", "false") != "true" or not token:
                return

    # ---- files ----

    def info(self, name: str) -> Listed:
        """Ask for one file."""
        info = self._errors(lambda: self.fs.info(self._url(name)))
        return Listed(UNTOLD if info.get("size") is None else int(info["size"]), 0)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file or a part of it; a server that sends all of it is remembered."""
        if start is not None and start == end:
            return b""
        data: bytes = self._errors(lambda: self.fs.cat_file(self._url(name), start=start, end=end))
        if start is not None and end is not None and len(data) > end - start:
            self.has_ranges = False
            return data[start:end]
        return data

    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Write a file here."""
        self._errors(lambda: self.fs.get_file(self._url(name), str(path), callback=Telling(advance)))

    def write(self, name: str, data: bytes) -> None:
        """Refuse."""
        raise PermissionError("it is read-only")

    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Refuse."""
        raise PermissionError("it is read-only")

    def remove(self, name: str) -> None:
        """Refuse."""
        raise PermissionError("it is read-only")

    def remove_folder(self, name: str) -> None:
        """Refuse."""
        raise PermissionError("it is read-only")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _links(text: str, base: str) -> list[str]:
    """Return the names right below a folder that its page links to; folders end with a slash."""
    parser = _Links()
    parser.feed(text)
    place = base.rstrip("/") + "/"
    found = []
    for link in parser.found:
        full = urljoin(place, link).partition("?")[0].partition("#")[0]
        name = unquote(full[len(place) :]) if full.startswith(place) else ""
        if re.fullmatch(r"[^/]+/?", name) and name not in (".", "..", "./", "../"):
            found.append(name)
    return sorted(set(found))


def _time(text: str) -> int:
    try:
        return ns_of(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")))
    except ValueError:
        return 0
