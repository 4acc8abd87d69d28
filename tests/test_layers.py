"""The rules of the house: imports point down, stand at the top, and each outside thing has one seam."""

import ast
from pathlib import Path

import pytest

import dvlite

ROOT = Path(dvlite.__file__).parent
FLOORS = [
    ["errors", "progress", "machine"],
    ["oid", "files", "copying", "statkey", "forking", "locks", "gate"],
    [
        "hashing",
        "rows",
        "tree",
        "lines",
        "reach",
        "pointer",
        "recipe",
        "registry",
        "pack",
        "config",
        "programs",
        "plots",
    ],
    ["stores"],
    ["index", "git", "transfer", "compare", "tables"],
    ["worktree", "remotes", "refs"],
    ["repo"],
    ["ops"],
    ["hooks", "filesystem", "tracking"],
    ["api"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Formats build on each other, in this order: hashing, tree, lines, reach, pointer, pack.
SIDEWAYS = {
    ("statkey", "files"),
    ("copying", "files"),
    ("tree", "hashing"),
    ("rows", "hashing"),
    ("lines", "tree"),
    ("reach", "tree"),
    ("reach", "lines"),
    ("pointer", "tree"),
    ("pack", "hashing"),
    ("recipe", "pointer"),
    ("config", "registry"),
}
SEAMS = {
    "fsspec": {"stores/remote/drivers", "filesystem.py"},
    "s3fs": {"stores/remote/drivers/s3.py"},
    "botocore": {"stores/remote/drivers/logins.py"},
    "obstore": {"stores/remote/drivers/objects.py"},
    "gcsfs": {"stores/remote/drivers/google.py"},
    "adlfs": {"stores/remote/drivers/azure.py"},
    "aiohttp": {"stores/remote/drivers/http.py"},
    "paramiko": {"stores/remote/drivers/sftp.py"},
    "webdav4": {"stores/remote/drivers/webdav.py"},
    "tenacity": {"stores/remote/bucket.py"},
    "subprocess": {"git/call.py", "programs.py"},
    "sqlite3": {"index.py"},
    "fcntl": {"copying.py", "locks.py", "forking.py"},
    "typer": {"cli"},
    "rich": {"cli"},
    "pyarrow": {"tables.py"},
}
# Costly, and used by few commands: imported where they are used.
LAZY = {
    "botocore",
    "pyarrow",
    "multiprocessing",
    "tomlkit",
    "pathspec",
    "rich",
    "ctypes",
    "tenacity",
    "concurrent",
    "mmap",
    "difflib",
    "blake3",
    "hashlib",
    "shutil",
}
LAZY_ROOMS = {
    "dvlite.forking",
    "dvlite.remotes",
    "dvlite.tables",
    "dvlite.stores.remote.drivers.s3",
    "dvlite.ops.add",
    "dvlite.ops.meta",
    "dvlite.ops.policy",
    "dvlite.ops.track",
    "dvlite.ops.merge",
}
MODULES = sorted(ROOT.rglob("*.py"))


def room(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imports(path):
    """Yield (module, line, is at the top, is for types only)."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in tree.body, node in typing_only
        elif isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "dvlite" else [node.module]
            )
            for name in names:
                yield name, node.lineno, node in tree.body, node in typing_only


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    if here == "__init__":
        return
    for name, line, _, is_typing in imports(path):
        parts = name.split(".")
        if parts[0] != "dvlite" or len(parts) == 1 or is_typing or parts[1].startswith("__"):
            continue
        there = parts[1]
        if there != here and (here, there) not in SIDEWAYS:
            assert FLOOR[there] < FLOOR[here], f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stand_at_the_top_unless_they_are_costly(path):
    for name, line, is_top, is_typing in imports(path):
        if not is_top and not is_typing:
            is_lazy = (
                name.split(".")[0] in LAZY
                or name in LAZY_ROOMS
                or (room(path) in ("cli", "__main__") and name.startswith("dvlite"))
            )
            assert is_lazy, f"{path.name}:{line} imports {name} inside"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_outside_thing_has_one_seam(path):
    inner = path.relative_to(ROOT).as_posix()
    for name, line, _, _ in imports(path):
        allowed = SEAMS.get(name.split(".")[0])
        if allowed:
            assert any(inner == one or inner.startswith(f"{one}/") for one in allowed), f"{inner}:{line} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_never_prints_reads_the_environment_or_exits(path):
    open_rooms = ("cli", "__main__", "filesystem", "tracking", "programs")  # a command gets our environment
    if room(path) in open_rooms or path.name == "logins.py":  # S3's own tools look there too
        return
    forbidden = {
        ("os", "environ"),
        ("os", "getenv"),
        ("sys", "exit"),
        ("sys", "stdout"),
        ("sys", "stderr"),
        ("os", "_exit"),
    }
    if room(path) == "forking":
        forbidden -= {("os", "_exit")}  # a fork ends without ending what it shares with its parent
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit", "input"), f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in forbidden, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_stay_small(path):
    assert len(path.read_text().splitlines()) <= 500


def test_every_module_has_a_sign_on_its_door():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize(
    "path", [one for one in MODULES if one.name == "__init__.py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_name_in_a_package_is_that_of_a_room_in_it(path):
    """A room that is imported becomes a name of its package, in place of any other of that name."""
    rooms = {one.stem for one in path.parent.iterdir()} - {"__init__", "__pycache__"}
    tree = ast.parse(path.read_text())
    names = {
        (alias.asname or alias.name): node.module
        for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    } | {node.name: "" for node in tree.body if isinstance(node, ast.FunctionDef)}  # fmt: skip
    package = ".".join(["dvlite", *path.parent.relative_to(ROOT).parts])
    assert [name for name in names if name in rooms and names[name] not in (package, f"{package}.{name}")] == []
