"""No seam: the real process killed at random times, and real full file systems, for every scenario."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.faults import harness
from tests.faults.scenarios import SCENARIOS
from tests.test_bad_input import is_root, small_disk

KILLS = int(os.environ.get("DVLITE_KILLS", "3"))  # of each scenario
LEFT = (0, 64, 1024, 1280, 3000)  # KiB left on the disk


def start(scenario, work):
    command = [sys.executable, "-m", "dvlite", *scenario.command]
    return subprocess.Popen(
        command,
        cwd=work / scenario.where,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_process_killed_at_a_random_time_loses_nothing(scenario, tmp_path):
    bench = harness.Bench(scenario, tmp_path)
    chosen = random.Random(scenario.name)
    begun = time.monotonic()
    start(scenario, bench.fresh()).communicate()
    seconds = time.monotonic() - begun
    for _ in range(KILLS):
        work = bench.fresh()
        process = start(scenario, work)
        time.sleep(seconds * chosen.uniform(0.3, 1.0))  # the first third loads the program
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not bench.go_on(work)


@pytest.mark.skipif(not is_root, reason="mounts a file system")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_a_disk_that_is_full_loses_nothing(scenario, tmp_path):
    bench = harness.Bench(scenario, tmp_path / "bench")
    with small_disk(tmp_path / "disk", megabytes=200) as disk:
        for left in LEFT:
            resize(disk, 200 << 10)
            work = bench.fresh(disk)
            status = os.statvfs(disk)
            resize(disk, (status.f_blocks - status.f_bfree) * status.f_frsize // 1024 + left)
            _, said = (process := start(scenario, work)).communicate()
            assert process.returncode != 70 and "Traceback" not in said, said
            resize(disk, 200 << 10)
            assert not bench.go_on(work), said


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={max(size, 4)}k", disk], check=True)
