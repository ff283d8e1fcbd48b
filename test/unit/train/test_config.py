import pytest
import torch

from model.errors import MitosisError
from model.network import build_network
from train.config import COUNTERPARTS, LATER, PRESETS, FitConfig, configure, hash_settings, override


def test_settings_reach_nested_fields() -> None:
    config = override(FitConfig(), ["epochs=3", "augment.zoom=0", "architecture=efficientvit_b1", "pretrained=true"])
    assert (config.epochs, config.augment.zoom, config.architecture, config.pretrained) == (
        3,
        0.0,
        "efficientvit_b1",
        True,
    )


def test_a_change_anywhere_changes_the_hash() -> None:
    assert override(FitConfig(), ["augment.zoom=0.1"]).sha256 != FitConfig().sha256 == PRESETS["lite"].sha256


def test_a_setting_added_later_leaves_finished_fits_finished() -> None:
    before = {name: value for name, value in FitConfig().to_dict().items() if name not in LATER}
    assert hash_settings(before) == FitConfig().sha256
    assert override(FitConfig(), ["mixup_alpha=0.2"]).sha256 != FitConfig().sha256
    assert {name: getattr(FitConfig(), name) for name in LATER} == LATER


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "names no setting: got epoch"),
        ("epochs=many", "has no usable value: got many, expected a int"),
        ("epochs=1.5", "has no usable value"),
        ("augment=3", "has no usable value"),
        ("epochs=true", "has no usable value"),
        ("epochs.foo=3", "has no usable value"),
        ("augment.noise=-5", "augment.noise is out of range"),
        ("input.size_px=8", "not described in a usable way"),
        ("learning_rate=5", "learning_rate is out of range"),
        ("precision=half", "precision is out of range"),
        ("keep=first", "keep is out of range"),
        ("seed=-1", "seed is out of range"),
        ("augment.translate_px=100", "augment.translate_px is out of range: got 100.0, expected 0 to 64"),
    ],
)
def test_a_wrong_setting_is_explained(setting: str, message: str) -> None:
    with pytest.raises(MitosisError, match=message):
        override(FitConfig(), [setting])


@pytest.mark.parametrize("needs", [["keep=best"], ["patience=2"]])
def test_what_needs_a_validation_refuses_a_run_without_one(needs: list[str]) -> None:
    override(FitConfig(), ["validate_every=3", "epochs=3", *needs])
    with pytest.raises(MitosisError, match="is out of range"):
        override(FitConfig(epochs=3, validate_every=3), [*needs, "epochs=2"])


def test_an_unknown_preset_is_told_with_those_that_there_are() -> None:
    with pytest.raises(
        MitosisError, match="--preset light is unknown: got light, expected lite, lite0, l2, smoke, lite-focal"
    ):
        configure("light", [])


@pytest.mark.parametrize("base", COUNTERPARTS)
def test_an_ablation_is_one_change(base: str) -> None:
    names = [name for name in PRESETS if name.startswith(f"{base}-")]
    assert len(names) == 7
    for name in names:
        ours, theirs = PRESETS[base].to_dict(), PRESETS[name].to_dict()
        changed = {key for key in ours if ours[key] != theirs[key]}
        assert len(changed) == 1, name
        if changed == {"augment"}:
            steps = {key for key in ours["augment"] if ours["augment"][key] != theirs["augment"][key]}
            assert steps == {"stain_scale", "stain_shift"}
    assert PRESETS[f"{base}-no-stain"].augment.stain_scale == PRESETS[f"{base}-no-stain"].augment.stain_shift == 0


@pytest.mark.parametrize("base", COUNTERPARTS)
def test_the_counterparts_can_be_built_and_are_of_like_size(base: str) -> None:
    def n_parameters(name: str) -> int:
        with torch.device("meta"):
            network = build_network(PRESETS[name].architecture, PRESETS[name].input.size_px)
        return sum(parameter.numel() for parameter in network.parameters())

    for name in ("cnn", "vit"):
        assert 0.5 < n_parameters(f"{base}-{name}") / n_parameters(base) < 3
