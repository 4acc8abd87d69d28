"""Look over the environment and this repository's state, without changing either."""

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from dvlite import __version__, config, copying, files, refs, remotes
from dvlite.errors import DvliteError
from dvlite.ops import hooks
from dvlite.repo import SETTINGS, Repo, open_repo

_DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "sftp": "paramiko", "webdav": "webdav4", "https": "aiohttp"}
_EXTRAS = {"gs": "gcs", "az": "azure", "sftp": "sftp", "webdav": "webdav"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `hint` says how to mend what is not well."""

    name: str
    value: str
    is_well: bool = True
    hint: str = ""


def doctor(start: Path) -> list[Check]:
    """Return all checks; those of a repository only where there is one."""
    checks = [
        Check("dvlite", __version__),
        Check("python", platform.python_version()),
        Check("system", f"{platform.system()} {platform.release()}"),
        _git_check(),
    ]
    try:
        repo = open_repo(start)
    except DvliteError as exc:
        return [*checks, Check("repository", exc.message, False, exc.hint)]
    checks.append(Check("repository", str(repo.root)))
    if wrong := _wrong_settings(repo):
        return checks + wrong
    checks += [_store_check(repo), _link_check(repo), _hooks_check(repo)]
    left = sorted((repo.git.folder / "dvlite/tmp").glob(f"*/*{files.ASIDE}"))
    checks += [
        Check("moved aside", str(path), False, "A killed checkout left it: look at it, then delete it.")
        for path in left
    ]
    pointers = refs.in_worktree(repo.git)
    checks.append(Check("tracked paths", str(len(pointers.found))))
    checks += [Check(f"pointer {path}", exc.message, False, exc.hint) for path, exc in pointers.broken.items()]
    return checks + [_remote_check(repo, name) for name in remotes.names(repo.config, repo.settings)]


def _wrong_settings(repo: Repo) -> list[Check]:
    wrong = []
    for name in SETTINGS:
        try:
            repo.setting(name)
        except DvliteError as exc:
            wrong.append(Check(f"setting {name}", exc.message, False, exc.hint))
    default = remotes.default_name(repo.config, repo.settings)
    if default and default not in remotes.names(repo.config, repo.settings):
        hint = "Name another: 'dvlite config remote NAME', or 'remote' in dvlite.toml."
        wrong.append(Check("default remote", f"there is no remote '{default}'", False, hint))
    return wrong


def _hooks_check(repo: Repo) -> Check:
    found = hooks.status(repo)
    if found.is_installed:
        return Check("hooks", "installed")
    dead = [one.event for one in found.hooks if one.state not in ("installed", "covered")]
    was = repo.hooks_note.exists() and repo.hooks_note.read_text().strip() == "installed"
    said = f"were installed, and are not any more: {', '.join(dead) or 'the drivers'}" if was else "not installed"
    return Check("hooks", said, not was, "Run 'dvlite hooks install'." if was else "")


def _git_check() -> Check:
    path = shutil.which("git")
    return Check("git", path) if path else Check("git", "not on the PATH", False, "Install Git.")


def _store_check(repo: Repo) -> Check:
    state = repo.store.state()
    if not state:
        return Check("store", f"{repo.store.root}: empty")
    found = [path.stat().st_size for path in repo.store.root.rglob("*") if path.is_file()]
    aside = list((repo.store.root / "quarantine").glob("*"))
    value = f"{repo.store.root}: {sum(found)} bytes in {len(found)} files"
    if aside:
        return Check(
            "store",
            f"{value}, {len(aside)} of them set aside as corrupt",
            False,
            "Run 'dvlite pull', or 'dvlite add' again.",
        )
    return Check("store", value)


def _link_check(repo: Repo) -> Check:
    if not repo.store.tmp.exists():
        return Check("link", repo.link)
    one, two = files.temporary(repo.store.tmp), files.temporary(repo.store.tmp)
    try:
        with open(files.create(one), "wb") as source, open(files.create(two), "wb") as target:  # noqa: PTH123
            has_reflinks = copying.clone(source.fileno(), target.fileno())
    finally:
        one.unlink(missing_ok=True)
        two.unlink(missing_ok=True)
    return Check("link", f"{repo.link} (the file system has {'' if has_reflinks else 'no '}reflinks)")


def _remote_check(repo: Repo, name: str) -> Check:
    try:
        remote = remotes.resolve(name, repo.config, repo.settings)
        protocol = config.check_url(remote.url)
        endpoint = remotes.untrusted_endpoint(name, repo.config, repo.settings)
    except DvliteError as exc:
        return Check(f"remote {name}", exc.message, False, exc.hint)
    url = config.redact(remote.url)
    driver = _DRIVERS.get(protocol)
    if driver and importlib.util.find_spec(driver) is None:
        return Check(
            f"remote {name}",
            f"{url}: {driver} is not installed",
            False,
            f"Run 'pip install dvlite[{_EXTRAS[protocol]}]'.",
        )
    if endpoint:
        return Check(
            f"remote {name}", f"{url}: endpoint {endpoint} is not trusted", False, f"Run 'dvlite remote trust {name}'."
        )
    return Check(f"remote {name}", url)
