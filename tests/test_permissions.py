"""Who may read and write what: read-only objects, private unfinished files, repositories shared by a group, nothing for the world."""

import os
import stat

import pytest


def modes(root):
    found = {}
    for folder, _, names in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            found[path] = stat.S_IMODE(os.lstat(path).st_mode)
    return found


def fill(project):
    project.write({"a": "a", "sub/b": "b"}, "data")
    project.write({"big": os.urandom(1 << 20)})
    project.dv("add", "-q", "data", "big")
    project.write({"a": "second"}, "data")
    project.dv("checkout", "-q", "--force", "data")


def test_objects_are_read_only_and_nothing_is_for_the_world_to_write(project):
    fill(project)
    found = modes(project.root / ".git/dvlite")
    objects = [
        mode for path, mode in found.items() if "/objects/" in path and os.path.isfile(path) or path.endswith(".pack")
    ]
    assert objects and set(objects) == {0o444}
    assert all(not mode & 0o022 for mode in found.values())


@pytest.mark.parametrize(("value", "bits"), [("group", 0o060), ("0660", 0o060), ("all", 0o064)])
def test_a_repository_that_is_shared_stays_writable_for_its_members(project, value, bits):
    project.git("config", "core.sharedRepository", value)
    fill(project)
    project.dv("gc")
    for path, mode in modes(project.root / ".git/dvlite").items():
        if os.path.isdir(path):
            assert mode & bits == bits and mode & 0o010 and mode & stat.S_ISGID, (path, oct(mode))
        elif mode & 0o200:
            assert mode & bits == bits, (path, oct(mode))
        else:
            assert mode & 0o222 == 0 and mode & 0o040, (path, oct(mode))


def test_a_repository_that_is_not_shared_stays_so(project):
    fill(project)
    assert not any(mode & stat.S_ISGID for mode in modes(project.root / ".git/dvlite").values())


def test_a_folder_remote_that_a_group_may_write_to_stays_so(project, tmp_path):
    remote = tmp_path / "remote"
    remote.mkdir()
    remote.chmod(0o2775)
    project.dv("remote", "add", "origin", "../remote")
    old = os.umask(0o077)
    try:
        fill(project)
        project.commit()
        project.dv("push")
        project.dv("gc", "--remote")
    finally:
        os.umask(old)
    found = modes(remote)
    assert len(found) > 10
    for path, mode in found.items():
        assert mode & 0o070 == 0o070 if os.path.isdir(path) else mode & 0o040, path


def test_unfinished_files_are_private(project, tmp_path):
    store = project.repo.store
    (tmp_path / "f").write_bytes(os.urandom(1 << 20))
    batch = store.open_batch(is_synced=False)
    for _ in range(5):  # more than is held in memory
        batch.put(os.urandom((1 << 20) - 1), "sha256")
    batch.put_file(tmp_path / "f", "sha256")
    seen = {path: mode for path, mode in modes(store.tmp).items() if os.path.isfile(path)}
    batch.abandon()
    assert sorted(seen.values()) == [0o444, 0o600]


def test_credentials_stay_out_of_logs_and_errors(project):
    secret = "s3cr3t-value-42"
    project.dv(
        "remote",
        "add",
        "origin",
        "s3://bucket/x",
        "-o",
        "endpoint_url=http://127.0.0.1:9",
        "-o",
        f"secret={secret}",
        "-o",
        "key=abc",
    )
    project.write({"x": "x"})
    project.dv("add", "-q", "x")
    project.commit()
    done = project.run("push", "--json")
    assert done.returncode == 13
    for command in (
        ["remote", "list"],
        ["remote", "list", "--json"],
        ["config"],
        ["config", "--json"],
        ["doctor"],
        ["doctor", "--json"],
    ):
        done_ = project.run(*command)
        assert secret not in done_.stdout + done_.stderr
    assert secret not in done.stdout + done.stderr
    assert secret not in (project.root / "dvlite.toml").read_text()


def test_the_log_of_a_bug_has_no_credentials():
    from dvlite.cli.main import _without_secret

    assert _without_secret("secret_key=abc") == "secret_key=***"
    assert _without_secret("--password=abc") == "--password=***"
    assert "abc" not in _without_secret("sftp://user:abc@host/x")
    assert _without_secret("endpoint_url=http://x") == "endpoint_url=http://x"
