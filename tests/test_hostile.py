"""Bytes from strangers: every decoder refuses them with an error of ours, in bounded memory; nothing is written outside."""

import json
import os
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlite import config, hashing, pack, pointer, tree
from dvlite.errors import DvliteError
from dvlite.oid import Oid
from dvlite.stores.local import tombs
from dvlite.tree import Entry

RUNS = int(os.environ.get("DVLITE_FUZZ", "3000"))  # of each decoder, guided by coverage
OID = hashing.oid_of("sha256", b"x")
TREE = tree.build("sha256", [Entry(tree.FILE, OID, 1, 1, name) for name in ("a", "b%", "é")]).objects[-1][1]
POINTER = pointer.encode(pointer.of(Entry(tree.TREE, OID, 10, 3, ""))) + b'\n[meta]\na = "b"\n'
PACK_ID, TAIL = pack.encode_index([(OID, 1), (hashing.oid_of("blake3", b"y"), 5)])
MERGED_ID, MERGED = pack.encode_merged({PACK_ID: TAIL})
CONFIG = b'[dvlite]\nformat = 1\nid = "' + b"0" * 32 + b'"\n[remote.a]\nurl = "s3://b/c"\n[policy]\nstale = "update"\n'
DECODERS = {
    "tree": (lambda data: tree.decode(data, "sha256"), TREE),
    "what a tree names": (tree.named, TREE),
    "pointer": (pointer.decode, POINTER),
    "what a pointer names": (pointer.named, POINTER),
    "sides of a pointer": (pointer.sides, pointer.conflict(POINTER, POINTER.replace(b"10", b"11"))),
    "pack index": (pack.decode_index, TAIL),
    "merged index": (pack.decode_merged, MERGED),
    "dvlite.toml": (config.decode, CONFIG),
    "remote marker": (config.decode_marker, config.encode_marker()),
    "tombstone": (lambda data: tombs.parse(data.decode("latin-1")), tombs.name(OID).encode()),
}


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_are_read_or_refused_by_an_error_of_ours(name, data):
    decode, good = DECODERS[name]
    kind = data.draw(st.sampled_from(["random", "flipped", "cut", "spliced"]))
    if kind == "random":
        raw = data.draw(st.binary(max_size=400))
    else:
        at = data.draw(st.integers(0, len(good) - 1))
        if kind == "flipped":
            raw = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
        elif kind == "cut":
            raw = good[:at]
        else:
            raw = good[:at] + data.draw(st.binary(max_size=40)) + good[at:]
    try:
        decode(raw)
    except DvliteError as exc:
        assert exc.message


@pytest.mark.skipif(find_spec("atheris") is None, reason="no atheris for this machine")
@pytest.mark.parametrize("name", DECODERS)
def test_bytes_that_coverage_leads_to_are_read_or_refused_too(name):
    command = [sys.executable, "-m", "tests.fuzz", name.replace(" ", "-"), f"-runs={RUNS}", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0 and "Done" in done.stderr, done.stderr[-2000:]


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_good_is_read(name):
    decode, good = DECODERS[name]
    decode(good)


@settings(max_examples=60)
@given(raw=st.binary(min_size=1, max_size=3000), at=st.integers(0, 20000))
def test_a_pack_index_that_claims_much_needs_little_memory(raw, at):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    huge = TAIL[: at % len(TAIL)] + (2**63).to_bytes(8) + raw
    with pytest.raises(DvliteError):
        pack.decode_index(huge)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("seed", range(12))
def test_an_index_database_with_foreign_bytes_costs_a_reading_and_nothing_else(project, seed):
    project.write({f"f{n}": str(n) for n in range(30)}, "data")
    project.dv("add", "-q", "data")
    path = project.root / ".git/dvlite/index.db"
    data = bytearray(path.read_bytes())
    chance = __import__("random").Random(seed)
    for _ in range(40):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    before = project.read("data")
    done = project.run("status")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr and "a bug" not in done.stderr
    project.run("checkout")
    assert project.read("data") == before
    project.dv("fsck")


def test_a_doom_list_from_a_stranger_deletes_nothing_else(pushed):
    remote = pushed.root.parent / "remote"
    outside = pushed.root.parent / "outside"
    outside.write_text("mine")
    (remote / "doomed").mkdir()
    names = {"../outside": [4, 0], "dvlite-remote.json": [24, 0], "packs/../../outside": [4, 0]}
    for path in remote.rglob("*"):
        if path.is_file():
            status = path.stat()
            names[path.relative_to(remote).as_posix()] = [status.st_size, status.st_mtime_ns]
    (remote / "doomed/x.json").write_text(json.dumps({"doomed": names}))
    os.utime(remote / "doomed/x.json", (0, 0))
    (remote / "doomed/y.json").write_text("no json")
    pushed.dv("gc", "--remote")
    assert outside.read_text() == "mine"
    assert pushed.json("fsck", "--remote")["problems"] == []
    clone = pushed.clone()
    clone.dv("pull")


def test_a_claim_from_a_stranger_that_is_none_stops_cleaning(pushed):
    claims = pushed.root.parent / "remote/claims/x/y"
    claims.mkdir(parents=True)
    (claims / "z.json").write_text("[1, 2")
    assert "is no claim" in pushed.dv("gc", "--remote", "--force", code=1)


def test_a_tree_of_very_many_levels_ends_soon(project):
    """A chain of a thousand folders, as a stranger may make it: refused where it is to be written, harmless to gc and fsck."""
    store = project.repo.store
    entry = Entry(tree.FILE, OID, 1, 1, "x")
    with store.open_batch(is_synced=True) as batch:
        batch.put(b"x", "sha256")
        for _ in range(1000):
            folder = tree.build("sha256", [entry])
            for oid, data in folder.objects:
                batch.take(oid, data, is_tree=True)
            entry = Entry(tree.TREE, folder.oid, 1, 1, "x")
    (project.root / "deep.dvlite").write_bytes(pointer.encode(pointer.of(entry._replace(name=""))))
    project.commit()
    for command in ("status", "checkout", "gc", "fsck", "ls -R deep"):
        done = project.run(*command.split())
        assert "Traceback" not in done.stderr and done.returncode != 70, (command, done.stderr[-500:])
    assert not (project.root / "deep").exists()
    assert isinstance(OID, Oid)


def test_what_others_left_among_our_notes_stops_nothing(pushed):
    (pushed.root / ".git/dvlite/purged").mkdir()
    (pushed.root / ".git/dvlite/purged/foo-bar").touch()
    doomed = pushed.root.parent / "remote/doomed"
    doomed.mkdir()
    for number, text in enumerate(['{"doomed":5}', "[]", '{"doomed":{"packs/x":7}}', "\x00"]):
        (doomed / f"{number}.json").write_text(text)
    pushed.write({"more": "more"})
    pushed.dv("add", "-q", "more")
    pushed.commit("more")
    pushed.dv("push", "-q")
    pushed.dv("fsck", "-q")
    pushed.dv("gc", "-q")
    pushed.dv("gc", "-q", "--remote")


def test_a_tree_that_unfolds_beyond_the_disk_is_refused_at_once(project):
    store = project.repo.store
    with store.batch() as batch:
        leaf = tree.Entry(tree.FILE, batch.put(b"", "sha256"), 0, 1, "f")
        folder = tree.build("sha256", [leaf])
        for _ in range(40):
            for oid, data in folder.objects:
                batch.take(oid, data, is_tree=True)
            inner = tree.Entry(tree.TREE, folder.oid, folder.size, folder.files, "a")
            folder = tree.build("sha256", [inner, inner._replace(name="b")])
        for oid, data in folder.objects:
            batch.take(oid, data, is_tree=True)
    root = tree.Entry(tree.TREE, folder.oid, folder.size, folder.files, "")
    (project.root / "bomb.dvlite").write_bytes(pointer.encode(pointer.of(root)))
    assert "no space" in project.dv("checkout", code=1)
    assert not (project.root / "bomb").exists()


PEAK = """
import re, sys
from dvlite.cli.main import run
code = run(sys.argv[1:])
print(code, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def code_and_peak(project, *arguments):
    """Run a command; return its exit code and the memory it needed at most, in MB."""
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], cwd=project.root, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "a bug" not in done.stderr
    code, megabytes = map(int, done.stdout.split("\n")[-2].split())
    return code, megabytes


def swell(path):
    """Make a file of 300 MB, without the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.chmod(0o644)
    with path.open("ab") as file:
        file.truncate(300 << 20)


def remote_of(pushed):
    return pushed.root.parent / "remote"


@pytest.mark.parametrize(
    "names",
    [
        ["dvlite-remote.json"],
        ["packs/" + "a" * 64 + ".idx", "packs/" + "a" * 64 + ".pack"],
        ["packs/" + "a" * 64 + ".pack"],
        ["indexes/" + "b" * 64 + ".idx"],
        ["claims/x/y/z.json"],
        ["doomed/x.json"],
    ],
    ids=lambda names: names[0].split("/")[0],
)
def test_files_of_a_remote_that_are_too_large_cost_no_memory(pushed, names):
    for name in names:
        swell(remote_of(pushed) / name)
    clone = pushed.clone()
    for command in (["pull"], ["push"], ["gc", "--remote", "--force"]):
        code, megabytes = code_and_peak(clone, *command)
        assert code in (0, 1, 2, 13) and megabytes < 200, command
    if names != ["dvlite-remote.json"]:
        assert clone.read("data") == pushed.read("data")


@pytest.mark.parametrize("name", ["data.dvlite", "dvlite.toml"])
def test_files_of_a_repository_that_are_too_large_cost_no_memory(pushed, name):
    kept = (pushed.root / name).read_bytes()
    swell(pushed.root / name)
    for command in (["status"], ["checkout"], ["gc"]):
        code, megabytes = code_and_peak(pushed, *command)
        assert megabytes < 200, command
    pushed.git("-c", "core.bigFileThreshold=1m", "add", name)
    pushed.git("-c", "core.bigFileThreshold=1m", "commit", "-qm", "large")
    (pushed.root / name).write_bytes(kept)
    for command in (["push", "--all"], ["gc"], ["fsck"]):
        code, megabytes = code_and_peak(pushed, *command)
        assert megabytes < 200, command


def test_what_is_no_file_among_a_remotes_files_is_passed_over(pushed):
    for name in (
        f"packs/{'a' * 64}.pack",
        f"packs/{'a' * 64}.idx",
        "objects/sha256/aa/" + "b" * 62,
        "claims/x/y/z.json",
    ):
        (remote_of(pushed) / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(remote_of(pushed) / name)
    (remote_of(pushed) / f"packs/{'c' * 64}.pack").mkdir()
    clone = pushed.clone()
    for command in (["pull"], ["push"], ["fsck", "--remote"], ["gc", "--remote", "--force"]):
        assert clone.run(*command, timeout=60).returncode == 0
    assert clone.read("data") == pushed.read("data")


def test_what_is_no_file_in_the_store_is_passed_over(pushed):
    store = pushed.root / ".git/dvlite"
    os.mkfifo(store / f"packs/{'a' * 64}.pack")
    (store / f"packs/{'c' * 64}.pack").mkdir()
    for command in (["status"], ["checkout"], ["push"], ["gc"], ["fsck"]):
        done = pushed.run(*command, timeout=60)
        assert done.returncode in (0, 1, 11) and "Traceback" not in done.stderr, done.stderr
        assert not done.returncode or "a" * 64 in done.stderr or "c" * 64 in done.stderr, (command, done.stderr)
