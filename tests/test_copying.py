"""Whole files are hashed as they are read, and what fails in the other thread is raised in this one."""

import os
import threading

import pytest

from dvlite import copying, hashing


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
