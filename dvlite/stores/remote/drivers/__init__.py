"""What speaks each protocol. Imported where a remote is used: their libraries need up to 0.7 s."""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvlite import config
from dvlite.errors import RemoteError
from dvlite.stores.remote.drivers.base import Driver

# By class, never through fsspec's entry points: other packages may take those over.
_ROOMS = {
    "file": ("folder", "Folder"),
    "s3": ("s3", "S3"),
    "gs": ("google", "Google"),
    "az": ("azure", "Azure"),
    "sftp": ("sftp", "Sftp"),
    "webdav": ("webdav", "Webdav"),
    "https": ("http", "Http"),
}
# What a protocol needs beyond what dvlite brings along: the package, and the extra that brings it.
_NEEDS = {
    "gs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "sftp": ("paramiko", "sftp"),
    "webdav": ("webdav4", "webdav"),
}


def lacking(url: str) -> str:
    """Return the command that installs what a URL's protocol needs and isn't here; empty where all is."""
    package, extra = _NEEDS.get(config.check_url(url), ("", ""))
    return f"pip install 'dvlite[{extra}]'" if package and not _is_here(package) else ""


def _is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def open_driver(url: str, options: Mapping[str, Any], timeout_s: float) -> Driver:
    """Open the driver of a URL; RemoteError names the package that it needs."""
    protocol = config.check_url(url)
    room, name = _ROOMS[protocol]
    if protocol == "s3" and options.get("driver") != "s3fs" and (fast := _fast(url, options, timeout_s)):
        return fast
    try:
        driver = getattr(importlib.import_module(f"{__name__}.{room}"), name)
        if protocol == "file":
            return driver(Path(url.removeprefix("file://")).expanduser())  # type: ignore[no-any-return]
        return driver(url, options, timeout_s)  # type: ignore[no-any-return]
    except ImportError as exc:
        raise RemoteError(
            f"'{config.redact(url)}' needs a package that isn't installed ({exc.name})",
            f"Run: {lacking(url) or 'pip install dvlite'}",
        ) from exc


def _fast(url: str, options: Mapping[str, Any], timeout_s: float) -> Driver | None:
    """Return the faster driver of S3, where it is installed and knows all that this remote asks for."""
    try:
        room = importlib.import_module(f"{__name__}.objects")
    except ImportError:
        return None
    if options.keys() - room.KNOWN - {"driver"} or os.getpid() != room.PROCESS:  # its threads don't live on in a fork
        return None
    return room.Objects(url, options, timeout_s)  # type: ignore[no-any-return]
