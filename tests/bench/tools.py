"""How dvlite and its peers are asked: each operation is a list of commands that one user would type.

A tool that can't do an operation, or does it by `git` alone, has an empty list there. Peers are installed from PyPI into places of
their own; Git LFS and git-annex are used where the system has them.
"""

import shutil
import subprocess
import sys
from pathlib import Path

OXEN = (
    "import sys\nfrom oxen import Repo\nfrom oxen.user import config_user\nconfig_user('b', 'b@b')\nrepo = Repo('.')\n"
)


class Tool:
    """A tool in its default settings. `place` has the round's remotes; `program` is its command; `paths` are what it tracks."""

    name = ""
    uses_git = True
    carries = False  # `git switch` brings the data along

    def __init__(self, program, place):
        self.program, self.place, self.paths = str(program), place, ["data"]

    def ask(self, *arguments):
        return [self.program, *arguments]

    def version(self):
        return [self.ask("--version")]

    def start(self):
        """Make a repository of an empty Git repository, with a folder as remote."""
        raise NotImplementedError

    def add(self):
        raise NotImplementedError

    def update(self):
        return self.add()

    def commit(self, message):
        return [["git", "add", "-A"], ["git", "commit", "-q", "--allow-empty", "-m", message]]

    def status(self):
        return []

    def push(self):
        return []

    def clone(self, project):
        """Commands that make a clone without data, in an empty folder."""
        return [["git", "clone", "-q", f"file://{project}", "."]]

    def pull(self):
        return []

    def go(self, branch):
        return [["git", "checkout", "-q", branch]]

    def branch(self, name):
        return [["git", "branch", name]]

    def checkout(self):
        return []

    def hooks(self):
        return []

    def gc(self):
        return []

    def diff(self, one, two):
        return []


class Dvlite(Tool):
    name = "dvlite"
    hash = "sha256"

    def diff(self, one, two):
        return [self.ask("diff", one, two)]

    def start(self):
        init = self.ask("init", "-q", "--no-hooks", "--hash", self.hash)
        return [init, self.ask("remote", "add", "origin", str(self.place / "remote"))]

    def add(self):
        return [self.ask("add", *self.paths)]

    def status(self):
        return [self.ask("status")]

    def push(self):
        return [self.ask("push")]

    def pull(self):
        return [self.ask("pull")]

    def checkout(self):
        return [self.ask("checkout")]

    def hooks(self):
        return [self.ask("hooks", "install", "-q")]

    def gc(self):
        return [self.ask("gc")]


class Blake3(Dvlite):
    """dvlite with its second hash."""

    name = "dvlite-blake3"
    hash = "blake3"


class Dvc(Tool):
    name = "DVC"

    def diff(self, one, two):
        return [self.ask("diff", one, two)]

    def start(self):
        return [self.ask("init", "-q"), self.ask("remote", "add", "-d", "origin", str(self.place / "remote"))]

    def add(self):
        return [self.ask("add", *self.paths)]

    def status(self):
        return [self.ask("status")]

    def push(self):
        return [self.ask("push")]

    def pull(self):
        return [self.ask("pull")]

    def checkout(self):
        return [self.ask("checkout")]

    def hooks(self):
        return [self.ask("install")]

    def gc(self):
        return [self.ask("gc", "-w", "-f")]


class Lfs(Tool):
    """Git LFS: add is `git add`, status is `git status`, a switch brings the data along."""

    name = "LFS"
    carries = True

    def diff(self, one, two):
        return [["git", "diff", "--stat", one, two]]

    def version(self):
        return [["git", "lfs", "version"]]

    def start(self):
        return [
            ["git", "init", "-q", "--bare", str(self.place / "remote/lfs.git")],
            ["git", "remote", "add", "origin", f"file://{self.place}/remote/lfs.git"],
            ["git", "lfs", "install", "--local"],
            ["git", "lfs", "track", "data/**"],
        ]

    def add(self):
        return [["git", "add", "-A"]]

    def status(self):
        return [["git", "status"]]

    def push(self):
        return [["git", "push", "-q", "origin", "main"]]

    def clone(self, project):
        fetch = [
            "env",
            "GIT_LFS_SKIP_SMUDGE=1",
            "git",
            "clone",
            "-q",
            "-b",
            "main",
            f"file://{self.place}/remote/lfs.git",
            ".",
        ]
        return [fetch, ["git", "lfs", "install", "--local"]]

    def pull(self):
        return [["git", "lfs", "pull"]]

    def gc(self):
        return [["git", "lfs", "prune"]]


class Annex(Tool):
    """git-annex with unlocked files, which can be edited as with the others; a switch brings the data along."""

    name = "annex"
    carries = True

    def diff(self, one, two):
        return [["git", "diff", "--stat", one, two]]

    def version(self):
        return [["git", "annex", "version", "--raw"]]

    def start(self):
        remote = ["type=directory", f"directory={self.place}/remote", "encryption=none"]
        return [
            ["git", "annex", "init", "-q"],
            ["git", "config", "annex.addunlocked", "true"],
            ["git", "annex", "initremote", "-q", "store", *remote],
        ]

    def add(self):
        return [["git", "annex", "add", "-q", "-J2", "data"]]

    def status(self):
        return [["git", "status"]]

    def push(self):
        return [["git", "annex", "copy", "-q", "-J2", "--to", "store", "data"]]

    def pull(self):
        return [
            ["git", "annex", "init", "-q"],
            ["git", "annex", "enableremote", "-q", "store", f"directory={self.place}/remote"],
            ["git", "annex", "get", "-q", "-J2", "--from", "store", "data"],
        ]


class Oxen(Tool):
    """Oxen by its Python package (it has no program on PyPI); its push needs its own server."""

    name = "Oxen"
    uses_git = False
    carries = True

    def ask(self, *lines):
        return [self.program, "-c", OXEN + "\n".join(lines)]

    def version(self):
        return [[self.program, "-c", "import oxen"]]

    def start(self):
        return [self.ask("repo.init()")]

    def add(self):
        return [self.ask("repo.add('data')")]

    def commit(self, message):
        return [] if message == "start" else [self.ask(f"repo.commit({message!r})")]

    def status(self):
        return [self.ask("repo.status()")]

    def branch(self, name):
        return [self.ask(f"repo.checkout({name!r}, create=True)", "repo.checkout('main')")]

    def go(self, branch):
        return [self.ask(f"repo.checkout({branch!r})")]


class Xvc(Tool):
    """xvc by its Python package (it has no program on PyPI); it commits its files to Git by itself."""

    name = "xvc"

    def ask(self, *arguments):
        return [self.program, "-c", "import sys, xvc; xvc.run_xvc(sys.argv[1])", " ".join(["xvc", *arguments])]

    def version(self):
        return [[self.program, "-c", "import xvc"]]

    def start(self):
        return [self.ask("init"), self.ask("storage new local --name store --path", str(self.place / "remote/xvc"))]

    def add(self):
        return [self.ask("file track data")]

    def update(self):
        return [self.ask("file carry-in data")]

    def push(self):
        return [self.ask("file send data --to store")]

    def pull(self):
        return [self.ask("file bring data --from store")]

    def checkout(self):
        return [self.ask("file recheck --force data")]


def install(package, place, program):
    """Return a program of a package from PyPI in a virtual environment of its own; None (and a line) where it can't be had."""
    if not (place / "ready").exists():
        print(f"bench: installing {package} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        done = subprocess.run(
            [place / "bin/python", "-m", "pip", "install", "--quiet", *package.split()], capture_output=True
        )
        if done.returncode:
            print(f"bench: no {package}: {done.stderr.decode()[-300:]}", file=sys.stderr)
            return None
        (place / "ready").touch()
    return place / "bin" / program


PACKAGES = {"DVC": ("dvc[s3]", "dvc"), "Oxen": ("oxenai", "python"), "xvc": ("xvc", "python")}
CLASSES = {tool.name: tool for tool in (Dvlite, Blake3, Dvc, Lfs, Annex, Oxen, Xvc)}


def tool(name, dvlite, peers, place):
    """Return a tool of the name, installed below `peers`; None where this machine can't have it."""
    if name in ("dvlite", "dvlite-blake3"):
        return CLASSES[name](dvlite, place)
    if name in PACKAGES:
        package, program = PACKAGES[name]
        found = install(package, Path(peers) / name, program)
    else:
        found = shutil.which({"LFS": "git-lfs", "annex": "git-annex"}[name])
        if not found:
            print(f"bench: {name} isn't here (it comes with the system's package of that name)", file=sys.stderr)
    return CLASSES[name](found, place) if found else None
