import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mitoscope.cli import main

ROOT = Path(__file__).resolve().parents[3]
RESULT = "multiple-mitotic-figure-classification.json"
EXPECTED = ROOT / "test/expected/interf0" / RESULT
LITE = ROOT / "weights/lite"
[STACK] = (ROOT / "test/input/interf0/images").glob("*/*.tiff")
THRESHOLD = json.loads((LITE / "manifest.json").read_text())["threshold"]["value"]
COMPARE = ("--expected", EXPECTED)

Change = Callable[[list[dict[str, Any]]], object]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A container's output folder with the result that the fixture should give."""
    (tmp_path / "output").mkdir()
    return Path(shutil.copy(EXPECTED, tmp_path / "output"))


@pytest.fixture
def check(output: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, list[str]]]:
    """A function (*options) → (exit code, what stands before the verdict, the verdict's lines)."""

    def run(*options: object) -> tuple[int, str, list[str]]:
        status = main(list(map(str, ["check", output, "--stack", STACK, "--weights", LITE, *options])))
        lines = capsys.readouterr().out.splitlines()
        verdict = [line for line in lines if line.startswith("wrong: ") or line == "ok"]
        return status, "\n".join(lines[: -len(verdict)]), verdict

    return run


def edit(output: Path, change: Change) -> None:
    pages = json.loads(output.read_text())
    change(pages)
    output.write_text(json.dumps(pages))


def set_pages(*pages: tuple[str, float]) -> Change:
    """A change to the given classes and confidences, repeated over all pages."""

    def change(records: list[dict[str, Any]]) -> None:
        for number, record in enumerate(records):
            record["class"], record["confidence"] = pages[number % len(pages)]

    return change


def swap_class(pages: list[dict[str, Any]]) -> None:
    pages[0]["class"] = "normal" if pages[0]["class"] == "atypical" else "atypical"


def test_the_expected_output_passes(check) -> None:
    status, table, verdict = check(*COMPARE)
    assert (status, verdict) == (0, ["ok"])
    assert table.splitlines()[0] == "page  class     p_atypical  difference"
    assert table.count("+0.0e+00") == 16
    status, table, verdict = check()
    assert (status, verdict, len(table.splitlines())) == (0, ["ok"], 17)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pages: pages.pop(), f"the length is wrong: got 15 pages, expected the 16 of {STACK.name}"),
        (lambda pages: pages.clear(), f"the length is wrong: got 0 pages, expected the 16 of {STACK.name}"),
        (lambda pages: pages[3].update(confidence=1), "page 4: got confidence 1, an integer, expected a float"),
        (lambda pages: pages[3].update(confidence=True), "page 4: got confidence true, a boolean, expected a float"),
        (lambda pages: pages[3].update(confidence="0.5"), 'page 4: got confidence "0.5", a string, expected a float'),
        (lambda pages: pages[3].update(confidence=None), "page 4: got confidence null, nothing, expected a float"),
        (lambda pages: pages[3].update(confidence=[0.5]), "page 4: got confidence [0.5], a list, expected a float"),
        (lambda pages: pages[3].update(confidence=float("nan")), "page 4: got confidence nan, which the platform"),
        (lambda pages: pages[3].update(confidence=float("inf")), "page 4: got confidence inf, which the platform"),
        (lambda pages: pages[3].update(confidence=1.5), "page 4: got confidence 1.5, expected a float in [0, 1]"),
        (lambda pages: pages[3].update(confidence=-1e-9), "page 4: got confidence -1e-09, expected a float in [0, 1]"),
        (lambda pages: pages[3].update(score=0.5), 'page 4: got the keys ["class", "confidence", "score"], expected'),
        (lambda pages: pages[3].pop("class"), 'page 4: got the keys ["confidence"], expected class and confidence'),
        (lambda pages: pages[3].update({"class": "Normal"}), 'page 4: got class "Normal", expected "normal" or'),
        (lambda pages: pages[3].update({"class": ["normal"]}), 'page 4: got class ["normal"], expected "normal" or'),
        (lambda pages: pages.insert(3, pages.pop(3)["class"]), 'page 4: got "normal", expected an object with'),
    ],
)
@pytest.mark.parametrize("options", [(), COMPARE], ids=["alone", "compared"])
def test_a_broken_page_is_the_one_fault(check, output: Path, change: Change, reason: str, options) -> None:
    edit(output, change)
    status, _, verdict = check(*options)
    assert status == 1
    assert len(verdict) == 1
    assert verdict[0].startswith(f"wrong: {reason}")


def test_every_fault_has_its_line(check, output: Path) -> None:
    def change(pages: list[dict[str, Any]]) -> None:
        pages[1].update({"class": "Normal", "confidence": 0})
        pages[5]["confidence"] = None
        pages.pop()

    edit(output, change)
    (output.parent / "log.txt").touch()
    status, table, verdict = check()
    assert (status, table) == (1, "")
    starts = ("the length", "page 2: got class", "page 2: got confidence", "page 6: got confidence", "the whole folder")
    assert len(verdict) == len(starts)
    for line, start in zip(verdict, starts, strict=True):
        assert line.startswith(f"wrong: {start}")


# ---- classes against confidences


def test_the_winning_class_s_confidence_is_recognised(check, output: Path) -> None:
    def change(pages: list[dict[str, Any]]) -> None:
        for page in pages:
            if page["class"] == "normal":
                page["confidence"] = 1 - page["confidence"]

    edit(output, change)
    status, table, verdict = check()
    assert (status, len(table.splitlines())) == (1, 17)
    assert verdict[0].startswith(
        "wrong: 10 of 16 classes contradict their confidences: it looks as if the confidence of the winning class was "
        "written, since normal pages have high ones too (0.72 to 1.00)"
    )
    assert [line.partition(" for ")[0] for line in verdict[1:]] == [
        f"wrong: page {page}: got class normal, expected atypical" for page in (1, 2, 3, 4, 5, 6, 7, 8, 13, 16)
    ]


@pytest.mark.parametrize(
    ("pages", "explanation"),
    [
        ([("normal", 0.9), ("atypical", 0.8)], "it looks as if the confidence of the winning class was written"),
        ([("normal", 0.5)], "it looks as if the confidence of the winning class was written"),
        ([("normal", 0.9), ("atypical", 0.1)], "it looks as if P(normal) was written"),
        ([("normal", 0.1), ("normal", 0.6), ("atypical", 0.7)], "a threshold between 0.600000 and 0.700000 made them"),
        ([("atypical", 0.2), ("atypical", 0.9)], "a threshold between 0.000000 and 0.200000 made them"),
        ([("normal", 0.1), ("atypical", 0.2), ("normal", 0.9)], "no threshold explains them"),
    ],
)
def test_what_else_contradicts_the_threshold_is_explained(check, output: Path, pages, explanation: str) -> None:
    edit(output, set_pages(*pages))
    status, _, verdict = check()
    assert status == 1
    assert f"classes contradict their confidences: {explanation}" in verdict[0]


def test_a_swapped_class_is_named(check, output: Path) -> None:
    edit(output, swap_class)
    status, _, verdict = check()
    assert status == 1
    assert verdict[1].startswith("wrong: page 1: got class atypical, expected normal for confidence 0.00")


# ---- values


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_changed_value_fails_unless_it_is_within_the_tolerance(check, output: Path, shift: int) -> None:
    def move(pages: list[dict[str, Any]]) -> None:
        pages[5]["confidence"] += shift * 2e-4

    edit(output, move)
    status, _, verdict = check(*COMPARE)
    assert status == 1
    assert verdict[0].startswith("wrong: page 6: got confidence 0.05")
    assert check(*COMPARE, "--tolerance", "1e-3")[0] == 0
    assert check(*COMPARE, "--tolerance", "nan")[0] == 1
    assert check()[0] == 0


def test_only_a_page_within_the_margin_may_change_its_class(check, tmp_path: Path, output: Path) -> None:
    edit(output, lambda pages: pages[0].update({"class": "atypical", "confidence": THRESHOLD + 0.01}))
    wanted = shutil.copy(output, tmp_path / "expected.json")
    edit(output, lambda pages: pages[0].update({"class": "normal", "confidence": THRESHOLD - 0.005}))
    options = ("--expected", wanted, "--tolerance", "2e-2", "--class-margin")
    assert check(*options, "2e-2")[0] == 0
    assert check(*options, "1e-3")[2] == ["wrong: page 1: got class normal, expected atypical"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pages: pages.pop(), "got 15 pages for a stack of 16"),
        (lambda pages: pages[2].update(confidence=1), "got page 3: got confidence 1"),
    ],
)
def test_an_unusable_expectation_is_an_error(tmp_path: Path, output: Path, capsys, change: Change, reason) -> None:
    wanted = Path(shutil.copy(output, tmp_path / "expected.json"))
    edit(wanted, change)
    assert main(["check", str(output), "--stack", str(STACK), "--weights", str(LITE), "--expected", str(wanted)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: 'expected.json' cannot be used: {reason}")


# ---- files


@pytest.mark.parametrize("extra", [".hidden", "result.json.tmp", "images/page.png"])
def test_an_extra_file_fails(check, output: Path, extra: str) -> None:
    path = output.parent / extra
    path.parent.mkdir(exist_ok=True)
    path.touch()
    status, _, verdict = check(*COMPARE)
    assert (status, len(verdict)) == (1, 1)
    assert verdict[0].startswith("wrong: the whole folder is uploaded: got a folder that holds [")
    assert verdict[0].endswith(f"expected {RESULT} alone")


def test_another_name_fails(output: Path, capsys) -> None:
    renamed = output.rename(output.with_name("result.json"))
    assert main(["check", str(renamed), "--stack", str(STACK), "--weights", str(LITE)]) == 1
    assert capsys.readouterr().out.endswith(
        f"wrong: the file has the wrong name: got 'result.json', expected {RESULT}\n"
    )


@pytest.mark.parametrize(
    "content", ["", "[", '{"class": "normal"}', "null", "3", "[" * 100_000, "9" * 5000, "\ufeff[]", "\udcff"]
)
def test_what_is_no_list_of_pages_fails(check, output: Path, content: str) -> None:
    output.write_bytes(content.encode("utf-8", "surrogateescape"))
    status, table, verdict = check()
    assert (status, table, len(verdict)) == (1, "", 1)
    assert verdict[0].startswith(f"wrong: '{RESULT}' cannot be used: got ")
    assert len(verdict[0]) < 500


def test_no_output_fails(check, output: Path) -> None:
    output.unlink()
    status, _, verdict = check()
    assert (status, len(verdict)) == (1, 1)
    assert "got FileNotFoundError" in verdict[0]


def test_it_runs_where_only_the_runtime_s_packages_are(output: Path) -> None:
    """As in the image, and from a folder that is not the checkout; the weights are those that inference would take."""
    modules = "pandas sklearn scipy skimage matplotlib timm jinja2 captum evalutils"
    script = f"import sys; sys.modules |= dict.fromkeys({modules.split()}); from mitoscope.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{script} sys.exit(main())", "check", str(output), "--stack", str(STACK)],
        cwd=output.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nok\n")
