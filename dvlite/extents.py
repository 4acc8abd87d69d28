"""Where a file's bytes lie on disk, as far as that proves that two files still share them.

After a reflink both files have the same blocks; whoever writes to one of them, or to a page of it in memory, gets other blocks
as soon as it is written back. So where both still lie in the same places, neither was changed since. Source: Linux's
Documentation/filesystems/fiemap.rst.
"""

import fcntl
import struct
import sys

_FIEMAP = 0xC020660B
_SYNC = 0x1  # what is in memory only is written back first
_LAST = 0x1
_UNWRITTEN = 0x800  # reads as a hole
_SHARED = 0x2000
_AT_ONCE = 256
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQQQIIII")
_ALL = (1 << 64) - 1

Extents = list[tuple[int, int, int]]  # where in the file, where on the disk, how much; in bytes


def shared(fd: int) -> Extents:
    """Return where an open file's bytes lie; empty unless all of them are shared with other files, as after a reflink."""
    found: Extents = []
    start = 0
    is_last = sys.platform != "linux"
    while not is_last:
        buffer = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(buffer, 0, start, _ALL - start, _SYNC, 0, _AT_ONCE, 0)
        try:
            fcntl.ioctl(fd, _FIEMAP, buffer)
        except OSError:
            return []
        count = _HEAD.unpack_from(buffer)[3]
        for number in range(count):
            at, place, size, _, _, flags, *_ = _EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size)
            start, is_last = at + size, bool(flags & _LAST)
            if flags & _UNWRITTEN:
                continue
            if flags & ~_LAST != _SHARED:  # not on disk yet, compressed, inside other data, or its own
                return []
            if found and sum(found[-1][::2]) == at and sum(found[-1][1:]) == place:
                at, place, size = found[-1][0], found[-1][1], found.pop()[2] + size
            found.append((at, place, size))
        is_last = is_last or not count
    return found
