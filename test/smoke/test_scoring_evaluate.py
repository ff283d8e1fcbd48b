"""python -m scoring evaluate and compare, as their own processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRUTH = np.arange(80) % 4 == 0
SCORES = (np.random.default_rng(0).beta(2, 5, 80) * 0.7 + TRUTH * 0.25).round(6)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "scoring", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """predictions.csv and another one of the same crops, by folder names that are labels."""
    image_id = [f"{'Atypical' if atypical else 'Normal'}/{row}.png" for row, atypical in enumerate(TRUTH)]
    for name, p in (("predictions.csv", SCORES), ("other.csv", SCORES**2)):
        called = np.where(p >= 0.3, "atypical", "normal")
        pd.DataFrame({"image_id": image_id, "p_atypical": p, "class": called}).to_csv(tmp_path / name, index=False)
    return tmp_path


def test_predictions_are_judged_from_the_command_line(folder: Path) -> None:
    done = run(folder, "evaluate", "--predictions", "predictions.csv", "--labels", "folders", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# predictions.csv against folders")
    assert done.stdout.endswith("wrote out\n")
    aggregates = json.loads((folder / "out" / "metrics.json").read_text())["aggregates"]
    assert set(aggregates) == {f"overall_{name}" for name in
                               ("sensitivity", "specificity", "balanced_accuracy", "roc_auc", "accuracy")}  # fmt: skip
    assert len(list((folder / "out").iterdir())) == 8


def test_two_predictions_are_compared_from_the_command_line(folder: Path) -> None:
    done = run(folder, "compare", "predictions.csv", "other.csv", "--labels", "folders", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| all crops | ROC AUC |" in done.stdout
    assert json.loads((folder / "out" / "comparison.json").read_text())["pooled"]["delong"]["p_value"] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--predictions", "predictions.csv"), "error: --predictions has nothing to be judged by: got no --labels"),
        (("--predictions-json", "p.json"), "error: --predictions-json has nothing to be judged by: got no --ground-tr"),
        (("--predictions-json", "p.json", "--ground-truth", "g.json"), "error: p.json cannot be read: got [Errno 2]"),
        (
            ("--predictions-json", "p.json", "--labels", "l.csv"),
            "error: --labels says nothing about --pred",
        ),
        (
            ("--predictions-json", "p.json", "--threshold", "0"),
            "error: --threshold says nothing about --pred",
        ),
        (
            ("--predictions", "p.csv", "--ground-truth", "g.json"),
            "error: --ground-truth-json says nothing about --pred",
        ),
        (("--predictions", "predictions.csv", "--labels", "nowhere.csv"), "error: nowhere.csv cannot be read"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_exit_code_1(arguments: tuple[str, ...], line: str, folder: Path) -> None:
    done = run(folder, "evaluate", *arguments, "--out", "out")
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not (folder / "out").exists()
