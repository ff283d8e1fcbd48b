"""From crops to a bundle: a probe's metrics, and its heads on one base as inference runs them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.cli import main
from mitoscope.errors import DataError, WeightsError
from mitoscope.scoring.detection.tables import FIGURE, HARD_NEGATIVE
from mitoscope.training.data.table import CropData
from mitoscope.training.folds import Folds, split
from mitoscope.training.foundation.embedder import Embedder
from mitoscope.training.foundation.probe.heads import configure_probe
from mitoscope.training.foundation.probe.publish import find_probe_base, publish_probe
from mitoscope.training.foundation.probe.run import Probe, fit_probe
from mitoscope.training.foundation.probe.store import Embeddings

HOLD_OUT = "source=other"


@pytest.fixture(scope="module")
def folds(data: CropData) -> Folds:
    return split(data, [HOLD_OUT])


@pytest.fixture(scope="module")
def probe(data: CropData, folds: Folds, embeddings: Embeddings) -> Probe:
    return fit_probe("probe", configure_probe("probe", ["c=0.01"]), data, folds, embeddings)


def test_each_crop_is_predicted_by_the_head_that_never_saw_its_fold(
    data: CropData, folds: Folds, probe: Probe, embeddings: Embeddings
) -> None:
    for number, head in enumerate(probe.heads):
        rows = data.rows_of(list(folds.folds[number]))
        own = probe.predictions.fold == number
        np.testing.assert_array_equal(probe.predictions.rows[own], rows)
        np.testing.assert_allclose(probe.predictions.p_atypical[own], head.predict(embeddings.values[rows]))
    assert probe.p_held_out[HOLD_OUT].shape == (5, 10)
    assert len(probe.predictions) == 70


def test_the_command_writes_metrics_and_a_bundle_that_inference_runs(
    data_folder: Path, data: CropData, folds: Folds, probe: Probe, embeddings_folder: Path, base: Path,
    embedder: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, bundle = tmp_path / "results", tmp_path / "tiny"
    command = ["train", "probe", "--data", data_folder, "--embeddings", embeddings_folder, "--hold-out", HOLD_OUT]
    command += ["--set", "c=0.01", "--out", out, "--publish", bundle, "--base", base]
    assert main([str(word) for word in command]) == 0, capsys.readouterr().err
    found = json.loads((out / "figures.json").read_text())
    assert found["studies"]["probe"]["held_out"][HOLD_OUT]["n_networks"] == 5
    assert found["embeddings"]["made_by"]["network"] == "test_resnet"
    assert "| probe | out of fold | 70 " in (out / "tables.md").read_text()
    assert (out / "roc-1.svg").is_file()

    written = read_bundle(bundle)
    assert [member.kind for member in written.members] == ["adapter"] * 5
    assert written.base == embedder.base  # named as if it were stored
    assert len(list(bundle.glob("*.safetensors"))) == 5
    assert "logistic regression on its embeddings, with C = 0.01" in " ".join(
        (bundle / "README.md").read_text().split()
    )
    rows = data.rows_of(list(folds.held_out[HOLD_OUT]))
    p_members = Classifier.load(bundle, device="cpu", precision="fp32", base=base).predict_members(data.crops[rows])
    np.testing.assert_allclose(p_members, probe.p_held_out[HOLD_OUT], atol=2e-3)
    assert np.ptp(p_members) > 0.01


def test_what_cannot_be_published_is_refused_before_anything_is_fitted(
    data: CropData, embeddings: Embeddings, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, linear = tmp_path / "bundle", configure_probe("probe", [])
    with pytest.raises(DataError, match="knn cannot be published: got nearest neighbours"):
        find_probe_base("knn", configure_probe("knn", []), data, embeddings, base, out, embed_base=False)
    with monkeypatch.context() as patch:
        patch.setattr("mitoscope.training.bases.weights.find_licence", lambda _: "cc-by-nc-nd-4.0")
        with pytest.raises(WeightsError, match="may not hold the weights of .*: got the licence cc-by-nc-nd-4.0"):
            find_probe_base("probe", linear, data, embeddings, base, out, embed_base=True)
    other = replace(embeddings, record={"made_by": {**embeddings.record["made_by"], "base_sha256": "0" * 64}})
    with pytest.raises(DataError, match="the embeddings were made by other weights: got sha256 .* expected 0000"):
        find_probe_base("probe", linear, data, other, base, out, embed_base=False)
    with pytest.raises(DataError, match="my bundle cannot be a bundle's folder: got 'my bundle'"):
        find_probe_base("probe", linear, data, embeddings, base, tmp_path / "my bundle", embed_base=False)
    figures = data.table.assign(label=data.table["label"].map({"atypical": FIGURE, "normal": HARD_NEGATIVE}))
    with pytest.raises(DataError, match="probe cannot be published: got the classes hard negative, mitotic figure"):
        find_probe_base("probe", linear, CropData(figures, data.crops), embeddings, base, out, embed_base=False)


def test_what_to_do_about_a_head_that_predicts_something_else(
    data: CropData, folds: Folds, probe: Probe, embeddings: Embeddings, base: Path, tmp_path: Path
) -> None:
    moved = replace(probe, predictions=replace(probe.predictions, p_atypical=probe.predictions.p_atypical + 0.01))
    out = tmp_path / "bundle"
    found = find_probe_base("probe", probe.settings, data, embeddings, base, out, embed_base=False)
    for stored, remedy in (
        (True, "publish without --embed-base: a base is stored in fp16"),
        (False, "run mitoscope train embed into another folder with --precision fp32"),
    ):
        with pytest.raises(DataError, match=f"fold0.safetensors changed when it was written: got .*; {remedy}"):
            publish_probe(moved, data, folds, embeddings, found, "one_half", out, embed_base=stored)
    assert not out.exists()


@pytest.mark.long
def test_another_split_is_published_again_and_results_may_have_any_name(
    data_folder: Path, embeddings_folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, results = str(tmp_path / "tiny"), tmp_path / "my results"
    results.mkdir()
    (results / "roc-1.svg").write_text("of a former run, which held something out")
    command = ["train", "probe", "--data", str(data_folder), "--embeddings", str(embeddings_folder), "--seed", "3"]
    command += ["--set", "c=0.01", "--out", str(results), "--publish", bundle, "--base", str(base)]
    assert main(command) == 0, capsys.readouterr().err
    assert {path.name for path in results.iterdir()} == {"figures.json", "tables.md"}
    again = ["train", "publish", "--bundle", bundle, "--data", str(data_folder), "--out", bundle, "--base", str(base)]
    assert main(again) == 0, capsys.readouterr().err


def test_bad_options_are_one_clear_line(
    data_folder: Path, embeddings_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["train", "probe", "--data", str(data_folder), "--out", str(tmp_path / "out")]
    for words, message in (
        (["--embeddings", str(tmp_path)], "embeddings.json cannot be read"),
        (["--embeddings", str(embeddings_folder), "--probe", "svm"], "the probe svm is unknown"),
        (["--embeddings", str(embeddings_folder), "--probe", "probe", "knn", "--publish", "x"], "takes one probe"),
        (["--embeddings", str(embeddings_folder), "--probe", "knn", "--set", "c=0.1"], "--set c=0.1 changes nothing"),
        (["--embeddings", str(embeddings_folder), "--embed-base"], "--embed-base needs --publish"),
        (["--embeddings", str(embeddings_folder), "--base", "x"], "--base needs --publish"),
    ):
        assert main([*common, *words]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
