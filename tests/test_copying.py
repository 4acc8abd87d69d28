"""Whole files are hashed as they are read, and what fails in the other thread is raised in this one."""

import os
import signal
import threading
import time

import pytest

from dvlite import copying, files, hashing


def tasks(wanted=0):
    """Count the threads of this process that the system has; waits a moment for those that are about to end."""
    for _ in range(100):
        count = len(os.listdir("/proc/self/task"))
        if not wanted or count <= wanted:
            break
        time.sleep(0.01)
    return count


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(copying._LARGE + copying.BLOCK // 3))
    return path


def test_a_large_file_is_read_by_two_and_has_the_same_digest(large):
    before = tasks()
    assert hashing.oid_of_file("sha256", large) == hashing.oid_of("sha256", large.read_bytes())
    assert tasks(before) <= before


def test_what_fails_while_reading_is_raised_and_leaves_no_thread(large, monkeypatch):
    real, before = os.preadv, tasks()

    def fail(fd, buffers, at):
        if at >= copying._LARGE // 2:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="Input/output"):
        hashing.oid_of_file("sha256", large)
    assert tasks(before) <= before


def test_a_hash_that_fails_ends_the_reading(large):
    class Broken:
        def update(self, data):
            raise MemoryError

        def digest(self):
            return b""

    before = tasks()
    with pytest.raises(MemoryError):
        copying.hash_file(large, Broken())
    assert tasks(before) <= before


def test_where_no_thread_can_be_had_a_large_file_is_hashed_all_the_same(large, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(copying._thread, "start_new_thread", refuse)
    assert hashing.oid_of_file("sha256", large) == hashing.oid_of("sha256", large.read_bytes())


def test_a_ctrl_c_while_the_thread_starts_leaves_none_behind(large, monkeypatch):
    real, before = copying._thread.start_new_thread, tasks()

    def interrupt(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(copying._thread, "start_new_thread", interrupt)
    with pytest.raises(KeyboardInterrupt):
        hashing.oid_of_file("sha256", large)
    assert tasks(before) <= before


def test_no_thread_is_at_work_any_more_however_often_it_is_interrupted(large):
    """Else it would read from, or write to, whatever file has the descriptor next."""
    me, slow, struck, done = threading.get_ident(), threading.Event(), threading.Event(), []

    def step(block):
        if threading.get_ident() != me and not slow.is_set():
            slow.set()
            struck.wait(10)
            time.sleep(0.2)
        done.append(len(block))

    def interrupt():
        slow.wait(10)
        for _ in range(6):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
        struck.set()

    hand = threading.Thread(target=interrupt)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # by what runs behind a shell's &
    try:
        hand.start()
        before = tasks()
        with open(large, "rb") as file, pytest.raises(KeyboardInterrupt):
            copying.in_turns(file.fileno(), [step])
    finally:
        signal.signal(signal.SIGINT, ignored)
    count = len(done)
    hand.join()
    assert tasks(before) <= before
    time.sleep(0.3)
    assert len(done) == count


def test_a_ctrl_c_at_any_time_is_raised_and_leaves_no_thread(large, monkeypatch):
    monkeypatch.setattr(copying, "_LARGE", 1 << 14)
    monkeypatch.setattr(copying, "BLOCK", 1 << 10)
    path = large.with_name("some")
    path.write_bytes(large.read_bytes()[: 1 << 15])
    before, wanted, struck = tasks(), hashing.oid_of_file("sha256", path), [0]

    def strike(*_):
        struck[0] += 1
        raise KeyboardInterrupt

    real = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(600):
            raised, struck[0] = 0, 0
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 * (number % 200 + 1))
                found = hashing.oid_of_file("sha256", path)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                raised = 1
            assert raised == struck[0]
            assert raised or found == wanted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, real)
    assert tasks(before) <= before


@pytest.mark.parametrize("more", [-1, 0, 1, copying.BLOCK - 1, copying.BLOCK, copying.BLOCK + 1])
def test_a_copy_is_what_was_hashed_wherever_blocks_end(tmp_path, monkeypatch, more):
    monkeypatch.setattr(copying, "clone", lambda source, target: False)
    data = os.urandom(copying._LARGE + more)
    (tmp_path / "one").write_bytes(data)
    source, target = files.open_regular(tmp_path / "one"), files.create(tmp_path / "two")
    content = hashing.content_of_copy("sha256", source, target, is_for_good=True)
    assert content == (hashing.oid_of("sha256", data), hashing.checksum(data))
    assert (tmp_path / "two").read_bytes() == data
    assert hashing.content_of_file("sha256", tmp_path / "two") == content
    os.close(source)
    os.close(target)


def test_two_threads_take_turns_and_the_order_is_the_files(large):
    threads, blocks, sums = [], [], []

    def first(block):
        threads.append(threading.get_ident())
        blocks.append(bytes(block))

    with open(large, "rb") as file:
        copying.in_turns(file.fileno(), [first, lambda block: sums.append(len(block))])
    assert b"".join(blocks) == large.read_bytes()
    assert sums == [len(block) for block in blocks]
    assert len(set(threads)) == 2 and threads[::2] != threads[1::2]


def test_what_comes_to_a_file_while_it_is_read_leaves_no_gap(large, monkeypatch):
    """One thread met the end, the file grew, the other one would read on behind it."""
    size, real, grown = large.stat().st_size, os.preadv, threading.Event()

    def grow(fd, buffers, at):
        if at > size:  # the other thread, which is a block ahead
            assert grown.wait(10)
        count = real(fd, buffers, at)
        if not count and at == size:
            with open(large, "ab") as file:
                file.write(b"x" * (3 * copying.BLOCK))
            grown.set()
        return count

    monkeypatch.setattr(os, "preadv", grow)
    blocks = []
    with open(large, "rb") as file:
        copying.in_turns(file.fileno(), [lambda block: blocks.append(bytes(block))])
    assert b"".join(blocks) == large.read_bytes()[:size]


@pytest.mark.parametrize("number", [0, 1, 4, 8])
def test_a_step_that_fails_in_either_thread_is_raised(large, number):
    before, calls = tasks(), []

    def fail(block):
        calls.append(len(block))
        if len(calls) > number:
            raise OSError(28, "No space left on device")

    with open(large, "rb") as file, pytest.raises(OSError, match="No space left"):
        copying.in_turns(file.fileno(), [fail, lambda block: None])
    assert len(calls) == number + 1 and tasks(before) <= before


def test_a_last_copy_leaves_the_memory_of_the_source_to_the_copy(tmp_path, monkeypatch):
    one = tmp_path / "one"
    one.write_bytes(os.urandom(20 << 20))
    dropped, real = [], os.posix_fadvise
    monkeypatch.setattr(copying, "clone", lambda source, target: False)
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: dropped.append(call) or real(*call))
    source, target = files.open_regular(one), files.create(tmp_path / "two")
    copying.copy(source, target, leaves_memory=True)
    assert (tmp_path / "two").read_bytes() == one.read_bytes()
    assert {(fd, advice) for fd, _, _, advice in dropped} == {(source, os.POSIX_FADV_DONTNEED)}
    ends = [0, *(start + size for _, start, size, _ in dropped)]
    assert [start for _, start, _, _ in dropped] == ends[:-1] and ends[-1] == 20 << 20
    os.close(source)
    os.close(target)
