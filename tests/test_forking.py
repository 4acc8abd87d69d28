"""Work shared with forks: each item once, errors come out, nobody outlives anybody."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dvlite import forking
from dvlite.errors import CorruptError, DvliteError
from dvlite.worktree import writing


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_each_item_is_worked_on_once(count, number):
    taken = []
    forking.share(lambda item: (item * item, os.getpid()), range(number), taken.append, count)
    assert sorted(value for value, _ in taken) == [item * item for item in range(number)]
    assert len({process for _, process in taken}) <= count


def children():
    return open(f"/proc/self/task/{threading.get_native_id()}/children").read().split()


def wait_for_end(process):
    """Wait for the end of a process whose parent is gone; somebody else may never ask how it ended."""
    for _ in range(200):
        if not os.path.exists(f"/proc/{process}") or open(f"/proc/{process}/stat").read().split()[2] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("still at work")


def held():
    """The children and open files of this process; what other tests left may go at any time."""
    return {*(f"process {one}" for one in children()), *(f"file {one}" for one in os.listdir("/proc/self/fd"))}


@pytest.mark.parametrize("item", [0, 9], ids=["here", "there"])
def test_an_error_comes_out_as_it_is(item):
    def work(one):
        if one == item:
            raise CorruptError("bad", "Mend it.")

    before = held()
    with pytest.raises(CorruptError, match="bad") as caught:
        forking.share(work, range(10), lambda result: None, 3)
    assert caught.value.hint == "Mend it."
    assert held() <= before, "no process is left, and no pipe"


def test_a_process_that_is_killed_is_an_error_and_no_wait():
    parent = os.getpid()

    def work(one):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(DvliteError, match="was ended"):
        forking.share(work, range(10), lambda result: None, 2)


def test_where_the_kernel_waits_for_processes_itself_all_is_well(tmp_path):
    code = (
        "import signal\nfrom dvlite import forking\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\ntaken = []\n"
        "forking.share(lambda one: one, range(100), taken.append, 3)\nassert sorted(taken) == list(range(100))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_where_no_process_can_be_had_this_one_does_it_all(monkeypatch):
    def refuse():
        raise BlockingIOError("no room")

    monkeypatch.setattr(os, "fork", refuse)
    taken = []
    forking.share(lambda one: one, range(10), taken.append, 3)
    assert sorted(taken) == list(range(10))


class Odd(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, one, two):
        super().__init__(one)


def test_an_error_that_cannot_be_sent_is_an_error_too():
    def work(one):
        raise Odd(1, 2)

    with pytest.raises((Odd, DvliteError)):
        forking.share(lambda one: work(one) if one else one, [0, 1], lambda result: None, 2)


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    code = (
        "import os, signal, sys, time\nfrom dvlite import forking\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where the suite runs in the background, it is ignored
        "def work(one):\n    open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n    time.sleep(0.01)\n"
        "forking.share(work, range(10_000), lambda result: None, 3)"
    )
    for wait in (0.0, 0.01, 0.05):
        tmp_path = tmp_path / "deeper"
        tmp_path.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], start_new_session=True, stderr=subprocess.PIPE
        ) as process:
            while not os.listdir(tmp_path):
                time.sleep(0.005)
            time.sleep(wait)
            os.killpg(process.pid, signal.SIGINT)
            said = process.stderr.read().decode()
        assert "KeyboardInterrupt" in said and "RuntimeError" not in said
        assert not [name for name in os.listdir(tmp_path) if name.isdigit() and os.path.exists(f"/proc/{name}")]


def test_a_fork_ends_soon_after_its_parent_was_killed(tmp_path):
    code = (
        "import os, sys, time\nfrom dvlite import forking\n"
        "def work(one):\n    time.sleep(0.05)\n    open(f'{sys.argv[1]}/{os.getpid()}', 'a').write('x')\n"
        "forking.share(work, range(10_000), lambda result: None, 2)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process:
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.02)
        process.kill()
    (child,) = (int(name) for name in os.listdir(tmp_path) if int(name) != process.pid)
    wait_for_end(child)


@pytest.fixture
def shared(monkeypatch):
    """Have every checkout shared by three processes."""
    monkeypatch.setattr(writing, "_SHARED", 1)
    monkeypatch.setattr(writing, "_CHUNK", 3)
    monkeypatch.setattr(forking, "processors", lambda: 3)


def check_out(project):
    from dvlite.ops.checkout import checkout

    return checkout(project.repo)


def test_a_shared_checkout_brings_the_same_and_reads_nothing_again(project, shared):
    data = {f"d{number % 4}/f{number}": str(number) for number in range(40)} | {"large": "x" * (1 << 21)}
    project.write(data, "data")
    (project.root / "data/link").symlink_to("d0")
    project.dv("add", "data")
    before = project.read("data")
    subprocess.run(["rm", "-r", project.root / "data"], check=True)
    result = check_out(project)
    assert (result.written, result.missing, result.failures) == (42, [], [])
    assert project.read("data") == before
    assert "clean" in project.dv("status")


def test_what_is_corrupt_in_another_process_is_named_and_the_rest_is_there(project, shared):
    project.write({f"f{number:02}": f"content {number}" for number in range(30)}, "data")
    project.dv("add", "data")
    (pack,) = (one for one in (project.root / ".git/dvlite/packs").iterdir() if b"content 29" in one.read_bytes())
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes().replace(b"content 29", b"kontent 29"))
    subprocess.run(["rm", "-r", project.root / "data"], check=True)
    result = check_out(project)
    named = [*result.missing, *(failure.path for failure in result.failures)]
    assert named == ["data/f29"] and len(project.read("data")) == 29
    assert all(isinstance(failure.error, DvliteError) for failure in result.failures)


# ---- a helper ----


def test_a_helper_answers_whatever_is_asked_for_first():
    before = held()
    with forking.Helper(lambda item: (item, os.getpid())) as helper:
        numbers = [helper.ask(item) for item in range(4)]
        answers = [helper.answer(numbers[at]) for at in (2, 0, 3, 1)]
    assert [item for item, _ in answers] == [2, 0, 3, 1]
    assert {process for _, process in answers}.isdisjoint({os.getpid()})
    assert held() <= before, "no process is left, and no pipe"


def test_a_helper_tells_what_it_has_done(tmp_path):
    def work(item):
        while not (tmp_path / str(item)).exists():
            time.sleep(0.005)

    with forking.Helper(work) as helper:
        numbers = [helper.ask(item) for item in range(3)]
        assert not any(map(helper.has_done, numbers))
        for item in range(2):
            (tmp_path / str(item)).touch()
        while not helper.has_done(numbers[1]):
            time.sleep(0.005)
        assert [helper.has_done(number) for number in numbers] == [True, True, False]
        (tmp_path / "2").touch()
        assert [helper.answer(number) for number in numbers] == [None] * 3


def test_answers_that_no_pipe_holds_are_no_deadlock():
    with forking.Helper(lambda item: bytes([item]) * (3 << 20)) as helper:
        numbers = [helper.ask(item) for item in range(4)]
        for number in numbers[:2]:
            assert helper.answer(number) == bytes([number]) * (3 << 20)
        numbers += [helper.ask(4), helper.ask(5)]
        assert [helper.answer(number)[0] for number in numbers[2:]] == [2, 3, 4, 5]


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_what_a_killed_helper_does_not_answer_is_done_here(answered):
    before = children()
    with forking.Helper(lambda item: (item, os.getpid())) as helper:
        numbers = [helper.ask(item) for item in range(6)]
        there = [helper.answer(number) for number in numbers[:answered]]
        (process,) = set(children()) - set(before)
        os.kill(int(process), signal.SIGKILL)
        time.sleep(0.1)
        numbers.append(helper.ask(6))
        rest = [helper.answer(number) for number in numbers[answered:]]
        assert not helper.is_there
    assert [item for item, _ in there + rest] == list(range(7))
    assert rest[-1] == (6, os.getpid())


def test_what_fails_in_a_helper_fails_here_as_it_is():
    with forking.Helper(lambda item: 1 // item) as helper:
        number = helper.ask(0)
        with pytest.raises(ZeroDivisionError):
            helper.answer(number)


def test_where_no_helper_can_be_had_nothing_is_left(monkeypatch):
    def refuse():
        raise BlockingIOError("no room")

    monkeypatch.setattr(os, "fork", refuse)
    before = held()
    with pytest.raises(OSError):
        forking.Helper(lambda item: item)
    assert held() <= before


def test_a_helper_ends_when_its_parent_was_killed(tmp_path):
    code = (
        "import os, sys, time\nfrom dvlite import forking\n"
        "helper = forking.Helper(lambda item: open(f'{sys.argv[1]}/{os.getpid()}', 'w').close())\n"
        "helper.answer(helper.ask(1))\ntime.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process:
        while not os.listdir(tmp_path):
            time.sleep(0.02)
        process.kill()
    (name,) = os.listdir(tmp_path)
    wait_for_end(name)


def test_ctrl_c_amid_the_fork_leaves_no_helper_behind(monkeypatch):
    fork = os.fork

    def interrupted():
        process = fork()
        if process:
            # To this thread: the runner of tests has others, which don't hold it back; where helpers are, there are none.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return process

    before = held()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fork", interrupted)
            with pytest.raises(KeyboardInterrupt):
                forking.Helper(lambda item: item)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert held() <= before


def test_where_no_thread_can_be_had_the_others_are_heard_at_the_end(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    before = held()
    taken = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        forking.share(lambda item: bytes(1000) + bytes([item]), range(200), taken.append, 3)
    assert sorted(one[-1] for one in taken) == list(range(200))
    assert held() <= before
