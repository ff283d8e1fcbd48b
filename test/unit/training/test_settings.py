"""Settings: what can be set and how, and hashes that a new setting does not change."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from mitoscope.errors import MitoscopeError
from mitoscope.networks.build import build_network
from mitoscope.settings import override
from mitoscope.training.classify.settings import ABLATIONS, ClassifySettings
from mitoscope.training.detect.settings import DetectSettings
from mitoscope.training.presets import PRESETS, configure, fill_defaults, hash_recorded
from mitoscope.training.settings import FitConfig

LITE = PRESETS["lite"]
MANIFEST = Path(__file__).resolve().parents[3] / "weights" / "lite" / "manifest.json"
# As software recorded it that knew neither patience, nor keep, nor tasks, nor µm per px.
RECORDED = {
    "architecture": "efficientvit_b0",
    "pretrained": False,
    "input": {
        **{"crop_px": 64, "size_px": 128, "interpolation": "bicubic"},
        **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    },
    "augment": {
        **{"stain_scale": 0.2, "stain_shift": 0.03, "zoom": 0.25, "stretch": 0.1, "translate_px": 4.0},
        **{"brightness": 0.08, "contrast": 0.2, "blur_sigma_px": 1.8, "sharpen": 0.8, "noise": 0.03},
        "mirror_rotate": True,
    },
    **{"epochs": 40, "batch_size": 64, "learning_rate": 0.0005, "weight_decay": 0.05, "warmup_steps": 100},
    **{"focal_gamma": 0.0, "atypical_share": 0.5, "vote_weight": 0.5, "subclass_weight": 0.5, "drop_rate": 0.2},
    **{"ema_decay": 0.99, "clip_norm": 1.0, "validate_every": 5, "precision": "32-true", "seed": 0},
}


def test_common_and_nested_settings_are_set_by_flat_names() -> None:
    changes = ["epochs=3", "augment.zoom=0", "focal_gamma=2", "architecture=efficientvit_b1", "pretrained=true"]
    config = override(LITE, changes)
    assert (config.epochs, config.architecture, config.pretrained) == (3, "efficientvit_b1", True)
    assert (config.part.augment.zoom, config.part.focal_gamma) == (0.0, 2.0)


def test_settings_that_only_fit_together_are_set_together() -> None:
    changes = ["input.size_px=512", "input.density_mean=[]", "input.crop_px=512", "input.density_std=[]"]
    for order in (changes, changes[::-1]):
        spec = override(PRESETS["detector-lite"], order).part.input
        assert (spec.size_px, spec.crop_px, spec.density_mean, spec.density_std) == (512, 512, (), ())


def test_no_setting_of_a_task_has_the_name_of_a_common_one() -> None:
    common = {item.name for item in fields(FitConfig)} | {"task"}
    for part in (ClassifySettings, DetectSettings):
        assert not common & {item.name for item in fields(part)}


def test_the_weights_in_git_have_the_hash_of_their_preset() -> None:
    recorded = json.loads(MANIFEST.read_text(encoding="utf-8"))["training"]["config"]
    assert hash_recorded(recorded) == LITE.sha256


def test_settings_recorded_before_others_existed_keep_their_hash() -> None:
    assert hash_recorded(RECORDED) == FitConfig(ClassifySettings()).sha256
    assert fill_defaults(RECORDED)["keep"] == "last"


# A changed default would give other settings the hash of earlier ones: these hashes were computed once and stay.
@pytest.mark.parametrize(
    ("config", "sha256"),
    [
        (FitConfig(ClassifySettings()), "42f25a7344b2552ba6e7d2916643b44e07f511d10f9782bcece37ad419e3c3f0"),
        (PRESETS["l2"], "643ddf06d426e2cd291ea6570ee6893ade481ca907628ea1a5c8b611063f0d12"),
    ],
    ids=["defaults", "l2"],
)
def test_the_defaults_that_hashes_leave_out_never_change(config: FitConfig[ClassifySettings], sha256: str) -> None:
    assert config.sha256 == sha256


@pytest.mark.parametrize(
    "change",
    ["augment.zoom=0.1", "input.size_px=96", "seed=1", "keep=best", "drop_rate=0.0", "input.mean=[0.5,0.5,0.5]"],
)
def test_a_change_anywhere_changes_the_hash(change: str) -> None:
    changed = override(LITE, [change])
    assert changed.sha256 != LITE.sha256
    assert hash_recorded(json.loads(json.dumps(changed.to_dict()))) == changed.sha256


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "names no setting: got epoch, expected .*epochs.*focal_gamma"),
        ("part=3", "names no setting: got part"),
        ("epochs=many", "has no usable value: got many, expected a int"),
        ("epochs=1.5", "has no usable value"),
        ("augment=3", "has no usable value"),
        ("epochs=true", "has no usable value"),
        ("epochs.foo=3", "has no usable value"),
        ("input.foo=3", "names no setting: got foo, expected .*crop_px"),
        ("augment.noise=-5", "augment.noise is out of range"),
        ("input.size_px=8", "the network's input cannot be used"),
        ("learning_rate=5", "learning_rate is out of range"),
        ("focal_gamma=0.5", "focal_gamma is out of range"),
        ("precision=half", "precision is out of range"),
        ("keep=first", "keep is out of range"),
        ("seed=-1", "seed is out of range"),
        (
            "lora.rank=0",
            r"rank is out of range: got 0, expected a value that fits: Columns of B, 1 or more",
        ),
        ("augment.translate_px=100", "augment.translate_px is out of range: got 100.0, expected 0 to 64"),
    ],
)
def test_a_wrong_setting_is_explained(setting: str, message: str) -> None:
    with pytest.raises(MitoscopeError, match=message):
        override(LITE, [setting])


@pytest.mark.parametrize("needs", [["keep=best"], ["patience=2"]])
def test_what_needs_a_validation_refuses_a_run_without_one(needs: list[str]) -> None:
    override(LITE, ["validate_every=3", "epochs=3", *needs])
    with pytest.raises(MitoscopeError, match="is out of range"):
        override(replace(LITE, epochs=3, validate_every=3), [*needs, "epochs=2"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("light", "lite; "),
        ("detector-smok", "detector-smoke, detector-lite, "),
        ("xyz", "lite, l2, smoke, virchow-lora-r8, "),
    ],
)
def test_an_unknown_preset_is_named_with_those_like_it_or_all(name: str, expected: str) -> None:
    with pytest.raises(MitoscopeError, match=f"--preset {name} is unknown: got {name}, expected {expected}"):
        configure(name, [])


@pytest.mark.parametrize("base", ABLATIONS)
def test_an_ablation_is_one_change(base: str) -> None:
    assert {name for name in PRESETS if name.startswith(f"{base}-")} == {f"{base}-{name}" for name in ABLATIONS[base]}
    for name, config in ABLATIONS[base].items():
        ours, theirs = PRESETS[base].to_dict(), config.to_dict()
        changed = {key for key in ours if ours[key] != theirs[key]}
        assert len(changed) == 1, name
        if changed == {"augment"}:
            steps = {key for key in ours["augment"] if ours["augment"][key] != theirs["augment"][key]}
            assert steps == {"stain_scale", "stain_shift"}
    without = ABLATIONS[base]["no-stain"].part.augment
    assert without.stain_scale == without.stain_shift == 0


def test_make_ablations_runs_all_of_lite() -> None:
    makefile = (MANIFEST.parents[2] / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (names,) = (line.partition(":=")[2].split() for line in makefile.splitlines() if line.startswith("ABLATIONS :="))
    assert set(names) == {"lite", *(f"lite-{name}" for name in ABLATIONS["lite"])}


def test_the_counterparts_of_l2_can_be_built_and_are_of_similar_size() -> None:
    def n_parameters(name: str) -> int:
        config = PRESETS[name]
        with torch.device("meta"):
            network = build_network(config.architecture, config.part.input.size_px)
        return sum(parameter.numel() for parameter in network.parameters())

    for name in ("cnn", "vit"):
        assert 0.5 < n_parameters(f"l2-{name}") / n_parameters("l2") < 3
