"""The benchmark plays its day to the end, and its table says what was measured."""

import sys
from pathlib import Path

import pytest

from tests.bench import crowd, scale, table, tools
from tests.bench.play import Day, plain
from tests.bench.work import Work, make

TINY = Work(40, 500, 4)


@pytest.mark.parametrize("is_singly", [False, True])
def test_a_small_day_with_dvlite_beside_plain_tools(tmp_path, is_singly):
    make(TINY, tmp_path / "source")
    (tmp_path / "play").mkdir()
    tool = tools.Dvlite(Path(sys.executable).parent / "dvlite", tmp_path / "play")
    day = Day(tool, tmp_path / "source", tmp_path / "play", is_singly=is_singly)
    found = {"dvlite": {}, "plain tools": {}}
    for name, taken in (("dvlite", day.play()), ("plain tools", plain(TINY, tmp_path / "source", tmp_path / "plain"))):
        found[name] = {operation: [one] for operation, one in taken.items()}
    wanted = {"add", "re-add unchanged", "no-op status", "push to a folder", "no-op push", "gc, nothing to do", "--version",
              "add after 1 file changed", "add after 1 % changed", "checkout of the other version", "git switch, data along",
              "git commit, hooks with nothing to do", "pre-commit hook, nothing to do", "diff of the two versions", "checkout of a fresh folder", "clone's pull"}  # fmt: skip
    assert set(found["dvlite"]) == wanted, "each was played, and brought the right bytes"
    assert all(one.seconds > 0 and one.peak > 0 for taken in found["dvlite"].values() for one in taken)
    pointers = 84 if is_singly else 1  # in Git too, which keeps each in a file; and the folders' ignore files
    assert 0 < day.counts["files created by the add"] - pointers < 30, "small files are packed"
    lines = list(table.rows("tiny", ["dvlite", "plain tools"], found, ["dvlite", "plain tools"]))
    assert len(lines) == len(wanted | {"hash"}) and all(line.count("|") == 5 for line in lines)


def test_the_cost_of_a_change_by_what_is_tracked(tmp_path):
    found = {}
    for count in (20, 40):
        (tmp_path / str(count)).mkdir()
        tool = tools.Dvlite(Path(sys.executable).parent / "dvlite", tmp_path / str(count))
        found[count] = scale.costs(tool, count, tmp_path / str(count))
    lines = list(scale.table(found))
    assert len(lines) == 2 + 7 and all(line.count("|") == 5 for line in lines)


def test_what_a_remote_of_many_objects_costs(tmp_path):
    tool = tools.Dvlite(Path(sys.executable).parent / "dvlite", tmp_path)
    found = crowd.Crowd(tool, tmp_path).costs(300, 40)
    assert len(list(crowd.table(found))) == 2 + 6
