import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mitoscope.bundle.manifest import Bundle, InputSpec, Member, Rounding, Threshold
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.bundle.read import read_bundle, read_content
from mitoscope.classify.classifier import Classifier, choose_precision
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DeviceError, WeightsError
from mitoscope.networks.build import build_network, restore_network
from model import ensemble as module


@pytest.fixture(scope="module")
def ensemble(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, device="cpu")


def test_the_mean_of_the_members_is_the_answer(ensemble: Classifier, stack: np.ndarray) -> None:
    p_members = ensemble.predict_members(stack)
    assert p_members.shape == (5, 16)
    assert p_members.dtype == np.float64
    np.testing.assert_array_equal(ensemble.predict_proba(stack), p_members.mean(axis=0))


def test_a_folder_may_be_named_by_a_string(ensemble: Classifier, tiny_bundle: Path) -> None:
    assert Classifier.load(str(tiny_bundle), device="cpu").bundle == ensemble.bundle


def test_each_member_is_its_own_network(ensemble: Classifier, tiny_bundle: Path, stack: np.ndarray) -> None:
    bundle = read_bundle(tiny_bundle)
    images, expected = preprocess(stack, bundle.input), []
    for member in bundle.members:
        network = build_network(bundle.architecture, bundle.input.size_px).eval()
        network.load_state_dict(parse_member(read_content(bundle, member), member.file))
        expected.append(network(images).detach().sigmoid().squeeze(1))
    np.testing.assert_allclose(ensemble.predict_members(stack), np.stack(expected), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_does_not_matter(ensemble: Classifier, stack: np.ndarray, batch_size: int) -> None:
    np.testing.assert_allclose(ensemble.predict_proba(stack, batch_size), ensemble.predict_proba(stack), atol=1e-6)


def test_no_crop_gives_no_probability(ensemble: Classifier) -> None:
    assert ensemble.predict_members(np.empty((0, 128, 128, 3), np.uint8)).shape == (5, 0)


def test_a_probability_that_is_no_number_is_an_error(tiny_bundle: Path, stack: np.ndarray) -> None:
    spoilt = Classifier.load(tiny_bundle, device="cpu")
    spoilt.members[0].get_submodule("head.classifier.4").bias.data.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(DeviceError, match="16 probabilities are no numbers.*--precision fp32"):
        spoilt.predict_members(stack)


@pytest.mark.parametrize(("name", "shape"), [("efficientvit_b1", "of shape"), ("resnet18", "no tensor|surplus tensor")])
def test_a_member_of_another_architecture_is_refused(tiny_bundle: Path, tmp_path: Path, name: str, shape: str) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    content = safetensors.torch.save(build_network(name, 64).state_dict())
    (folder / "fold2.safetensors").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["members"][2]["sha256"] = hashlib.sha256(content).hexdigest()
    del manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=f"fold2.safetensors is of another architecture: got .*({shape})"):
        Classifier.load(folder, device="cpu")


def test_a_network_that_computes_what_it_does_not_store_is_whole() -> None:
    torch.manual_seed(0)
    network = build_network("eva02_tiny_patch14_224", 56).eval()  # its rotary embedding is no part of its state
    restored = restore_network("eva02_tiny_patch14_224", 56, network.state_dict(), "fold0")
    images = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(restored(images), network(images), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "flipped", "native", "expected"),
    [
        ("efficientvit_l2.r256_in1k", 0.005, True, "bf16"),
        ("efficientvit_l2", 0.006, True, "fp32"),
        ("efficientvit_l2", None, True, "fp32"),
        ("efficientvit_l2", 0.0, False, "fp32"),
        ("efficientvit_b0", 0.0, True, "fp32"),
        ("vit_small_patch16_224", 0.0, True, "fp32"),
    ],
)
def test_auto_takes_bf16_where_it_pays_and_was_measured_to_be_harmless(
    ensemble: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    flipped: float | None,
    native: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(module.torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    bf16 = None if flipped is None else Rounding(400, 0.01, flipped)
    bundle = replace(ensemble.bundle, architecture=architecture, bf16=bf16)
    assert choose_precision("auto", torch.device("cpu"), bundle) == expected
    assert choose_precision("auto", torch.device("cuda"), bundle) == "fp16"
    assert choose_precision("fp32", torch.device("cpu"), bundle) == "fp32"


def test_what_the_machine_lacks_is_refused(tiny_bundle: Path, ensemble: Classifier) -> None:
    with pytest.raises(DeviceError, match="--precision fp16 cannot be used"):
        choose_precision("fp16", torch.device("cpu"), ensemble.bundle)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cuda cannot be used"):
            Classifier.load(tiny_bundle, device="cuda")


def test_a_full_gpu_is_told_in_one_line(ensemble: Classifier, stack: np.ndarray) -> None:
    class Full(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    full = Classifier(ensemble.bundle, [Full()] * 5, torch.device("cpu"), "fp32")
    with (
        pytest.warns(UserWarning),
        pytest.raises(DeviceError, match="memory of cpu is full: got CUDA out of memory,.* free the GPU"),
    ):
        full.predict_members(stack)


def test_a_gpu_too_small_for_a_batch_is_given_smaller_ones_and_says_so(ensemble: Classifier, stack: np.ndarray) -> None:
    class Small(torch.nn.Module):
        """A network on a GPU that has room for three crops."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            return self.network(images)

    small = Classifier(ensemble.bundle, [Small(member) for member in ensemble.members], torch.device("cpu"), "fp32")
    with pytest.raises(DeviceError, match="memory of cpu is full"):
        small.predict_members(stack, shrink=False)  # where every digit is promised
    with pytest.warns(UserWarning) as told:
        p_members = small.predict_members(stack)
    assert [str(warning.message) for warning in told] == [
        f"the memory of cpu is too small for {tried} crops at once: trying {tried // 2}" for tried in (16, 8, 4)
    ]
    np.testing.assert_array_equal(p_members, ensemble.predict_members(stack, 2))


@pytest.mark.gpu
def test_half_precision_on_the_gpu_agrees_with_the_cpu(tmp_path: Path, stack: np.ndarray) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    bundle = write_bundle(
        Bundle(
            folder=tmp_path / "l2",
            name="l2-random",
            architecture="efficientvit_l2",
            input=InputSpec(128, 256),
            threshold=Threshold(0.5, "fixed", "nothing", 0),
            members=tuple(Member(k, f"fold{k}.safetensors", "", 0.5, 0.5) for k in range(5)),
        ),
        [build_network("efficientvit_l2", 256).state_dict() for _ in range(5)],
    )
    on_cpu = Classifier.load(bundle.folder, device="cpu").predict_members(stack)
    on_gpu = Classifier.load(bundle.folder, device="cuda").predict_members(stack)
    print(
        f"largest change of a probability, fp16 on the GPU against fp32 on the CPU: {np.abs(on_gpu - on_cpu).max():.2e}"
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-2)
