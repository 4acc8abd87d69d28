"""`dvlite://` and `dvlite.open`: any version of any data as a file, without a checkout; also for the real data libraries."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

import dvlite
from dvlite.errors import CorruptError, DvliteError, UsageError
from dvlite.filesystem import DvliteFileSystem
from tests.conftest import make_project

LARGE = os.urandom(3 << 20)
CSV = "city,sales\nBerlin,3\nMadrid,5\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["here", "remote", "cached"])
def project(request, tmp_path):
    """Two versions; where the bytes are: in its own store, on its remote alone, or there and brought into the cache."""
    one = make_project(tmp_path / "project")
    one.write({"sales.csv": CSV, "sub/one.txt": "one\n", "sub/deep/two.txt": "two\n", "a@b%c.txt": "strange\n"}, "data")
    one.write({"models/large.bin": LARGE, "readme.md": "# plain\n"})
    one.dv("remote", "add", "origin", "../remote")
    one.dv("add", "data", "models/large.bin")
    one.commit("one")
    one.git("tag", "v1")
    one.write({"sales.csv": CSV + "Lima,7\n"}, "data")
    one.dv("add", "data")
    one.commit("two")
    one.dv("push", "--all")
    if request.param != "here":
        shutil.rmtree(one.root / ".git/dvlite")
    one.options = {"repo": str(one.root), "cache": request.param == "cached"}
    return one


def fs_of(project, **options):
    return DvliteFileSystem(**{**project.options, **options})


def test_ls_info_find_glob_walk(project):
    fs = fs_of(project, rev="v1")
    assert fs.ls("", detail=False) == ["data", "models"]
    assert fs.ls("data", detail=False) == ["data/a%40b%25c.txt", "data/sales.csv", "data/sub"]
    assert fs.ls("dvlite://v1@models", detail=False) == ["models/large.bin"]
    info = fs.info("data/sales.csv")
    assert (info["name"], info["size"], info["type"]) == ("data/sales.csv", len(CSV), "file")
    assert info["oid"].startswith("sha256:") and fs.ukey("data/sales.csv") == info["oid"]
    assert fs.info("data")["type"] == fs.info("models")["type"] == fs.info("")["type"] == "directory"
    assert fs.find("data/sub") == ["data/sub/deep/two.txt", "data/sub/one.txt"]
    assert fs.glob("data/**/*.txt") == ["data/a%40b%25c.txt", "data/sub/deep/two.txt", "data/sub/one.txt"]
    assert [name for name, _, _ in fs.walk("data")] == ["data", "data/sub", "data/sub/deep"]
    assert fs.du("data") == len(CSV) + 8 + 8 and fs.exists("data/sub") and not fs.exists("data/nothing")
    with pytest.raises(FileNotFoundError):
        fs.info("nothing")
    with pytest.raises(FileNotFoundError):
        fs.ls("data/nothing")
    assert fs.ls("data/sales.csv", detail=False) == ["data/sales.csv"]


def test_open_reads_any_version_and_any_part(project):
    fs = fs_of(project)
    assert fs.cat_file("data/sales.csv") == (CSV + "Lima,7\n").encode()
    assert fs_of(project, rev="v1").cat_file("data/sales.csv") == CSV.encode()
    with fs.open("data/sales.csv", "r") as file:
        assert file.readlines() == (CSV + "Lima,7\n").splitlines(keepends=True)
    with fs.open("models/large.bin") as file:
        assert file.size == len(LARGE)
        file.seek(2_000_000)
        assert file.read(1000) == LARGE[2_000_000:2_001_000]
        file.seek(-10, 2)
        assert file.read() == LARGE[-10:]
        file.seek(0)
        assert file.read() == LARGE
    assert fs.cat_file("models/large.bin", 5, 15) == LARGE[5:15]
    assert fs.cat_file("models/large.bin", -5) == LARGE[-5:] and fs.cat_file("models/large.bin", 7, 3) == b""
    assert fs.cat_ranges(["models/large.bin", "data/sales.csv"], [1, 0], [4, 4]) == [LARGE[1:4], b"city"]
    assert fs.cat(["data/sub/one.txt", "data/sales.csv"])["data/sub/one.txt"] == b"one\n"
    assert fs.cat_file("data/a%40b%25c.txt") == b"strange\n"
    for what in (lambda: fs.open("data/sales.csv", "wb"), lambda: fs.open("data/sales.csv", "ab")):
        with pytest.raises(PermissionError):
            what()
    with pytest.raises(IsADirectoryError):
        fs.cat_file("data")


def test_urls_name_revs_and_options_win(project):
    repo = {"repo": project.options["repo"]}
    with fsspec.open("dvlite://v1@data/sales.csv", "r", **repo) as file:
        assert file.read() == CSV
    with fsspec.open("dvlite://data/sales.csv", "r", **repo) as file:
        assert file.read() == CSV + "Lima,7\n"
    with fsspec.open("dvlite://main@data/sales.csv", "r", rev="v1", **repo) as file:
        assert file.read() == CSV
    with fsspec.open("dvlite://refs/tags/v1@data/a%40b%25c.txt", "r", **repo) as file:
        assert file.read() == "strange\n"
    with pytest.raises(UsageError, match="'v9' is not a commit"):
        fsspec.open("dvlite://v9@data/sales.csv", **repo).open()


def test_one_file_system_reads_one_rev(project):
    """A rev in a path that isn't read here is never ignored."""
    with pytest.raises(ValueError, match="names a rev"):
        fs_of(project).cat_file("dvlite://v1@data/sales.csv")
    with pytest.raises(ValueError, match="open one for each"):
        fs_of(project, rev="v1").open("dvlite://main@data/sales.csv")
    urls = ["dvlite://v1@data/sales.csv", "dvlite://main@data/sales.csv"]
    one, two = fsspec.open_files(urls, repo=project.options["repo"])
    assert one.open().read() == CSV.encode()
    with pytest.raises(ValueError, match="open one for each"):
        two.open()
    again = pickle.loads(pickle.dumps(fs_of(project, rev="v1")))
    assert again.cat_file("dvlite://v1@data/sales.csv") == CSV.encode()


def test_a_fork_reads_the_same_commit(project):
    fs = fs_of(project, rev="main")
    fs.info("data")
    project.write({"sales.csv": "moved on\n"}, "data")
    project.dv("add", "--force", "data")
    project.commit("three")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_sales, [fs]) == (CSV + "Lima,7\n").encode()


def test_what_is_got_and_read_whole_is_verified(project, tmp_path):
    """The nearest copy is bad: another one is taken, or it is an error; never the bad bytes."""
    store = project.root / ".git/dvlite/objects"
    for path in store.rglob("*") if store.exists() else []:
        if path.is_file():
            path.chmod(0o644)
            with path.open("r+b") as file:
                file.write(b"damage")
    fs = fs_of(project)
    for read in (lambda: fs.cat_file("models/large.bin"), lambda: fs.get_file("models/large.bin", str(tmp_path / "out")) or
                 (tmp_path / "out").read_bytes()):  # fmt: skip
        try:
            assert read() == LARGE
        except CorruptError:
            assert store.exists() and not (tmp_path / "out").exists()


def test_python_interface(project, monkeypatch, tmp_path):
    assert dvlite.read("data/sales.csv", repo=project.root, rev="v1") == CSV.encode()
    with dvlite.open("data/a@b%c.txt", repo=project.root, mode="r") as file:
        assert file.read() == "strange\n"
    monkeypatch.chdir(project.root / "data")
    with dvlite.open("data/sales.csv", rev="v1") as file:
        assert file.read() == CSV.encode()
    with pytest.raises(ValueError, match="only be read"):
        dvlite.open("data/sales.csv", mode="w")
    with pytest.raises(FileNotFoundError):
        dvlite.open("readme.md")
    url = dvlite.url("models/large.bin", repo=project.root)
    assert os.path.normpath(url).startswith(str(tmp_path / "remote/objects")) and open(url, "rb").read() == LARGE
    with pytest.raises(UsageError, match="in a pack with others"):
        dvlite.url("data/sales.csv", repo=project.root)
    assert set(dvlite.__all__) == set(dvlite.api.__all__) and all(
        callable(getattr(dvlite, name)) for name in dvlite.__all__
    )
    with pytest.raises(AttributeError):
        dvlite.nothing  # noqa: B018


def test_the_operations_are_functions_that_print_nothing(project, capfd):
    repo = dvlite.Repository(project.root)
    assert {one.path for one in dvlite.ls(repo).entries} == {"data", "models/large.bin"}
    assert [one.path for one in dvlite.diff(repo, "v1", "HEAD", remote="").paths] == ["data"]
    project.write({"new.bin": "new"})
    assert [one.path for one in dvlite.add(repo, ["new.bin"]).added] == ["new.bin"]
    assert not dvlite.status(repo, ["new.bin"]).paths[0].changes
    result = dvlite.get(dvlite.source(project.root, "v1"), "data/sales.csv", project.root / "old.csv")
    assert result.size == len(CSV) and (project.root / "old.csv").read_text() == CSV
    assert capfd.readouterr() == ("", "")


def test_the_worktrees_pointers_are_read_where_no_rev_is_named(project):
    project.git("checkout", "-q", "v1", "--", "data.dvlite")
    assert fs_of(project).cat_file("data/sales.csv") == CSV.encode()
    assert fs_of(project, rev="HEAD").cat_file("data/sales.csv") == (CSV + "Lima,7\n").encode()


def _sales(fs, _=None):
    return fs.cat_file("data/sales.csv")


def test_many_threads_and_processes_read_at_once(project):
    fs = fs_of(project, rev="v1")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda n: fs.cat_file("models/large.bin", n, n + 9) == LARGE[n : n + 9], range(200))) == {
            True
        }
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(_sales, [fs] * 8) == [CSV.encode()] * 8


def test_what_is_pickled_stays_at_its_commit(project):
    fs = fs_of(project, rev="main")
    data = pickle.dumps(fs)
    file = pickle.dumps(fs.open("data/sales.csv"))
    project.write({"sales.csv": "moved on\n"}, "data")
    project.dv("add", "--force", "data")
    project.commit("three")
    assert pickle.loads(data).cat_file("data/sales.csv") == (CSV + "Lima,7\n").encode()
    assert pickle.loads(file).read() == (CSV + "Lima,7\n").encode()


def test_damage_raises_and_never_gives_wrong_bytes(project, tmp_path):
    if (project.root / ".git/dvlite").exists():
        shutil.rmtree(project.root / ".git/dvlite")
    for path in [*(tmp_path / "remote/packs").glob("*.pack"), *(tmp_path / "remote/objects").rglob("*")]:
        if path.is_file():
            data = bytearray(path.read_bytes())
            for at in range(8, len(data) - 200, 7):
                data[at] ^= 0xFF
            path.chmod(0o644)
            path.write_bytes(data)
    fs = fs_of(project)
    with pytest.raises(DvliteError):
        fs.cat_file("data/sales.csv")
    with pytest.raises(CorruptError):
        fs.cat_file("models/large.bin")
    if project.options["cache"]:
        with pytest.raises(CorruptError):
            fs.open("models/large.bin").read(10)


@pytest.mark.parametrize("project", ["remote", "cached"], indirect=True)
def test_what_is_nowhere_is_said(project, tmp_path):
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises(DvliteError, match="origin|can't be had"):
        fs_of(project).cat_file("data/sales.csv")


@pytest.mark.parametrize("project", ["remote"], indirect=True)
def test_a_range_of_a_large_file_moves_no_more_than_that(project, monkeypatch):
    from dvlite.stores.remote.bucket import Bucket

    fs, asked = fs_of(project), []
    fs.ls("data")
    real = Bucket.get
    monkeypatch.setattr(
        Bucket, "get", lambda self, name, *range_: asked.append((name, *range_)) or real(self, name, *range_)
    )
    assert fs.cat_file("models/large.bin", 1_000_000, 1_000_100) == LARGE[1_000_000:1_000_100]
    assert [one[1:] for one in asked if one[0].startswith("objects/")] == [(1_000_000, 1_000_100)]
    asked.clear()
    assert fs.cat_file("data/sub/one.txt") == b"one\n"
    assert len([one for one in asked if one[0].endswith(".pack")]) <= 2, "its listing, and the file"


class TestAbstract(AbstractFixtures, AbstractGetTests):
    """fsspec's own suite, as far as it reads: its files are tracked instead of written through the file system."""

    test_get_directory_recursive = None  # writes through the file system

    @pytest.fixture
    def fs(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        self.project = make_project(tmp_path / "project")
        return DvliteFileSystem(repo=self.project.root)

    @pytest.fixture
    def fs_path(self):
        return "data"

    @pytest.fixture(autouse=True)
    def local_place(self, tmp_path):
        (tmp_path / "local").mkdir()

    @pytest.fixture
    def local_path(self, tmp_path):
        return str(tmp_path / "local")

    def _tracked(self, make, fs_path):
        """Have the suite write its scenario into the worktree, and track it."""
        from fsspec.implementations.local import LocalFileSystem

        local = LocalFileSystem(auto_mkdir=True)
        made = make(local, lambda *parts: "/".join(parts), str(self.project.root / fs_path))
        self.project.dv("add", fs_path)
        return made.removeprefix(f"{self.project.root}/")

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs, fs_path):
        yield self._tracked(self._bulk_operations_scenario_0, fs_path)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, fs, fs_path):
        yield self._tracked(self._glob_edge_cases_files, fs_path)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, fs, fs_path):
        yield self._tracked(self._dir_and_file_with_same_name_prefix, fs_path)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs, fs_path):
        yield self._tracked(self._10_files_with_hashed_names, fs_path)


# ---- the real libraries ---------------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """A version of tables on a remote alone, and the options to read it."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    one = make_project(tmp_path / "tables")
    for part in range(4):
        frame = pandas.DataFrame({"id": range(part * 1000, part * 1000 + 1000), "part": part})
        (one.root / "data").mkdir(exist_ok=True)
        frame.to_parquet(one.root / f"data/part{part}.parquet")
        frame.to_csv(one.root / f"data/part{part}.csv", index=False)
    one.dv("remote", "add", "origin", "../tables-remote")
    one.dv("add", "data")
    one.commit("one")
    one.git("tag", "v1")
    one.dv("push")
    for path in (one.root / "data").iterdir():
        path.unlink()
    one.write({"only.csv": "id\n1\n"}, "data")
    one.dv("add", "data")
    one.commit("two")
    one.dv("push")
    shutil.rmtree(one.root / ".git/dvlite")
    return {"repo": str(one.root)}


def test_pandas(tables):
    pandas = pytest.importorskip("pandas")
    assert len(pandas.read_csv("dvlite://v1@data/part0.csv", storage_options=tables)) == 1000
    assert pandas.read_parquet("dvlite://v1@data/part3.parquet", storage_options=tables)["id"].max() == 3999
    assert len(pandas.read_csv("dvlite://data/only.csv", storage_options=tables)) == 1


def test_polars(tables):
    polars = pytest.importorskip("polars")
    fs = DvliteFileSystem(rev="v1", **tables)
    with fs.open("data/part1.parquet") as file:
        assert polars.scan_parquet(file).select(polars.col("id").sum()).collect().item() == sum(range(1000, 2000))
    with fs.open("data/part0.csv") as file:
        assert polars.read_csv(file).height == 1000


def test_pyarrow_dataset(tables):
    dataset = pytest.importorskip("pyarrow.dataset")
    fs = DvliteFileSystem(rev="v1", **tables)
    found = dataset.dataset(fs.glob("data/*.parquet"), filesystem=fs)
    assert found.count_rows() == 4000 and found.to_table(filter=dataset.field("id") < 10).num_rows == 10


def test_duckdb(tables):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register_filesystem(DvliteFileSystem(rev="v1", **tables))
        (row,) = connection.execute("select count(*), max(id) from read_parquet('dvlite://data/*.parquet')").fetchall()
    assert row == (4000, 3999)


def test_dask_reads_one_version_with_two_worker_processes(tables, tmp_path):
    pytest.importorskip("distributed")
    from dask import config as dask_config
    from dask import dataframe
    from dask.distributed import Client, LocalCluster

    dask_config.set({"temporary_directory": str(tmp_path)})
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        frame = dataframe.read_parquet("dvlite://v1@data/*.parquet", storage_options=tables)
        assert frame["id"].sum().compute() == sum(range(4000))
        lines = dataframe.read_csv("dvlite://v1@data/*.csv", storage_options=tables)
        assert len(lines) == 4000


def test_importing_dvlite_loads_nothing_heavy():
    code = "import sys, dvlite; print(sorted({'fsspec', 'typer', 'sqlite3', 's3fs', 'dvlite.api'} & set(sys.modules)))"
    import sys

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_hugging_face_datasets(tables, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    options = {**tables, "rev": "v1"}  # it takes URLs apart, and would lose the rev in one
    found = datasets.load_dataset(
        "csv",
        data_files="dvlite://data/part2.csv",
        storage_options=options,
        cache_dir=str(tmp_path / "hf"),
        split="train",
    )
    assert found.num_rows == 1000 and found[0]["id"] == 2000


def test_pyspark_workers_read_one_version(tables):
    """Each worker opens the file system by itself, as a cluster's do."""
    sql = pytest.importorskip("pyspark.sql")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        fs = DvliteFileSystem(rev="v1", **tables)
        paths = fs.glob("data/*.csv")
        counted = (
            spark.sparkContext.parallelize(paths, 2).map(lambda path: fs.cat_file(path).count(b"\n") - 1).collect()
        )
        assert counted == [1000] * 4
    finally:
        spark.stop()
