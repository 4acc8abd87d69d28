"""The workloads: files made of random bytes, and the changes that a day brings."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import NamedTuple


class Work(NamedTuple):
    """Files of one size, spread evenly over folders; `limit` is what plain tools do for an add, in which {source} and {copy} are paths.

    `is_singly`: each is tracked by itself, by tools that have a choice.
    """

    count: int
    size: int
    folders: int
    limit: str = "tar cf - {source} | sha256sum"
    is_singly: bool = False


WORKS = {
    "small": Work(100_000, 2_048, 100),
    "flat": Work(200_000, 1_024, 1),
    "medium": Work(10_000, 102_400, 100, "tar cf {copy} {source}"),
    "big": Work(1, 2_000_000_000, 1, "cp -r {source} {copy} & find {source} -type f -exec sha256sum {{}} + & wait"),
    "singly": Work(1_000, 102_400, 10, "tar cf {copy} {source}", is_singly=True),
    "tree": Work(0, 0, 0),  # this Python's standard library and packages
    "million": Work(1_000_000, 1_024, 1_000),
}


_BESIDE = (".dvlite", ".dvc", ".gitignore")


def make(work, place):
    """Write a workload's files below `place`, each with content of its own."""
    if not work.count:
        skip = shutil.ignore_patterns(".git", "*.dvlite", "servers")
        shutil.copytree(sysconfig.get_paths()["stdlib"], place / "stdlib", symlinks=True, ignore=skip)
        shutil.copytree(sysconfig.get_paths()["purelib"], place / "packages", symlinks=True, ignore=skip)
        return
    for folder in range(work.folders):
        (place / f"d{folder:03}").mkdir(parents=True)
    block = os.urandom(1 << 24)
    for number in range(work.count):
        with (place / f"d{number % work.folders:03}" / f"f{number:06}.bin").open("wb") as file:
            left = work.size
            if left < len(block):
                file.write(os.urandom(left))
            else:
                while left > 0:
                    left -= file.write(os.urandom(min(left, len(block))))


def files(place):
    """Return a workload's regular files, sorted; not what tools leave beside them."""
    found = []
    for folder, _, names in os.walk(place):
        found += (path for name in names if (path := Path(folder, name)).is_file() and not path.is_symlink())
    return sorted(path for path in found if not path.name.endswith(_BESIDE))


def change(place, percent):
    """Append to one file of a hundred (percent=1), or to one of all (percent=0)."""
    found = files(place)
    for path in found[::100] if percent else found[len(found) // 2 :][:1]:
        with path.open("ab") as file:
            file.write(b"changed")
