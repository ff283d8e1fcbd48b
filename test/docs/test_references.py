"""What README, the guides and the policies name exists: links, paths, tests, metrics."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "train/README.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {"test/output", "test/output/region0.png", "mitoscope/weights/lite"}  # by make, and in the wheel
PATH = re.compile(r"`((?:\.ci|docs|mitoscope|model|test|tools|train)/[\w./*-]+)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_path_in_the_text_exists(page: Path) -> None:
    for path, name in PATH.findall(page.read_text(encoding="utf-8")):
        found = sorted(ROOT.glob(path)) if path not in MADE else [ROOT]
        assert found, f"{page.name} names {path}"
        assert not name or f"def {name}(" in found[0].read_text(encoding="utf-8"), f"{page.name} names {path}::{name}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_readme_shows_what_make_run_prints() -> None:
    (path,) = (ROOT / "test/expected/interf0").glob("*.json")
    expected = [(page["class"], f"{page['confidence']:.4f}") for page in json.loads(path.read_text(encoding="utf-8"))]
    shown = re.findall(r"^ +\d+  (\w+) +(\d\.\d+)  ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == expected[:3]


def read_rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables: first cell → the other cells."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {first: [cell.strip() for cell in others.split("|")] for first, others in rows}


def test_our_rows_of_the_benchmark_are_those_of_the_json() -> None:
    (path,) = (ROOT / "docs/results/ami-br-benchmark").glob("*.json")
    held_out = json.loads(path.read_text(encoding="utf-8"))["studies"]["benchmark"]["held_out"]
    parts = ("part=test", "source=AtNorM-Br")

    def show(part: str, kind: str, prefix: str) -> str:
        values = (held_out[part][kind][f"{prefix}{metric}"] for metric in ("balanced_accuracy", "roc_auc"))
        return " / ".join(f"{value:.3f}".removeprefix("0") for value in values)

    rows = read_rows("README.md")
    single = next(cells for name, cells in rows.items() if name.startswith("ours, EfficientNet-Lite0"))
    assert single == [show(part, "single_networks", "mean_") for part in parts]
    assert rows["ours, all five together"] == [show(part, "ensemble", "") for part in parts]


def test_readme_and_results_show_the_same_published_rows() -> None:
    results = read_rows("docs/results/README.md")
    published = {name: cells for name, cells in read_rows("README.md").items() if name.endswith("(published)")}
    assert len(published) >= 5
    for name, cells in published.items():
        key = name.removesuffix(" (published)").replace(" with LoRA", ", LoRA").replace("trained end", "end")
        assert results[key][:2] == cells
