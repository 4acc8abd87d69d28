from tests.remotes.suite import RemoteSuite


class TestSftp(RemoteSuite):
    """OpenSSH, by paramiko."""

    name = "sftp"
    is_http = False
    login = {"username": "nobody-of-this-name"}
