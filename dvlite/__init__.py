"""dvlite: a Git-integrated, content-addressed store for data and models.

`dvlite.open`, `dvlite.read` and `dvlite.url` read any version; `dvlite.Repository` and the operations are those of `dvlite.api`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "DvliteFileSystem",
    "Repository",
    "Running",
    "Source",
    "add",
    "checkout",
    "diff",
    "experiment",
    "fetch",
    "find_version",
    "get",
    "import_data",
    "import_url",
    "lineage",
    "log",
    "ls",
    "open",
    "promote",
    "pull",
    "push",
    "read",
    "read_experiments",
    "register",
    "repro",
    "run",
    "source",
    "status",
    "update",
    "url",
]


def __getattr__(name: str) -> Any:
    """Load the Python interface when it is first asked for: the command line needs none of it."""
    if name in __all__:
        return getattr(importlib.import_module("dvlite.api"), name)
    raise AttributeError(f"module 'dvlite' has no attribute {name!r}")
