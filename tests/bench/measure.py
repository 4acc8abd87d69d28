"""Run one command and tell what it took: seconds, CPU, memory, bytes written; with strace also system calls."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Taken(NamedTuple):
    """What commands took together: seconds of the clock and of the CPU, peak of memory of the largest process, bytes written to files."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    written: int = 0

    def __add__(self, other):
        return Taken(
            self.seconds + other.seconds, self.cpu + other.cpu, max(self.peak, other.peak), self.written + other.written
        )


class Failed(Exception):
    """A command of a tool failed, or left other bytes."""


def run(command, folder, env):
    """Run a command (a list, or a line for the shell); returns Taken. Raises Failed with what it said."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            shell=isinstance(command, str),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise Failed(
                f"{command} in {folder}: exit {process.returncode}: {out.read()[-2000:].decode(errors='replace')}"
            )
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, usage.ru_oublock * 512)


def together(commands, folder, env):
    """Run commands one after the other; returns what they took in sum."""
    return sum((run(command, folder, env) for command in commands), Taken())


def system_calls(commands, folder, env):
    """Return the number of system calls of commands and their children; None where strace isn't here."""
    if not shutil.which("strace"):
        return None
    total = 0
    for command in commands:
        with tempfile.NamedTemporaryFile("r") as log:
            run(["strace", "-c", "-f", "-o", log.name, *command], folder, env)
            total += int(re.findall(r"^100\.00\s+\S+\s+(?:\S+\s+)?(\d+)\s", log.read(), re.M)[-1])
    return total


def settle(size):
    """Have the disk at rest, and so many bytes of memory fresh in use, a fourth of all at most.

    A virtual machine gives what is free back to its host, and whoever needs it next waits for it, up to two seconds a gigabyte.
    """
    subprocess.run(["sync"], check=True)
    size = min(size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    subprocess.run([sys.executable, "-c", f"b'1' * {size}"], check=True)  # of its own: a memory's peak is inherited


def drop_caches():
    """Have the kernel forget the files it read; False where that isn't ours to do."""
    subprocess.run(["sync"], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True
