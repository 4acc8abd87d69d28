"""Open a repository: its Git folders, config, local store, index, remotes and lock. No verbs."""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dvlite import config, files, git
from dvlite.config import Config
from dvlite.errors import FormatError, UsageError
from dvlite.index import Index
from dvlite.locks import Lock
from dvlite.pointer import SUFFIX
from dvlite.stores.local import PACK_BELOW, PACK_SIZE, LocalStore, users

if TYPE_CHECKING:
    from dvlite.stores.remote import RemoteStore

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Setting(NamedTuple):
    """A setting of a machine, in Git's config below `dvlite.`: what it says, and which values it may have."""

    meaning: str
    kind: str | tuple[str, ...] = "text"  # or "size", "flag", or the values themselves


# Git spells keys in lower case.
SETTINGS = {
    "packbelow": Setting("objects of this size and more get a file of their own (1 MiB)", "size"),
    "packsize": Setting("a pack is full at this size (64 MiB)", "size"),
    "link": Setting("how large files get into the worktree (reflink)", files.LINKS),
    "store": Setting("folder of the local store, when it is shared"),
    "sync": Setting("'always' makes add wait for the disk", ("always", "later")),
    "autostage": Setting("'false' makes add, mv and rm leave staging to you", "flag"),
    "hooks.fetch": Setting("'true' lets hooks fetch what is missing from a remote used before", "flag"),
    "autohooks": Setting("'true' installs the hooks in every clone", "flag"),
    "offline": Setting("'true' keeps the merge driver off the network", "flag"),
    "allowincompletepush": Setting("'true' lets commits be pushed whose data is nowhere", "flag"),
    "remote": Setting("the default remote, on this machine"),
    "trust": Setting("prefixes of endpoint URLs that may get credentials"),
}


def check_setting(name: str, value: str) -> None:
    """Refuse a value that a setting can't have."""
    kind = SETTINGS[name].kind if name in SETTINGS else "text"
    if kind == "size":
        config.parse_size(value)
    allowed = tuple(_FLAGS) if kind == "flag" else kind
    if isinstance(allowed, tuple) and value.lower() not in allowed:
        raise UsageError(
            f"'{value}' is not a value of the setting '{name}'",
            f"Set it to one of {', '.join(allowed)}: git config dvlite.{name} {allowed[0]}",
        )


class Repo:
    """A dvlite repository, opened. What costs something is opened when it is first used.

    `committed`: its `dvlite.toml`, where it has no worktree to read that from.
    """

    def __init__(self, repository: git.Git, committed: bytes | None = None) -> None:
        self._committed = committed
        self.git = repository
        self.root = repository.root
        self._asked: Callable[[], list[tuple[str, str, str]]] | None = None
        self.index = Index(repository.folder / "dvlite" / "index.db")
        self.waiting: Callable[[str], None] = lambda _: None  # is told for whom this process waits
        self.patience_s = 30.0
        self.here = Path()  # where the user is: the folder that is not taken away
        self.limit_rate = 0  # bytes a second that transfers may take; 0: what each remote's settings say

    @cached_property
    def config(self) -> Config:
        """What `dvlite.toml` says."""
        if self._committed is not None:
            return config.decode(self._committed)
        try:
            data = files.read_start(self.root / config.FILE, config.MAX_BYTES + 1)
        except FileNotFoundError as exc:
            hint = "Run 'dvlite init' first."
            if git.has_commits(self.git) and git.file_at(self.git, "HEAD", config.FILE):
                hint = f"HEAD has it: 'git checkout HEAD -- {config.FILE}' brings it back."
            raise UsageError(f"'{self.root}' has no {config.FILE}", hint) from exc
        return config.decode(data)

    @cached_property
    def settings(self) -> list[tuple[str, str, str]]:
        """All `dvlite.*` settings of Git's config: level, key, value."""
        asked = self._asked or git.begin_settings(self.git)
        return asked()

    def ask_settings(self) -> None:
        """Ask Git for its config while something else goes on: most commands need it a little later."""
        self._asked = git.begin_settings(self.git)

    def setting(self, name: str, default: str = "") -> str:
        """Return one setting of this machine; an error where it can't have that value."""
        found = [value for _, key, value in self.settings if key == f"dvlite.{name}"]
        if found and found[-1]:
            try:
                check_setting(name, found[-1])
            except FormatError as exc:
                raise FormatError(
                    f"the setting '{name}': {exc.message}", f"{exc.hint} 'git config dvlite.{name} …'"
                ) from exc
            return found[-1]
        return default

    @property
    def shared_bits(self) -> int:
        """The permissions that all members of a group (or all users) get in the store, as Git's core.sharedRepository says."""
        found = [value for _, key, value in self.settings if key == git.SHARED]
        value = found[-1].lower() if found else ""
        if value.startswith("0") and value.isdigit() and len(value) > 1:
            return int(value, 8) & 0o066
        group, everybody = ("group", "true", "1"), ("all", "world", "everybody", "2")
        return 0o060 if value in group else 0o064 if value in everybody else 0

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a setting that is true or false."""
        value = self.setting(name)
        return _FLAGS[value.lower()] if value else default

    @cached_property
    def store(self) -> LocalStore:
        """The local store, shared by all worktrees of the repository."""
        place = self.setting("store")
        if place and (self.root / Path(place).expanduser() / config.MARKER).exists():
            raise UsageError(
                f"'{place}' is a remote, and can't be the local store too",
                "Set another: git config dvlite.store FOLDER",
            )
        return LocalStore(
            self.root / Path(place).expanduser() if place else self.git.common / "dvlite",
            pack_below=config.parse_size(self.setting("packbelow", str(PACK_BELOW))),
            pack_size=config.parse_size(self.setting("packsize", str(PACK_SIZE))),
            is_synced=self.setting("sync") == "always",
        )

    @property
    def link(self) -> str:
        """How large files get into the worktree."""
        return self.setting("link", "reflink").lower()

    def tmp(self, path: Path) -> Path:
        """Return a folder for unfinished files, on the same file system as `path`."""
        folder = self.git.folder / "dvlite" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        near = next(one for one in (path, *path.parents) if one.is_dir() and not one.is_symlink())
        return folder if folder.stat().st_dev == near.stat().st_dev else near / files.NEAR

    @property
    def hooks_note(self) -> Path:
        """The file that is there once hooks were installed, declined or spoken of in this clone."""
        return self.git.common / "dvlite" / "hooks"

    @cached_property
    def clone_id(self) -> str:
        """The random id of this clone."""
        path = self.git.common / "dvlite" / "clone"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, files.token(16).encode() + b"\n")
        return path.read_text().strip()

    def remote(self, name: str = "") -> "RemoteStore":
        """Open a remote by name; the default one without."""
        from dvlite import remotes  # needs 10 ms, and only where a remote is asked

        name = name or remotes.default_name(self.config, self.settings)
        found = remotes.open_store(
            name, self.config, self.settings, root=self.root, folder=self.git.common / "dvlite", rate=self.limit_rate
        )
        place, store = found.bucket.local_path(""), self.store.root.resolve()
        if place and (place.resolve() == store or store in place.resolve().parents):
            raise UsageError(
                f"remote '{name}' is the local store '{store}', or lies in it: there would be no second copy",
                "Give one of them another folder ('dvlite remote set', 'git config dvlite.store').",
            )
        return found

    @contextlib.contextmanager
    def writing(self, command: str) -> Iterator[None]:
        """Hold the store's lock shared, from the first look-up until the pointer is in place."""
        label = f"dvlite {command}"
        with self.store.lock.hold(is_exclusive=False, label=label, wait_s=self.patience_s, waiting=self.waiting):
            users.note(self.store.root, self.git.common)
            yield
            self._share()

    def _share(self) -> None:
        if bits := self.shared_bits:
            files.share(self.store.root, bits)
            files.share(self.git.common / "dvlite", bits)

    @contextlib.contextmanager
    def collecting(self, command: str) -> Iterator[None]:
        """Hold the store's lock alone: nobody is between a look-up and a pointer that rests on it."""
        label = f"dvlite {command}"
        hold = self.store.lock.hold(
            is_exclusive=True, label=label, wait_s=self.patience_s, must=True, waiting=self.waiting
        )
        with hold as announce:
            announce()
            yield
            self._share()

    @contextlib.contextmanager
    def changing_data(self, command: str) -> Iterator[Callable[[], None]]:
        """Keep other checkouts out of this worktree; yields what to call before the first change."""
        lock = Lock(self.git.folder / "dvlite" / "checkout.lock")
        label = f"dvlite {command}"
        with lock.hold(is_exclusive=True, label=label, wait_s=self.patience_s, waiting=self.waiting) as announce:
            yield announce

    @contextlib.contextmanager
    def writing_pointers(self, command: str) -> Iterator[None]:
        """Let one process at a time write pointers and ignore lines of this worktree, and stage them."""
        lock = Lock(self.git.folder / "dvlite" / "pointers.lock")
        label = f"dvlite {command}"
        with lock.hold(is_exclusive=True, label=label, wait_s=self.patience_s, waiting=self.waiting):
            yield

    @contextlib.contextmanager
    def tagging(self, command: str) -> Iterator[None]:
        """Let one process at a time make the registry's tags: each has a number of its own."""
        lock = Lock(self.git.common / "dvlite" / "registry.lock")
        label = f"dvlite {command}"
        with lock.hold(is_exclusive=True, label=label, wait_s=self.patience_s, waiting=self.waiting):
            yield

    def in_repo(self, path: str | Path, base: Path) -> str:
        """Return the in-repo path of what a user named, relative to `base` (absolute); empty for the root itself.

        Links above the last part are resolved, so that a worktree reached by a link works.
        """
        full = Path(os.path.normpath(base / path))
        full = full.parent.resolve() / full.name if full != full.parent else full
        try:
            inner = full.relative_to(self.root).as_posix()
        except ValueError as exc:
            if full == self.root or full.resolve() == self.root:
                return ""
            raise UsageError(f"'{path}' lies outside the repository '{self.root}'") from exc
        return "" if inner == "." else inner


def open_repo(start: Path) -> Repo:
    """Open the repository that a folder lies in; UsageError where it isn't one of dvlite."""
    repo = Repo(git.discover(start.resolve()))
    repo.ask_settings()
    repo.config  # noqa: B018  (says at once when it is missing or malformed)
    return repo


def pointer_path(repo: Repo, tracked: str) -> Path:
    """Return where a tracked path's pointer lies."""
    return repo.root / f"{tracked}{SUFFIX}"
