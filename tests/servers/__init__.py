"""Real servers for tests and trials, on loopback and free ports, each stopped by its pid: `serve(name, folder)`.

A server that this machine lacks raises Lacking, with what to install.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

KEY = "dvlite-test-key"
SECRET = "dvlite-test-secret"
S3_ENV = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
HERE = Path(__file__).resolve().parents[2] / ".venv"


class Lacking(Exception):
    """A program that a server needs isn't here."""


class Server(NamedTuple):
    """A running server: the URL of a place that holds nothing, what its driver needs, and where the bytes lie (if in files)."""

    name: str
    url: str
    options: dict
    env: dict
    folder: Path | None = None
    port: int = 0
    process: subprocess.Popen | None = None


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def program(name, package, *folders):
    """Return a program's path; Lacking where it isn't here."""
    places = [Path(sys.executable).parent, *folders]
    for place in places:
        if (place / name).exists():
            return str(place / name)
    found = shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin:/sbin")
    if not found:
        raise Lacking(f"{name} isn't here (it comes with {package})")
    return found


@contextlib.contextmanager
def running(*command, env=None, log=None):
    """Run a server until the context ends."""
    with open(log or os.devnull, "ab") as out:
        server = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                  env={**os.environ, **(env or {})})  # fmt: skip
    try:
        yield server
    finally:
        stop(server)


def stop(server):
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_for(endpoint, seconds=30, server=None):
    """Wait until a server answers to HTTP, whatever it says."""
    wait_until(lambda: _answers(endpoint), endpoint, seconds, server)


def _answers(endpoint):
    try:
        urllib.request.urlopen(endpoint, timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait_until(is_up, what, seconds=30, server=None):
    end = time.monotonic() + seconds
    while not is_up():
        if server and server.poll() is not None:
            raise RuntimeError(f"{what}: the server ended with {server.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: no answer in {seconds} s")
        time.sleep(0.05)


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def serve(name, folder, port=None):
    """Return the context of a server by name; yields a Server. What it keeps is below `folder`."""
    from tests.servers import ceph, emulators, hosting, rclone

    known = {
        "s3": rclone.s3,
        "webdav": rclone.webdav,
        "http": rclone.http,
        "ceph": ceph.ceph,
        "azure": emulators.azure,
        "gcs": emulators.gcs,
        "sftp": hosting.sftp,
        "git": hosting.git,
        "folder": a_folder,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return known[name](folder, port or free_port())


@contextlib.contextmanager
def a_folder(folder, port):
    yield Server("folder", str(folder), {}, {}, folder)


NAMES = ("s3", "ceph", "azure", "gcs", "sftp", "webdav", "http", "git", "folder")
