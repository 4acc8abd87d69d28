"""Remotes in the committed file and in Git's config: secrets, trust, and edits that keep what the user wrote."""

import pytest


def test_an_endpoint_that_a_clone_brought_gets_no_credentials(project, bucket):
    endpoint, name, _ = bucket
    project.write({"a": "1"})
    project.dv("remote", "add", "origin", f"s3://{name}/p", "-o", f"endpoint_url={endpoint}")
    project.dv("add", "a")
    project.commit()
    project.dv("push")  # whoever adds it trusts it
    clone = project.clone()
    assert "dvlite remote trust origin" in clone.dv("pull", code=13)
    clone.dv("remote", "trust", "origin")
    clone.dv("pull")
    toml = clone.root / "dvlite.toml"
    toml.write_text(toml.read_text().replace(endpoint, f"{endpoint}0"))  # a longer name is another server
    assert "remote trust" in clone.dv("push", code=13)


def test_secrets_stay_out_of_the_committed_file_and_of_what_is_printed(project):
    project.dv("remote", "add", "origin", "s3://bucket/p", "-o", "secret=hunter2")
    project.dv("remote", "set", "origin", "key", "hunter3")
    assert "hunter" not in (project.root / "dvlite.toml").read_text()
    assert project.git("config", "dvlite.s3://bucket/p.secret").strip() == "hunter2"
    for command in (["remote", "list"], ["remote", "list", "--json"], ["config"], ["config", "--json"], ["doctor"]):
        assert "hunter" not in project.dv(*command)
    from dvlite import remotes

    repo = project.repo
    assert remotes.resolve("origin", repo.config, repo.settings).options == {"secret": "hunter2", "key": "hunter3"}


def test_a_bad_option_leaves_no_half_remote(project):
    before = (project.root / "dvlite.toml").read_bytes()
    project.dv("remote", "add", "origin", "s3://b/p", "-o", "client_kwargs=x", code=1)
    assert (project.root / "dvlite.toml").read_bytes() == before
    for url in ("ftp://x", "a::b", "sftp://me:pw@h/x"):
        assert "pw@" not in project.dv("remote", "add", "origin", url, code=1)


def test_comments_in_the_config_survive(project):
    path = project.root / "dvlite.toml"
    path.write_text(path.read_text() + "# mine\n")
    project.dv("remote", "add", "origin", "../remote")
    project.dv("remote", "set", "origin", "jobs", "4")
    assert "# mine" in path.read_text()
    project.dv("remote", "remove", "origin")
    assert project.json("remote", "list")["remotes"] == []


@pytest.mark.parametrize(("url", "package", "extra"), [
    ("gs://b/p", "gcsfs", "gcs"), ("az://c/p", "adlfs", "azure"),
    ("sftp://host/p", "paramiko", "sftp"), ("webdavs://host/p", "webdav4", "webdav"),
])  # fmt: skip
def test_a_package_that_is_missing_is_named_when_it_is_added_and_used(project, tmp_path, url, package, extra):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == '{package}': raise ModuleNotFoundError(f'no {package}', name='{package}')\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    env = {"PYTHONPATH": str(tmp_path / "hidden")}
    # As it is for who looks for it: nothing of that name.
    assert f"dvlite[{extra}]" in project.dv("remote", "add", "origin", url, env=env)
    project.write({"a": "x"})
    project.dv("add", "-q", "a")
    project.commit()
    said = project.dv("push", code=13, env=env)
    assert "needs a package that isn't installed" in said and f"dvlite[{extra}]" in said
