from tests.remotes.suite import RemoteSuite


class TestCeph(RemoteSuite):
    """Ceph's gateway, by obstore."""

    name = "ceph"
    has_md5 = True
    login = {"AWS_SECRET_ACCESS_KEY": "a-secret-that-is-quite-wrong"}


class TestCephByS3fs(TestCeph):
    """Ceph's gateway, by s3fs."""

    driver = "s3fs"
