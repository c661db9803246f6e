"""The house's rules, read from the imports: which room may use which, and what must not be needed."""

import ast
import statistics
import tomllib
from pathlib import Path

import pytest
from helpers.places import REPOSITORY

# A room imports from itself and from rooms before it; those of the last line are used by nobody. Doors of rooms
# (`__main__.py`) and the package's own door (`save_jax/__init__.py`, which imports when asked) may use any.
ORDER = ["sharding", "config", "data", "models", "weights", "judge", "evaluation", "training", "report", "methods"]
ORDER += ["inference", "search", "convert", "main", "cli"]
USED_BY_NOBODY = {"sweep", "bench", "parity", "sweep_vlsa", "doctor"}

SOURCES = sorted((REPOSITORY / "save_jax").rglob("*.py"))
ROOMS = {path.name for path in (REPOSITORY / "save_jax").iterdir() if path.is_dir() and any(path.glob("*.py"))}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports, also within functions, but for type checkers alone."""
    names = set()
    tree = ast.parse(path.read_text())
    checked = [
        n
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for n in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if node in checked:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(REPOSITORY / "save_jax").parts[0].removesuffix(".py")


each_file = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))


@each_file
def test_rooms_use_only_rooms_before_them(path):
    room = room_of(path)
    if path.name == "__main__.py" or room == "__init__":
        return
    allowed = set(ORDER[: ORDER.index(room) + 1] if room in ORDER else [*ORDER, room])
    allowed |= {"sweep"} if room == "sweep_vlsa" else set()
    for name in sorted(imports(path)):
        other = name.split(".")[1] if name.startswith("save_jax.") else ""
        forbidden = other in {*ROOMS, *ORDER, *USED_BY_NOBODY} - allowed
        assert not forbidden, f"it imports {name}: {other} does not come before {room}"


def modules() -> dict[str, Path]:
    """Module name → file, of both packages."""
    files = [*SOURCES, *sorted((REPOSITORY / "data_prep").rglob("*.py"))]
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path for path in files
    }


def test_no_circles():
    files = modules()
    graph = {}
    for name, path in files.items():
        found = {n if n in files else n.rpartition(".")[0] for n in imports(path)}
        graph[name] = {n for n in found & files.keys() if n != name}
    done, under_way = set(), []

    def visit(name: str) -> None:
        assert name not in under_way, " → ".join([*under_way[under_way.index(name) :], name])
        if name not in done:
            under_way.append(name)
            for other in sorted(graph[name]):
                visit(other)
            under_way.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_files_are_short_and_rooms_few():
    lengths = {path: len(path.read_text().splitlines()) for path in modules().values()}
    assert not {str(path): count for path, count in lengths.items() if count > 400}
    own = [count for path, count in lengths.items() if path in SOURCES and path.name != "__init__.py"]
    assert statistics.median(own) <= 150
    assert len(ROOMS) <= 15
    assert len(list((REPOSITORY / "save_jax").glob("*.py"))) <= 6


def test_the_method_is_read_in_six_files():
    names = [
        "configs/msrvtt",
        *(f"save_jax/{name}" for name in ("methods/retrieval", "models/retrieval", "models/fusion")),
    ]
    names += ["save_jax/training/losses", "save_jax/models/similarity"]
    assert sum(len((REPOSITORY / f"{name}.py").read_text().splitlines()) for name in names) < 900


@pytest.mark.parametrize("package", ["save_jax", "data_prep"])
def test_every_room_is_in_the_wheel(package):
    """Setuptools lists packages by hand here; one that is missing would be missing in a wheel alone."""
    listed = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in (REPOSITORY / package).rglob("*.py")}
    assert there == {name for name in listed if name.split(".")[0] == package} - {"save_jax.configs"}
    assert "save_jax.configs" in listed


def test_the_core_needs_neither_torch_nor_tensorflow():
    for path in SOURCES:
        roots = {name.split(".")[0] for name in imports(path)}
        if path == REPOSITORY / "save_jax" / "doctor" / "inputs.py":  # which looks whether it is there
            roots -= {"av"}
        assert not roots & {"torch", "tensorflow", "tensorflow_datasets", "configs"}, path
        # Files of one's own are for the extras prep and search to read.
        if room_of(path) != "search":
            assert not roots & {"av", "lancedb", "pyarrow.parquet"}, path
            assert "data_prep" not in roots or path == REPOSITORY / "save_jax" / "inference" / "media.py", path


def test_loader_files_and_configurations_import_no_jax():
    for room in ("data", "config"):
        for path in (REPOSITORY / "save_jax" / room).glob("*.py"):
            assert not {name.split(".")[0] for name in imports(path)} & {"jax", "flax", "optax"}, path


def test_figures_leave_the_backend_of_a_notebook_alone():
    """pyplot's is one for the process; a report drawn in a notebook must not take it."""
    for path in [*SOURCES, *(REPOSITORY / "data_prep").rglob("*.py")]:
        assert not {name for name in imports(path) if "pyplot" in name}, path
        assert "matplotlib.use(" not in path.read_text(), path


def test_preparation_enters_the_core_by_its_contract_alone():
    allowed = tuple(f"save_jax.data.{name}" for name in ("records", "tokenizer", "golden", "command_line"))
    for path in (REPOSITORY / "data_prep").rglob("*.py"):
        ours = {name for name in imports(path) if name.split(".")[0] == "save_jax"}
        assert not {name for name in ours if not name.startswith(allowed)}, path


def test_no_test_imports_another():
    for path in (REPOSITORY / "tests").rglob("*.py"):
        names = {part for name in imports(path) for part in name.split(".")}
        assert not {name for name in names if name.startswith("test_")} and "conftest" not in names, path
