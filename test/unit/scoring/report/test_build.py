import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.classify.predict import predict
from mitoscope.cli import main
from mitoscope.errors import DataError, WeightsError
from mitoscope.images.stain import FEATURES, measure_crops
from mitoscope.scoring.report.build import report


def make(scored: Path, out: Path, *arguments: str | Path) -> str:
    """Run the command; returns the page."""
    files = ["--predictions", scored / "predictions.csv", "--crops", scored / "crops", "--out", out]
    assert main(["report", *map(str, [*files, *arguments])]) == 0
    return out.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What stands on the page before its data, without tags."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.partition('id="data"')[0], flags=re.DOTALL).split())


def test_the_same_input_gives_the_same_bytes(scored_crops: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ("--labels", scored_crops / "labels.csv", "--weights", tiny_bundle, "--device", "cpu")
    first = make(scored_crops, tmp_path / "one.html", *arguments)
    elsewhere = tmp_path / "moved"
    shutil.copytree(scored_crops, elsewhere)
    assert make(elsewhere, tmp_path / "two" / "two.html", *arguments) == first
    assert list((tmp_path / "two").iterdir()) == [tmp_path / "two" / "two.html"]
    for secret in (str(scored_crops), str(tmp_path), str(Path.home()), str(Path.cwd())):
        assert secret not in first


def test_metrics_counts_and_domains_stand_above_the_crops(
    scored_crops: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    page = make(scored_crops, tmp_path / "r.html", "--labels", scored_crops / "labels.csv", "--weights", tiny_bundle,
                "--no-saliency")  # fmt: skip
    table = pd.read_csv(scored_crops / "predictions.csv").merge(pd.read_csv(scored_crops / "labels.csv"))
    atypical, called = table["label"] == "atypical", table["class"] == "atypical"
    sensitivity, specificity = (
        (atypical & called).sum() / atypical.sum(),
        (~atypical & ~called).sum() / (~atypical).sum(),
    )
    text = text_of(page)
    assert "130 crops of mitotic figures from crops" in text
    assert "Not for clinical use" in text
    assert f"Sensitivity {sensitivity:.3f} 95" in text
    assert f"Balanced accuracy {(sensitivity + specificity) / 2:.3f} 95" in text
    assert f"{(~atypical & called).sum()} false alarms" in text
    assert f"{(atypical & ~called).sum()} missed" in text
    assert "bootstrap of 44 whole cases" in text
    assert f"lung {(table['domain'] == 'lung').sum()}" in text
    assert "&lt;/script&gt;&lt;script&gt;alert(3)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("data:image/svg+xml;base64,") == 4


def test_without_labels_or_record_the_page_says_so(scored_crops: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    text = text_of(make(scored_crops, tmp_path / "r.html", "--no-saliency", "--weights", tiny_bundle))
    assert "Labels none given" in text
    assert "Weights unknown" in text
    assert "there is no record beside the predictions" in text
    assert "made without Grad-CAM" in text
    assert "Balanced accuracy" not in text
    assert "What the networks see" not in text


def test_predictions_with_a_record_name_their_weights(
    scored_crops: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = tmp_path / "predictions.csv"
    assert predict([scored_crops / "crops"], predicted, weights=tiny_bundle, device="cpu") == 0
    shutil.copytree(scored_crops / "crops", tmp_path / "crops")
    Image.fromarray(np.zeros((128, 128, 3), np.uint8)).save(tmp_path / "crops" / "one_more.png")
    text = text_of(make(tmp_path, tmp_path / "r.html", "--no-saliency", "--weights", tiny_bundle))
    assert "skipped 1 crops without a prediction" in capsys.readouterr().out
    assert "Weights tiny Called atypical from P&nbsp;≥&nbsp;0.500 fixed, fitted on 0 nothing predictions" in text
    assert "cpu, fp32" in text
    with pytest.raises(
        DataError, match="predictions.csv was predicted by another bundle: got tf-efficientnet-lite0-lite"
    ):
        report(predicted, [tmp_path / "crops"], tmp_path / "other.html", weights=Path("weights/lite"))
    predicted.write_bytes(predicted.read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"predictions.csv was changed after it was made"):
        report(predicted, [tmp_path / "crops"], tmp_path / "other.html", weights=tiny_bundle)
    assert not (tmp_path / "other.html").exists()


def test_crops_unlike_the_training_crops_are_counted_and_named(
    scored_crops: Path, strict_bundle: Path, tmp_path: Path
) -> None:
    names = pd.read_csv(scored_crops / "predictions.csv")["image_id"]
    crops = np.stack([np.asarray(Image.open(scored_crops / "crops" / name)) for name in names])
    sharpness = measure_crops(crops)[:, FEATURES.index("sharpness")]
    unlike = sharpness > sharpness[1] - 1e-9
    assert 1 <= unlike.sum() < len(unlike)
    page = make(scored_crops, tmp_path / "r.html", "--no-saliency", "--weights", strict_bundle)
    assert f"unlike the training data of tiny {unlike.sum()}" in text_of(page)
    data = json.dumps([["sharpness"] if one else [] for one in unlike], separators=(",", ":"))
    assert f'"unlike":{data}' in page


def test_what_cannot_be_reported_is_refused(scored_crops: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = pd.read_csv(scored_crops / "predictions.csv")
    crops, out = [scored_crops / "crops"], tmp_path / "r.html"
    table.assign(**{"class": table["class"].iloc[::-1].to_numpy()}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(DataError, match="no threshold explains the classes of"):
        report(tmp_path / "odd.csv", crops, out, weights=tiny_bundle, saliency=False)
    pd.concat([table, table.tail(1).assign(image_id="gone.png")]).to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(DataError, match="1 predictions have no crop: got 'gone.png'"):
        report(tmp_path / "more.csv", crops, out, weights=tiny_bundle, saliency=False)
    with pytest.raises(WeightsError, match="no bundle in"):
        report(scored_crops / "predictions.csv", crops, out, weights=tmp_path, saliency=False)
    assert not out.exists()
