"""Every command of the README's tour is run, and its output is what the README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def tour():
    """Return the tour's commands with the output that follows each."""
    blocks = re.findall(r"<!-- tour:.*?-->\n```console\n(.*?)```", README.read_text(), re.DOTALL)
    steps = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def test_the_tour_is_true(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "dvlite").write_text(f'#!/bin/sh\nexec {sys.executable} -m dvlite "$@"\n')
    (bin_folder / "dvlite").chmod(0o755)
    project = tmp_path / "project"
    project.mkdir()
    steps = tour()
    script = "set -e\nexec 2>&1\n" + "".join(f"echo '@@{n}'\n{command}\n" for n, (command, _) in enumerate(steps))
    env = {**os.environ, "HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=project, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = re.split(r"@@\d+\n", done.stdout)[1:]
    for (command, expected), output in zip(steps, outputs, strict=True):
        told = [re.sub(r"((?:of commit|at) )[0-9a-f]{10}(\)?)$", r"\1COMMIT\2", line) for line in output.splitlines()]
        assert told == expected, command


def test_the_commands_it_names_exist():
    from dvlite.cli.main import COMMANDS

    for name in re.findall(r"`dvlite ([a-z]+)", README.read_text()):
        assert name in COMMANDS, name
    for name in re.findall(r"scripts/(\w+)", README.read_text()):
        assert (README.parent / "scripts" / name).exists(), name


def test_the_topics_it_names_exist():
    docs = README.parent / "dvlite/docs"
    for topic in re.findall(r"dvlite help (\w+)`", README.read_text()):
        assert (docs / f"{topic}.md").exists(), topic


def test_the_demo_is_valid_and_names_no_command_that_does_not_exist():
    from dvlite.cli.main import COMMANDS

    for script in ("demo", "demo-ml"):
        text = (README.parent / "scripts" / script).read_text()
        assert subprocess.run(["bash", "-n", str(README.parent / "scripts" / script)]).returncode == 0
        for name in re.findall(r"dvlite ([a-z]+)", text):
            assert name in COMMANDS, name


def test_the_way_of_a_model_to_production_is_played_to_its_end(tmp_path):
    """With real training on real data; each refusal in it must be one, and the old model must come out bit for bit."""
    done = subprocess.run(
        [README.parent / "scripts/demo", "--ml", tmp_path / "demo"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "same: models/modelo_regresion_v1.pkl" in done.stdout and "== Done" in done.stdout
    assert "may not go to production: metrics.r2 >= 0.8" in done.stderr
