import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mitoscope.bundle.formats import from_json
from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Threshold
from mitoscope.bundle.read import read_bundle
from mitoscope.errors import WeightsError

LITE = Path(__file__).resolve().parents[3] / "weights" / "lite"


CALIBRATION = {"method": "platt", "scale": 1, "offset": 0, "fitted_on": "", "n_crops": 1, "prevalence": 0.2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "unknown format: got 3"),
        ({"task": "segment"}, "the bundle's task cannot be used"),
        ({"classes": ["normal", "normal"]}, "the bundle's task cannot be used"),
        ({"threshold": {"value": 1.5, "rule": "", "fitted_on": "", "n_crops": 0}}, "threshold cannot be used: got 1.5"),
        ({"threshold": {"value": 0.5}}, "malformed"),
        ({"members": []}, "the list of members cannot be used"),
        ({"members": [{"file": "../fold0.safetensors", "sha256": ""}]}, "a member cannot be used"),
        ({"members": [{"file": "a.safetensors", "sha256": ""}] * 2}, "the list of members cannot be used"),
        ({"members": [{"file": "a.safetensors", "sha256": "", "kind": "half"}]}, "a member cannot be used"),
        ({"members": [{"file": "a.safetensors", "sha256": "", "orientations": [8]}]}, "a member cannot be used"),
        ({"members": [{"file": "a.safetensors", "sha256": "", "orientations": [1, 1]}]}, "a member cannot be used"),
        (
            {"members": [{"file": f"{k}.safetensors", "sha256": "", "orientations": [0] * k} for k in range(2)]},
            "the members' orientations cannot be used",
        ),
        (
            {"members": [{"file": "a.safetensors", "sha256": "", "kind": "adapter"}]},
            "the base cannot be used: got None",
        ),
        ({"base": {"sha256": "", "licence": "MIT", "file": "base.safetensors"}}, "the base cannot be used"),
        ({"base": {"sha256": "", "licence": "MIT", "file": "../base.safetensors"}}, "the base cannot be used"),
        ({"calibration": {**CALIBRATION, "scale": 0}}, "calibration cannot"),
        ({"calibration": {**CALIBRATION, "prevalence": 1}}, "calibration cannot"),
        ({"rounding": {"int8": {"n_crops": 1, "largest_change": 0, "flipped": 0}}}, "the rounding cannot be used"),
        ({"rounding": {"fp16": {"n_crops": 1, "largest_change": 0, "flipped": 2}}}, "the rounding cannot be used"),
        (
            {"input": {"crop_px": 63, "size_px": 64, "interpolation": "bicubic", "mean": [0] * 3, "std": [1] * 3}},
            "crop_px=63",
        ),
        ({"input": 3}, "malformed"),
        ({"training": 3}, "the provenance cannot be used"),
        ({"training_crops": 3}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": []}}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": {"sharpness": {"mean": 0}}}}, "malformed"),
        ({"training_crops": {"n_crops": 1, "features": {}}}, "training crops cannot be used"),
        ({"surprise": 1}, "malformed"),
    ],
)
def test_an_unusable_manifest_is_explained(
    copy: Path, edit: Callable[..., None], changes: dict[str, object], message: str
) -> None:
    edit(copy, **changes)
    with pytest.raises(WeightsError, match=message):
        read_bundle(copy)


@pytest.mark.parametrize("name", ["my bundle", "a/b", ""])
def test_a_name_that_no_file_can_bear_is_refused(copy: Path, edit: Callable[..., None], name: str) -> None:
    edit(copy, name=name)
    with pytest.raises(WeightsError, match="the bundle's name cannot be used"):
        read_bundle(copy)


def test_a_threshold_must_be_a_float() -> None:
    with pytest.raises(WeightsError, match="threshold cannot be used: got 1"):
        Threshold(1, "", "", 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_px": 130.0},
        {"crop_px": 63},
        {"size_px": 8},
        {"interpolation": "area"},
        {"std": (0.0, 1.0, 1.0)},
        {"mean": (0.5,)},
        {"mean": (0.5, 0.5, "x")},
    ],
)
def test_an_unusable_input_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="the network's input cannot be used"):
        InputSpec(**changes)  # type: ignore[arg-type]


def make_format_1() -> dict:
    """A manifest as format 1 was written."""
    threshold = {"value": 0.4, "rule": "otsu", "fitted_on": "out-of-fold", "n_crops": 9}
    member = {"sha256": "0", "balanced_accuracy": 0.7, "roc_auc": 0.8}
    return {
        "format": 1,
        "name": "old",
        "architecture": "efficientvit_b0",
        "positive_class": "atypical",
        "input": {"crop_px": 64, "size_px": 128, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": threshold,
        "members": [{**member, "fold": k, "file": f"fold{k}.safetensors"} for k in range(5)],
        "bf16": {"n_crops": 9, "largest_change": 0.1, "flipped": 0.0},
        "training": {"commit": "c0de"},
    }


def test_format_1_is_read_as_format_2() -> None:
    bundle = from_json(make_format_1(), Path("folder"))
    assert (bundle.task, bundle.classes, bundle.threshold.rule) == ("classify", ("normal", "atypical"), "otsu")
    assert [(member.fold, member.kind) for member in bundle.members] == [(k, "full") for k in range(5)]
    assert bundle.members[0].metrics == {"balanced_accuracy": 0.7, "roc_auc": 0.8}
    assert bundle.rounding["bf16"].largest_change == 0.1
    assert (bundle.base, bundle.calibration, bundle.training_crops) == (None, None, None)


def test_format_1_with_another_positive_class_is_refused() -> None:
    with pytest.raises(WeightsError, match="the positive class cannot be used: got normal"):
        from_json({**make_format_1(), "positive_class": "normal"}, Path("folder"))


def test_the_default_weights_are_read() -> None:
    bundle = read_bundle(LITE)
    assert len(bundle.members) == 5
    assert bundle.training_crops is not None
    assert json.loads((LITE / "manifest.json").read_text())["format"] in (1, 2)
