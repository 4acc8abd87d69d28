"""Where a tool plays: a folder, or a fresh file system of its own, so that no tool finds the disk as another left it."""

import contextlib
import subprocess

SIZE = "60G"  # a sparse file: it takes what is written
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


@contextlib.contextmanager
def fresh(kind, folder):
    """Mount a new file system of a kind at `folder` for the length of the block; without a kind, the folder stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if not kind:
        yield
        return
    image = folder.with_name(f"{folder.name}.image")
    image.unlink(missing_ok=True)
    _run("truncate", "-s", SIZE, image)
    try:
        _run(*MAKE[kind], image)
        device = _run("losetup", "--find", "--show", "--direct-io=on", image).strip()
        try:
            _run("mount", device, folder)
            try:
                yield
            finally:
                _run("umount", folder)
        finally:
            _run("losetup", "-d", device)
    finally:
        image.unlink()


def _run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
