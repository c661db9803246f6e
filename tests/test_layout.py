"""The house's rules, read from the imports: floors, rooms, and what must not be needed."""

import ast
from pathlib import Path

import pytest
from helpers.places import REPOSITORY

# A file imports only from a lower floor (or from its own package's __init__).
FLOORS = [
    {"data.records", "data.tokenizer", "data.features", "data.workers", "models.layers", "models.masking",
     "similarity", "sharding", "metrics", "writers", "optim",
     "seals", "weight_files", "convert_rules", "comparison", "protocols"},
    {"data.transforms", "models.clip", "models.ast", "models.fusion", "losses", "parity_metrics", "ranking", "timing",
     "cli", "checkpoint"},
    {"models.retrieval", "models.vlsa", "data.reader"},
    {"config_vlsa", "vlsa_objectives"},
    {"config"},
    {"convert_sizes", "recipe", "operations"},
    {"convert_vlsa"},
    {"convert"},
    {"data.pipeline", "state", "fixtures"},
    {"evaluate", "efficiency", "step", "cache", "resident"},
    {"audit", "breakdown", "runs", "bench_step", "vlsa_evaluate"},
    {"assess", "explain", "bench_input", "bench_vlsa"},
    {"plots", "cards", "bench"},
    {"page", "vlsa_plots"},
    {"report"},
    {"tasks"},
    {"train"},
    {"main", "sweep", "reruns"},
    {"parity", "sweep_vlsa"},
]  # fmt: skip
LOADER = {name for names in FLOORS for name in names if name.startswith("data.")}
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = {
    str(path.relative_to(REPOSITORY / "save_jax").with_suffix("")).replace("/", "."): path
    for path in sorted((REPOSITORY / "save_jax").rglob("*.py"))
    if path.name != "__init__.py"
}


def test_every_file_has_its_floor():
    assert FILES.keys() == FLOOR.keys()


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    ours = {module.removeprefix("save_jax.") for module in imports(FILES[name])} & FLOOR.keys()
    upward = [f"{name} → {other}" for other in ours if FLOOR[other] >= FLOOR[name]]
    assert not upward


@pytest.mark.parametrize("name", FILES)
def test_the_core_needs_neither_torch_nor_tensorflow_nor_preparation(name):
    roots = {module.split(".")[0] for module in imports(FILES[name]) if module}
    assert not roots & {"torch", "tensorflow", "tensorflow_datasets", "data_prep", "configs", "av"}


@pytest.mark.parametrize("name", sorted(LOADER))
def test_loader_files_import_no_jax(name):
    roots = {module.split(".")[0] for module in imports(FILES[name]) if module}
    assert not roots & {"jax", "flax", "optax"}


def test_preparation_enters_the_core_by_its_contract_alone():
    for path in (REPOSITORY / "data_prep").rglob("*.py"):
        ours = {m for m in imports(path) if m and m.startswith("save_jax.")}
        allowed = {"save_jax.data", "save_jax.data.records", "save_jax.data.tokenizer"}
        surplus = {m for m in ours if m not in allowed and m.rsplit(".", 1)[0] not in allowed}
        assert not surplus, f"{path.name} imports {surplus}"
