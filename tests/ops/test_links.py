"""Worktree files that are links into the store: by choice, never written through, made writable again."""

import os
import shutil

import pytest

from tests.conftest import as_user


@pytest.fixture
def large(project):
    data = os.urandom(1 << 20)
    project.write({"big.bin": data, "data/big too": data[::-1], "data/small": "s"})
    project.dv("add", "big.bin", "data")
    project.commit()
    project.large = data
    return project


def test_symlinks_by_choice_and_back(large):
    large.dv("config", "link", "symlink")
    large.dv("checkout")
    assert (large.root / "big.bin").is_symlink() and (large.root / "data/big too").is_symlink()
    assert not (large.root / "data/small").is_symlink()
    assert "clean" in large.dv("status")
    assert "unchanged" in large.dv("add", "data", "big.bin")
    large.dv("unprotect", "big.bin")
    assert not (large.root / "big.bin").is_symlink() and (large.root / "big.bin").read_bytes() == large.large
    large.dv("config", "link", "copy")
    large.dv("checkout")
    assert not (large.root / "data/big too").is_symlink()
    assert "clean" in large.dv("status")


@pytest.mark.skipif(os.geteuid() != 0, reason="changes users")
def test_hardlinks_by_choice_are_read_only_and_refused_for_root(large):
    for folder in large.root.parents:
        if os.stat(folder).st_uid == 0 and str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o755)
    large.dv("config", "link", "hardlink")
    large.dv("checkout")
    assert os.stat(large.root / "big.bin").st_nlink == 1  # root could write to it
    assert as_user(large, "checkout") == 0
    status = os.stat(large.root / "big.bin")
    assert status.st_nlink == 2 and status.st_mode & 0o222 == 0
    assert as_user(large, "status", "--exit-code") == 0
    assert as_user(large, "unprotect", "big.bin") == 0
    status = os.stat(large.root / "big.bin")
    assert status.st_nlink == 1 and status.st_mode & 0o200


def test_a_large_file_is_copied_whole_and_verified(large):
    (large.root / "big.bin").unlink()
    path = large.repo.store.path_of(next(oid for oid in large.repo.store.oids() if large.repo.store.path_of(oid)))
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    done = large.run("checkout", "--json")
    shutil.rmtree(large.root / "data", ignore_errors=True)
    again = large.run("checkout")
    codes = {done.returncode, again.returncode}
    assert 11 in codes or 10 in codes
    for name in ("big.bin", "data/big too"):
        if (large.root / name).exists():
            assert (large.root / name).read_bytes() in (large.large, large.large[::-1])


def test_links_into_the_store_survive_a_move_of_the_repository(large):
    large.dv("config", "link", "symlink")
    large.dv("checkout")
    moved = large.root.with_name("moved")
    large.root.rename(moved)
    large.root = moved
    assert "unchanged" in large.dv("add", "data", "big.bin")
    large.dv("checkout")
    assert (moved / "big.bin").read_bytes() == large.large and "clean" in large.dv("status")
