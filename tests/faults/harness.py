"""Runs a scenario with a fault at one operation, then as a user would go on, and compares with an undisturbed run.

Each run is a forked child, so that all code is loaded once. A user goes on like this: `status`, `fsck --repair`, the same command again.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dvlite.cli import hook, main
from tests.faults.scenarios import SCENARIOS
from tests.faults.seam import FAULTS, Seam

_TIMEOUT_S = 60


@dataclass
class Row:
    """The runs of one scenario with one fault. `reported`: exit code not 0; `lost`: not as undisturbed in the end."""

    runs: int = 0
    reported: int = 0
    unharmed: int = 0
    recovered: int = 0
    lost: list = field(default_factory=list)


def call(folder, command, *, is_hook=False, seam=None, output=None):
    """Run the command line in a child; return its exit code (negative: the signal that ended it)."""
    child = os.fork()
    if child:
        signal.alarm(_TIMEOUT_S)
        _, status = os.waitpid(child, 0)
        signal.alarm(0)
        return os.waitstatus_to_exitcode(status)
    code = 71
    try:
        os.chdir(folder)
        out = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if seam:
            seam.install()
        code = hook.run(list(command)) if is_hook else main.run(list(command))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as exc:
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"{type(exc).__name__}: {exc}")
            sys.stderr.flush()
        code = 70
    finally:
        os._exit(code)


def run_here(scenario):
    """Run a scenario's command in this process."""
    return hook.run(list(scenario.command)) if scenario.is_hook else main.run(list(scenario.command))


class Bench:
    """One scenario: its template, how many operations it has, and how it ends undisturbed."""

    def __init__(self, scenario, place):
        self.scenario = scenario
        self.place = Path(place)
        self.template = self.place / "template"
        self.template.mkdir(parents=True)
        scenario.make(self.template, self.run)
        work = self.fresh()
        self.counter = self._counted(work)
        self.wanted = scenario.check(work, self.run)

    def run(self, folder, *command, is_quiet=False):
        """Run a command undisturbed; return what it printed."""
        output = self.place / "output"
        code = call(folder, command, output=output)
        assert code == 0 or is_quiet, f"{command}: exit {code}: {output.read_text(errors='replace')}"
        return output.read_bytes() if code == 0 else code

    def fresh(self, place=None):
        """Return a new copy of the template."""
        work = (place or self.place) / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.template, work, symlinks=True)
        return work

    def _counted(self, work):
        """Return at which operations each fault can happen, from a run that counts in the child."""
        note = self.place / "count"
        child = os.fork()
        if not child:
            os.chdir(work / self.scenario.where)
            seam = Seam(work)
            out = os.open(os.devnull, os.O_WRONLY)
            os.dup2(out, 1)
            os.dup2(out, 2)
            seam.install()
            code = run_here(self.scenario)
            seam.at = -1
            text = "\n".join(f"{fault}\t{' '.join(map(str, numbers))}" for fault, numbers in seam.applicable.items())
            with open(note, "w") as file:
                file.write(text)
            os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, self.scenario.name
        rows = [line.split("\t") for line in note.read_text().split("\n")]
        return {fault: [int(one) for one in numbers.split()] for fault, numbers in rows}

    def inject(self, fault, number):
        """Run with one fault; return the exit code of the run, and what is wrong in the end (empty: nothing)."""
        scenario = self.scenario
        work = self.fresh()
        folder = work / scenario.where
        output = self.place / "said"
        seam = Seam(work, at=number, fault=fault)
        code = call(folder, scenario.command, is_hook=scenario.is_hook, seam=seam, output=output)
        said = output.read_text(errors="replace")
        if code in (70, 71) or "Traceback" in said:
            return code, f"a bug: {said[:500]}"
        return code, self.go_on(work)

    def go_on(self, work, *more):
        """Go on as a user does, with `more` commands before the last; return what is wrong in the end (empty: nothing)."""
        scenario = self.scenario
        folder = work / scenario.where
        output = self.place / "said"
        for command in (("status", "-q"), ("fsck", "-q", "--repair"), *more):
            if call(folder, command, output=output) in (70, 71):
                return f"{command}: {output.read_text(errors='replace')[:500]}"
        for path in self.template.iterdir():
            if path.is_file():  # what Git hands to the merge driver, and makes anew with each merge
                shutil.copy(path, work / path.name)
        last = call(folder, scenario.command, is_hook=scenario.is_hook, output=output)
        if last != 0:
            return f"the second run: exit {last}: {output.read_text(errors='replace')[:300]}"
        try:
            found = scenario.check(work, self.run)
        except (AssertionError, OSError) as exc:
            return f"the check: {str(exc)[:500]}"
        return "" if found == self.wanted else "another end than undisturbed"


def play(place, names=(), *, count=0, seed=0, told=lambda _: None):
    """Run all faults of the scenarios, or `count` of each chosen by a seed; return the rows."""
    chosen = random.Random(seed)
    rows = {}
    scenarios = [one for one in SCENARIOS if not names or one.name in names]
    for scenario in scenarios:
        folder = Path(tempfile.mkdtemp(dir=place))
        bench = Bench(scenario, folder)
        runs = [(fault, number) for fault in FAULTS for number in bench.counter[fault]]
        if count:
            runs = chosen.sample(runs, min(len(runs), count))
        for fault, number in runs:
            row = rows.setdefault((scenario.name, fault), Row())
            code, wrong = bench.inject(fault, number)
            row.runs += 1
            row.reported += code != 0
            row.unharmed += code == 0 and not wrong
            row.recovered += code != 0 and not wrong
            if wrong:
                row.lost.append((number, code, wrong))
                told(f"{scenario.name}, {fault} at {number}: exit {code}, {wrong}")
        told(f"{scenario.name}: {len(runs)} runs")
        shutil.rmtree(folder)
    return rows


def table(rows):
    """Return the rows as a Markdown table, and their totals."""
    total = Counter()
    lines = [
        "| operation | fault | injections | reported | went through, right | right after the next run | silently lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, fault), row in rows.items():
        lines.append(
            f"| {name} | {fault} | {row.runs:,} | {row.reported:,} | {row.unharmed:,} | {row.recovered:,} | {len(row.lost)} |"
        )
        total.update(
            runs=row.runs, reported=row.reported, unharmed=row.unharmed, recovered=row.recovered, lost=len(row.lost)
        )
    lines.append(
        f"| **all** | | **{total['runs']:,}** | {total['reported']:,} | {total['unharmed']:,} | {total['recovered']:,} | **{total['lost']}** |"
    )
    return "\n".join(lines)
