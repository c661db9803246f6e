"""The notebooks are stripped, whole, tied to no machine, and call what exists. CI runs them (.ci/run)."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import venv
from pathlib import Path

import jax
import jaxlib
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

    def test_installing_keeps_the_jax_that_is_there(self, path):
        """The cell's own functions; CI runs the cell, where there is nothing to install."""
        (cell,) = (cell for cell in cells(path, "code") if "pip" in cell)
        tree = ast.parse(cell)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.FunctionDef)]
        names = {}
        exec(compile(tree, str(path), "exec"), names)
        kept = names["jax_versions"]()
        assert {f"jax=={jax.__version__}", f"jaxlib=={jaxlib.__version__}"} <= set(kept)
        assert {line.split("==")[0] for line in kept} <= {"jax", "jaxlib", "libtpu"}  # and nothing of jaxtyping
        assert names["jax_devices"]() == ", ".join(map(str, jax.devices()))

    @pytest.mark.parametrize("after", ["TPU_0", "CPU_0"])
    def test_an_install_that_changes_the_devices_stops(self, path, after, tmp_path):
        """The whole cell, in an empty environment whose `jax` and `pip` are files of a few lines."""
        venv.create(tmp_path / "venv")
        (tmp_path / "checkout").mkdir()
        (tmp_path / "jax.py").write_text("def devices():\n    return ['TPU_0']\n")
        for name, version in {"jax": "0.11.1", "libtpu": "0.0.40", "jaxtyping": "0.3"}.items():
            (tmp_path / f"{name}-{version}.dist-info").mkdir()
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(text)
        (tmp_path / "pip.py").write_text(
            "import sys\n\nlimits = sys.argv[sys.argv.index('-c') + 1]\nprint(sorted(open(limits).read().split()))\n"
            f"open('jax.py', 'w').write(\"def devices():\\n    return ['{after}']\\n\")\n"
        )
        (cell,) = (cell for cell in cells(path, "code") if "pip" in cell)
        (tmp_path / "cell.py").write_text(f"import os\n\nREPOSITORY = ''\n{cell}")
        python = tmp_path / "venv" / "bin" / "python"
        environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([python, "cell.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert "['jax==0.11.1', 'libtpu==0.0.40']" in done.stdout
        if after == "TPU_0":
            assert done.returncode == 0 and done.stdout.endswith("JAX computes on TPU_0\n")
        else:
            assert "JAX computed on TPU_0 before, and computes on CPU_0 now" in done.stderr
