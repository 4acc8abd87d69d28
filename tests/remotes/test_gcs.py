from tests.remotes.suite import RemoteSuite


class TestGcs(RemoteSuite):
    """The emulator, by gcsfs."""

    name = "gcs"
    is_smoke = True
