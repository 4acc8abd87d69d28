"""What dvlite remembers of files' stats, so that unchanged files are not read again; and of what it put here itself.

SQLite, one file per Git worktree, deletable without loss. One row per scanned folder; a no-op `status` compares one
fingerprint per folder. A row says which oid a file has, never that the object is stored: for that it carries the state of the
store under which all its objects were last seen. The base of a tracked path is what dvlite last added or checked out here.
Format: docs/index.md.
"""

import contextlib
import errno
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dvlite import oid
from dvlite.errors import FormatError, LockedError, explain
from dvlite.oid import Oid
from dvlite.rows import Packed, Row, checked, unpack
from dvlite.statkey import StatKey
from dvlite.tree import EXECUTABLE, FILE, TREE, Entry

_VERSION = 3
_PAGE = 1 << 14  # bytes: a row of a thousand files is 85 kB, and each page of it a system call
_ROOTS = (FILE, EXECUTABLE, TREE)
_GROUP = 1024  # files whose rows wait together, at most
_SCHEMA = """
CREATE TABLE folders(path BLOB PRIMARY KEY, fingerprint BLOB, subs BLOB, oid TEXT, size INTEGER, files INTEGER,
    state TEXT, stats BLOB, names BLOB, oids BLOB) WITHOUT ROWID;
CREATE TABLE bases(path BLOB PRIMARY KEY, mode TEXT, oid TEXT, size INTEGER, files INTEGER, rev TEXT,
    pointer TEXT, partial INTEGER) WITHOUT ROWID;
CREATE TABLE trees(oid TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID;
CREATE TABLE notes(name BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Base(NamedTuple):
    """What dvlite last put at a tracked path, as a root entry (None: nothing). `rev`: by `checkout --rev`, else empty.

    `pointer`: the root that the pointer named when data here was last brought in line with it, spelled by `spell`: another one
    there now was put there by Git. `is_partial`: only some paths were ever asked for.
    """

    entry: Entry | None
    rev: str = ""
    pointer: str = ""
    is_partial: bool = False


class Intent(NamedTuple):
    """What a checkout is about to bring to a tracked path, noted before its first change; gone once it is done."""

    target: Entry | None
    rev: str = ""

    @property
    def fields(self) -> list[str]:
        """What is noted, in order."""
        one = self.target
        return [*((one.mode, str(one.oid), str(one.size), str(one.files)) if one else [""] * 4), self.rev]


def spell(root: Entry) -> str:
    """Return what tells one root from another."""
    return f"{root.mode} {root.oid}"


_BASE = "mode, oid, size, files, rev, pointer, partial"


def _base(row: tuple) -> Base | None:  # type: ignore[type-arg]
    mode, text, size, files, rev, pointer, partial = row
    try:
        entry = Entry(mode, oid.parse(text), size, files, "") if mode is not None else None
    except (FormatError, AttributeError, TypeError):
        return None
    return Base(entry, rev, pointer, bool(partial)) if mode is None or mode in _ROOTS else None


def _told(base: Base | None) -> Base | None:
    return base._replace(entry=base.entry._replace(name="")) if base and base.entry else base


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


class Index:
    """The index of one worktree. Opening makes no file; the first save does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self.was_lost = False  # there was one and it could not be read
        self.timeout_s = 10.0  # how long to wait for another process
        self._steps = 0  # blocks of `together` that are open
        self._waiting: list[Callable[[], object]] | None = None  # writes that may wait, in a block of `grouping`
        self._weight = 0
        self._refusal: OSError | None = None  # why the last write was given up

    def _open(self, *, may_create: bool) -> sqlite3.Connection | None:
        if self._db is None and (may_create or self._path.exists()):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._connect()
            except sqlite3.DatabaseError as exc:
                self._judge(exc)
                self._db = self._connect() if may_create else None
        return self._db

    def _judge(self, exc: sqlite3.Error) -> None:
        """Begin anew where the file is damaged; raise where it is only busy or the system refuses."""
        said = str(exc).lower()
        if "locked" in said or "busy" in said:
            raise LockedError(
                f"'{self._path}' is in use by another process", "Wait for it to end, then run the command again."
            ) from exc
        if any(word in said for word in ("readonly", "read-only", "unable to open", "disk i/o", "full")):
            raise OSError(errno.ENOSPC if "full" in said else errno.EIO, str(exc), str(self._path)) from exc
        self._discard()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=self.timeout_s, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_mode = TRUNCATE")  # a journal that stays needs no sync of the folder
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.execute(f"PRAGMA page_size = {_PAGE}")
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version == 2:  # it had other stats: files are read again, bases stay
                db.executescript(f"BEGIN; DELETE FROM folders; PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError("another version's index")
            return db
        except UnicodeDecodeError as exc:  # what SQLite says of a damaged schema quotes it
            db.close()
            raise sqlite3.DatabaseError("malformed schema") from exc
        except BaseException:
            db.close()
            raise

    def _discard(self) -> None:
        """Forget everything: the index can be rebuilt, and where a base matters the user is asked."""
        self.was_lost = True
        self.close()
        for suffix in ("", "-journal"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the database."""
        if self._db:
            self._db.close()
            self._db = None

    def _select(self, query: str, values: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        db = self._open(may_create=False)
        if db is None:
            return []
        try:
            return db.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as exc:
            self._judge(exc if isinstance(exc, sqlite3.Error) else sqlite3.DatabaseError("malformed text"))
            return []

    # ---- rows ----

    def rows(self, path: str) -> dict[str, Row]:
        """Return the rows of a tracked path and all folders below it, by path, without their entries."""
        low, high = _key(path) + b"/", _key(path) + b"0"
        found = self._select(
            "SELECT path, fingerprint, subs, oid, size, files, state FROM folders"
            " WHERE path = ? OR (path > ? AND path < ?)",
            (_key(path), low, high),
        )
        rows = {}
        with contextlib.suppress(
            FormatError, AttributeError, TypeError
        ):  # a foreign hand was at work: read the files again
            for name, mark, subs, text, size, files, state in found:
                row = Row(mark, subs, oid.parse(text), size, files, state, b"", b"", b"")
                rows[name.decode("utf-8", "surrogateescape")] = row
        return rows

    def root(self, path: str) -> tuple[str, str] | None:
        """Return the oid and the store's state of a tracked path's row."""
        found = self._select("SELECT oid, state FROM folders WHERE path = ?", (_key(path),))
        return found[0] if found else None

    def entries(self, path: str, row: Row) -> dict[str, tuple[StatKey, Oid]]:
        """Return the entries of a folder's row."""
        try:
            return unpack(self.filled(path, row))
        except (ValueError, IndexError, struct.error):
            return {}

    def packed(self, path: str, row: Row) -> Packed:
        """Return the entries of a folder's row as they are packed; none where they can't be read."""
        try:
            return checked(self.filled(path, row))
        except (ValueError, TypeError):
            return {}

    def filled(self, path: str, row: Row) -> Row:
        """Return a folder's row with its entries; without any where they can't be had, or were written anew since."""
        where = "WHERE path = ? AND fingerprint = ?"
        found = self._select(f"SELECT stats, names, oids FROM folders {where}", (_key(path), row.fingerprint))
        if not found:
            return row._replace(stats=b"", names=b"", oids=b"")
        stats, names, oids = found[0]
        return row._replace(stats=stats, names=names, oids=oids)

    def set_state(self, path: str, state: str) -> None:
        """Note that all objects of a tracked path were seen in the store under a state."""
        low, high = _key(path) + b"/", _key(path) + b"0"
        query = "UPDATE folders SET state = ? WHERE path = ? OR (path > ? AND path < ?)"
        self._write(query, [(state, _key(path), low, high)])

    def save(self, rows: Mapping[str, Row], gone: Iterable[str] = ()) -> None:
        """Write rows and remove those of folders that are gone, in one step."""
        if not rows and not (gone := list(gone)):
            return
        values = [(_key(path), *row._replace(oid=str(row.oid))) for path, row in rows.items()]  # type: ignore[arg-type]
        self._write("INSERT OR REPLACE INTO folders VALUES(?,?,?,?,?,?,?,?,?,?)", values, gone)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make all that is written in the block one step: the disk is waited for once. Nobody else can write meanwhile."""
        self._steps += 1
        try:
            yield
        finally:
            self._steps -= 1
            self._try(self._commit)

    @contextlib.contextmanager
    def grouping(self) -> Iterator[None]:
        """Let what is written `later` in the block wait, so that much of it is one step."""
        is_within, self._waiting = self._waiting is not None, self._waiting or []
        try:
            yield
        finally:
            if not is_within:
                self._write_waiting()
                self._waiting = None

    def later(self, write: Callable[[], object], weight: int = 1) -> None:
        """Write something that nothing in the block of `grouping` reads; at once where there is none. `weight`: files in it."""
        if self._waiting is None:
            write()
            return
        self._waiting.append(write)
        self._weight += max(1, weight)
        if self._weight >= _GROUP:
            self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._waiting, self._weight = self._waiting or [], [], 0
        if waiting:
            with self.together():
                for write in waiting:
                    write()

    def _commit(self) -> None:
        if self._db and self._db.in_transaction and not self._steps:
            self._db.execute("COMMIT")

    def _write(self, query: str, values: list[tuple], gone: Iterable[str] = ()) -> bool:  # type: ignore[type-arg]
        return self._try(lambda: self._write_once(query, values, gone))

    def _try(self, call: Callable[[], object]) -> bool:
        """Write; False where that was given up, with all of the step before it."""
        for attempt in range(2):
            try:
                call()
                return True
            except OSError as refusal:  # full or read-only: it is memory only, the next command reads the files again
                self._refusal = refusal
                return False
            except sqlite3.Error as exc:
                with contextlib.suppress(sqlite3.Error):
                    if self._db:
                        self._db.execute("ROLLBACK")
                if attempt:
                    raise OSError(errno.EIO, str(exc), str(self._path)) from exc
                try:
                    self._judge(exc)
                except OSError as refusal:
                    self._refusal = refusal
                    return False
        return False

    def _write_once(self, query: str, values: list[tuple], gone: Iterable[str]) -> None:  # type: ignore[type-arg]
        if not (db := self._open(may_create=True)):
            return
        if not db.in_transaction:
            db.execute("BEGIN IMMEDIATE")
        # Columns are in the order of Row, after the path.
        db.executemany(query, values)
        db.executemany("DELETE FROM folders WHERE path = ?", [(_key(path),) for path in gone])
        self._commit()

    def check(self) -> list[str]:
        """Return what is wrong with the database as such; one that is damaged is begun anew."""
        found = [row[0] for row in self._select("PRAGMA integrity_check") if row[0] != "ok"]
        if found:
            self._discard()
        return found or ([f"'{self._path}' could not be read"] if self.was_lost else [])

    # ---- bases ----

    def base(self, path: str) -> Base | None:
        """Return the base of a tracked path; None where it isn't known."""
        found = self._select(f"SELECT {_BASE} FROM bases WHERE path = ?", (_key(path),))
        return _base(found[0]) if found else None

    def bases(self) -> dict[str, Base | None]:
        """Return all bases by tracked path, None for one that can't be read."""
        found = self._select(f"SELECT path, {_BASE} FROM bases ORDER BY path")
        return {path.decode("utf-8", "surrogateescape"): _base(tuple(rest)) for path, *rest in found}

    @property
    def followed(self) -> Path:
        """The file that says at which state of Git's index data last followed; gone as soon as a base changes."""
        return self._path.with_name("followed")

    def drop_base(self, path: str) -> None:
        """Forget a base: nothing of ours is there any more."""
        self.followed.unlink(missing_ok=True)
        if self._write("DELETE FROM bases WHERE path = ?", [(_key(path),)]):
            self.finish(path)

    def move(self, old: str, new: str) -> None:
        """Remember under another path what is known of one: its rows and its base."""
        self.followed.unlink(missing_ok=True)
        low, high = _key(old) + b"/", _key(old) + b"0"
        values = (_key(new), len(_key(old)) + 1, _key(old), low, high)
        where = "WHERE path = ? OR (path > ? AND path < ?)"
        self._write(f"UPDATE OR REPLACE folders SET path = CAST(? || substr(path, ?) AS BLOB) {where}", [values])
        self._write("UPDATE OR REPLACE bases SET path = ? WHERE path = ?", [(_key(new), _key(old))])

    def set_base(self, path: str, base: Base, trees: Mapping[Oid, bytes]) -> None:
        """Remember a base; `trees` are its tree objects that no store may have (a part of a folder)."""
        if self.base(path) == base:
            self.finish(path)
            return
        self.followed.unlink(missing_ok=True)
        objects = [(str(one), data) for one, data in trees.items()]
        if objects and not self._write("INSERT OR REPLACE INTO trees VALUES(?,?)", objects):
            return
        entry = base.entry
        value = (entry.mode, str(entry.oid), entry.size, entry.files) if entry else (None, None, None, None)
        values = (_key(path), *value, base.rev, base.pointer, base.is_partial)
        if self._write("INSERT OR REPLACE INTO bases VALUES(?,?,?,?,?,?,?,?)", [values]):
            self.finish(path)  # else what was begun is still all that tells what was put here

    def begin(self, intents: Mapping[str, Intent], bases: Mapping[str, Base] | None = None) -> None:
        """Note what is about to be brought to paths, in one step, with all that was written `together` before it.

        So an interruption is not taken for the user's changes. `bases`: what was written so and must be there too. DvliteError
        where something can't be kept: nothing may be begun then.
        """
        texts = {f"intent {path}": "\n".join(one.fields) for path, one in intents.items()}
        with self.together():
            for name, text in texts.items():
                self.set_note(name, text)
            self._try(lambda: self._db.execute("COMMIT") if self._db and self._db.in_transaction else None)
        is_kept = all(self.note(name) == text for name, text in texts.items())
        if not is_kept or any(_told(self.base(path)) != _told(base) for path, base in (bases or {}).items()):
            raise explain(self._refusal or OSError(errno.EIO, "unreadable"), self._path, "can't write")

    def intent(self, path: str) -> Intent | None:
        """Return what was begun at a tracked path and not finished."""
        text = self.note(f"intent {path}")
        if not text:
            return None
        with contextlib.suppress(ValueError, FormatError):
            mode, named, size, files, rev = text.split("\n", 4)
            return Intent(Entry(mode, oid.parse(named), int(size), int(files), "") if mode else None, rev)
        return Intent(None)

    def finish(self, path: str) -> None:
        """Forget what was begun."""
        if self.note(f"intent {path}"):
            self._write("DELETE FROM notes WHERE name = ?", [(_key(f"intent {path}"),)])

    def tree(self, one: Oid) -> bytes | None:
        """Return a tree object that was kept with a base."""
        found = self._select("SELECT data FROM trees WHERE oid = ?", (str(one),))
        return found[0][0] if found else None

    # ---- notes ----

    def note(self, name: str) -> str:
        """Return a small text remembered by name; empty where there is none."""
        found = self._select("SELECT value FROM notes WHERE name = ?", (_key(name),))
        return str(found[0][0]) if found else ""

    def set_note(self, name: str, value: str) -> None:
        """Remember a small text by name."""
        if self.note(name) != value:
            self._write("INSERT OR REPLACE INTO notes VALUES(?,?)", [(_key(name), value)])
