import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.cli import build_parser, main

COMMANDS = ("classify", "detect", "merge", "evaluate", "compare", "report", "stress", "check", "train")
TRUTH = np.arange(80) % 4 == 0
SCORES = (np.random.default_rng(0).beta(2, 5, 80) * 0.7 + TRUTH * 0.25).round(6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two predictions of the same crops, whose folders are their labels."""
    image_id = [f"{'Atypical' if atypical else 'Normal'}/{row}.png" for row, atypical in enumerate(TRUTH)]
    for name, p in (("predictions.csv", SCORES), ("other.csv", SCORES**2)):
        called = np.where(p >= 0.3, "atypical", "normal")
        pd.DataFrame({"image_id": image_id, "p_atypical": p, "class": called}).to_csv(tmp_path / name, index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_predictions_are_evaluated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--predictions", "predictions.csv", "--labels", "folders", "--out", "out"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("# predictions.csv against folders")
    assert out.endswith("wrote out\n")
    aggregates = json.loads((folder / "out" / "metrics.json").read_text())["aggregates"]
    assert set(aggregates) == {f"overall_{name}" for name in
                               ("sensitivity", "specificity", "balanced_accuracy", "roc_auc", "accuracy")}  # fmt: skip
    assert len(list((folder / "out").iterdir())) == 8


def test_two_predictions_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "predictions.csv", "other.csv", "--labels", "folders", "--out", "out"]) == 0
    assert "| all crops | ROC AUC |" in capsys.readouterr().out
    assert json.loads((folder / "out" / "comparison.json").read_text())["pooled"]["delong"]["p_value"] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "--predictions predictions.csv",
            "--predictions needs --labels: got none, expected --labels and the word folders or a CSV",
        ),
        ("--predictions-json p.json", "--predictions-json needs --ground-truth: got none"),
        ("--predictions-json p.json --ground-truth g.json", "g.json cannot be read: got [Errno 2]"),
        ("--predictions-json p.json --labels l.csv", "--labels cannot be combined with --predictions-json: got l.csv"),
        ("--predictions-json p.json --threshold 0", "--threshold cannot be combined with --predictions-json: got 0.0"),
        ("--predictions p.csv --ground-truth g.json", "--ground-truth cannot be combined with --predictions: got g.j"),
        ("--predictions predictions.csv --labels nowhere.csv", "nowhere.csv does not exist: got no such file"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    arguments: str, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments.split(), "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_help_lists_every_command_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert set(COMMANDS) <= set(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("mitoscope ")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_a_shard_outside_of_its_count_is_refused(shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["classify", "--crops", "x", "--out", "y", f"--shard={shard}"])
    assert stop.value.code == 2
    assert f"got {shard!r}, expected i/N with i from 1 to N, such as 2/8" in capsys.readouterr().err


def test_the_networks_have_the_same_options_in_each_command() -> None:
    parser = build_parser(with_training=False)
    model = ["--weights", "w", "--base", "b", "--device", "cpu"]
    crops = ["--crops", "c", "--out", "o", *model]
    for command in (
        ["classify", "--precision", "fp32"],
        ["stress", "--precision", "fp32"],
        ["report", "--predictions", "p"],
    ):
        options = parser.parse_args([*command, *crops])
        assert (options.weights, options.base, options.device) == (Path("w"), Path("b"), "cpu")
