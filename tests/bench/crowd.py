"""What a remote of very many objects costs who uses it for a few: seconds, memory, and requests where there is a server."""

import contextlib
import os
import subprocess

from dvlite import pack
from dvlite.hashing import oid_of
from dvlite.stores.base import loose_name
from tests.bench.measure import run, together
from tests.bench.play import environment
from tests.servers.proxy import HttpProxy

FILES = 100  # of our own
_IN_A_PACK = 5


def fill(root, objects, packs):
    """Put large objects and small packs of others on a remote, by its folder; their indexes are merged, as pushes do it."""
    for number in range(objects):
        path = root / loose_name(oid_of("sha256", b"%d" % number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")  # nobody reads them
    tails = {}
    for number in range(packs):
        contents = [b"%d %d" % (number, one) for one in range(_IN_A_PACK)]
        id_, tail = pack.encode_index((oid_of("sha256", one), len(one)) for one in contents)
        (root / f"packs/{id_}.pack").write_bytes(b"".join([pack.MAGIC, *contents, tail]))
        (root / f"packs/{id_}.idx").write_bytes(tail)
        tails[id_] = tail
    if tails:
        id_, merged = pack.encode_merged(tails)
        (root / "indexes").mkdir(exist_ok=True)
        (root / f"indexes/{id_}.idx").write_bytes(merged)


class Crowd:
    """A project with a few files, whose remote has very many of others; in a folder, or on an S3 server by `s5cmd`."""

    def __init__(self, tool, place, server=None, s5cmd=""):
        self.tool, self.place, self.server, self.s5cmd = tool, place, server, s5cmd
        self.env = environment(place) | (server.env if server else {})
        self.project = place / "project"
        self.proxy = None

    def costs(self, objects, packs):
        """Return Taken and the number of requests by operation."""
        self.project.mkdir(parents=True)
        self.do(["git", "init", "-q", "-b", "main"], *self.tool.start(), *self.tool.commit("start"))
        for number in range(FILES):
            path = self.project / f"data/{number % 10}/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000))
        (self.project / "data/large").write_bytes(os.urandom(1 << 20))
        self.do(*self.tool.add(), *self.tool.commit("one"), *self.tool.push())
        fill(self.place / "remote", objects, packs)
        subprocess.run(["sync"], check=True)
        with self._served():
            clone = self.place / "clone"
            self.do(["git", "clone", "-q", str(self.project), str(clone)])
            return {
                "pull in a new clone": self.timed(self.tool.pull(), clone),
                "the first push since they are there": self.timed(self.tool.push()),
                "no-op push": self.timed(self.tool.push()),
                "push of one new file": self.timed(self._changed()),
                "status --remote": self.timed([self.tool.ask("status", "--remote")]),
                "gc --remote --dry-run": self.timed([self.tool.ask("gc", "--remote", "--dry-run")]),
            }

    def _changed(self):
        (self.project / "data/0/new").write_bytes(os.urandom(1000))
        self.do(*self.tool.add(), *self.tool.commit("two"))
        return self.tool.push()

    @contextlib.contextmanager
    def _served(self):
        """Have the remote on the server, seen through what counts requests."""
        if not self.server:
            yield
            return
        bucket = f"{self.server.url}/crowd"
        endpoint = self.server.options["endpoint_url"]
        copy = f"{self.s5cmd} --endpoint-url {endpoint} --numworkers 64 cp {self.place}/remote/ {bucket}/"
        run(copy, self.place, self.env)
        self.proxy = HttpProxy(self.server.port)
        seen = endpoint.replace(f":{self.server.port}", f":{self.proxy.port}")
        try:
            remote = ["remote", "add", "--force", "origin", bucket, "-o", f"endpoint_url={seen}"]
            self.do(self.tool.ask(*remote), *self.tool.commit("server"))
            (self.place / "gitconfig").open("a").write(f"[dvlite]\n\ttrust = {seen}\n")
            yield
        finally:
            self.proxy.close()

    def do(self, *commands):
        return together(commands, self.project, self.env)

    def timed(self, commands, folder=None):
        """Return what commands took, and how many requests they made."""
        if self.proxy:
            self.proxy.clear()
        taken = together(commands, folder or self.project, self.env)
        return taken, len(self.proxy.asked) if self.proxy else None


def table(found):
    """Yield Markdown lines: seconds, peak of memory, and requests."""
    yield "| operation | seconds | MB of memory | requests |"
    yield "|---|---|---|---|"
    for operation, (taken, requests) in found.items():
        yield f"| {operation} | {taken.seconds:.2f} | {taken.peak / 1e6:.0f} | {'' if requests is None else requests} |"
