from tests.remotes.suite import RemoteSuite


class TestWebdav(RemoteSuite):
    """rclone's server, by webdav4."""

    name = "webdav"
    login = {"password": "a-password-that-is-quite-wrong"}
