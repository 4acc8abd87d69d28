"""The store's id and generation: what was seen under the same ones is still here. And the packs that there were, to miss one."""

import contextlib
import errno
import json
from collections.abc import Collection
from pathlib import Path

from dvlite import files
from dvlite.stores.table import list_ids


class State:
    """What `store.json` and `known` in a store's folder say."""

    def __init__(self, root: Path) -> None:
        self._path = root / "store.json"
        self._known = root / "known"
        self._packs = root / "packs"
        self._tmp = root / "tmp"

    def read(self) -> str:
        """Return id and generation as one text; empty where there is no store yet."""
        try:
            values = json.loads(self._path.read_bytes())
            return f"{values['id']}:{int(values['generation'])}"
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError):
            return "unknown"

    def create(self) -> None:
        """Make an id, if there is none."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        if self.read() in ("", "unknown"):
            self._write(files.token(8), 1)

    def advance(self) -> None:
        """Raise the generation."""
        id_, _, generation = self.read().partition(":")
        if generation:
            self._write(id_, int(generation) + 1)
        else:
            self.create()

    def _write(self, id_: str, generation: int) -> None:
        data = json.dumps({"id": id_, "generation": generation}).encode() + b"\n"
        try:
            files.write_atomic(self._path, data, folder=self._tmp)
        except OSError as exc:
            if exc.errno != errno.ENOSPC or not self._path.exists():
                raise
            # What makes room must go on, and these bytes have their block.
            with self._path.open("r+b") as file:
                file.write(data)
            files.sync(self._path)

    def notice_gone(self) -> None:
        """Compare the packs with those that there were: first what is remembered, then what is there."""
        known = self._were_there()
        live = set(list_ids(self._packs, ".pack"))
        if known - live:
            self.advance()
        if known != live and self._tmp.exists():
            self._know(live)

    def let_go(self, ids: Collection[str]) -> None:
        """Note that packs will go whose objects all lie in others: what was seen here is here still.

        Where that can't be noted, on a full disk, the next command looks again for nothing.
        """
        with contextlib.suppress(OSError):
            self._know(self._were_there() - set(ids))

    def _were_there(self) -> set[str]:
        return set(self._known.read_text(errors="replace").split()) if self._known.exists() else set()

    def _know(self, live: Collection[str]) -> None:
        files.write_atomic(self._known, "\n".join(sorted(live)).encode(), folder=self._tmp, is_synced=False)
