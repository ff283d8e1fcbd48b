"""Figures and their crops: what another start takes over, and what is kept in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from unit.slide.conftest import FIGURES, N_ATYPICAL

from mitoscope.bundle.manifest import Member
from mitoscope.bundle.read import read_bundle
from mitoscope.classify.classifier import Classifier
from mitoscope.detect.detector import Detector
from mitoscope.images.slide import Slide, open_slide
from mitoscope.networks.build import build_network
from mitoscope.networks.shared import share_base
from mitoscope.slide import figures as module
from mitoscope.slide.figures import classify
from mitoscope.slide.journal import Journal

POINTS = np.array([(x + 0.5, y + 0.5, 0.9 - 0.01 * number) for number, (x, y) in enumerate(FIGURES)])


@pytest.fixture
def slide(tmp_path: Path, drawn: np.ndarray) -> Slide:
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric="rgb", tile=(64, 64), resolution=(40000, 40000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return open_slide(tmp_path / "a.tif")


def test_figures_keep_their_own_crop_when_a_new_one_comes_before_them(
    slide: Slide, truth: tuple[Detector, Classifier], tmp_path: Path
) -> None:
    """A tile that can be read after all adds figures, and so all later ones have other numbers."""
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        classify(truth[1], slide, POINTS[1:], journal)
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        resumed = classify(truth[1], slide, POINTS, journal)
    with Journal(tmp_path / "fresh.jsonl", {}) as journal:
        fresh = classify(truth[1], slide, POINTS, journal)
    assert (fresh.p_atypical >= truth[1].threshold).sum() == N_ATYPICAL
    assert (resumed.p_atypical == fresh.p_atypical).all() and (resumed.members == fresh.members).all()
    assert resumed.images == fresh.images


def test_only_crops_that_the_page_can_show_are_kept_and_one_that_moves_up_is_read_again(
    slide: Slide, truth: tuple[Detector, Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CARDS", 3)
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        found = classify(truth[1], slide, POINTS, journal)
        assert sum(bool(part["image"]) for part in journal.done.values()) == 3
    assert all(found.images[:3]) and found.images[3:] == [""] * (len(POINTS) - 3)
    assert not np.isnan(found.p_atypical).any()
    with Journal(tmp_path / "figures.jsonl", {}) as journal:
        moved = classify(truth[1], slide, POINTS[2:], journal)
    assert all(moved.images[:3]) and not any(moved.images[3:])
    assert (moved.p_atypical == found.p_atypical[2:]).all() and moved.images[0] == found.images[2]


def make_adapters(tiny_bundle: Path) -> Classifier:
    """Three adapters on one small base, which they share in memory."""
    random = torch.Generator().manual_seed(0)
    network = build_network("vit_tiny_patch16_224", 64)
    base = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.")}

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) * 0.1

    adapters = [
        (f"adapter{number}", {"head.weight": draw(1, 192), "head.bias": torch.zeros(1)} | {
            f"blocks.{block}.attn.qkv.lora_{letter}": draw(*shape)
            for block in range(12) for letter, shape in (("a", (8, 192)), ("b", (576, 8)))
        })
        for number in range(3)
    ]  # fmt: skip
    bundle = read_bundle(tiny_bundle)
    members = tuple(Member(f"{name}.safetensors", "") for name, _ in adapters)
    spec = replace(bundle.input, size_px=64)
    shared = share_base("vit_tiny_patch16_224", 64, base, adapters)
    return Classifier(replace(bundle, members=members, input=spec), shared, torch.device("cpu"), "fp32")


@pytest.mark.parametrize("kind", ["adapters", "members"])
def test_two_threads_compute_what_one_does(
    slide: Slide, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Adapters on one base are chosen by switching it: two threads at once would use each other's."""
    classifier = make_adapters(tiny_bundle) if kind == "adapters" else Classifier.load(tiny_bundle, device="cpu")
    monkeypatch.setitem(module.FORWARD_CROPS, "cpu", 4)
    places = np.random.default_rng(0).uniform((100, 100), (800, 600), (64, 2))
    points = np.column_stack([places, np.linspace(0.9, 0.5, len(places))])
    found, before = [], torch.get_num_threads()
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        with Journal(tmp_path / f"{n_threads}.jsonl", {}) as journal:
            found.append(classify(classifier, slide, points, journal).members)
    torch.set_num_threads(before)
    assert np.ptp(found[0]) > 0.001
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)
