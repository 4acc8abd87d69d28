"""Try a remote as dvlite uses it, in a place of its own that is taken away again: what works, how far it is, how fast."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dvlite import config, files
from dvlite.errors import DvliteError, RemoteError
from dvlite.progress import SILENT, Progress
from dvlite.repo import Repo
from dvlite.stores.base import Report
from dvlite.stores.memory import MemoryStore
from dvlite.stores.remote import RemoteStore

LARGE = 40 << 20  # bytes; comes and goes in parts
_ROUNDS = 9
_DAY_NS = 86400 * 10**9


@dataclass(slots=True)
class Check:
    """One thing that dvlite relies on. `error`: why it does not work, empty where it does."""

    name: str
    error: str = ""


@dataclass(slots=True)
class RemoteTestResult:
    """What was tried; the round trip in seconds, rates in bytes a second (0 where nothing was sent)."""

    remote: str
    url: str
    checks: list[Check] = field(default_factory=list)
    features: dict[str, bool] = field(default_factory=dict)
    round_trip_s: float = 0
    upload_rate: int = 0
    download_rate: int = 0
    login: str = ""
    is_read_only: bool = False

    @property
    def is_good(self) -> bool:
        """Whether dvlite can rely on it."""
        return not any(one.error for one in self.checks)


class _Trial:
    def __init__(self, store: RemoteStore, folder: Path, result: RemoteTestResult) -> None:
        self.store, self.bucket, self.folder, self.result = store, store.bucket, folder, result

    def check(self, name: str, call: Callable[[], object]) -> None:
        one = Check(name)
        self.result.checks.append(one)
        try:
            call()
        except (DvliteError, OSError, AssertionError) as exc:
            one.error = getattr(exc, "message", "") or str(exc) or "it came back different"

    def small(self) -> None:
        self.bucket.put("a/small", b"one")
        assert self.bucket.get("a/small") == b"one"

    def listed(self) -> None:
        assert self.bucket.list().keys() >= {"a/small"}, "what was just written isn't listed"

    def written_over(self) -> None:
        self.bucket.put("a/small", b"two, longer")
        assert self.bucket.get("a/small") == b"two, longer"

    def part(self) -> None:
        assert self.bucket.get("a/small", 2, 6) == b"o, l"
        assert self.bucket.driver.has_ranges, "a part of a file can't be had: one file of a folder costs its whole pack"

    def far(self) -> None:
        times = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            self.bucket.infos(["a/small"])
            times.append(time.perf_counter() - start)
        self.result.round_trip_s = sorted(times)[_ROUNDS // 2]

    def large(self) -> None:
        sent, came = files.temporary(self.folder), files.temporary(self.folder)
        try:
            sent.write_bytes(os.urandom(LARGE))
            start = time.perf_counter()
            self.bucket.put_file("a/large", sent)
            middle = time.perf_counter()
            self.bucket.get_file("a/large", came, LARGE)
            self.result.upload_rate = int(LARGE / (middle - start))
            self.result.download_rate = int(LARGE / (time.perf_counter() - middle))
            assert sent.read_bytes() == came.read_bytes()
        finally:
            sent.unlink(missing_ok=True)
            came.unlink(missing_ok=True)

    def at_once(self) -> None:
        names = [f"many/{number:02}" for number in range(32)]
        self.bucket.many(lambda name: self.bucket.put(name, name.encode()), names)
        self.bucket.many(lambda name: self._same(name), names)
        assert self.bucket.list(("many/",)).keys() == set(names)

    def _same(self, name: str) -> None:
        assert self.bucket.get(name) == name.encode()

    def clock(self) -> None:
        off = abs(self.bucket.clock() - time.time_ns())
        assert off < _DAY_NS, f"its clock is {off // 10**9} s from ours: gc --remote goes by it"

    def objects(self) -> None:
        """Push and pull as the store does it: a pack, an object of its own."""
        self.bucket.put(config.MARKER, config.encode_marker())
        contents = [os.urandom(1000 * number) for number in range(20)]
        with self.store.batch() as batch:
            wanted = {batch.put(data, "sha256"): len(data) for data in contents}
        assert self.store.find(wanted) == wanted
        target, report = MemoryStore(), Report()
        with target.batch() as batch:
            self.store.send(wanted, batch, report)
        assert not report.failed
        assert sorted(target.objects.values()) == sorted(contents)

    def deleted(self) -> None:
        self.clean()
        left = self.bucket.list()
        assert not left, f"{len(left)} files can't be deleted"

    def clean(self) -> None:
        self.bucket.remove_all()


def remote_test(repo: Repo, name: str, *, progress: Progress = SILENT) -> RemoteTestResult:
    """Try a remote. A read-only one is only looked at."""
    live = repo.remote(name)
    result = RemoteTestResult(live.remote.name, live.bucket.url, is_read_only=live.is_read_only)
    progress.phase("test")
    if live.is_read_only:
        trial = _Trial(live, live.tmp, result)
        trial.check("list", lambda: live.look(is_whole=False))
        if config.MARKER in (live.listing or ()):
            trial.check("read", lambda: config.decode_marker(live.bucket.get(config.MARKER)))
        else:
            result.checks.append(Check("read", f"there is no '{config.MARKER}': nothing was pushed there yet"))
    else:
        place = live.remote._replace(url=f"{live.remote.url.rstrip('/')}/dvlite-test-{files.token(8)}")
        store = RemoteStore(place, live.folder / "test")
        trial = _Trial(store, live.tmp, result)
        try:
            _try_all(trial, progress)
        finally:
            files.remove_folder(store.folder)
        live = store
    result.features = {
        "parts of files": live.bucket.driver.has_ranges,
        "atomic writes": live.bucket.driver.is_atomic,
        "uploads proved by the server": live.bucket.driver.proves,
        "listed in pages": live.bucket.driver.is_flat,
    }
    result.login = live.bucket.login
    return result


def _try_all(trial: _Trial, progress: Progress) -> None:
    steps = [
        ("write and read a file", trial.small),
        ("see it in the listing at once", trial.listed),
        ("write over it", trial.written_over),
        ("read a part of it", trial.part),
        ("measure the round trip", trial.far),
        (f"send and get {LARGE >> 20} MiB", trial.large),
        ("32 files at once", trial.at_once),
        ("its clock", trial.clock),
        ("push and pull objects", trial.objects),
        ("delete everything again", trial.deleted),
    ]
    for name, step in steps:
        trial.check(name, step)
        progress.advance(files=1)
        if trial.result.checks[0].error:
            return
    if trial.result.checks[-1].error:
        try:
            trial.clean()
        except RemoteError as exc:
            trial.result.checks.append(Check("clean up", exc.message))
