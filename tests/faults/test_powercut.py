"""The journal, proved: at every operation the power goes, and nothing that is synced or still the user's is lost.

After the cut, as after a reboot: `status`, `fsck --repair`, for worktree files that were being written `checkout --force`, the command
again. Then all is as if nothing had happened.
"""

import os
import shutil

import pytest

from dvlite import machine
from tests.faults import harness
from tests.faults.powercut import KINDS, PowerCut
from tests.faults.scenarios import SCENARIOS

NAMES = tuple(one.name for one in SCENARIOS)
STEPS = int(os.environ.get("DVLITE_CUTS", "3"))  # of each scenario and kind, evenly spread


def after_reboot(monkeypatch):
    monkeypatch.setattr(machine, "boot_id", lambda: "the boot after the cut")


@pytest.mark.parametrize("name", NAMES)
def test_a_power_cut_at_any_operation_loses_nothing(name, tmp_path, monkeypatch):
    scenario = next(one for one in SCENARIOS if one.name == name)
    bench = harness.Bench(scenario, tmp_path)
    work = bench.fresh()
    counter = PowerCut(work, at=0, kind="", limbo=tmp_path / "limbo")
    total = counted(bench, work, counter, tmp_path / "total")
    assert total > 10
    cuts = 0
    for kind in KINDS:
        for step in sorted({1 + number * total // STEPS for number in range(STEPS)}):
            work = bench.fresh()
            shutil.rmtree(tmp_path / "limbo", ignore_errors=True)
            cut = PowerCut(work, at=step, kind=kind, limbo=tmp_path / "limbo")
            code = harness.call(work / scenario.where, scenario.command, is_hook=scenario.is_hook, seam=cut)
            if code != 99:  # threads took another order: it ended before
                continue
            cuts += 1
            with monkeypatch.context() as patch:
                after_reboot(patch)
                wrong = go_on(bench, work)
            assert not wrong, (name, kind, step, wrong)
    assert cuts > STEPS


def counted(bench, work, counter, note):
    child = os.fork()
    if not child:
        os.chdir(work / bench.scenario.where)
        out = os.open(os.devnull, os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        counter.install()
        harness.run_here(bench.scenario)
        with open(note, "w") as file:
            file.write(str(counter.count))
        os._exit(0)
    os.waitpid(child, 0)
    return int(note.read_text())


def go_on(bench, work):
    is_writing = bench.scenario.name.startswith("checkout") or bench.scenario.where == "clone"
    return bench.go_on(work, *[("pull", "-q"), ("checkout", "-q", "--force")] if is_writing else [])


# ---- torn objects, and whose they are -------------------------------------------------------------------------------


def tear(project):
    """Take the bytes of all large objects, as a cut does to what was not synced; sizes and times stay."""
    torn = [path for path in (project.root / ".git/dvlite/objects").rglob("*") if path.is_file()]
    assert torn
    for path in torn:
        status = path.stat()
        path.chmod(0o644)
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        path.chmod(0o444)


def test_a_torn_object_is_stored_anew_from_the_file_that_is_still_there(project, monkeypatch):
    project.write({"big.bin": os.urandom(2 << 20)})
    project.dv("add", "-q", "big.bin")
    tear(project)
    with monkeypatch.context() as patch:
        after_reboot(patch)
        assert harness.call(project.root, ("add", "-q", "big.bin")) == 0
        assert harness.call(project.root, ("fsck", "-q")) == 0


def test_a_torn_object_whose_file_was_changed_since_is_told_and_the_change_is_kept(project, monkeypatch):
    project.write({"big.bin": os.urandom(2 << 20)})
    project.dv("add", "-q", "big.bin")
    first = (project.root / "big.bin.dvlite").read_text()
    tear(project)
    project.write({"big.bin": b"changed" * (1 << 19)})
    with monkeypatch.context() as patch:
        after_reboot(patch)
        assert harness.call(project.root, ("status", "-q")) == 0
        assert harness.call(project.root, ("fsck", "-q")) == 10  # named by Git's index, and stored nowhere
        assert harness.call(project.root, ("checkout", "-q", "--force")) == 10  # nothing to put in its place
        assert (project.root / "big.bin").read_bytes() == b"changed" * (1 << 19)
        assert harness.call(project.root, ("add", "-q", "big.bin")) == 0
        assert harness.call(project.root, ("fsck", "-q")) == 0
    assert (project.root / "big.bin.dvlite").read_text() != first
    project.commit("the change")
    assert project.json("fsck")["problems"] == []


def test_the_objects_of_another_host_are_verified_on_each_read_and_never_judged(project, tmp_path, monkeypatch):
    """Two hosts on one shared store: the first loses its power between journal and disk; the second has no idea."""
    project.write({"big.bin": os.urandom(2 << 20)})
    project.dv("add", "-q", "big.bin")
    project.commit("big")
    project.write({"big.bin": os.urandom(2 << 20)})
    project.dv("add", "-q", "big.bin")  # not committed, so not synced: it is in the journal
    journal = list((project.root / ".git/dvlite/journal").iterdir())
    assert journal
    tear(project)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "host_id", lambda: "the second host")
        patch.setattr(machine, "boot_id", lambda: "its boot")
        (project.root / "big.bin").rename(tmp_path / "big.bin")
        assert harness.call(project.root, ("checkout", "-q", "big.bin")) == 11  # read, and not what its name says
        assert not (project.root / "big.bin").exists()
    assert [path for path in journal if path.exists()] == journal
    (tmp_path / "big.bin").rename(project.root / "big.bin")
    with monkeypatch.context() as patch:  # the first host, up again
        after_reboot(patch)
        assert harness.call(project.root, ("add", "-q", "big.bin")) == 0
    project.dv("checkout", "-q", "big.bin")
