import json

import numpy as np
import pytest
from PIL import Image

from mitoscope.classify.classifier import Classifier
from mitoscope.cli import main
from mitoscope.scoring.perturb import blur


@pytest.fixture
def crops(tmp_path, data):
    """Twelve crops in folders that name their labels."""
    for number, crop in enumerate(data.crops[:12]):
        folder = tmp_path / "crops" / ("Atypical" if data.is_atypical[number] else "Normal")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(folder / f"{number:02d}.png")
    return tmp_path / "crops"


@pytest.fixture
def run(tmp_path, tiny_bundle, crops):
    """A function (*more) that runs stress and gives exit code and folder."""

    def run(*more):
        given = ["--crops", crops, "--weights", tiny_bundle, "--device", "cpu", "--out", tmp_path / "out", *more]
        return main(["stress", *map(str, given)]), tmp_path / "out"

    return run


def test_the_table_states_the_probabilities_of_changed_crops(run, crops, tiny_bundle):
    code, out = run("--labels", "folders")
    assert code == 0
    record = json.loads((out / "stress.json").read_text())
    (row,) = [row for row in record["perturbations"] if (row["kind"], row["strength"]) == ("blur", 2.0)]
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(crops.rglob("*.png"))])
    classifier = Classifier.load(tiny_bundle, device="cpu")
    before, after = classifier.predict_proba(pixels), classifier.predict_proba(blur(pixels, 2.0))
    assert row["mean_change"] == pytest.approx(np.abs(after - before).mean(), abs=1e-5)
    assert row["max_change"] == pytest.approx(np.abs(after - before).max(), abs=1e-5)
    assert row["mean_shift"] == pytest.approx((after - before).mean(), abs=1e-5)
    assert row["flipped"] == pytest.approx(((after >= 0.5) != (before >= 0.5)).mean())
    assert {"roc_auc", "balanced_accuracy"} <= row.keys() & record["unchanged"].keys()
    assert (out / "stress.md").read_text().count("\n| ") == len(record["perturbations"]) + 3  # head, rule, unchanged
    assert (out / "stress.svg").read_text().startswith("<?xml")


def test_without_labels_there_is_no_accuracy(run):
    code, out = run()
    assert code == 0
    assert "ROC AUC" not in (out / "stress.md").read_text()


def test_wrong_labels_are_refused_before_anything_is_scored(run, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("image_id,label\na,AMM\n")
    assert run("--labels", tmp_path / "labels.csv")[0] == 1
    assert "unknown label" in capsys.readouterr().err


def test_an_unreadable_crop_is_one_line(run, crops, capsys):
    (crops / "Normal" / "z.png").write_bytes(b"no image")
    code, out = run()
    assert code == 1
    assert "1 files cannot be read: got Normal/z.png: " in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
