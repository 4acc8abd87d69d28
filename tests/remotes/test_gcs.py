from tests.remotes.suite import RemoteSuite


class TestGcs(RemoteSuite):
    """The emulator, by gcsfs."""

    name = "gcs"
    has_md5 = True
    is_smoke = True
