import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mitoscope.bundle.manifest import Base, Bundle, Calibration, Member
from mitoscope.bundle.members import parse_member, write_bundle
from mitoscope.bundle.read import read_bundle, read_content
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.preprocess import preprocess
from mitoscope.errors import DeviceError, WeightsError
from mitoscope.networks.build import build_network

LAYERS = ("head.classifier.0", "head.classifier.4")


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, device="cpu")


def test_the_probability_is_the_mean_of_the_members(classifier: Classifier, stack: np.ndarray) -> None:
    p_members = classifier.predict_members(stack)
    assert p_members.shape == (5, 16)
    assert p_members.dtype == np.float64
    np.testing.assert_array_equal(classifier.predict_proba(stack), p_members.mean(axis=0))


def test_a_folder_may_be_named_by_a_string(classifier: Classifier, tiny_bundle: Path) -> None:
    assert Classifier.load(str(tiny_bundle), device="cpu").bundle == classifier.bundle


def test_members_give_the_probabilities_of_timm_s_networks(
    classifier: Classifier, tiny_bundle: Path, stack: np.ndarray
) -> None:
    bundle = read_bundle(tiny_bundle)
    images, expected = preprocess(stack, bundle.input), []
    for member in bundle.members:
        network = build_network(bundle.architecture, bundle.input.size_px).eval()
        network.load_state_dict(parse_member(read_content(bundle, member), member.file))
        expected.append(network(images).detach().sigmoid().squeeze(1))
    np.testing.assert_allclose(classifier.predict_members(stack), np.stack(expected), atol=1e-6)


def test_other_crops_change_no_probability(classifier: Classifier, stack: np.ndarray) -> None:
    p_members = classifier.predict_members(stack)
    for some in (slice(0, 1), slice(3, 8)):
        np.testing.assert_allclose(classifier.predict_members(stack[some]), p_members[:, some], atol=1e-6)


def test_repeatable_probabilities_are_equal_to_the_bit(classifier: Classifier, stack: np.ndarray) -> None:
    p_members = classifier.predict_members(np.concatenate([stack, stack[:5]]), repeatable=True)
    np.testing.assert_array_equal(p_members[:, 16:], p_members[:, :5])
    np.testing.assert_array_equal(classifier.predict_members(stack[4:5], repeatable=True), p_members[:, 4:5])
    np.testing.assert_allclose(classifier.predict_members(stack), p_members[:, :16], rtol=0, atol=1e-6)


def test_no_crop_gives_no_probability(classifier: Classifier) -> None:
    assert classifier.predict_members(np.empty((0, 128, 128, 3), np.uint8)).shape == (5, 0)


def test_a_probability_that_is_not_finite_is_an_error(tiny_bundle: Path, stack: np.ndarray) -> None:
    spoilt = Classifier.load(tiny_bundle, device="cpu")
    spoilt.members[0].get_submodule("head.classifier.4").bias.data.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(DeviceError, match="16 probabilities are not finite.*--precision fp32"):
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


def test_a_full_gpu_is_an_error_of_one_line(classifier: Classifier, stack: np.ndarray) -> None:
    class Full(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    full = Classifier(classifier.bundle, [Full()] * 5, torch.device("cpu"), "fp32")
    with (
        pytest.warns(UserWarning),
        pytest.raises(DeviceError, match="memory of cpu is full: got CUDA out of memory,.* free the GPU"),
    ):
        full.predict_members(stack)


def test_a_small_gpu_computes_smaller_batches_with_a_warning(classifier: Classifier, stack: np.ndarray) -> None:
    class Small(torch.nn.Module):
        """A network on a GPU that has room for three crops."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            return self.network(images)

    small = Classifier(classifier.bundle, [Small(member) for member in classifier.members], torch.device("cpu"), "fp32")
    with pytest.raises(DeviceError, match="memory of cpu is full"):
        small.predict_members(stack, repeatable=True)
    with pytest.warns(UserWarning) as warned:
        p_members = small.predict_members(stack)
    assert [str(warning.message) for warning in warned] == [
        f"the memory of cpu is too small for {tried} crops at once: trying {tried // 2}" for tried in (16, 8, 4)
    ]
    np.testing.assert_allclose(p_members, classifier.predict_members(stack), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_members", [1, 3])
def test_any_number_of_members(tiny_bundle: Path, tmp_path: Path, stack: np.ndarray, n_members: int) -> None:
    whole = Classifier.load(tiny_bundle, device="cpu")
    states = read_states(whole.bundle)[:n_members]
    bundle = replace(whole.bundle, folder=tmp_path / "few", members=whole.bundle.members[:n_members])
    few = Classifier.load(write_bundle(bundle, states).folder, device="cpu")
    expected = whole.predict_members(stack)[:n_members]
    np.testing.assert_allclose(few.predict_proba(stack), expected.mean(axis=0), rtol=0, atol=1e-9)


def test_the_calibration_is_applied_to_the_mean(classifier: Classifier, stack: np.ndarray) -> None:
    bundle = replace(classifier.bundle, calibration=Calibration("platt", 2.0, 0.5, "out-of-fold", 9, 0.2))
    calibrated = Classifier(bundle, classifier.members, classifier.device, "fp32")
    odds = np.exp(0.5) * (classifier.predict_proba(stack) / (1 - classifier.predict_proba(stack))) ** 2
    np.testing.assert_allclose(calibrated.predict_proba(stack), odds / (1 + odds), rtol=0, atol=1e-9)


def test_a_bundle_of_another_task_is_refused(classifier: Classifier) -> None:
    bundle = replace(classifier.bundle, task="detect", classes=("mitotic figure",))
    with pytest.raises(
        WeightsError, match="does not classify crops of 128 px: got task detect, classes mitotic figure"
    ):
        Classifier.place(bundle, iter(()), classifier.device, "fp32")


def read_states(bundle: Bundle) -> list[dict[str, torch.Tensor]]:
    return [parse_member(read_content(bundle, member), member.file) for member in bundle.members]


@pytest.fixture
def adapters(tiny_bundle: Path) -> tuple[Bundle, dict, list[dict]]:
    """The manifest of two adapters on one base, the base's tensors and the adapters'."""
    bundle = read_bundle(tiny_bundle)
    base = read_states(bundle)[0]
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=random) * 0.05).half()

    changes = [
        {
            f"{layer}{factor}": draw(*shape)
            for layer in LAYERS
            for out, inner in [base[f"{layer}.weight"].shape]
            for factor, shape in ((".lora_a", (2, inner)), (".lora_b", (out, 2)))
        }
        | {"head.classifier.4.bias": torch.tensor([0.3 * k])}
        for k in (1, 2)
    ]
    members = tuple(Member(f"adapter{k}.safetensors", "", "adapter", fold=k) for k in range(2))
    return replace(bundle, members=members, base=Base("", "MIT", "base.safetensors")), base, changes


def merge(base: dict[str, torch.Tensor], changes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The full member that an adapter stands for, by the definition: W + B A."""
    merged = {**base, "head.classifier.4.bias": changes["head.classifier.4.bias"]}
    for layer in LAYERS:
        change = changes[f"{layer}.lora_b"].double() @ changes[f"{layer}.lora_a"].double()
        merged[f"{layer}.weight"] = (base[f"{layer}.weight"].double() + change).float()
    return merged


def test_adapters_give_the_probabilities_of_the_merged_members(
    adapters: tuple[Bundle, dict, list[dict]], tmp_path: Path, stack: np.ndarray
) -> None:
    bundle, base, changes = adapters
    written = write_bundle(replace(bundle, folder=tmp_path / "adapters"), changes, base)
    got = Classifier.load(written.folder, device="cpu").predict_members(stack)
    full = replace(bundle, base=None, members=tuple(replace(member, kind="full") for member in bundle.members))
    states = [merge(base, one) for one in changes]
    expected = Classifier.of(full, iter(states), torch.device("cpu"), "fp32").predict_members(stack)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    assert np.abs(got[0] - got[1]).max() > 0.01
    unchanged = Classifier.of(full, iter([base, base]), torch.device("cpu"), "fp32").predict_members(stack)
    assert np.abs(got - unchanged).max() > 0.01

    outside = tmp_path / "outside"  # the same, with a base that the bundle may not hold
    outside.mkdir()
    shutil.move(written.folder / "base.safetensors", outside / "any-name.safetensors")
    write_bundle(replace(written, base=replace(written.base, file=None)), changes)
    with pytest.raises(WeightsError, match="the bundle lacks its base .*got no --base"):
        Classifier.load(written.folder, device="cpu")
    found = Classifier.load(written.folder, device="cpu", base=outside)
    np.testing.assert_array_equal(found.predict_members(stack), got)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda adapter: adapter.pop("head.classifier.0.lora_a"),
        lambda adapter: adapter.update({"head.nothing.lora_a": torch.zeros(2, 2)}),
        lambda adapter: adapter.update({"head.classifier.0.lora_a": torch.zeros(2, 3)}),
        lambda adapter: adapter.update({"head.classifier.0.lora_a": torch.zeros(2)}),
        lambda adapter: adapter.update({"head.surplus": torch.zeros(2)}),
    ],
    ids=["no partner", "no layer", "other shape", "vector", "surplus"],
)
def test_an_adapter_of_another_base_is_refused(
    adapters: tuple[Bundle, dict, list[dict]], tmp_path: Path, spoil: Callable[[dict], object]
) -> None:
    bundle, base, changes = adapters
    spoil(changes[1])
    folder = write_bundle(replace(bundle, folder=tmp_path / "adapters"), changes, base).folder
    with pytest.raises(WeightsError, match=r"adapter1.safetensors is (an adapter )?of another (base|architecture)"):
        Classifier.load(folder, device="cpu")


def test_a_layer_that_is_replaced_and_adapted_is_refused(
    adapters: tuple[Bundle, dict, list[dict]], tmp_path: Path
) -> None:
    bundle, base, changes = adapters
    changes[1]["head.classifier.4.weight"] = base["head.classifier.4.weight"].clone()
    folder = write_bundle(replace(bundle, folder=tmp_path / "adapters"), changes, base).folder
    with pytest.raises(WeightsError, match=r"adapter1.safetensors changes a layer in two ways"):
        Classifier.load(folder, device="cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_share_the_converted_base(
    adapters: tuple[Bundle, dict, list[dict]], tmp_path: Path, stack: np.ndarray, precision: str
) -> None:
    bundle, _, _ = adapters
    base = {name: tensor.half() for name, tensor in build_network("test_vit", 64).state_dict().items()}
    layer = "blocks.0.attn.qkv"
    out, inner = base[f"{layer}.weight"].shape
    changes = [
        {f"{layer}.lora_a": torch.full((2, inner), k / 64), f"{layer}.lora_b": torch.full((out, 2), 0.125)}
        for k in (1, 2)
    ]
    vit = replace(bundle, folder=tmp_path / "vit", architecture="test_vit")
    folder = write_bundle(vit, changes, base).folder
    classifier = Classifier.load(folder, device="cpu", precision=precision)
    first, second = (member.state_dict() for member in classifier.members)
    own = {name for name in first if first[name].data_ptr() != second[name].data_ptr()}
    assert own == {f"{layer}.weight"}
    merged = base[f"{layer}.weight"].float() + changes[0][f"{layer}.lora_b"] @ changes[0][f"{layer}.lora_a"]
    torch.testing.assert_close(first[f"{layer}.weight"], merged.to(first[f"{layer}.weight"].dtype), atol=0, rtol=0)
    assert np.isfinite(classifier.predict_members(stack)).all()
