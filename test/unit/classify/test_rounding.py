from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mitoscope.bundle.inputs import InputSpec
from mitoscope.bundle.manifest import Bundle
from mitoscope.bundle.members import parse_member
from mitoscope.bundle.read import read_bundle, read_content
from mitoscope.classify import rounding
from mitoscope.classify.classifier import Classifier
from mitoscope.classify.rounding import measure_roundings
from tools.bench.bundles import make_bundle

CPU = torch.device("cpu")
LARGEST, MEAN = 3e-3, 6e-4  # changes of a probability by fp16; measured 1.1e-3 and 2.6e-4


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """uint8 (24, 128, 128, 3): dark figures of different sizes and shades on pink tissue with soft spots."""
    random = np.random.default_rng(0)
    coarse = random.normal((225, 180, 205), 20, (24, 16, 16, 3)).clip(0, 255).astype(np.uint8)
    crops = np.stack([np.asarray(Image.fromarray(page).resize((128, 128))) for page in coarse])
    for crop, half, shade in zip(crops, random.integers(4, 30, 24), random.integers(-30, 60, 24), strict=True):
        crop[64 - half : 64 + half, 64 - half : 64 + half] = np.array((70, 40, 110)) + shade
    return crops


def score(bundle: Bundle, state: dict[str, torch.Tensor], precision: str, crops: np.ndarray) -> np.ndarray:
    return Classifier.of(bundle, iter([state]), CPU, precision).predict_proba(crops)


def round_weights(state: dict[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    """Matrices and kernels with so many significant bits; fp16 has 11, bf16 has 8."""
    rounded = {name: tensor.float() for name, tensor in state.items()}
    for name, tensor in rounded.items():
        if tensor.ndim > 1:
            mantissa, exponent = torch.frexp(tensor)
            rounded[name] = torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)
    return rounded


@pytest.mark.long
def test_fp16_changes_little_in_the_l_series_and_a_coarser_rounding_more(tmp_path: Path, crops: np.ndarray) -> None:
    """Batch norms hold the crops' statistics: with the initial ones, all crops have nearly the same probability."""
    spec = InputSpec(128, 64)
    bundle = make_bundle(tmp_path / "l1", "efficientvit_l1", spec, crops, n_members=1, precisions=("fp16",))
    state = parse_member(read_content(bundle, bundle.members[0]), "fold0")
    full = score(bundle, state, "fp32", crops)
    assert full.std() > 0.2

    change = np.abs(score(bundle, state, "fp16", crops) - full)
    assert 0 < change.max() < LARGEST
    assert change.mean() < MEAN
    assert bundle.rounding["fp16"].largest_change == pytest.approx(change.max(), abs=1e-4)
    assert bundle.rounding["fp16"].flipped == 0

    coarser = np.abs(score(bundle, round_weights(state, 8), "fp32", crops) - full)
    assert coarser.max() > LARGEST
    assert coarser.mean() > MEAN


@pytest.mark.gpu
def test_fp16_on_a_gpu_agrees_with_fp32_on_the_cpu_in_l2(tmp_path: Path, crops: np.ndarray) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    folder = make_bundle(
        tmp_path / "l2", "efficientvit_l2", InputSpec(128, 256), crops, n_members=2, precisions=()
    ).folder
    on_cpu = Classifier.load(folder, device="cpu", precision="fp32").predict_members(crops)
    on_gpu = Classifier.load(folder, device="cuda", precision="fp16").predict_members(crops)
    assert on_cpu.std() > 0.2
    change = np.abs(on_gpu - on_cpu)
    print(f"fp16 on the GPU against fp32 on the CPU: largest change {change.max():.2e}, mean {change.mean():.2e}")
    assert change.max() < LARGEST
    assert change.mean() < MEAN


def test_the_rounding_is_that_of_the_ensemble_s_probabilities(
    tiny_bundle: Path, stack: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "MOST_CROPS", {"fp16": 8, "bf16": 17})
    many = np.tile(stack, (3, 1, 1, 1))  # 48 crops, of which every third is measured, in fp16 every sixth
    both = measure_roundings(tiny_bundle, many, ["fp16", "bf16"])
    measured = both["bf16"]
    assert (both["fp16"].n_crops, measured.n_crops) == (8, 16)
    bundle = read_bundle(tiny_bundle)
    states = [parse_member(read_content(bundle, member), member.file) for member in bundle.members]
    full, rounded = (
        Classifier.of(bundle, iter(states), CPU, precision).predict_proba(stack) for precision in ("fp32", "bf16")
    )
    assert measured.largest_change == pytest.approx(np.abs(full - rounded).max(), abs=1e-4)
    assert measured.flipped == pytest.approx(((full >= 0.5) != (rounded >= 0.5)).mean())
