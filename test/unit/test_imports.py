"""The house: imports run one way, without a circle; folders and modules stay small (docs/adr/0012)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What each room may import besides itself. "mitoscope" stands for the modules directly in it, such as errors and files.
BELOW = {
    "mitoscope": set[str](),
    "mitoscope.images": {"mitoscope"},
    "mitoscope.bundle": {"mitoscope"},
    "mitoscope.networks": {"mitoscope.bundle", "mitoscope"},
    "mitoscope.classify": {"mitoscope.networks", "mitoscope.bundle", "mitoscope.images", "mitoscope"},
}
BELOW["mitoscope.detect"] = BELOW["mitoscope.classify"]
BELOW["mitoscope.scoring"] = {"mitoscope.classify", "mitoscope.detect", *BELOW["mitoscope.classify"]}
BELOW["mitoscope.slide"] = {"mitoscope.scoring", *BELOW["mitoscope.scoring"]}
BELOW["mitoscope.launch"] = {"mitoscope.slide", *BELOW["mitoscope.slide"]}
BELOW["mitoscope.training"] = {"mitoscope.launch", "mitoscope.scoring", *BELOW["mitoscope.scoring"]}
BELOW["mitoscope.cli"] = {
    "mitoscope.training",
    "mitoscope.slide",
    *BELOW["mitoscope.training"],
}  # the command knows every room
BELOW["model"] = BELOW["mitoscope.scoring"]
BELOW["inference"] = BELOW["serve"] = {"model", "mitoscope"}
BELOW["tools"] = {"model", *BELOW["mitoscope.cli"]}
ENTRIES = {"mitoscope.cli", "mitoscope.__main__"}
NOT_AT_START = ("pandas", "timm", "torchvision", "skimage", "sklearn", "matplotlib", "lightning", "mitoscope.training")


def list_modules() -> dict[str, Path]:
    """Every module of the product by name."""
    paths = [ROOT / "inference.py", ROOT / "serve.py"]
    paths += [path for name in ("mitoscope", "model", "tools") for path in sorted((ROOT / name).rglob("*.py"))]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return {name: path for path, name in names.items()}


MODULES = list_modules()


def find_room(module: str) -> str:
    """The room that a module is in."""
    if module in ENTRIES:
        return "mitoscope.cli"
    top, *below = module.split(".")
    return f"mitoscope.{below[0]}" if top == "mitoscope" and f"mitoscope.{(below or [''])[0]}" in BELOW else top


def find_imports(path: Path) -> set[str]:
    """The product's modules that a module imports, lazily or not; imports for type checkers do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    return {name for name in found if name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_is_below_it(module: str) -> None:
    room = find_room(module)
    assert {find_room(name) for name in find_imports(MODULES[module])} - {room} <= BELOW[room]


def test_the_training_of_a_classifier_does_not_know_the_studies_of_foundation_models() -> None:
    below = {name for name in MODULES if name.startswith(("mitoscope.training.classify", "mitoscope.training.bases"))}
    found = {name for module in below for name in find_imports(MODULES[module])}
    assert {name for name in found if name.startswith("mitoscope.training.foundation")} == set()


def test_no_import_leads_back_to_where_it_began() -> None:
    graph = {name: find_imports(path) - {name} for name, path in MODULES.items()}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


def test_a_container_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    code = f"""
import sys
from model.entry import main, parse
assert main(parse(["--input", "test/input/interf0", "--output", {str(tmp_path)!r}, "--device", "cpu"])) == 0
print(*sorted(set(sys.modules) & set({NOT_AT_START!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_folders_and_modules_stay_small() -> None:
    library = {name: path for name, path in MODULES.items() if name.startswith("mitoscope")}
    long = {name: n for name, path in library.items() if (n := len(path.read_text().splitlines())) > 300}
    folders = [path.parent for path in library.values() if path.name != "__init__.py"]
    full = {folder.name: n for folder in set(folders) if (n := folders.count(folder)) > 12}
    assert (long, full) == ({}, {})


def test_no_import_is_hidden_in_a_string() -> None:
    hiding = {name for name, path in MODULES.items() if "import_module(" in path.read_text(encoding="utf-8")}
    assert hiding == {"mitoscope"}  # its public names, loaded when they are used


def test_timm_builds_networks_in_one_place_only_and_for_the_yardstick() -> None:
    callers = {name for name, path in MODULES.items() if "create_model(" in path.read_text(encoding="utf-8")}
    assert callers == {"mitoscope.networks.build", "tools.bench.reference"}
