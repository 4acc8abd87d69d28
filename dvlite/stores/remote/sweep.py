"""How a remote is cleaned without losing what somebody pushes meanwhile: doom lists, sweep marks, claims.

What nothing reaches is written down (`doomed/`) and left alone for a grace period. Then whoever sweeps writes a mark (`sweeps/`),
reads refs and claims again, and deletes what is doomed, unchanged and still unreached. A push writes its claim, then lists: it
sees the mark and waits, or the sweep sees its claim. A sweep that takes too long stops; an older mark is a dead process's.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dvlite import config, files, hashing, machine, pack
from dvlite.errors import CorruptError, FormatError, RemoteError, quote
from dvlite.oid import Oid, parse
from dvlite.progress import SILENT, Progress

if TYPE_CHECKING:
    from dvlite.stores.remote import RemoteStore

SWEEP_S = 600  # a sweep deletes for so long at most
DEAD_S = 900  # a mark that is older belongs to no living process
CLAIM_S = 90 * 86400  # a claim that nobody renewed for so long keeps nothing any more
_RENEW_S = 30 * 86400
_WAIT_S = 600
_PAGE_S = 2  # no server needs longer for one page of a listing
_CLAIMS = 5  # so often a claim is written that somebody takes away


class Doom(NamedTuple):
    """One doom list: what it names, each with the size and time it had, and when it was written."""

    name: str
    time_ns: int
    doomed: dict[str, tuple[int, int]]


class Claim(NamedTuple):
    """What a clone said it would push. `repository` and `clone` are ids."""

    name: str
    repository: str
    clone: str
    time_ns: int
    oids: set[Oid]


def newest(store: RemoteStore) -> int:
    """Return a time that the remote's clock has reached for sure, by the last listing and by ours."""
    return max(time.time_ns(), store.listing.newest() if store.listing else 0)


def is_stale(store: RemoteStore, claim: str) -> bool:
    """Tell whether a claim must be renewed, so that it goes on keeping what it names."""
    is_there = store.listing is not None and claim in store.listing
    return newest(store) - (_time(store, claim) if is_there else 0) > _RENEW_S * 10**9


def wait_for_others(store: RemoteStore, names: Collection[str] = ()) -> None:
    """Wait until nobody sweeps; RemoteError where that takes too long. The listing is fresh afterwards, and knows of `names`."""
    end = time.monotonic() + _WAIT_S
    while marks := living_marks(store):
        if time.monotonic() > end:
            raise RemoteError(
                f"another clone is cleaning {store.name} ('{marks[0]}')",
                "Run the same command again in a quarter of an hour.",
            )
        time.sleep(0.2)
        store.look(is_whole=False, names=names)


def living_marks(store: RemoteStore) -> list[str]:
    """Return the sweep marks of the last listing whose process may be alive; asks the remote's clock only where there are any."""
    marks = _below(store, "sweeps/")
    if not marks:
        return []
    now = store.bucket.clock()
    return [name for name in marks if now - _time(store, name) < DEAD_S * 10**9 and not _is_dead(store, name)]


def _below(store: RemoteStore, prefix: str) -> list[str]:
    return store.listing.below(prefix) if store.listing else []


def _time(store: RemoteStore, name: str) -> int:
    assert store.listing is not None
    return store.listing[name].time_ns


def _is_dead(store: RemoteStore, mark: str) -> bool:
    """Tell whether a mark was written on this machine, by a process that has ended."""
    with contextlib.suppress(ValueError, KeyError, TypeError, FormatError, RemoteError):
        values = json.loads(store.read_small(mark))
        return values["host"] == machine.host_mark() and not machine.is_alive(int(values["process"]))
    return False


# ---- claims ---------------------------------------------------------------------------------------------------------


def claim(
    store: RemoteStore,
    repository: str,
    clone: str,
    roots: Collection[Oid],
    *,
    wanted: Collection[Oid] = (),
    covered: Collection[str] = (),
    may_begin: bool = True,
    progress: Progress = SILENT,
) -> bool:
    """Say on the remote what this clone is about to push, so that gc keeps it; False if it was said already.

    A remote that is empty is begun, unless `may_begin` is false: then nothing is said. Looks at the remote, and again after a
    claim was written: the look-up of what is `wanted` rests on a look after the claim, and so do the packs `covered`.
    """
    names = sorted(str(oid) for oid in roots)
    fingerprint = hashing.digest("sha256", "\n".join(names).encode()).hex()
    claim = f"claims/{repository}/{clone}/{fingerprint}.json"
    known = f"repos/{repository}.json"
    listing = store.look(is_whole=False, names=(claim, known), oids=wanted, covered=covered, progress=progress)
    store.is_fresh = claim in listing and not is_stale(store, claim)
    if not listing and not may_begin:
        return False
    if store.is_fresh:
        wait_for_others(store)
        return False
    if config.MARKER in listing:
        config.decode_marker(store.bucket.get(config.MARKER))  # whoever writes looks again
    else:
        store.bucket.put(config.MARKER, config.encode_marker())
    if known not in listing:
        store.bucket.put(known, json.dumps({"id": repository}).encode() + b"\n")
    for _ in range(_CLAIMS):
        store.bucket.put(claim, json.dumps({"oids": names}, separators=(",", ":")).encode() + b"\n")
        store.look(is_whole=False, names=(claim,), oids=wanted, covered=covered)
        wait_for_others(store, (claim,))  # either this sees their mark, or they see the claim
        if claim in (store.listing or ()):  # else they took it for the old one
            store.is_fresh = True
            return True
    raise RemoteError(
        f"{store.name} does not list what was just written there ('{claim}')", "Run 'dvlite remote list'."
    )


def claims(store: RemoteStore) -> Iterator[Claim]:
    """Yield all claims of the last listing, old ones too. One that can't be read stops this."""
    assert store.listing is not None and store.listing.is_whole, "claims are read from whole listings"
    for name in _below(store, "claims/"):
        parts = name.split("/")
        if len(parts) != 4:
            continue
        try:
            oids = decode_claim(name, store.read_small(name))
        except FormatError as exc:
            exc.message = f"{exc.message}, on {store.name}"
            exc.hint = f"'dvlite fsck --remote-name {quote(store.remote.name)} --repair' takes it away."
            raise
        yield Claim(name, parts[1], parts[2], _time(store, name), oids)


def is_expired(store: RemoteStore, name: str) -> bool:
    """Tell whether nobody has renewed a claim for so long that it is only kept in case."""
    return newest(store) - _time(store, name) > CLAIM_S * 10**9


def decode_claim(name: str, data: bytes) -> set[Oid]:
    """Return what a claim names; FormatError where it is none, or isn't what its file's name says."""
    try:
        names = json.loads(data)["oids"]
        oids = {parse(one) for one in names}
        digest = hashing.digest("sha256", "\n".join(names).encode()).hex()
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as exc:
        raise FormatError(f"'{name}' is no claim") from exc
    if name.rpartition("/")[2] != f"{digest}.json":
        raise FormatError(f"'{name}' is another claim than its name says")
    return oids


def repositories(store: RemoteStore) -> set[str]:
    """Return the ids of all repositories that ever pushed here."""
    known = {name[len("repos/") : -len(".json")] for name in _below(store, "repos/")}
    return known | {name.split("/")[1] for name in _below(store, "claims/")}


def mend_indexes(store: RemoteStore) -> list[str]:
    """Write the index anew of each listed pack that has none, from the pack's end; return the packs.

    An upload that was cut off has none yet: what is whole of it may as well count.
    """
    mended = []
    for name in _below(store, "packs/"):
        id_ = name[len("packs/") : -len(".pack")]
        if store.listing is None or not name.endswith(".pack") or f"packs/{id_}.idx" in store.listing:
            continue
        with contextlib.suppress(CorruptError, FormatError):
            tail = store.indexes.tail_of(id_, store.listing)
            if pack.decode_index(tail).id == id_:
                store.bucket.put(f"packs/{id_}.idx", tail)
                mended.append(name)
    return mended


# ---- dooms ----------------------------------------------------------------------------------------------------------


def doom(store: RemoteStore, names: Iterable[str]) -> None:
    """Write down what nothing reaches."""
    listing = store.listing
    doomed = {name: list(listing[name]) for name in sorted(names)} if listing is not None else {}
    if doomed:
        store.bucket.put(f"doomed/{files.token(16)}.json", json.dumps({"doomed": doomed}).encode() + b"\n")


def dooms(store: RemoteStore) -> Iterator[Doom]:
    """Yield the doom lists of the last listing; one that can't be read dooms nothing."""
    for name in _below(store, "doomed/"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, FormatError):
            values: Mapping[str, list[int]] = json.loads(store.read_small(name))["doomed"]
            yield Doom(name, _time(store, name), {one: (size, at) for one, (size, at) in values.items()})


def begin(store: RemoteStore) -> str:
    """Write a sweep mark; from now on a push waits. RemoteError where somebody else sweeps."""
    if others := living_marks(store):
        raise RemoteError(
            f"another clone is cleaning {store.name} ('{others[0]}')", "Run the same command again later."
        )
    for name in _below(store, "sweeps/"):
        store.bucket.remove(name)
    mark = f"sweeps/{files.token(16)}.json"
    store.bucket.put(mark, json.dumps({"host": machine.host_mark(), "process": os.getpid()}).encode() + b"\n")
    return mark


def end(store: RemoteStore, mark: str) -> None:
    """Take a sweep mark away; not before a page that a server was listing when the last file went has come."""
    if store.bucket.driver.is_flat:
        time.sleep(_PAGE_S)
    store.bucket.remove(mark)


def delete(store: RemoteStore, names: Iterable[str], until: float) -> list[str]:
    """Delete files, a pack's index before the pack; stop at a time of the monotonic clock. Return what is gone."""
    gone = []
    for name in sorted(names):
        if time.monotonic() > until:
            break
        if name.endswith(".pack"):
            store.bucket.remove(f"{name.removesuffix('.pack')}.idx")
        store.bucket.remove(name)
        gone.append(name)
    return gone
