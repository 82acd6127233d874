"""The shape of the package: imports run downwards only, and files load without running code."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {path.stem: path for path in sorted((ROOT / "minivdm").glob("*.py"))}


def imports_of(path):
    """Modules of minivdm that a module imports, anywhere in its text, as dotted names below minivdm."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("minivdm")):
            module = (node.module or "").removeprefix("minivdm").strip(".")
            found |= {module} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("minivdm.") for a in node.names if a.name.startswith("minivdm.")}
    return found


def test_there_are_no_circles():
    graph = {name: imports_of(path) & set(MODULES) for name, path in MODULES.items()}
    done, order = set(), []
    while graph:
        free = sorted(name for name, needs in graph.items() if needs <= done)
        assert free, f"circular imports among {sorted(graph)}"
        for name in free:
            done.add(name)
            order.append(name)
            del graph[name]
    assert order.index("schedules") < order.index("diffusion") < order.index("samplers")


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_no_module_needs_the_course(name):
    """`__main__` is the one exception: it is the program, not the library, and `--mine` installs a learner's pieces."""
    assert not any(module.split(".")[0] == "course" for module in imports_of(MODULES[name]))


@pytest.mark.parametrize("name", ["layers", "unet", "unet3d"])
def test_models_know_no_schedule_sampler_or_loss(name):
    assert not imports_of(MODULES[name]) & {"schedules", "diffusion", "samplers", "training", "guidance"}


def test_metrics_know_no_network():
    assert not imports_of(MODULES["metrics"])


def test_torch_load_only_loads_weights():
    calls = []
    for path in ROOT.glob("minivdm/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                calls.append(path.name)
                assert {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True", path
    assert calls


def test_every_public_function_has_a_docstring():
    missing = []
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{name}.{node.name}")
    assert not missing


def test_pinned_and_ranged_dependencies_name_the_same_packages():
    def names(lines):
        return {re.split(r"[=<>\[ ]", line)[0].lower() for line in lines if re.match(r"\w", line)}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert names(lines) == names(project["dependencies"] + project["optional-dependencies"]["video"])
    assert all("==" in line for line in lines if re.match(r"\w", line))
    assert "torch==2.13.0" in lines and "torch>=2.6" in project["dependencies"]
