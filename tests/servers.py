"""Real servers for the tests, on loopback and free ports, each stopped by its pid."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY = "dvlite-test-key"
SECRET = "dvlite-test-secret"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def rclone():
    """Return the rclone program that the package brings."""
    found = Path(sys.executable).parent / "rclone"
    return str(found) if found.exists() else "rclone"


@contextlib.contextmanager
def rclone_s3(folder, port=None):
    """Serve S3 with real authentication; each folder of `folder` is a bucket."""
    port = port or free_port()
    command = [
        rclone(),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--dir-cache-time",
        "100ms",  # 0 makes the server hang when requests overlap
        str(folder),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**os.environ, "RCLONE_CONFIG": str(Path(folder).with_suffix(".conf"))})  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}"
    try:
        wait_for(endpoint)
        yield endpoint
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(endpoint, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
