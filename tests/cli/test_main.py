"""Wiring: exit codes, JSON, what a user sees first."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dvlite.cli import render
from dvlite.cli.main import COMMANDS, _foreign


def test_alone_it_shows_the_five_commands_to_begin_with(project):
    said = project.dv()
    assert [name for name in ("init", "remote add", "add", "push", "pull") if f"dvlite {name}" in said] == [
        "init", "remote add", "add", "push", "pull",
    ]  # fmt: skip


@pytest.mark.parametrize(("typed", "meant"), [("statsu", "status"), ("chekout", "checkout"), ("psuh", "push")])
def test_a_typing_error_gets_the_nearest_command(project, typed, meant):
    assert f"dvlite {meant}" in project.dv(typed, code=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_its_exit_codes(project, command):
    said = project.dv(command, "--help")
    if "COMMAND [ARGS]" in said:
        below = re.findall(r"^  ([a-z-]+) ", said.partition("Commands:")[2], re.MULTILINE)
        assert below
        texts = {name: project.dv(command, name, "--help") for name in below}
    else:
        texts = {command: said}
    for name, text in texts.items():
        assert "Exit codes:" in text or command in ("remote", "hooks"), name
        assert "Example:" in text or name in ("doctor",) or command in ("remote", "hooks"), name


def test_usage_errors_are_2(project):
    for arguments in (
        ["add"],
        ["status", "--nonsense"],
        ["push", "--jobs", "none"],
        ["nothing-like-it"],
        ["-C", "nowhere", "status"],
    ):
        assert "error:" in project.dv(*arguments, code=2)


def test_outside_of_a_repository(tmp_path, project):
    assert "git init" in project.dv("status", folder=tmp_path, code=2)
    subprocess.run(["git", "init", "-q", tmp_path / "plain"], check=True)
    assert "dvlite init" in project.dv("status", folder=tmp_path / "plain", code=2)


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["add", "data"], ["checkout"], ["push"], ["pull"], ["fetch"], ["ls"], ["remote", "list"], ["config"], ["doctor"],
     ["init"], ["unprotect", "data"], ["hooks", "install"], ["hooks", "status"], ["hooks", "uninstall"]],
)  # fmt: skip
def test_json_is_json_with_a_version(pushed, arguments):
    done = pushed.run(*arguments, "--json")
    assert json.loads(done.stdout)["version"] == 1
    assert done.returncode == (1 if arguments == ["hooks", "status"] else 0)


def test_an_error_is_json_too(project):
    assert project.json("ls", "nothing", code=2)["error"]["exit_code"] == 2


def test_quiet_says_nothing_and_verbose_says_phases(pushed):
    assert pushed.dv("add", "data", "-q") == "" and pushed.dv("-q", "status") == ""
    assert "look:" in pushed.dv("push", "-v")


def test_verbose_tells_of_short_phases_that_come_again_together(project):
    names = [f"f{number}" for number in range(20)]
    project.write({name: name for name in names})
    project.dv("add", "-q", *names)
    for name in names:
        (project.root / name).unlink()
    said = project.dv("checkout", "-v", "-q").splitlines()
    assert sum(line.startswith("look: ") for line in said) <= 3
    assert sum(line.startswith("note: ") for line in said) <= 3


def test_data_goes_to_stdout_and_the_rest_to_stderr(pushed):
    done = pushed.run("cat", "data/d0/f0.txt")
    assert done.stdout == "content 0\n" * 50 and done.stderr == ""
    done = pushed.run("ls", "nothing")
    assert done.stdout == "" and "error:" in done.stderr


def test_a_closed_pipe_is_no_traceback(pushed):
    command = f"{sys.executable} -m dvlite cat model.bin | head -c 10 | wc -c"
    done = subprocess.run(["bash", "-c", command], cwd=pushed.root, capture_output=True, text=True)
    assert done.stdout.strip() == "10" and "Traceback" not in done.stderr


def test_ctrl_c_ends_at_once_with_130(project):
    project.write({f"f{n}": os.urandom(1000) for n in range(20000)}, "data")
    work = subprocess.Popen(
        [sys.executable, "-m", "dvlite", "add", "data"], cwd=project.root, stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    work.send_signal(signal.SIGINT)
    said = work.communicate(timeout=20)[1]
    if work.returncode:  # it may have been quicker
        assert work.returncode == 130 and "interrupted" in said and "Traceback" not in said
    project.dv("add", "data")


def test_shell_completion(project):
    done = project.run(env={"_DVLITE_COMPLETE": "complete_bash", "COMP_WORDS": "dvlite che", "COMP_CWORD": "1"})
    assert "checkout" in done.stdout
    assert "--install-completion" in project.dv("--help")


def test_config_shows_where_each_value_comes_from(project):
    project.dv("config", "link", "copy")
    project.dv("config", "--global", "sync", "always")
    found = {one["key"]: (one["value"], one["origin"]) for one in project.json("config")["settings"]}
    assert found["link"] == ("copy", "git config --local") and found["sync"] == ("always", "git config --global")
    assert found["hash"] == ("sha256", "dvlite.toml")
    assert "Did you mean 'link'" in project.dv("config", "lnik", "copy", code=2)


def test_init_again_changes_nothing_and_layout_makes_folders(project):
    before = (project.root / "dvlite.toml").read_bytes()
    assert "nothing to do" in project.dv("init")
    assert (project.root / "dvlite.toml").read_bytes() == before
    project.dv("init", "--layout")
    assert all((project.root / name).is_dir() for name in ("raw_data", "processed_data", "models", "experiments"))
    assert "unknown hash" in project.dv("init", "--hash", "md5", code=2)


def test_help_shows_topics_and_commands(project):
    assert "store" in project.dv("help") and "never called one" in project.dv("help", "store")
    assert "Exit codes" in project.dv("help", "push")
    project.dv("help", "nothing", code=2)


def test_doctor_finds_what_is_not_well(project):
    project.dv("doctor")
    (project.root / "bad.dvlite").write_text("not a pointer")
    assert "bad" in project.dv("doctor", code=1)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_999, "1.0 MB"),
        (1_200_000_000, "1.2 GB"),
    ],
)
def test_sizes_read_like_this(count, text):
    assert render.size(count) == text


def test_names_cannot_steer_the_terminal():
    assert render.name("a\x1b[31mb\u202ec\x9bd\ne") == "a%1B[31mb%E2%80%AEc%C2%9Bd%0Ae"


def test_ls_at_any_rev_and_inside(pushed):
    first = pushed.git("rev-parse", "HEAD").strip()
    pushed.write({"data/d0/f0.txt": "changed"})
    pushed.dv("add", "data")
    pushed.commit()
    assert pushed.dv("cat", "data/d0/f0.txt", "--rev", first) == "content 0\n" * 50
    assert {one["path"] for one in pushed.json("ls")["entries"]} == {"data", "model.bin"}
    assert len(pushed.json("ls", "data/d0", "--rev", first)["entries"]) == 10
    assert "is a folder" in pushed.dv("cat", "data", code=2)
    assert "not a commit" in pushed.dv("ls", "--rev", "nothing", code=2)


@pytest.mark.parametrize(
    ("key", "value"), [("packbelow", "abc"), ("link", "bogus"), ("autostage", "perhaps"), ("x.y", "z"), ("lnk", "copy")]
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_set(project, key, value):
    done = project.run("config", key, value)
    assert done.returncode in (1, 2) and "hint: " in done.stderr
    assert project.run("config", key).stdout == ""


def test_a_setting_that_git_set_wrongly_is_named_by_every_command(project):
    project.git("config", "dvlite.packBelow", "abc")
    said = project.dv("status", code=1)
    assert "'packbelow'" in said and "'abc' is not a size" in said and "git config dvlite.packbelow" in said
    assert "!!  setting packbelow" in project.dv("doctor", code=1)


def test_a_default_remote_that_is_not_there_is_told(project):
    project.dv("remote", "add", "-q", "origin", "../remote")
    project.git("config", "dvlite.remote", "nope")
    assert "none of them is the default" in project.dv("remote", "list")
    assert "there is no remote 'nope'" in project.dv("doctor", code=1)


def test_a_profile_shows_phases_and_calls_and_verbose_says_them(project, tmp_path):
    project.write({f"d{number % 7}/f{number}": str(number) * 50 for number in range(700)}, "data")
    done = project.run("--profile", tmp_path / "trace.json", "add", "-v", "data")
    assert done.returncode == 0 and all(f"{phase}: " in done.stderr for phase in ("add", "publish", "write"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    phases = {one["name"]: one for one in events if one["tid"] == "phases"}
    assert list(phases) == ["start", "add", "publish", "write"] and phases["add"]["args"]["files"] == 700
    calls = [one for one in events if one["tid"] == "calls"]
    assert any(one["name"] == "ops/add:add" for one in calls)
    end = max(one["ts"] + one["dur"] for one in phases.values())
    assert all(0 <= one["ts"] and one["ts"] + one["dur"] <= end + 1 for one in calls)
    refused = project.run("--profile", tmp_path / "no/trace.json", "status")
    assert refused.returncode == 1 and "no/trace.json" in refused.stderr


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")], ids=["memory", "threads"])
def test_a_system_that_gives_no_more_is_no_bug(error, capsys):
    assert _foreign(error) == 1
    assert "ulimit -a" in capsys.readouterr().err
