"""What drivers raise, which has no common base, as errors of ours: what happened, and what mends it. Never a secret."""

import errno
import re
from collections.abc import Mapping
from typing import Any

from dvlite import config
from dvlite.errors import DvliteError, RemoteError
from dvlite.stores.remote.drivers.base import NoPlace

_FINAL = (
    NoPlace,
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
    "DefaultCredentialsError",
    "AuthenticationException",
    "ClientAuthenticationError",
    "CredentialUnavailableError",
)
# What drivers say when a login is refused. A number counts only where it is told to be a status: texts quote
# durations ("in 401.4µs"), sizes, ports and oids too.
_REFUSED = re.compile(
    r"forbidden|access ?denied|failed to authenticate|authenticationfailed"
    r"|invalidaccesskeyid|access key id you provided|request signature|credentials|unauthorized"
    r"|(?:^|status|code|error|occurred|received|response|http|http/[\d.]+)\W{0,6}40[13](?!\w|\.\d| bytes)|,\s*40[13]$",
    re.IGNORECASE,
)
_NO_NUMBER = "[Errno None] "  # what an OSError without a number begins with
_URL = re.compile(r"\w+://[^\s\"'<>]+")  # names in it are the user's
_AGAIN = (
    "Check the network and the url with 'dvlite remote list', then run the command again: it goes on where it stopped."
)


def may_pass(exc: BaseException) -> bool:
    """Tell whether the same may work in a moment."""
    if isinstance(exc, (DvliteError, *_FINAL)) or not isinstance(exc, Exception):
        return False
    return type(exc).__name__ not in _FINAL_NAMES and not _is_refused(exc, str(exc))


def _is_refused(exc: Exception, text: str) -> bool:
    if isinstance(exc, PermissionError) or type(exc).__name__ in _FINAL_NAMES:
        return True
    if _status(exc) in (401, 403):
        return True
    is_local = isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ECONNREFUSED)
    return not is_local and bool(_REFUSED.search(_URL.sub("", text.removeprefix(_NO_NUMBER))))


def _status(exc: Exception) -> int | None:
    """Return the status that a driver's exception tells beside its text; some tell it as text, or call it otherwise."""
    told = (str(getattr(exc, name, "")) for name in ("status", "status_code", "code"))
    return next((int(one) for one in told if one.isdecimal()), None)


def explain(doing: str, url: str, exc: Exception, options: Mapping[str, Any], source: str) -> RemoteError:
    """Return the error for what a driver raised; `source`: where its credentials come from."""
    said = (str(exc) or type(exc).__name__).strip().split("\n")[0].removeprefix(_NO_NUMBER)
    text = _without_secrets(said, options)[:300]
    hint = _AGAIN
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        text, hint = "no space left on it", "Free some space there, then run the same command again."
    elif isinstance(exc, (NoPlace, FileNotFoundError)):
        text, hint = f"not found ({text})", "Check the bucket or folder in the url with 'dvlite remote list'."
    elif _is_refused(exc, text):
        text = f"access refused ({text})"
        hint = f"Check the credentials; these were used: {_without_secrets(source, options)}."
    return RemoteError(f"{doing} '{url}': {text}", hint)


def _without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """Return what a driver says without credentials: drivers quote URLs, headers and options."""
    for key, value in options.items():
        if config.is_secret(key) and len(str(value)) > 3:
            text = text.replace(str(value), "***")
    return re.sub(r"(?i)((signature|token|credential|sig|password)=)[^&\s\"']+", r"\1***", config.redact(text))
