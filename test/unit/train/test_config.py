import pytest

from model.errors import MitosisError
from train.config import PRESETS, FitConfig, override


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
    ],
)
def test_a_wrong_setting_is_explained(setting: str, message: str) -> None:
    with pytest.raises(MitosisError, match=message):
        override(FitConfig(), [setting])
