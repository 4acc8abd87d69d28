"""Data that comes from other repositories and from URLs, and remembers it: import, import-url, update."""

import shutil
import time

import pytest

from tests import servers

pytestmark = pytest.mark.usefixtures("cache")


def test_a_strangers_import_reads_nothing_of_this_machine_unasked(project, tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    project.write({"d": "1"})
    project.dv("add", "d")
    for table in (f'url = "{tmp_path}/secret"\nversion = "0"', f'repo = "{tmp_path}/source"\npath = "data"'):
        project.git("checkout-index", "-f", "d.dvlite")
        with (project.root / "d.dvlite").open("a") as file:
            file.write(f"\n[import]\n{table}\n")
        assert "was not imported in this clone" in project.dv("update", code=2)
        assert (project.root / "d").read_text() == "1"


@pytest.mark.parametrize(
    "table", ['repo = "x"', 'path = "d"', "repo = 5\npath = 'x'", "url = 7", 'repo = "a\\u0000b"\npath = "x"']
)
def test_a_malformed_import_is_said_and_the_others_go_on(project, source, table):
    project.write({"d": "1"})
    project.dv("add", "d")
    project.dv("import", source.root, "data/a.csv")
    with (project.root / "d.dvlite").open("a") as file:
        file.write(f"\n[import]\n{table}\n")
    told = project.json("update", code=1)
    assert [one["path"] for one in told["imported"]] == ["a.csv"] and "[import] must have" in told["failures"][0][
        "error"
    ]["message"]


def test_metadata_of_the_source_that_is_no_table_is_left(project, source):
    with (source.root / "model.bin.dvlite").open("a") as file:
        file.write("\n[[meta]]\nx = 1\n")
    source.commit("odd")
    project.dv("import", source.root, "model.bin")
    assert "[meta" not in (project.root / "model.bin.dvlite").read_text()


def test_an_import_that_was_cut_off_is_finished_by_the_same_command(project, source):
    project.dv("import", source.root, "data", "--rev", "v1")
    shutil.rmtree(project.root / "data")
    (project.root / ".git/dvlite/index.db").unlink()
    project.git("rm", "-q", "--cached", "data.dvlite")
    project.dv("import", source.root, "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n"
    assert "data.dvlite" in project.git("diff", "--cached", "--name-only")


def test_updates_of_a_url_keep_what_is_ignored_here(project, tmp_path):
    (tmp_path / "there/raw").mkdir(parents=True)
    (tmp_path / "there/raw/a.txt").write_text("1\n")
    project.dv("import-url", tmp_path / "there/raw")
    project.write({".dvliteignore": "*.tmp\n", "raw/note.tmp": "mine\n"})
    project.commit("imported")
    (tmp_path / "there/raw/a.txt").write_text("22\n")
    project.dv("update")
    assert project.read("raw") == {"a.txt": b"22\n", "note.tmp": b"mine\n"}


def test_an_import_records_where_it_came_from_and_stays(project, source):
    assert "imported data (6 files" in project.dv("import", source.root, "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n"
    pointer = (project.root / "data.dvlite").read_text()
    commit = source.git("rev-parse", "v1^{commit}").strip()
    assert f'[import]\nrepo = "{source.root}"\npath = "data"\nrev = "v1"\ncommit = "{commit}"\n' in pointer
    assert "data.dvlite" in project.git("diff", "--cached", "--name-only")
    assert project.dv("status").startswith("data")
    project.commit("imported")
    assert "clean" in project.dv("status")
    shutil.rmtree(source.root)
    project.dv("remote", "add", "origin", "../mine")
    project.dv("push")
    clone = project.clone()
    clone.dv("pull", "--remote", "origin", code=2)
    project.commit("remote")
    clone.git("pull", "-q")
    clone.dv("pull")
    assert clone.read("data") == project.read("data"), "it is pushed and pulled as all data is"


def test_update_moves_an_import_and_changes_nothing_where_nothing_is_new(project, source):
    project.dv("import", source.root, "data")
    project.dv("import", source.root, "model.bin", "--rev", "v1", "-o", "best.bin")
    project.commit("imported")
    assert '[meta]\ndescription = "numbers"' in (project.root / "data.dvlite").read_text(), (
        "what is known of it comes along"
    )
    project.settle()
    before = {path: path.stat().st_mtime_ns for path in project.root.iterdir()}
    assert project.dv("update") == "unchanged: best.bin\nunchanged: data\n"
    assert {path: path.stat().st_mtime_ns for path in project.root.iterdir()} == before
    source.write({"a.csv": "third\n"}, "data")
    source.dv("add", "data")
    source.commit("three")
    told = project.json("update", "data")["imported"]
    assert [(one["path"], one["is_changed"]) for one in told] == [("data", True)]
    assert (project.root / "data/a.csv").read_text() == "third\n"
    assert source.git("rev-parse", "HEAD").strip() in (project.root / "data.dvlite").read_text()
    project.dv("update", "data", "--rev", "v1")
    assert (project.root / "data/a.csv").read_text() == "first\n" and 'rev = "v1"' in (
        project.root / "data.dvlite"
    ).read_text()
    project.write({"own.bin": "1"})
    project.dv("add", "own.bin")
    assert "'own.bin' was not imported" in project.dv("update", "own.bin", code=2)


def test_an_import_that_was_moved_is_updated_as_before(project, source):
    project.dv("import", source.root, "data")
    project.dv("mv", "data", "numbers")
    source.write({"a.csv": "third\n"}, "data")
    source.dv("add", "data")
    source.commit("three")
    assert "imported numbers" in project.dv("update")
    assert (project.root / "numbers/a.csv").read_text() == "third\n"


def test_update_keeps_what_is_not_stored(project, source):
    project.dv("import", source.root, "data", "--rev", "v1")
    project.commit("imported")
    project.write({"a.csv": "mine\n"}, "data")
    pointer = (project.root / "data.dvlite").read_bytes()
    assert "not stored" in project.dv("update", "--rev", "main", code=14)
    assert (project.root / "data/a.csv").read_text() == "mine\n" and (
        project.root / "data.dvlite"
    ).read_bytes() == pointer


def test_an_import_of_one_file_of_a_folder(project, source):
    project.dv("import", source.root, "data/sub/s1.txt", "-o", "one.txt")
    assert project.read("one.txt") == {} and (project.root / "one.txt").read_text() == "sub 1\n" * 100
    assert 'path = "data/sub/s1.txt"' in (project.root / "one.txt.dvlite").read_text()


def test_an_import_goes_only_where_nothing_is(project, source):
    project.write({"data/mine": "1", "code.py": "2"})
    assert "'data' exists" in project.dv("import", source.root, "data", code=2)
    project.dv("add", "data")
    assert "tracked already" in project.dv("import", source.root, "data", code=2)
    assert "'data/x' lies in 'data'" in project.dv("import", source.root, "model.bin", "-o", "data/x", code=2)
    assert "outside the repository" in project.dv("import", source.root, "model.bin", "-o", "../x", code=2)
    assert "is not a folder" in project.dv("import", source.root, "model.bin", "-o", "no/x", code=2)
    assert not (project.root / "model.bin.dvlite").exists()
    assert "'script.py' is not tracked" in project.dv("import", source.root, "script.py", "-o", "s.py", code=2)


def test_an_import_whose_objects_cannot_be_had_leaves_nothing(project, source, tmp_path):
    shutil.rmtree(source.root / ".git/dvlite")
    shutil.rmtree(tmp_path / "remote")
    project.dv("import", source.root, "model.bin", code=10)
    assert not (project.root / "model.bin.dvlite").exists() and not (project.root / "model.bin").exists()
    assert project.git("status", "--short") == project.git("status", "--short", "--", "dvlite.toml", ".gitattributes")


def test_data_that_is_recorded_alone_stays_at_its_source(project, source, tmp_path):
    (tmp_path / "there/raw/sub").mkdir(parents=True)
    (tmp_path / "there/raw/sub/one.txt").write_text("one")
    (tmp_path / "there/big.bin").write_bytes(bytes(1 << 20))
    project.dv("remote", "add", "origin", "../mine")
    assert "recorded data (6 files" in project.dv("import", source.root, "data", "--no-download")
    project.dv("import-url", tmp_path / "there/raw", "--no-download")
    project.dv("import-url", tmp_path / "there/big.bin", "--no-download")
    assert 'version = "' in (project.root / "raw.dvlite").read_text()
    assert 'stored = "no"' in (project.root / "data.dvlite").read_text()
    project.write({"own.txt": "own"})
    project.dv("add", "own.txt")
    project.commit("recorded")
    assert "clean" in project.dv("status") and not (project.root / "data").exists()
    assert "data/sub/s1.txt" in project.dv("ls", "-R", "data"), "its listings are here"
    pushed = project.json("push")
    assert sorted(pushed["elsewhere"]) == ["big.bin", "data", "raw"] and not pushed["missing"]
    assert "not sent: 3 paths whose data stays at its source" in project.dv("push")
    assert project.json("fsck")["problems"] == [] and project.json("fsck", "--remote")["problems"] == []
    project.dv("gc", "--grace", "0")
    clone = project.clone()
    clone.dv("pull")
    assert (clone.root / "own.txt").exists() and not (clone.root / "raw").exists()
    assert "raw/sub/one.txt" in clone.dv("ls", "-R", "raw", "--fetch")
    assert clone.dv("update", "--no-download", "data") == "unchanged: data\n"
    clone.dv("update", "raw", "big.bin", "data")
    assert clone.read("raw") == {"sub/one.txt": b"one"} and len(clone.read("data")) == 6
    assert 'stored = "no"' not in (clone.root / "data.dvlite").read_text()
    clone.commit("brought here")
    assert clone.json("push")["elsewhere"] == []
    fresh = clone.clone("fresh")
    fresh.dv("pull")
    assert fresh.read("data") == clone.read("data")


@pytest.mark.parametrize("kind", ["folder", "s3", "http"])
def test_a_file_and_a_folder_of_a_url(project, tmp_path, request, kind):
    folder = tmp_path / "there"
    options, env, url, stop = [], {}, str(folder), None
    if kind == "s3":
        endpoint, name, folder = request.getfixturevalue("bucket")
        options, url = ["-O", f"endpoint_url={endpoint}"], f"s3://{name}"
    folder.mkdir(exist_ok=True)
    files = {"sales.csv": b"a,b\n1,2\n", "raw/one.txt": b"one\n", "raw/sub/two.txt": b"two\n"}
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    if kind == "http":
        (tmp_path / "server").mkdir()
        server = servers.serve("http", tmp_path / "server")
        found = server.__enter__()
        stop, url = server, found.url
        for path, data in files.items():
            (found.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (found.folder / path).write_bytes(data)
        folder = found.folder
    try:
        time.sleep(0.3)  # until the server looks at its folder again
        project.dv("import-url", f"{url}/sales.csv", *options, env=env)
        assert (project.root / "sales.csv").read_bytes() == files["sales.csv"]
        assert f'[import]\nurl = "{url}/sales.csv"\nversion = ' in (project.root / "sales.csv.dvlite").read_text()
        project.dv("import-url", f"{url}/raw", *options, env=env)
        assert project.read("raw") == {"one.txt": b"one\n", "sub/two.txt": b"two\n"}
        project.commit("imported")
        assert "clean" in project.dv("status")
        assert project.dv("update", *options, env=env) == "unchanged: raw\nunchanged: sales.csv\n"
        (folder / "sales.csv").write_bytes(b"a,b\n3,4\n5,6\n")
        (folder / "raw/sub/two.txt").unlink()
        time.sleep(0.3)
        project.dv("update", *options, env=env)
        assert (project.root / "sales.csv").read_bytes() == b"a,b\n3,4\n5,6\n"
        assert project.read("raw") == {"one.txt": b"one\n"}
        assert {one["path"] for one in project.json("diff", "HEAD")["paths"]} == {"raw", "sales.csv"}
        said = project.dv("import-url", f"{url}/nothing", *options, env=env, code=2)
        assert "can't be had" in said and not (project.root / "nothing").exists()
    finally:
        if stop:
            stop.__exit__(None, None, None)
