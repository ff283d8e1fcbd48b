import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = ROOT / "test/expected/interf0"
MANIFEST = ROOT / "weights/lite/manifest.json"
RESULT = "multiple-mitotic-figure-classification.json"
THRESHOLD = json.loads(MANIFEST.read_text())["threshold"]["value"]


def check(output: Path, expected: Path = EXPECTED, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(ROOT / "test/check_output.py"), str(output), str(expected)]
    return subprocess.run(
        [*command, "--manifest", str(MANIFEST), *options], capture_output=True, text=True, check=False
    )


def edit(output: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    pages = json.loads((output / RESULT).read_text())
    change(pages)
    (output / RESULT).write_text(json.dumps(pages))


def swap_class(pages: list[dict[str, Any]]) -> None:
    pages[0]["class"] = "normal" if pages[0]["class"] == "atypical" else "atypical"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    shutil.copytree(EXPECTED, tmp_path / "output")
    return tmp_path / "output"


def test_the_expected_output_passes(output: Path) -> None:
    checked = check(output)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.count("+0.0e+00") == 16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swap_class, "page 1: got class"),
        (lambda pages: pages.pop(), "got 15 pages, expected a list of 16 pages"),
        (lambda pages: pages[3].update(confidence=1), "page 4: got confidence 1, expected a float"),
        (lambda pages: pages[3].update(confidence=True), "page 4: got confidence True, expected a float"),
        (lambda pages: pages[3].update(confidence=1.5), "page 4: got confidence 1.5, expected a float in [0, 1]"),
        (lambda pages: pages[3].update(confidence=None), "page 4: got confidence None, expected a float"),
        (lambda pages: pages[3].update(confidence=float("nan")), "got NaN, which is no JSON"),
        (lambda pages: pages[3].update(score=0.5), "page 4: got {"),
        (lambda pages: pages[3].pop("class"), "page 4: got {"),
        (lambda pages: pages[3].update({"class": "Normal"}), "page 4: got class 'Normal'"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--format-only"]])
def test_a_broken_page_fails(output: Path, change: Callable[..., object], reason: str, options: list[str]) -> None:
    edit(output, change)
    checked = check(output, EXPECTED, *options)
    assert checked.returncode == 1
    assert f"wrong: {reason}" in checked.stdout.replace(f"{RESULT}: ", "")


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_changed_value_fails_unless_it_is_within_the_tolerance(output: Path, shift: int) -> None:
    def move(pages: list[dict[str, Any]]) -> None:
        pages[5]["confidence"] += shift * 2e-4

    edit(output, move)
    assert "wrong: page 6: got confidence" in check(output).stdout
    assert check(output, EXPECTED, "--tolerance", "1e-3").returncode == 0
    assert check(output, EXPECTED, "--format-only").returncode == 0


def test_only_a_page_within_the_margin_may_change_its_class(tmp_path: Path, output: Path) -> None:
    edit(output, lambda pages: pages[0].update({"class": "atypical", "confidence": THRESHOLD + 0.01}))
    shutil.copytree(output, tmp_path / "expected")
    edit(output, lambda pages: pages[0].update({"class": "normal", "confidence": THRESHOLD - 0.005}))
    assert check(output, tmp_path / "expected", "--tolerance", "2e-2", "--class-margin", "2e-2").returncode == 0
    checked = check(output, tmp_path / "expected", "--tolerance", "2e-2", "--class-margin", "1e-3")
    assert (checked.returncode, "wrong: page 1: got class normal" in checked.stdout) == (1, True)


@pytest.mark.parametrize("extra", [".hidden", "result.json.tmp"])
def test_an_extra_file_fails(output: Path, extra: str) -> None:
    (output / extra).touch()
    assert f"expected {RESULT} alone" in check(output).stdout


@pytest.mark.parametrize("content", ["", "[", '{"class": "normal"}', "null", "\udcff"])
def test_what_is_no_list_of_pages_fails(output: Path, content: str) -> None:
    (output / RESULT).write_bytes(os.fsencode(content))
    checked = check(output)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert f"wrong: {RESULT}: got" in checked.stdout


def test_an_empty_folder_fails(output: Path) -> None:
    (output / RESULT).unlink()
    assert f"got [], expected {RESULT} alone" in check(output).stdout
