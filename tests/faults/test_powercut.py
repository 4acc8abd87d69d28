"""The journal, proved: at every operation the power goes, and nothing that is synced or still the user's is lost.

After the cut, as after a reboot: `status`, `fsck --repair`, for worktree files that were being written `checkout --force`, the command
again. Then all is as if nothing had happened.
"""

import os
import shutil

import pytest

from dvlite import files
from tests.faults import harness
from tests.faults.powercut import KINDS, PowerCut
from tests.faults.scenarios import SCENARIOS

NAMES = tuple(one.name for one in SCENARIOS)
STEPS = int(os.environ.get("DVLITE_CUTS", "7"))  # of each scenario and kind, evenly spread


def after_reboot(monkeypatch):
    monkeypatch.setattr(files, "boot_id", lambda: "the boot after the cut")


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
