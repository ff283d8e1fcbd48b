"""Imports run one way: inference → model, scoring → model, train → scoring → model; model imports none of them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "model": {"model"},
    "scoring": {"scoring", "model"},
    "train": {"train", "scoring", "model"},
    "bench": {"bench", "train", "scoring", "model"},
    "fuzz": {"fuzz", "train", "scoring", "model"},
    "torture": {"torture", "bench", "train", "scoring", "model"},
    "inference": {"inference", "model"},
    "serve": {"serve", "inference", "model"},
    "supply": {"supply"},
}
MODULES = [
    path for name in MAY_IMPORT for path in [ROOT / f"{name}.py", *sorted((ROOT / name).rglob("*.py"))] if path.exists()
]


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert imported(path) & MAY_IMPORT.keys() <= MAY_IMPORT[package]


def test_timm_builds_networks_in_one_place_only_and_for_the_yardstick() -> None:
    callers = [path for path in MODULES if "create_model(" in path.read_text(encoding="utf-8")]
    assert {path.relative_to(ROOT).as_posix() for path in callers} == {"model/network.py", "bench/reference.py"}
