"""Holds transfers to so many bytes a second."""

import contextlib
import threading
import time
from collections.abc import Iterator

from dvlite.stores.remote.drivers.base import Advance


class Pace:
    """Holds transfers to so many bytes a second, all together."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._free = 0.0

    @property
    def step(self) -> int:
        """How many bytes to ask for at once: about a second's; 0 for as many as is good."""
        return self.rate

    def spend(self, size: int) -> None:
        """Wait until so many bytes may have gone."""
        if not self.rate or size <= 0:
            return
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + size / self.rate
            wait = self._free - now
        time.sleep(wait)

    def paced(self, advance: Advance) -> Advance:
        """Return what tells progress, and waits where there is a limit."""
        if not self.rate:
            return advance

        def tell(size: int) -> None:
            advance(size)
            self.spend(size)

        return tell

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let one upload at a time go, where there is a limit."""
        if not self.rate:
            yield
            return
        with self._turn:
            yield
