"""Push and pull to a real S3 server: dvlite, DVC, `rclone copy`, `s5cmd cp`, and the driver's own put and get."""

import shutil
import subprocess

from tests.bench.measure import Failed, settle, together
from tests.bench.play import environment, needed

COPY = "import sys, pathlib, obstore\nfrom obstore.store import S3Store\n"
# It writes in steps of 256 KiB: larger ones are slower on Linux 6.18.
BARE = COPY + (
    "op, url, bucket, path, place = sys.argv[1:]\n"
    "store = S3Store(bucket, endpoint=url, region='us-east-1', client_options={'allow_http': True})\n"
    "if op == 'put':\n"
    "    obstore.put(store, path, pathlib.Path(place))\n"
    "else:\n"
    "    with open(place, 'wb') as file:\n"
    "        for block in obstore.get(store, path).stream(min_chunk_size=1 << 18):\n"
    "            file.write(block)\n"
)


class Bucket:
    """A server's bucket, and how each tool is told of it; `peers` has the programs by name."""

    def __init__(self, server, peers, place):
        self.endpoint = server.options["endpoint_url"]
        self.bucket = server.url.removeprefix("s3://").split("/")[0]
        self.peers, self.place = peers, place
        rclone = {"TYPE": "s3", "PROVIDER": "Ceph", "ENDPOINT": self.endpoint, "ENV_AUTH": "true"}
        self.env = {
            **environment(place),
            **server.env,
            **{f"RCLONE_CONFIG_S_{key}": value for key, value in rclone.items()},
        }

    def s5cmd(self, *arguments):
        return [str(self.peers["s5cmd"]), "--endpoint-url", self.endpoint, *map(str, arguments)]

    def versioned(self, name, source):
        """Push from a repository and pull in a clone."""
        tool, project, clone = self.peers[name], self.place / "project", self.place / "clone"
        project.mkdir()
        url = f"s3://{self.bucket}/{name}"
        if name == "DVC":
            start = [
                ["init", "-q"],
                ["remote", "add", "-d", "origin", url],
                ["remote", "modify", "origin", "endpointurl", self.endpoint],
            ]
        else:
            start = [
                ["init", "-q", "--no-hooks"],
                ["remote", "add", "origin", url, "-o", f"endpoint_url={self.endpoint}"],
            ]
        together([["git", "init", "-q", "-b", "main"], *([str(tool), *line] for line in start)], project, self.env)
        shutil.copytree(source, project / "data")
        together(
            [[str(tool), "add", "data"], ["git", "add", "-A"], ["git", "commit", "-q", "-m", "one"]], project, self.env
        )
        shutil.rmtree(project / "data")  # so that every tool has the same room in memory
        settle(needed(source))
        push = together([[str(tool), "push"]], project, self.env)
        again = together([[str(tool), "push"]], project, self.env)
        fetch = self._cloned(name, project, self.place / "fetched", "fetch", source)
        shutil.rmtree(self.place / "fetched")
        pull = self._cloned(name, project, clone, "pull", source)
        found = {"push to S3": push, "no-op push to S3": again, "fetch from S3": fetch, "clone's pull from S3": pull}
        return found, clone / "data"

    def _cloned(self, name, project, clone, verb, source):
        """Take what a command takes in a new clone."""
        clone.mkdir()
        tool = str(self.peers[name])
        together([["git", "clone", "-q", f"file://{project}", "."]], clone, self.env)
        together([[tool, "remote", "trust", "origin"]] if name == "dvlite" else [], clone, self.env)
        settle(needed(source))
        return together([[tool, verb]], clone, self.env)

    def copied(self, name, source):
        """Copy a folder there and back."""
        there = self.place / "there"
        if name == "s5cmd":
            push, pull = (
                self.s5cmd("cp", f"{source}/", f"s3://{self.bucket}/{name}/"),
                self.s5cmd("cp", f"s3://{self.bucket}/{name}/*", f"{there}/"),
            )
        elif name == "rclone":
            copy = [str(self.peers["rclone"]), "copy", "--transfers", "16", "--checkers", "16"]
            push, pull = [*copy, str(source), f"s:{self.bucket}/rclone"], [*copy, f"s:{self.bucket}/rclone", str(there)]
        else:
            file = next(path for path in source.rglob("*") if path.is_file())
            there = self.place / "there" / file.relative_to(source)
            there.parent.mkdir(parents=True)
            bare = [str(self.peers["bare"]), "-c", BARE]
            push, pull = (
                [*bare, op, self.endpoint, self.bucket, "bare/file", str(path)]
                for op, path in (("put", file), ("get", there))
            )
        settle(needed(source))
        first = together([push], self.place, self.env)
        settle(needed(source))
        second = together([pull], self.place, self.env)  # a copy is both
        return {"push to S3": first, "fetch from S3": second, "clone's pull from S3": second}, self.place / "there"

    def round(self, name, source):
        """One tool's push, no-op push, fetch and pull, compared byte for byte; returns Taken by operation."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        (self.place / "gitconfig").write_text(
            "[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
        )
        found, there = (self.versioned if name in ("dvlite", "DVC") else self.copied)(name, source)
        if subprocess.run(["diff", "-r", source, there], capture_output=True).returncode:
            raise Failed(f"{name}: pull brought other bytes")
        subprocess.run(self.s5cmd("rm", f"s3://{self.bucket}/{name}/*"), env=self.env, capture_output=True)
        shutil.rmtree(self.place)
        return found
