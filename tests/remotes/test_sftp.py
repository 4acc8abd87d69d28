import pytest

from dvlite.errors import RemoteError
from dvlite.stores.remote.bucket import Bucket
from tests.remotes.suite import RemoteSuite


class TestSftp(RemoteSuite):
    """OpenSSH, by paramiko."""

    name = "sftp"
    is_http = False
    login = {"username": "nobody-of-this-name"}

    def test_an_unknown_host_is_refused(self, server, tmp_path, capfd):
        """A host whose key isn't known is refused; one of known_hosts isn't"""
        options = {key: value for key, value in server.options.items() if key != "host_key_policy"}
        with pytest.raises(RemoteError, match="not known here") as caught:
            Bucket(f"{server.url}/p", options).list()
        assert "host_key_policy auto_add" in caught.value.hint
        key = (server.folder.parent / "ssh/host.pub").read_text().split()
        known = tmp_path / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {key[0]} {key[1]}\n")
        assert Bucket(f"{server.url}/p", {**options, "known_hosts": str(known)}).list() == {}
        known.write_text(f"[127.0.0.1]:{server.port} {key[0]} {'A' * 20}{key[1][20:]}\n")
        with pytest.raises(RemoteError):
            Bucket(f"{server.url}/p", {**options, "known_hosts": str(known)}).list()

    def test_what_ssh_knows_of_a_host_holds(self, server, tmp_path, monkeypatch):
        """~/.ssh/config: names of hosts, ports, users and keys"""
        home = tmp_path / "home"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh/config").write_text(
            f"Host store\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.options['username']}\n"
            f"  IdentityFile {server.options['key_filename']}\n"
        )
        key = (server.folder.parent / "ssh/host.pub").read_text().split()
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} {key[0]} {key[1]}\n")
        monkeypatch.setenv("HOME", str(home))
        bucket = Bucket(f"sftp://store{server.folder}/q", {})
        bucket.put("a", b"one")
        assert bucket.get("a") == b"one" and bucket.login.startswith(f"user '{server.options['username']}'")
