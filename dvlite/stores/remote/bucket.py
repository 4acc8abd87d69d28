"""A remote's root: names, and bytes. Tries again what may pass, and says the rest in words of ours.

Knows no oids and no packs. A put is atomic here: where the protocol's own isn't, through `tmp/` and a rename.
"""

import contextlib
import io
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dvlite import config, copying, files
from dvlite.copying import Digester
from dvlite.errors import DvliteError, RemoteError
from dvlite.stores.remote.download import Parts
from dvlite.stores.remote.drivers import open_driver
from dvlite.stores.remote.drivers.base import UNTOLD, Advance, Check, Driver, Listed, Page
from dvlite.stores.remote.faults import explain, may_pass
from dvlite.stores.remote.pace import Pace
from dvlite.stores.remote.uploads import noted

T = TypeVar("T")

_ATTEMPTS = 4
_SAMPLE = 1 << 16
_ASKING = 32  # small questions at once
_NOTED = 32 << 20  # bytes; smaller uploads come in one part
_UNFINISHED = re.compile(r"tmp/[0-9a-f]{24}")


def _ignore(_: object) -> None:
    pass


@contextlib.contextmanager
def taking_back(advance: Advance) -> Iterator[Advance]:
    """Yield what tells progress; a try that fails takes back what it told."""
    went = 0
    lock = threading.Lock()

    def tell(size: int) -> None:
        nonlocal went
        with lock:
            went += size
        advance(size)

    try:
        yield tell
    except BaseException:
        advance(-went)
        raise


class Bucket:
    """A folder on a remote, by URL. `jobs`: transfers at once; `rate`: bytes a second at most, 0 for all there is."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        *,
        jobs: int = 8,
        rate: int = 0,
        timeout_s: float = 60,
        folder: Path | None = None,
    ) -> None:
        self.url = config.redact(url)
        self.protocol = config.check_url(url)
        self.jobs = jobs
        self._url = url
        self._options = options
        self._timeout_s = timeout_s
        self._pace = Pace(rate)
        self._folder = folder  # where unfinished downloads wait

    @cached_property
    def driver(self) -> Driver:
        """What speaks the protocol, opened when it is first asked."""
        try:
            return open_driver(self._url, self._options, self._timeout_s)
        except DvliteError:
            raise
        except Exception as exc:  # drivers log in when they are opened
            raise explain("can't reach", self.url, exc, self._options, "those of this remote") from exc

    @property
    def login(self) -> str:
        """Where the credentials come from, in words; never the secret."""
        return self.driver.source if self.protocol != "file" else ""

    def _do(self, doing: str, call: Callable[[], T]) -> T:
        """Call the driver, again with backoff where that may help; every failure comes out as RemoteError.

        Drivers raise what their libraries raise, which has no common base: hence the wide except.
        """
        import tenacity  # needs 20 ms, and only where a remote is asked

        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            retry=tenacity.retry_if_exception(may_pass),
            reraise=True,
        )
        driver = self.driver
        try:
            return attempts(call)
        except DvliteError:
            raise
        except Exception as exc:
            raise explain(doing, self.url, exc, self._options, driver.source) from exc

    def many(self, call: Callable[[T], object], over: Iterable[T]) -> None:
        """Call for each, many at a time; the first failure is raised."""
        from concurrent.futures import ThreadPoolExecutor

        todo = list(over)
        if len(todo) == 1:
            call(todo[0])
        elif todo:
            with ThreadPoolExecutor(min(len(todo), _ASKING)) as pool:
                for one in [pool.submit(call, one) for one in todo]:
                    one.result()

    # ---- looking ----

    def list(self, prefixes: Iterable[str] = ("",), found: Callable[[Page], object] | None = None) -> dict[str, Listed]:
        """Return all names below some prefixes (folders end with a slash), asked for at once; empty where there are none.

        `found` is given each page instead, as it comes, from several threads.
        """
        listed: dict[str, Listed] = {}
        take = found or listed.update
        if self.driver.is_flat:
            self.many(lambda prefix: self._list_flat(prefix, take), prefixes)
        else:
            self._walk([prefix.rstrip("/") for prefix in prefixes], take)
        return listed

    def top(self) -> tuple[Page, Sequence[str]]:
        """Return what lies right in the root of a driver that walks: files, and folders; nothing where there is no root yet."""

        def call() -> tuple[Page, Sequence[str]]:
            try:
                return self.driver.folder("")
            except FileNotFoundError:
                return {}, []

        return self._do("can't list", call)

    def first_page(self) -> tuple[Page, bool]:
        """Return the first page of all names, and whether it is all."""

        def call() -> tuple[Page, bool]:
            pages = self.driver.pages("")
            page = next(pages, {})
            return page, next(pages, None) is None

        return self._do("can't list", call)

    def _list_flat(self, prefix: str, take: Callable[[Page], object]) -> None:
        last = ""

        def call() -> None:
            nonlocal last
            for page in self.driver.pages(prefix, last):
                if page:
                    take(page)
                    last = max(page)

        self._do("can't list", call)

    def _walk(self, level: Sequence[str], take: Callable[[Page], object]) -> None:
        below: Any = []

        def look(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                page, folders = self.driver.folder(name)
                take(page)
                below.extend(folders)

        while level:
            below = []
            self.many(lambda name: self._do("can't list", lambda: look(name)), level)
            level = below

    def infos(self, names: Iterable[str]) -> dict[str, Listed]:
        """Ask for files by name, many at a time; those that aren't there are left out."""
        found: dict[str, Listed] = {}

        def ask(name: str) -> None:
            def call() -> None:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = self.driver.info(name)

            self._do("can't look at", call)

        self.many(ask, names)
        return found

    def md5s(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the MD5 of files as the server keeps it; those of which it keeps none are left out."""
        found: dict[str, bytes] = {}

        def ask(name: str) -> None:
            if digest := self._do("can't look at", lambda: self.driver.md5(name)):
                found[name] = digest

        self.many(ask, names)
        return found

    def clock(self) -> int:
        """Return the time by the remote's own clock, in nanoseconds, from a file just written there."""
        name = f"tmp/clock-{files.token(8)}"
        self._do("can't write to", lambda: self.driver.write(name, b"now"))
        try:
            return self._do("can't read from", lambda: self.driver.info(name)).time_ns
        finally:
            self.remove(name)

    def local_path(self, name: str) -> Path | None:
        """Return where a file lies, if it lies on this machine."""
        return self.driver.local_path(name) if self.protocol == "file" else None

    # ---- getting ----

    def info(self, name: str) -> tuple[Listed, str]:
        """Return size and time of one file, and what is another when the file is."""
        return self._do("can't read from", lambda: (self.driver.info(name), self.driver.version(name)))

    def get(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`; short answers are tried again, then refused."""

        def call() -> bytes:
            data = self.driver.read(name, start, end)
            if start is not None and end is not None and len(data) != end - start:
                raise OSError(f"{name}: {len(data)} bytes came, not {end - start}")
            return data

        data = self._do("can't read from", call)
        self._pace.spend(len(data))
        return data

    def get_file(
        self,
        name: str,
        path: Path,
        size: int,
        advance: Advance = _ignore,
        *,
        step: int = 0,
        work: Digester | None = None,
    ) -> bool:
        """Download a file of `size` bytes (UNTOLD: of any) to a local path that doesn't exist yet; `work` hashes it as it comes.

        A large one that is far comes in parts (of `step` bytes, or of what suits its size), several at once, and goes on where an
        earlier try stopped; tells whether it did.
        """
        is_far = self.local_path(name) is None  # else the kernel copies it, or shares its blocks
        if is_far and self.driver.has_ranges and self._folder and Parts.is_worth(size):
            with Parts(self._folder, name, size, self._pace.step or step, work) as parts:
                self._many_parts(
                    lambda start, end: self._get_part(parts, name, start, end, advance),
                    parts.left(advance),
                )
                parts.finish(path)
                return parts.is_resumed

        def call() -> None:
            with taking_back(advance) as tell:
                try:
                    self.driver.download(name, path, tell)
                    if size not in (UNTOLD, came := path.stat().st_size):
                        raise OSError(f"{name}: {came} bytes came, not {size}")
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise

        self._do("can't read from", call)
        self._pace.spend(max(size, 0))
        if work:
            copying.hash_file(path, work)
        return False

    def _get_part(self, parts: Parts, name: str, start: int, end: int, advance: Advance) -> None:
        def call() -> None:
            with taking_back(advance) as tell:
                parts.write(start, end, self.driver.stream(name, start, end), tell)

        self._do("can't read from", call)
        self._pace.spend(end - start)

    def _many_parts(self, call: Callable[[int, int], object], ranges: Iterable[tuple[int, int]]) -> None:
        """Call for ranges of a file, `jobs` at a time over all files; when one fails, wait for those that run."""
        from concurrent.futures import wait

        waiting = [self._transfers.submit(call, start, end) for start, end in ranges]
        try:
            for one in waiting:
                one.result()
        finally:
            for one in waiting:
                one.cancel()
            wait(waiting)

    @cached_property
    def _transfers(self) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(self.jobs)

    def rest(self) -> None:
        """End the threads that wait for more to transfer: beside threads, no work is shared with other processes."""
        if pool := self.__dict__.pop("_transfers", None):
            pool.shutdown()

    # ---- putting ----

    def put(self, name: str, data: bytes, *, is_sampled: bool = False) -> None:
        """Write a small file in one step; `is_sampled`: read a part back where the server proves nothing."""
        self._put(name, len(data), lambda to: self.driver.write(to, data), _ignore)
        self._pace.spend(len(data))
        if is_sampled and not self.driver.proves:
            self._do("can't read from", lambda: self._sample(name, io.BytesIO(data), len(data)))

    def put_file(self, name: str, path: Path, advance: Advance = _ignore) -> None:
        """Upload a local file in one step. What an earlier try left behind on the server is aborted."""
        self._put_file(name, path, advance, lambda to, tell: self.driver.upload(to, path, tell, self._pace.rate))

    def _put_file(self, name: str, path: Path, advance: Advance, upload: Callable[[str, Advance], object]) -> None:
        size = path.stat().st_size
        with self._noted(name, size) as note:
            with self._pace.turn():

                def send(to: str) -> None:
                    with taking_back(advance) as tell:
                        upload(to, self._pace.paced(tell))

                self._put(name, size, send, note)
            if not self.driver.proves:
                with path.open("rb") as file:
                    self._do("can't read from", lambda: self._sample(name, file, size))

    def _noted(self, name: str, size: int) -> AbstractContextManager[Callable[[str], object]]:
        def clean(left: Sequence[str]) -> None:
            with contextlib.suppress(RemoteError):
                self._do("can't clean up on", lambda: self.driver.abort(name))
                for one in left:
                    if _UNFINISHED.fullmatch(one):
                        self.remove(one)

        return noted(self._folder if size > _NOTED else None, name, clean)

    def _sample(self, name: str, sent: BinaryIO, size: int) -> None:
        """Read a part of what was sent back, where the server proves nothing."""
        start = random.randrange(max(1, size - _SAMPLE + 1))
        end = min(size, start + _SAMPLE)
        sent.seek(start)
        if self.driver.read(name, start, end) != sent.read(end - start):
            raise OSError(f"{name}: other bytes arrived than were sent")

    def put_hashed(
        self,
        path: Path,
        work: Callable[[], Digester],
        name_of: Callable[[bytes], str],
        advance: Advance = _ignore,
        *,
        expected: str = "",
    ) -> bytes:
        """Upload a local file under the name that its digest asks for, or that refuses it; return the digest.

        `expected`: the name it has if it is right. Where the driver can, it is hashed on its way then, and not before.
        """
        digests: list[bytes] = []

        def judge(digest: bytes) -> str:
            digests.append(digest)
            return name_of(digest)

        if expected and self.driver.checks:
            rate = self._pace.rate
            self._put_file(
                expected,
                path,
                advance,
                lambda to, tell: self.driver.upload_checked(to, path, tell, rate, Check(work(), judge)),
            )
        else:
            self.put_file(judge(copying.hash_file(path, work())), path, advance)
        return digests[-1]

    def _put(self, name: str, size: int, send: Callable[[str], object], note: Callable[[str], object]) -> None:
        def call() -> None:
            if self.driver.is_atomic:
                send(name)
            else:
                with self._unfinished(note) as unfinished:
                    send(unfinished)
                    self.driver.rename(unfinished, name)
            if (arrived := self.driver.info(name).size) != size:
                raise OSError(f"{name}: {arrived} bytes arrived, not {size}")

        self._do("can't write to", call)

    @contextlib.contextmanager
    def _unfinished(self, note: Callable[[str], object]) -> Iterator[str]:
        """Yield a name in `tmp/`, which is noted; what is left there is removed."""
        unfinished = f"tmp/{files.token(12)}"
        note(unfinished)
        try:
            yield unfinished
        except BaseException:
            with contextlib.suppress(Exception):
                self.driver.remove(unfinished)
            raise

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone is no error."""

        def call() -> None:
            with contextlib.suppress(FileNotFoundError):
                self.driver.remove(name)

        self._do("can't delete on", call)

    def remove_all(self) -> None:
        """Delete everything below the root, and its folders."""
        self.many(self.remove, sorted(self.list()))
        if not self.driver.is_flat:
            self._do("can't delete on", lambda: self._remove_folders(""))

    def _remove_folders(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            for below in self.driver.folder(name)[1]:
                self._remove_folders(below)
            self.driver.remove_folder(name)
