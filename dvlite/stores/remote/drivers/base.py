"""What a driver is: names below a remote's root, and bytes. It tries once, and raises what its library raises.

What isn't there is FileNotFoundError, what isn't allowed PermissionError. All methods may be called from many threads.
"""

import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dvlite.copying import Digester

Advance = Callable[[int], object]  # is told how many bytes went


class NoPlace(Exception):
    """The bucket, or the folder that the root would lie in, isn't there."""


class Listed(NamedTuple):
    """One file of a listing: its size in bytes, and when it was written by the remote's clock (0 where it doesn't tell)."""

    size: int
    time_ns: int


UNTOLD = -1  # a size that a listing doesn't tell

Page = dict[str, Listed]


def md5_of_etag(etag: str | None) -> bytes | None:
    """Return the MD5 that an S3 ETag is, if the object came in one part (and wasn't encrypted with a key of the server's)."""
    text = (etag or "").strip('"')
    return bytes.fromhex(text) if len(text) == 32 and set(text) <= set("0123456789abcdef") else None


class Check(NamedTuple):
    """Hashes what is sent (`work`); `judge` is told the digest before the file is there, and raises where it is wrong."""

    work: Digester
    judge: Callable[[bytes], object]


class Driver(ABC):
    """One protocol's way to a remote's root.

    `is_atomic`: what is written is visible whole or not at all. `is_flat`: it lists names by prefix, in order and in pages;
    else folder by folder. `proves`: the server refuses what was changed on its way. `has_ranges`: it sends a part when a part
    is asked for. `checks`: it can hash what it sends.
    """

    is_atomic = True
    is_flat = True
    is_read_only = False
    proves = False
    has_ranges = True
    checks = False
    source = "the credentials that this machine uses for it"

    @abstractmethod
    def pages(self, prefix: str, after: str = "") -> Iterator[Page]:
        """Yield what lies below a prefix (a folder with its slash, where it isn't flat), from behind a name on."""

    @abstractmethod
    def info(self, name: str) -> Listed:
        """Return size and time of one file."""

    @abstractmethod
    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`."""

    def stream(self, name: str, start: int, end: int) -> Iterator[bytes | memoryview]:
        """Yield a part of a file in steps."""
        yield self.read(name, start, end)

    @abstractmethod
    def download(self, name: str, path: Path, advance: Advance) -> None:
        """Write a whole file to a local path."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file, in place of one of that name."""

    @abstractmethod
    def upload(self, name: str, path: Path, advance: Advance, rate: int = 0) -> None:
        """Write a local file, in place of one of that name; no faster than `rate` bytes a second, if that isn't 0."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file."""

    def upload_checked(self, name: str, path: Path, advance: Advance, rate: int, check: Check) -> None:
        """Write a local file as `upload` does, hashed on its way: what isn't right is not there. Only where it `checks`."""
        raise NotImplementedError

    def rename(self, name: str, to: str) -> None:
        """Move a file, in one step, in place of one of that name; only where writing isn't atomic."""
        raise NotImplementedError

    def local_path(self, name: str) -> Path | None:
        """Return where a file lies, if it lies on this machine."""
        return None

    def abort(self, name: str) -> None:  # noqa: B027 (most leave nothing behind)
        """Forget what uploads of a file left behind that never ended."""

    def md5(self, name: str) -> bytes | None:
        """Return the MD5 that the server keeps of a file; None where it keeps none."""
        return None

    def version(self, name: str) -> str:
        """Return what is another when the file is: an ETag, a generation; else made of size and time."""
        found = self.info(name)
        return f"{found.size}-{found.time_ns}"

    def folder(self, name: str) -> tuple[Page, list[str]]:
        """Return a folder's files, and its folders, by their names from the root; FileNotFoundError where there is none.

        Only where it isn't flat.
        """
        raise NotImplementedError

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder; only where it isn't flat."""
        raise NotImplementedError


class Walking(Driver):
    """A driver whose server lists one folder at a time."""

    is_flat = False

    def pages(self, prefix: str, after: str = "") -> Iterator[Page]:
        """Yield nothing: it is walked."""
        yield from ()


def ns_of(when: datetime.datetime | None) -> int:
    """Return a time in nanoseconds, whole seconds: listings and single answers tell the rest differently; 0 for none."""
    return int(when.timestamp()) * 1_000_000_000 if when else 0


def login_of(user: str | None, token: str | None) -> str:
    """Return in words which options a login by HTTP is made of."""
    if token:
        return "the option 'token'"
    return (
        f"the options 'username' and 'password' (user '{user}')"
        if user
        else "nowhere: no username and password were set"
    )
