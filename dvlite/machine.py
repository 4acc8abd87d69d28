"""Which machine this is, since when it runs, which of its processes live, and how it has memory back."""

import contextlib
import functools
import os
import time
import zlib
from pathlib import Path

_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 1 << 20  # bytes


@functools.cache
def host_id() -> str:
    """Return what names this machine, across reboots."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            if text := Path(path).read_text().strip():
                return text
    return os.uname().nodename


@functools.cache
def boot_id() -> str:
    """Return what names this machine's current boot; changes with a reboot or a power cut."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # Elsewhere: the start of the system's clock that never jumps, to ten seconds.
    return f"boot-{int(time.time() - time.monotonic()) // 10}"


def host_mark() -> str:
    """Return a short mark of this machine."""
    return f"{zlib.crc32(host_id().encode()):08x}"


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@functools.cache
def give_memory_back() -> None:
    """Have the C library give large blocks back to the system as soon as they are free.

    It keeps blocks at hand, for each thread apart, up to the size of the largest that was freed: 32 MB each.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):  # other systems' libraries
        import ctypes

        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
