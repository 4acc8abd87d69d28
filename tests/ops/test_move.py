"""mv and rm: data, pointer, ignore line and metadata go together; nothing is overwritten or lost."""

import hashlib
import os
import shutil
import subprocess

import pytest

from tests.conftest import tree_of


@pytest.fixture
def tracked(project):
    project.write({f"f{n}.txt": f"{n}\n" * 100 for n in range(5)} | {"sub/a.txt": "a\n"}, "data")
    project.write({"model.bin": b"m" * 5000})
    project.dv("add", "data", "model.bin", "--desc", "kept")
    project.commit("one")
    return project


def test_mv_takes_everything_along(tracked):
    before, pointer = tracked.read("data"), (tracked.root / "data.dvlite").read_bytes()
    (tracked.root / "raw").mkdir()
    assert tracked.dv("mv", "data", "raw/numbers") == "moved data -> raw/numbers\n"
    assert tracked.read("raw/numbers") == before and not (tracked.root / "data").exists()
    assert (tracked.root / "raw/numbers.dvlite").read_bytes() == pointer and not (tracked.root / "data.dvlite").exists()
    assert "/numbers\n" in (tracked.root / "raw/.gitignore").read_text()
    assert "/data" not in (tracked.root / ".gitignore").read_text()
    assert tracked.git("diff", "--cached", "-M", "--name-status").count("R100\tdata.dvlite\traw/numbers.dvlite") == 1
    tracked.git("commit", "-qm", "moved")
    assert tracked.git("status", "--short") == "" and "clean" in tracked.dv("status")
    tracked.git("checkout", "-q", "HEAD~1")
    tracked.dv("checkout")
    assert tracked.read("data") == before and not (tracked.root / "raw/numbers").exists()


def test_mv_reads_no_data(tracked):
    tracked.settle()
    tracked.dv("status")
    tracked.dv("mv", "data", "numbers")
    assert tracked.json("add", "numbers")["added"][0]["files_read"] == 0
    assert tracked.json("status")["paths"][0]["changes"] == []


def test_mv_keeps_changes_that_are_not_stored(tracked):
    tracked.write({"f0.txt": "mine\n"}, "data")
    tracked.dv("mv", "data", "numbers")
    assert (tracked.root / "numbers/f0.txt").read_text() == "mine\n"
    (one,) = [one for one in tracked.json("status")["paths"] if one["path"] == "numbers"]
    assert [(change["kind"], change["path"]) for change in one["changes"]] == [("modified", "f0.txt")]


def test_mv_of_what_is_not_here(tracked):
    shutil.rmtree(tracked.root / "data")
    tracked.dv("mv", "data", "numbers")
    tracked.dv("checkout", "--force", "numbers")
    assert len(tracked.read("numbers")) == 6


def test_mv_into_a_folder_and_from_a_subfolder(tracked):
    (tracked.root / "models").mkdir()
    tracked.dv("mv", "../model.bin", ".", folder=tracked.root / "models")
    assert (tracked.root / "models/model.bin").exists() and "description" in (
        tracked.root / "models/model.bin.dvlite"
    ).read_text()


@pytest.mark.parametrize(
    ("new", "said"),
    [("model.bin", "tracked already"), ("data/x", "in one another"), ("code.py", "exists"), ("in.git", "tracked by Git"),
     ("no/folder", "is not a folder"), (".git/x", "can't be tracked"), ("../out", "outside the repository"), ("data", "there already")],
)  # fmt: skip
def test_mv_overwrites_nothing(tracked, new, said):
    tracked.write({"code.py": "1", "in.git": "2"})
    tracked.git("add", "in.git")
    before = tracked.read()
    assert said in tracked.dv("mv", "data", new, code=2)
    now = tracked.read()
    assert {path: data for path, data in now.items() if not path.startswith(".git/")} == {
        path: data for path, data in before.items() if not path.startswith(".git/")
    }


def test_mv_of_a_part_or_of_nothing_is_refused(tracked):
    assert "'data/f0.txt' lies in 'data'" in tracked.dv("mv", "data/f0.txt", "x", code=2)
    assert "is not tracked" in tracked.dv("mv", "nothing", "x", code=2)


def test_mv_that_was_cut_off_is_finished_by_the_same_command(tracked):
    shutil.copy(tracked.root / "data.dvlite", tracked.root / "numbers.dvlite")
    (tracked.root / "data").rename(tracked.root / "numbers")
    tracked.dv("mv", "data", "numbers")
    assert len(tracked.read("numbers")) == 6 and not (tracked.root / "data.dvlite").exists()
    assert tracked.json("status", "numbers")["paths"][0]["changes"] == []


def test_rm_lets_go_and_keeps_the_data(tracked):
    before = tracked.read("data")
    assert "let go of data" in tracked.dv("rm", "data")
    assert tracked.read("data") == before and not (tracked.root / "data.dvlite").exists()
    assert "/data" not in (tracked.root / ".gitignore").read_text()
    tracked.git("commit", "-qm", "gone")
    tracked.dv("checkout")
    assert tracked.read("data") == before, "no later command takes it for left behind"
    assert [one["path"] for one in tracked.json("status")["paths"]] == ["model.bin"]
    assert tracked.dv("cat", "data/f0.txt", "--rev", "HEAD~1") == "0\n" * 100


def test_rm_with_data_deletes_only_what_is_stored(tracked):
    tracked.write({"f0.txt": "mine\n"}, "data")
    assert "not stored" in tracked.dv("rm", "data", "--data", code=14)
    assert (tracked.root / "data/f0.txt").read_text() == "mine\n" and (tracked.root / "data.dvlite").exists()
    said = tracked.dv("rm", "data", "--data", "--force")
    assert "checkout --saved" in said and not (tracked.root / "data").exists()
    number = said.split("--saved ")[1].split("'")[0]
    tracked.git("checkout", "-q", "HEAD", "--", "data.dvlite")
    tracked.dv("checkout", "--saved", number)
    assert (tracked.root / "data/f0.txt").read_text() == "mine\n"


def test_rm_of_several_and_of_parts(tracked):
    assert "lies in 'data'" in tracked.dv("rm", "data/f0.txt", code=2)
    assert "is not tracked" in tracked.dv("rm", "nothing", "model.bin", "--data", code=1)
    assert not (tracked.root / "model.bin").exists() and not (tracked.root / "model.bin.dvlite").exists()
    assert tracked.json("rm", "data")["moved"] == {"data": ""}


def test_what_git_does_not_take_is_said_and_done_all_the_same(tracked):
    (tracked.root / ".git/index.lock").touch()
    said = tracked.dv("mv", "data", "numbers", code=1)
    (tracked.root / ".git/index.lock").unlink()
    assert "not staged" in said and "git add -A -- " in said and len(tracked.read("numbers")) == 6
    tracked.git("add", "-A")
    tracked.git("commit", "-qm", "moved")
    assert "clean" in tracked.dv("status")


def test_names_that_git_does_not_know_yet(project):
    project.write({"ignore/a": "1"})
    project.dv("add", "--no-stage", "ignore/a")
    project.dv("mv", "--no-stage", "ignore/a", "ignore/b")
    project.dv("mv", "ignore/b", "ignore/c")
    project.dv("rm", "ignore/c")


def test_rm_with_force_takes_new_files_too_and_saves_them(tracked):
    tracked.write({"new.txt": "new\n"}, "data")
    said = tracked.dv("rm", "data", "--data", "--force")
    assert not (tracked.root / "data").exists() and "checkout --saved" in said


# ---- export and verify ----------------------------------------------------------------------------------------------


def test_export_writes_plain_files_that_sha256sum_knows(tracked, tmp_path):
    tracked.write({"strange\n'\\ü.txt": "odd\n", "empty": ""}, "data")
    (tracked.root / "data/link").symlink_to("f0.txt")
    tracked.dv("add", "data")
    told = tracked.json("export", "data", tmp_path / "out")
    assert told["files"] == 9 and tracked.read("data") == {
        path.removeprefix("data/"): data for path, data in tree_of(tmp_path / "out").items() if path != "SHA256SUMS"
    }
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "out", check=True)
    assert "exists" in tracked.dv("export", "data", tmp_path / "out", code=2)
    tracked.dv("export", "data/f0.txt", tmp_path / "one", "--rev", "HEAD")
    assert (tmp_path / "one/SHA256SUMS").read_text() == hashlib.sha256(b"0\n" * 100).hexdigest() + "  f0.txt\n"
    assert sorted(os.listdir(tmp_path / "one")) == ["SHA256SUMS", "f0.txt"]


def test_export_to_a_bucket(tracked, bucket):
    endpoint, name, folder = bucket
    tracked.dv("export", "data", f"s3://{name}/handover", "-O", f"endpoint_url={endpoint}")
    assert (folder / "handover/data/f1.txt").read_text() == "1\n" * 100
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder / "handover", check=True)


def test_links_are_not_followed_to_a_bucket(tracked, bucket, tmp_path):
    endpoint, name, folder = bucket
    (tmp_path / "secret").write_text("secret")
    (tracked.root / "data/evil").symlink_to(tmp_path / "secret")
    tracked.dv("add", "data")
    tracked.dv("export", "data", f"s3://{name}/out", "-O", f"endpoint_url={endpoint}")
    assert not (folder / "out/data/evil").exists() and (folder / "out/data/f1.txt").exists()


def test_verify_reads_every_byte(tracked):
    assert tracked.dv("verify", "data") == "verified: 6 files, 1.0 kB\n"
    status = os.stat(tracked.root / "data/f1.txt")
    (tracked.root / "data/f1.txt").write_text("2\n" * 100)
    os.utime(tracked.root / "data/f1.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tracked.root / "data/f2.txt").unlink()
    tracked.write({"more": "1"}, "data")
    told = tracked.json("verify", "data", code=1)
    assert told["wrong"] == {"f1.txt": "changed", "f2.txt": "missing", "more": "extra"} and told["files"] == 4
    assert "changed: f1.txt" in tracked.dv("verify", "data", code=1)
    tracked.dv("verify", "model.bin")
    tracked.dv("verify", "data/f0.txt", "--rev", "HEAD")


def test_verify_against_a_list(tracked, tmp_path):
    tracked.dv("export", "data", tmp_path / "out")
    place = tmp_path / "out"
    assert "verified: 6 files" in tracked.dv("verify", place, "--sums", place / "SHA256SUMS")
    (place / "data/f0.txt").write_text("changed")
    (place / "data/f1.txt").unlink()
    told = tracked.json("verify", place, "--sums", place / "SHA256SUMS", code=1)
    assert told["wrong"] == {"data/f0.txt": "changed", "data/f1.txt": "missing"}
    (place / "bad").write_text("no list\n")
    assert "is no list of SHA-256" in tracked.dv("verify", place, "--sums", place / "bad", code=2)
