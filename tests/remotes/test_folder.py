from tests.remotes.suite import RemoteSuite


class TestFolder(RemoteSuite):
    name = "folder"
