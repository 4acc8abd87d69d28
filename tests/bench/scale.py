"""What a change of ten files costs, by how many are tracked: the cost must follow what changed."""

import math
import shutil
import statistics
import subprocess

from tests.bench.measure import together
from tests.bench.play import environment
from tests.bench.work import Work, files, make

CHANGED = 10


def costs(tool, count, place):
    """Return Taken by operation, in a repository that tracks `count` files of 1 KB in folders of a thousand."""
    env = environment(place)
    project = place / "project"
    project.mkdir()
    (place / "remote").mkdir()

    def do(*commands):
        return together(commands, project, env)

    do(["git", "init", "-q", "-b", "main"], *tool.start(), *tool.commit("start"))
    make(Work(count, 1024, max(1, count // 1000)), project / "data")
    subprocess.run(["sync"], check=True)
    do(*tool.add(), *tool.commit("one"), *tool.branch("one"), *tool.push(), *tool.status())
    subprocess.run(["sync"], check=True)
    taken = {"no-op status": do(*tool.status()), "no-op push": do(*tool.push())}
    found = files(project / "data")
    for path in found[:: len(found) // CHANGED][:CHANGED]:
        with path.open("ab") as file:
            file.write(b"changed")
    subprocess.run(["sync"], check=True)
    taken["status, 10 changed"] = do(*tool.status())
    taken["add, 10 changed"] = do(*tool.add())
    do(*tool.commit("two"), *tool.status())
    taken["push, 10 changed"] = do(*tool.push())
    taken["diff, 10 changed"] = do(*tool.diff("one", "main"))
    do(*tool.go("one"))
    taken["checkout, 10 changed"] = do(*tool.checkout())
    shutil.rmtree(project)
    return taken


def table(found):
    """Yield Markdown lines of seconds by operation and number of files, with the exponent that fits best: 0 is no growth, 1 is linear."""
    counts = list(found)
    yield f"| operation | {' | '.join(f'{count:,} files' for count in counts)} | grows with |"
    yield f"|---|{'---|' * len(counts)}---|"
    for operation in found[counts[0]]:
        seconds = [found[count][operation].seconds for count in counts]
        cells = " | ".join(f"{one:.2f} s, {found[count][operation].written / 1e6:.1f} MB" for one, count in zip(seconds, counts, strict=True))  # fmt: skip
        yield f"| {operation} | {cells} | n^{_slope(counts, seconds):.2f} |"


def _slope(counts, seconds):
    fit = statistics.linear_regression([math.log(count) for count in counts], [math.log(one) for one in seconds])
    return fit.slope
