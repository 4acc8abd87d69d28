from tests.remotes.suite import RemoteSuite


class TestS3(RemoteSuite):
    """rclone's server, by obstore."""

    name = "s3"
    has_md5 = True
    login = {"AWS_SECRET_ACCESS_KEY": "a-secret-that-is-quite-wrong"}


class TestS3fs(RemoteSuite):
    """rclone's server, by s3fs."""

    name = "s3"
    has_md5 = True
    driver = "s3fs"
    login = {"AWS_SECRET_ACCESS_KEY": "a-secret-that-is-quite-wrong"}
