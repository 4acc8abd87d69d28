"""A pull hashes once what comes in whole: packs and large objects go to the worktree as they are, unless they changed since."""

import os
import subprocess

import pytest

from dvlite import hashing
from dvlite.ops import fetch
from dvlite.stores import local


@pytest.fixture
def clone(project):
    project.write({f"f{number:02}": f"content {number}\n" * 100 for number in range(30)}, "data")
    project.write({"model.bin": os.urandom(1 << 20) + b"tail"})
    project.dv("remote", "add", "origin", "../remote")
    project.dv("add", "data", "model.bin")
    project.commit("first")
    project.dv("push")
    clone = project.clone("clone")
    clone.expected = project.read("data") | {"model.bin": (project.root / "model.bin").read_bytes()}
    return clone


def data_of(clone):
    return clone.read("data") | {"model.bin": (clone.root / "model.bin").read_bytes()}


@pytest.fixture
def hashed(monkeypatch):
    """Count the objects that are hashed, and the copies that are."""
    counts = {"small": 0, "copies": 0}
    digests, checksum_of_copy, content_of_copy = hashing.digests, hashing.checksum_of_copy, hashing.content_of_copy

    def count_small(algorithms, data):
        counts["small"] += len(algorithms)
        return digests(algorithms, data)

    def count_copies(function):
        def counted(*arguments, **options):
            counts["copies"] += 1
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(hashing, "digests", count_small)
    monkeypatch.setattr(hashing, "checksum_of_copy", count_copies(checksum_of_copy))
    monkeypatch.setattr(hashing, "content_of_copy", count_copies(content_of_copy))
    return counts


def test_what_came_is_hashed_once(clone, hashed):
    result = fetch.pull(clone.repo)
    assert (result.fetch.fetched, result.checkout.written, result.checkout.failures) == (31, 31, [])
    # 30 files and the listing, which is read to know them, as it came and no more; the model as it was copied into the store.
    assert hashed == {"small": 31, "copies": 1}
    assert data_of(clone) == clone.expected


def test_a_second_copy_of_what_came_is_looked_at_as_its_bytes_may_have_left_memory(clone, hashed, project):
    same = "x" * (2 << 20)
    project.write({"one": same, "two": same}, "twice")
    project.dv("add", "twice")
    project.dv("push")
    project.commit("twice")
    subprocess.run(["git", "pull", "-q"], cwd=clone.root, check=True)
    fetch.pull(clone.repo)
    assert hashed["copies"] == 3  # the model and this as they came, and its second copy
    assert clone.read("twice") == project.read("twice")


def test_what_was_hashed_long_ago_is_hashed_again(clone, hashed, monkeypatch):
    monkeypatch.setattr(local, "_PROOF_S", -1)
    fetch.pull(clone.repo)
    assert hashed["small"] > 60 and hashed["copies"] == 2
    assert data_of(clone) == clone.expected


@pytest.mark.parametrize("what", ["packs", "objects"])
def test_what_changes_after_it_was_fetched_is_noticed(clone, monkeypatch, what):
    """And pulled again."""
    real, damaged = fetch.checkout, []

    def damage_first(*arguments, **options):
        for path in sorted((clone.root / ".git/dvlite" / what).rglob("*")) if not damaged else ():
            if path.is_file() and (what == "objects" or b"content 7" in path.read_bytes()):
                path.chmod(0o600)
                with path.open("r+b") as file:
                    file.seek(100)
                    file.write(b"\0\1\2\3")
                damaged.append(path)
        return real(*arguments, **options)

    monkeypatch.setattr(fetch, "checkout", damage_first)
    result = fetch.pull(clone.repo)
    assert damaged and result.checkout.failures == [] and data_of(clone) == clone.expected
