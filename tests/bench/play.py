"""A user's day with one tool: every operation timed, and the bytes compared wherever the tool brought them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.measure import Failed, drop_caches, settle, system_calls, together
from tests.bench.work import change, files


def environment(place):
    """Return an environment in which Git and the tools know nothing of this machine's user."""
    who = {f"GIT_{role}_{key}": "b@b" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    own = {
        "HOME": str(place),
        "GIT_CONFIG_GLOBAL": str(place / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "XDG_CONFIG_HOME": str(place),
    }
    told = {
        "NO_COLOR": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(place / "site"),
        "GIT_TERMINAL_PROMPT": "0",
    }
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVLITE_", "PYTHONDONTWRITE"))
    }
    return {**kept, **who, **own, **told, "AWS_EC2_METADATA_DISABLED": "true"}


class Day:
    """One tool's round in `place`: `taken` is what each operation took, `counts` files created and system calls."""

    def __init__(self, tool, source, place, *, is_singly=False, is_cold=False, is_traced=False):
        self.tool, self.source, self.place = tool, source, place
        self.is_singly = is_singly
        if is_singly:
            tool.paths = [f"data/{path.relative_to(source)}" for path in files(source)]
        self.is_cold, self.is_traced = is_cold, is_traced
        self.project, self.clone = place / "project", place / "clone"
        self.env, self.taken, self.counts = environment(place), {}, {}
        self.env["PATH"] = f"{Path(tool.program).parent}{os.pathsep}{self.env['PATH']}"  # hooks call a tool by its name

    def settle(self):
        settle(needed(self.source))

    def do(self, commands, folder=None):
        return together(commands, folder or self.project, self.env)

    def time(self, operation, commands, folder=None):
        """Take an operation's time; one that the tool doesn't have is left out."""
        if commands:
            self.taken[operation] = self.do(commands, folder)

    def trace(self, operation, commands):
        if self.is_traced and commands and operation not in self.counts:
            self.counts[operation] = system_calls(commands, self.project, self.env)

    def compare(self, source, folder, operation):
        """See that a folder has the source's bytes after an operation; its time doesn't count where it hasn't."""
        skip = [f"--exclude={name}" for name in ("*.dvlite", "*.dvc", ".gitignore", ".gitattributes")]
        done = subprocess.run(
            ["diff", "-r", "--no-dereference", *skip, source, folder / "data"],
            capture_output=True,
            text=True,
            errors="replace",  # it shows what differs, whatever bytes that has
        )
        if done.returncode:
            self.taken.pop(operation, None)
            raise Failed(f"{operation} brought other bytes: {(done.stdout + done.stderr)[:300]}")

    def play(self):
        """Play the day; returns the operations' Taken by name, without those that failed, which are said."""
        self.taken = {}
        self.begin()
        for part in (self.first_add, self.idle, self.changes, self.switches, self.clones):
            try:
                part()
            except Failed as exc:
                print(f"bench: {self.tool.name}: {exc}", file=sys.stderr, flush=True)
        return self.taken

    def begin(self):
        self.project.mkdir(parents=True)
        (self.place / "remote").mkdir()
        (self.place / "gitconfig").write_text(
            "[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
        )
        if self.tool.uses_git:
            self.do([["git", "init", "-q", "-b", "main"]])
        self.do(self.tool.start())
        self.do(self.tool.commit("start"))
        shutil.copytree(self.source, self.project / "data", symlinks=True)
        self.settle()

    def first_add(self):
        before, room = _count(self.place), _room(self.place)
        if self.is_cold and drop_caches():
            self.time("add, cold cache", self.tool.add())
        else:
            self.time("add", self.tool.add())
        self.counts["files created by the add"] = _count(self.place) - before
        subprocess.run(["sync"], check=True)
        self.counts["MB that the disk has less after it"] = (room - _room(self.place)) // 1_000_000
        self.do(self.tool.commit("one"))
        self.do(self.tool.branch("one"))

    def idle(self):
        """What a day mostly is: nothing has changed."""
        tool = self.tool
        self.time("re-add unchanged", tool.update())
        self.do(tool.status())
        self.time("no-op status", tool.status())
        self.trace("system calls of a no-op status", tool.status())
        self.settle()
        self.time("push to a folder", tool.push())
        self.time("no-op push", tool.push())
        self.time("gc, nothing to do", tool.gc())
        self.time("--version", tool.version())

    def changes(self):
        tool = self.tool
        change(self.project / "data", 0)
        self.settle()
        self.time("add after 1 file changed", tool.update())
        self.do(tool.commit("one file"))
        change(self.project / "data", 1)
        self.settle()
        self.time("add after 1 % changed", tool.update())
        self.do(tool.commit("many files"))
        self.time("diff of the two versions", tool.diff("one", "main"))
        shutil.copytree(self.project / "data", self.place / "two", symlinks=True)
        subprocess.run(["sync"], check=True)

    def switches(self):
        """Between two versions: data by the tool's own command, then data along with Git's."""
        tool = self.tool
        if tool.checkout():
            self.do(tool.go("one"))
            self.settle()
            self.time("checkout of the other version", tool.checkout())
            self.compare(self.source, self.project, "checkout of the other version")
            self.do([*tool.go("main"), *tool.checkout()])
        self.do(tool.hooks())
        along = [] if tool.carries or tool.hooks() and tool.name == "dvlite" else tool.checkout()
        self.settle()
        self.time("git switch, data along", [*tool.go("one"), *along])
        self.compare(self.source, self.project, "git switch, data along")
        self.do([*tool.go("main"), *along])
        self.compare(self.place / "two", self.project, "git switch, data along")
        if tool.uses_git:
            self.time("git commit, hooks with nothing to do", [["git", "commit", "-q", "--allow-empty", "-m", "idle"]])
        if (self.project / ".git/hooks/pre-commit").exists():
            self.time("pre-commit hook, nothing to do", [[".git/hooks/pre-commit"]])
        if tool.checkout():
            if self.is_singly:
                for path in files(self.project / "data"):
                    path.unlink()
            else:
                shutil.rmtree(self.project / "data")
            self.settle()
            self.time("checkout of a fresh folder", tool.checkout())
            self.compare(self.place / "two", self.project, "checkout of a fresh folder")

    def clones(self):
        if self.tool.pull():
            self.do([*self.tool.go("main"), *self.tool.push()])
            self.clone.mkdir()
            self.do(self.tool.clone(self.project), self.clone)
            self.settle()
            self.time("clone's pull", self.tool.pull(), self.clone)
            self.compare(self.place / "two", self.clone, "clone's pull")


def _count(place):
    return sum(len(files) for _, _, files in os.walk(place))


def needed(source):
    """Return the bytes of memory that an operation's files may take: the store's copy and the worktree's, and some."""
    return sum(path.lstat().st_size for path in source.rglob("*")) * 5 // 2 + (1 << 28)


def _room(place):
    space = os.statvfs(place)
    return space.f_bavail * space.f_frsize


def plain(work, source, place, *, is_cold=False):
    """What plain tools take for the same bytes, by operation."""
    (place / "git").mkdir(parents=True)
    env = environment(place)
    together(
        [
            ["git", "init", "-q", "-b", "main", "git"],
            ["git", "-C", "git", "commit", "-q", "--allow-empty", "-m", "one"],
        ],
        place,
        env,
    )
    copy = place / "copy"
    stat = f"find {source} -printf '%s %T@ %C@ %i' > /dev/null"
    lines = {
        "add": (work.limit or "tar cf - {source} | sha256sum").format(source=source, copy=copy),
        "re-add unchanged": stat,
        "no-op status": stat,
        "push to a folder": f"tar cf {place}/tar {source}",
        "checkout of a fresh folder": f"cp -r {source} {place}/fresh",
        "clone's pull": f"cp -r {source} {place}/clone",
        "--version": f"{sys.executable} -c pass",
        "git switch, data along": "git -C git switch -q -c other",
        "git commit, hooks with nothing to do": "git -C git commit -q --allow-empty -m two",
        "hash": f"find {source} -type f -exec sha256sum {{}} + > /dev/null",
    }
    taken = {}
    for operation, line in lines.items():
        settle(needed(source))
        taken[operation] = together([line], place, env)
    if is_cold:
        taken.pop("add")
        shutil.copytree(source, place / "cold", symlinks=True)
        drop_caches()
        taken["add, cold cache"] = together([f"find {place}/cold -type f -exec cat {{}} + > /dev/null"], place, env)
    return taken
