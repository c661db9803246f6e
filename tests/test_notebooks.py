"""The notebooks are stripped, whole, tied to no machine, and call what exists. CI runs them (.ci/run)."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
from helpers.places import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
ELSEWHERE = {"IPython", "google"}  # what notebook servers bring
MACHINE_PATH = re.compile(r"(?<![\w.}])(/(tmp|root|home|work|usr|opt|mnt|Users|content)\b|[A-Z]:\\)")


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def code(path: Path) -> ast.Module:
    """All code cells as one module; lines for the shell or for IPython become `pass`."""
    return ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", "\n".join(cells(path, "code")), flags=re.MULTILINE))


def imported(tree: ast.Module) -> dict[str, object]:
    """Name in the notebook → what it stands for. Raises where an import would."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
                top = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or top] = importlib.import_module(top)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] not in ELSEWHERE:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["evaluate", "quickstart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_a_stripped_notebook_of_version_4(self, path):
        notebook = json.loads(path.read_text())
        assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5)
        assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
        assert notebook["cells"][0]["cell_type"] == "markdown"
        for cell in notebook["cells"]:
            assert cell["source"]
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], f"outputs in {cell['id']}; run jupyter nbconvert --clear-output --inplace"
                assert cell["execution_count"] is None

    def test_names_no_path_of_a_machine(self, path):
        assert not MACHINE_PATH.search(path.read_text())

    def test_calls_functions_that_exist_with_arguments_they_take(self, path):
        tree = code(path)
        names = imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                assert hasattr(names[node.value.id], node.attr), f"{node.value.id}.{node.attr} is not there"
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in names:
                head, *rest = ast.unparse(node.func).split(".")
                function = names[head]
                for part in rest:
                    function = getattr(function, part)
                if getattr(function, "__module__", "").startswith("save_jax"):
                    keywords = {keyword.arg: None for keyword in node.keywords}
                    inspect.signature(function).bind(*[None] * len(node.args), **keywords)

    def test_runs_modules_that_exist(self, path):
        modules = re.findall(r"^!\{PYTHON\} -m (\S+)", "\n".join(cells(path, "code")), flags=re.MULTILINE)
        assert bool(modules) == (path.stem == "quickstart")
        assert all(importlib.util.find_spec(module) for module in modules)

    def test_settings_come_first_and_from_the_environment(self, path):
        first = cells(path, "code")[0]
        assert {"SAVE_JAX_RUN", "SAVE_JAX_REPOSITORY"} <= set(re.findall(r"SAVE_JAX_\w+", first))
        assert not any("SAVE_JAX_" in cell for cell in cells(path, "code")[1:])
