"""Git over HTTP beside the data: clone, push with the hook, pull, as with any host of repositories."""

import subprocess

from dvlite.repo import open_repo
from tests import servers
from tests.conftest import Project


def test_a_repository_on_a_server_with_its_data_on_a_remote(project, tmp_path):
    with servers.serve("git", tmp_path / "git") as server:
        project.write({"data/a.txt": "one\n" * 500, "model.bin": "m" * 2_000_000})
        project.dv("remote", "add", "origin", str(tmp_path / "remote"))
        project.dv("hooks", "install", "-q")
        project.dv("add", "-q", "data", "model.bin")
        project.commit("first")
        project.git("remote", "add", "origin", server.url)
        project.git("push", "-q", "-u", "origin", "main")
        assert list((tmp_path / "remote/packs").glob("*.pack")), "the hook sent the data before Git pushed"
        subprocess.run(["git", "clone", "-q", server.url, tmp_path / "clone"], check=True)
        clone = Project(tmp_path / "clone")
        clone.dv("pull")
        assert clone.read("data") == project.read("data")
        clone.dv("hooks", "install", "-q")
        clone.write({"data/a.txt": "two\n"})
        clone.dv("add", "-q", "data")
        clone.commit("second")
        clone.git("push", "-q")
        project.git("pull", "-q")
        assert project.read("data") == {"a.txt": b"one\n" * 500}, "hooks fetch only where that is asked for"
        project.dv("pull")
        assert project.read("data") == {"a.txt": b"two\n"}
        assert open_repo(project.root).remote().find([]) == {}
