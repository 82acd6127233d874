"""The shape of the package: imports run downwards only, and files load without running code."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from minivdm.course import sources

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGE = ROOT / "minivdm"
# What each folder may import besides itself.
BELOW = {
    "diffusion": set(),
    "models": set(),
    "datasets": {"files"},
    "training": {"files", "datasets", "diffusion", "models"},
    "evaluation": {"files", "datasets", "diffusion", "models"},
    "pipelines": {"files", "datasets", "diffusion", "models", "training", "evaluation"},
    "commands": {"files", "datasets", "diffusion", "models", "training", "evaluation", "pipelines"},
    "course": {"console", "files", "datasets", "diffusion", "models", "training", "evaluation", "pipelines"},
}
MODULES = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in sorted(PACKAGE.rglob("*.py"))}
LIBRARY = {parts: path for parts, path in MODULES.items() if parts[0] != "course"}


def imports_of(parts):
    """Modules of minivdm that a module imports, anywhere in its text, as tuples of names below minivdm."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[parts].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = ("minivdm", *parts)[: -node.level] if node.level else ()
            names = [(*base, *(node.module or "").split("."), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        found |= {tuple(filter(None, name))[1:] for name in names if name[0] == "minivdm"}
    return {next(p for p in prefixes(name) if p in MODULES or not p) for name in found} - {()}


def prefixes(name):
    """A dotted name, and what is left of it without its last parts; a package counts as its `__init__`."""
    for end in range(len(name), -1, -1):
        yield name[:end]
        if end:
            yield (*name[:end], "__init__")


def test_every_folder_says_what_it_is_and_what_it_imports():
    folders = {parts[0] for parts in MODULES if len(parts) > 1}
    assert folders == set(BELOW)
    for folder in folders:
        text = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
        assert "mport" in text, f"{folder}/__init__.py should say what may be imported there"


@pytest.mark.parametrize("parts", [parts for parts in MODULES if len(parts) > 1], ids="/".join)
def test_imports_run_downwards(parts):
    used = {other[0] for other in imports_of(parts)} - {parts[0]}
    assert used <= BELOW[parts[0]], f"{parts[0]} may not import {used - BELOW[parts[0]]}"


def test_only_the_program_imports_the_course():
    users = {parts for parts in LIBRARY if any(other[0] == "course" for other in imports_of(parts))}
    assert users == {("__main__",)}


def test_there_are_no_circles():
    graph, order = {parts: imports_of(parts) - {parts} for parts in MODULES}, []
    while graph:
        free = sorted(parts for parts, needs in graph.items() if not needs & set(graph))
        assert free, f"circular imports among {sorted(graph)}"
        order += free
        for parts in free:
            del graph[parts]
    places = [order.index(("diffusion", name)) for name in ("schedules", "forward_process", "samplers")]
    assert places == sorted(places)


def test_no_two_modules_share_their_last_name():
    stems = [path.stem for path in sources.modules().values()]
    assert (
        len(stems) == len(set(stems)) == sum(len(p) > 1 and p[0] != "commands" and p[1] != "__init__" for p in LIBRARY)
    )


def test_metrics_know_no_network():
    assert not imports_of(("evaluation", "metrics"))


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
    for name, path in LIBRARY.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(".".join((*name, node.name)))
    assert not missing


def test_pinned_and_ranged_dependencies_name_the_same_packages():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(r"\w", line)]
    extras = {key: value for key, value in PROJECT["optional-dependencies"].items() if key != "all"}
    assert names(lines) == names(PROJECT["dependencies"]).union(*map(names, extras.values()))
    assert all("==" in line for line in lines)
    assert "torch==2.13.0" in lines and "torch>=2.6" in PROJECT["dependencies"]
    assert PROJECT["optional-dependencies"]["all"] == [f"minivdm[{','.join(extras)}]"]


def names(requirements):
    """The packages in lines such as "torch>=2.6"."""
    return {re.split(r"[=<>\[ ]", line)[0].lower() for line in requirements}


def installs(module):
    """The package that holds a module to import."""
    return {"PIL": "pillow", "sklearn": "scikit-learn", "IPython": "ipython", "oxipng": "pyoxipng"}.get(
        module, module.replace("_", "-")
    )


def foreign(nodes):
    """Packages from elsewhere that are imported among these nodes of a syntax tree."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    ours = {path.stem for path in ROOT.glob("tests/**/*.py")} | {"minivdm", "tests"}
    return {installs(name) for name in found - sys.stdlib_module_names - ours}


def test_the_library_depends_on_what_it_imports_and_on_nothing_else():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in LIBRARY.values()]
    everywhere = set().union(*(foreign(ast.walk(tree)) for tree in trees))
    needed = names(PROJECT["dependencies"])
    assert everywhere - {"triton"} == needed | {"av"}, "triton comes with torch, av with the extra `video`"
    at_the_top = set().union(*(foreign(tree.body) for tree in trees))
    late = {"scikit-learn"}  # takes a second to import, and few programs need its digits
    assert at_the_top - {"triton"} == needed - late, "what an extra installs is imported where it is used"


def test_the_tests_and_the_course_import_what_requirements_install():
    files = [path for path in ROOT.glob("tests/**/*.py") if path.parent.name != "benchmarks"]
    files += [path for parts, path in MODULES.items() if parts[0] == "course"]
    used = set().union(*(foreign(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in files))
    pinned = (line for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(r"\w", line))
    assert used - {"triton"} <= names(pinned)


def test_the_version_stands_in_one_place():
    import minivdm

    assert re.fullmatch(r"\d+\.\d+\.\d+", minivdm.__version__) and "version" in PROJECT["dynamic"]
    assert minivdm.__version__ not in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {minivdm.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_short_names_are_the_objects_themselves():
    import minivdm

    for name, module in minivdm.SHORT_NAMES.items():
        assert getattr(minivdm, name) is getattr(importlib.import_module(f"minivdm.{module}"), name)
        assert name in dir(minivdm)
    with pytest.raises(AttributeError, match="module 'minivdm' has no attribute 'nothing'"):
        minivdm.nothing  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, minivdm; assert 'torch' not in sys.modules; from minivdm import NoiseSchedule"
    subprocess.run([sys.executable, "-c", code], check=True)
