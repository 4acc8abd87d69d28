"""Whole files are hashed as they are read, and what fails in the other thread is raised in this one."""

import os
import threading

import pytest

from dvlite import copying, files, hashing


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(copying._LARGE + copying.BLOCK // 3))
    return path


def test_a_large_file_is_read_ahead_and_has_the_same_digest(large):
    before = threading.active_count()
    assert hashing.oid_of_file("sha256", large) == hashing.oid_of("sha256", large.read_bytes())
    assert threading.active_count() == before


def test_what_fails_while_reading_ahead_is_raised_and_leaves_no_thread(large, monkeypatch):
    real, before = os.preadv, threading.active_count()

    def fail(fd, buffers, at):
        if at >= copying._LARGE // 2:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="Input/output"):
        hashing.oid_of_file("sha256", large)
    assert threading.active_count() == before


def test_a_hash_that_fails_ends_the_reading(large):
    class Broken:
        def update(self, data):
            raise MemoryError

        def digest(self):
            return b""

    before = threading.active_count()
    with pytest.raises(MemoryError):
        copying.hash_file(large, Broken())
    assert threading.active_count() == before


def test_where_no_thread_can_be_had_a_large_file_is_hashed_all_the_same(large, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert hashing.oid_of_file("sha256", large) == hashing.oid_of("sha256", large.read_bytes())


def test_a_ctrl_c_while_the_thread_starts_leaves_none_behind(large, monkeypatch):
    real, before = threading.Thread.start, threading.active_count()

    def interrupt(thread):
        real(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        hashing.oid_of_file("sha256", large)
    assert threading.active_count() == before


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
