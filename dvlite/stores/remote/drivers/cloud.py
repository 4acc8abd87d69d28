"""What clouds' stores have in common, by fsspec's file systems: a bucket, a prefix in it, names in order."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from dvlite.stores.remote.drivers.base import Advance, Driver, Listed, NoPlace, Page

_SLOW_PART = 5 << 20  # of one that is held back; S3 takes no smaller ones


def time_of(info: Mapping[str, Any]) -> int:
    """Return when a file was written, in nanoseconds; 0 where the server doesn't tell."""
    for key in ("LastModified", "last_modified", "mtime", "modified", "updated"):
        value = info.get(key)
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        if isinstance(value, datetime.datetime):
            value = value.timestamp()
        if isinstance(value, int | float):
            return int(value * 1_000_000_000)
    return 0


class Telling(Callback):  # type: ignore[misc]
    """Hands the progress of a transfer on, in the shape that fsspec asks for."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance = advance

    def relative_update(self, inc: int = 1) -> None:
        """Tell of so many bytes more."""
        self._advance(inc)


class Cloud(Driver):
    """A bucket and a prefix in it."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = str(fs._strip_protocol(root)).rstrip("/")

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}"

    def pages(self, prefix: str, after: str = "") -> Iterator[Page]:
        """Yield all in one page: fsspec keeps pages to itself."""
        place = f"{self.root}/{prefix}".rstrip("/")
        try:
            found = self.fs.find(place, detail=True)
        except FileNotFoundError as exc:
            if not prefix:
                self._look_at_bucket(exc)
            return
        if not found and not prefix:
            self._look_at_bucket(None)
        start = len(self.root) + 1
        page = {
            key[start:]: Listed(int(info["size"]), time_of(info))
            for key, info in found.items()
            if info.get("type") != "directory"
        }
        yield {name: one for name, one in page.items() if name > after}

    def _look_at_bucket(self, exc: Exception | None) -> None:
        bucket = self.root.partition("/")[0]
        try:
            self.fs.ls(bucket, refresh=True)
        except FileNotFoundError as error:
            # An empty bucket is not found either, by some: whoever made it can see it in the list of buckets.
            if not self._has_bucket(bucket):
                raise NoPlace(f"no bucket '{bucket}'") from (exc or error)

    def _has_bucket(self, bucket: str) -> bool:
        return False

    def info(self, name: str) -> Listed:
        """Ask for one file."""
        info = self.fs.info(self._key(name))
        if info.get("type") == "directory":
            raise FileNotFoundError(name)
        return Listed(int(info["size"]), time_of(info))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read an object or a part of it."""
        if start is not None and start == end:
            return b""
        data: bytes = self.fs.cat_file(self._key(name), start=start, end=end)
        return data

    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Write an object here."""
        self.fs.get_file(self._key(name), str(path), callback=Telling(advance))

    def write(self, name: str, data: bytes) -> None:
        """Write a small object."""
        self.fs.pipe_file(self._key(name), data)

    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Write a file as an object, in parts if it is large."""
        if not rate:
            self.fs.put_file(str(path), self._key(name), callback=Telling(advance))
            return
        with path.open("rb") as source, self.fs.open(self._key(name), "wb", block_size=_SLOW_PART) as target:
            while step := source.read(_SLOW_PART):
                target.write(step)
                advance(len(step))

    def remove(self, name: str) -> None:
        """Delete an object."""
        self.fs.rm_file(self._key(name))
