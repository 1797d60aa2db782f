"""What keeps the design: thin wrappers, imports in one direction, light imports, offline pages."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bento", "components", "data_checks", "pipelines")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
WRAPPERS = [file for file in SOURCES if file.name == "component.py"]

# Who may import whom; the most specific line counts.
MAY_IMPORT = {
    "components.model": ("components.model",),
    "components": ("components", "data_checks"),
    "data_checks": ("components", "data_checks"),
    "components.events": ("components.events", "components.contracts", "components.model"),
    "components.experiments.experiment": ("components.model",),
    "bento": (
        "components.model",
        "components.events",
        "components.experiments.experiment",
        "bento",
    ),
    "bento.workbench": ("components", "bento"),
    "pipelines": ("components", "data_checks", "bento", "pipelines"),
}

# kfp itself loads what it likes, and the service's modules are loaded by BentoML's server only.
KFP_OR_BENTOML = {
    *("__init__.py", "component.py", "training.py"),
    *("service.py", "endpoints.py", "openapi.py"),
}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def imports_of(file: Path) -> set[str]:
    return imports_of_nodes(ast.walk(ast.parse(file.read_text())))


def imports_of_nodes(nodes: Iterable[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {one for one in found if one.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("file", WRAPPERS, ids=lambda file: file.parent.name)
def test_a_wrapper_only_translates(file):
    for function in [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)]:
        decorators = {ast.unparse(one).split("(")[0] for one in function.decorator_list}
        assert "step" in decorators, f"{function.name} is no step"
        body = [n for n in function.body if not isinstance(n, ast.Import | ast.ImportFrom)]
        body = [
            n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
        ]
        assert len(body) <= 8, f"{function.name} has {len(body)} statements"
        loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While | ast.Try)]
        assert not loops, f"{function.name} does work of its own"


@pytest.mark.parametrize("file", WRAPPERS, ids=lambda file: file.parent.name)
def test_a_wrapper_keeps_its_annotations(file):
    # kfp reads them as objects; as text it takes every input for a string.
    assert "from __future__ import annotations" not in file.read_text()


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_one_way(file):
    module = name_of(file)
    package = max((one for one in MAY_IMPORT if is_within(module, one)), key=len, default=None)
    for imported in imports_of(file) if package else ():
        allowed = any(is_within(imported, one) for one in MAY_IMPORT[package])
        assert allowed, f"{module} must not import {imported}"


def test_folders_do_not_import_each_other_in_a_circle():
    folders = {}
    for file in SOURCES:
        folder = folder_of(name_of(file))
        folders.setdefault(folder, set()).update(map(folder_of, imports_of(file)))
    for folder, imported in folders.items():
        imported.discard(folder)
    list(graphlib.TopologicalSorter(folders).static_order())


def folder_of(module: str) -> str:
    """`components.orders` of `components.orders.clean`; other packages are one folder."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "components" else parts[0]


MODEL = [file for file in SOURCES if file.is_relative_to(ROOT / "components" / "model")]


@pytest.mark.parametrize("file", MODEL, ids=lambda file: file.name)
def test_the_model_library_stands_on_numpy_and_pydantic_alone(file):
    """It is what a Bento carries; pyarrow and hnswlib are imported where they are used."""
    ours = {name for name in imports_of(file) if name.split(".")[0] in PACKAGES}
    assert all(name.startswith("components.model.") for name in ours)
    tree = ast.parse(file.read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    loaded = imports_of_nodes(top)
    allowed = {*sys.stdlib_module_names, "components", "numpy", "pydantic", "pydantic_core"}
    assert {name.split(".")[0] for name in loaded} <= allowed


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_loads_nothing_heavy(package):
    heavy = {"pyspark", "gensim", "mlflow", "great_expectations", "optuna", "matplotlib"}
    if package == "bento":
        heavy |= {"kfp", "pandas"}
    modules = [
        name_of(file) for file in (ROOT / package).rglob("*.py") if file.name not in KFP_OR_BENTOML
    ]
    code = (
        f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\n"
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
