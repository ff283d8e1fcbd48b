"""Small real things that several tests share: a bundle of five random networks, a stack, a case, a data folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mitoscope.sockets import INPUT_SLUG, REGION_SLUG
from mitoscope.training.data.table import CropData, read_data, write_data
from model import classification, detection

IMAGES_FOLDERS = {INPUT_SLUG: classification.IMAGES_FOLDER, REGION_SLUG: detection.IMAGES_FOLDER}
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def stack() -> np.ndarray:
    """uint8 (16, 128, 128, 3): sixteen different smooth pages with a dark spot, no two channels alike."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 256, (16, 8, 8, 3), dtype=np.uint8)
    pages = np.stack([np.asarray(Image.fromarray(page).resize((128, 128))) for page in coarse])
    for page, (x, y) in zip(pages, rng.integers(40, 80, (16, 2)), strict=True):
        page[y : y + 12, x : x + 12] //= 3
    return pages


@pytest.fixture(scope="session")
def save_tiff() -> Callable[..., Path]:
    """A function (path, pages, compression) that writes a multi-page TIFF with Pillow."""

    def save(path: Path, pages: np.ndarray | list[np.ndarray], compression: str = "raw") -> Path:
        first, *others = [Image.fromarray(page) for page in pages]
        first.save(path, save_all=True, append_images=others, compression=compression, dpi=(101600, 101600))
        return path

    return save


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Path]:
    """A function (key, slug) that makes a case's folder with inputs.json and an empty image folder."""

    def make(key: str = "interface", slug: str = INPUT_SLUG, name: str = "input") -> Path:
        folder = tmp_path / name
        (folder / IMAGES_FOLDERS.get(slug, classification.IMAGES_FOLDER)).mkdir(parents=True)
        value = {key: {"slug": slug, "kind": "Image"}, "image": {"name": "stack_1.tiff"}, "file": None}
        (folder / "inputs.json").write_text(json.dumps([value]), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of five EfficientViT-B0 with random weights and inputs of 64 px.

    Batch norm's statistics come from random images: with the initial ones, the probabilities of two pages differ by
    1e-7 only, and no test could distinguish them.
    """
    import torch

    from mitoscope.bundle.inputs import InputSpec
    from mitoscope.bundle.manifest import Bundle, Member, Threshold
    from mitoscope.bundle.members import write_bundle
    from mitoscope.networks.build import build_network

    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.randn(32, 3, 8, 8), size=64, mode="bilinear")
    states = []
    for _ in range(5):
        network = build_network("efficientvit_b0", 64).train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            network(images)
        states.append(network.state_dict())
    bundle = Bundle(
        folder=tmp_path_factory.mktemp("bundles") / "tiny",
        name="tiny",
        architecture="efficientvit_b0",
        input=InputSpec(size_px=64),
        threshold=Threshold(value=0.5, rule="fixed", fitted_on="nothing", n_crops=0),
        members=tuple(
            Member(f"fold{k}.safetensors", "", fold=k, metrics={"balanced_accuracy": 0.5, "roc_auc": 0.5})
            for k in range(5)
        ),
    )
    return write_bundle(bundle, states).folder


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of one detector on EfficientNet-Lite0, with random weights, at 0.5 µm per px.

    Its last layer's weights are large, so that it finds some points in every picture that is not blank, of which some
    are above the threshold.
    """
    import torch

    from mitoscope.bundle.inputs import InputSpec
    from mitoscope.bundle.manifest import Bundle, Member, Threshold
    from mitoscope.bundle.members import write_bundle
    from mitoscope.networks.build import build_detector

    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 16, 16), size=128, mode="bilinear")
    network = build_detector("tf_efficientnet_lite0", 1).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(images)
        for layer in network.bbox_head.rtm_cls:
            layer.weight.normal_(0, 0.3)
            layer.bias.fill_(-1.0)
    bundle = Bundle(
        folder=tmp_path_factory.mktemp("bundles") / "tiny-detector",
        name="tiny-detector",
        architecture="tf_efficientnet_lite0",
        input=InputSpec(size_px=256, mpp=0.5),
        threshold=Threshold(value=0.5, rule="fixed", fitted_on="nothing", n_crops=0),
        members=(Member("fold0.safetensors", ""),),
        task="detect",
        classes=("mitotic figure",),
    )
    return write_bundle(bundle, [network.state_dict()]).folder


@pytest.fixture
def region() -> np.ndarray:
    """uint8 (360, 440, 3): uneven tissue with dark spots."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 240, (12, 15, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((440, 360))).copy()
    for x, y in zip(rng.integers(20, 400, 12), rng.integers(20, 320, 12), strict=True):
        pixels[y : y + 24, x : x + 24] //= 3
    return pixels


@pytest.fixture(scope="session")
def run_inference() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function (*arguments) that runs inference.py as its own process, as the container does."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "inference.py", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 crops, 4 a case; every fourth atypical, with three dark spots for one; the last 10 of another source."""
    random = np.random.default_rng(0)
    crops = random.normal((225, 180, 205), 12, (80, 128, 128, 3)).clip(0, 255).astype(np.uint8)
    for row, crop in enumerate(crops):
        for x in (52, 64, 76) if row % 4 == 0 else (64,):
            crop[58:70, x - 4 : x + 4] = (70, 40, 110)
    atypical = np.arange(80) % 4 == 0
    table = pd.DataFrame(
        {
            "image_id": [f"made/{row}" for row in range(80)],
            "path": "",
            "label": np.where(atypical, "atypical", "normal"),
            "domain": ["breast" if row < 40 else "lung" for row in range(80)],
            "case": [f"slide{row // 4}" if row < 70 else None for row in range(80)],
            "source": ["made" if row < 70 else "other" for row in range(80)],
            "sha256": [f"{row:064x}" for row in range(80)],
            "part": "",
            "cohort": "made",
            "scanner": "",
            "species": "human",
            "x_px": 64,
            "y_px": 64,
            "atypical_votes": np.where(atypical, 2 / 3, 0.0),
            "subclass_1": np.where(atypical, "AMF multipolar", "NMF metaphase"),
            "subclass_2": np.where(atypical, "AMF other", "NMF metaphase"),
        }
    )
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, table, crops)
    return folder


@pytest.fixture(scope="session")
def data(data_folder: Path) -> CropData:
    return read_data(data_folder)


@pytest.fixture(scope="session")
def scored_crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 130 crops in crops/, predictions.csv without a record (threshold 0.5 or near), and labels.csv.

    The first crop's name and the first domain's are markup that would run a script where it is taken for such.
    """
    folder, number = tmp_path_factory.mktemp("scored"), np.arange(130)
    names = ["<img src=x onerror=alert(1)>.png", *(f"{k:03}.png" for k in number[1:])]
    (folder / "crops").mkdir()
    for name, shade in zip(names, np.random.default_rng(0).integers(90, 250, (130, 3), np.uint8), strict=True):
        crop = np.full((128, 128, 3), shade)
        crop[54:74, 58:70] = (70, 40, 110)
        Image.fromarray(crop).save(folder / "crops" / name)
    p = number * 37 % 130 / 130 + 0.002
    spread = np.linspace(-0.1, 0.1, 5) * (number % 5)[:, None]  # (130, 5)
    members = {f"member_{k}": (p[:, None] + spread).clip(0, 1).round(6)[:, k] for k in range(5)}
    called = np.where(p >= 0.5, "atypical", "normal")
    pd.DataFrame({"image_id": names, "p_atypical": p.round(6), "class": called, **members}).to_csv(
        folder / "predictions.csv", index=False
    )
    truth = p + (number * 17 % 130 / 130 - 0.5) * 0.6 > 0.5
    domains = np.array(["</script><script>alert(3)</script>", "lung", "skin"])[number % 3]
    labels = {
        "label": np.where(truth, "atypical", "normal"),
        "domain": domains,
        "case": [f"slide{k // 3}" for k in number],
    }
    pd.DataFrame({"image_id": names, **labels}).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def strict_bundle(tiny_bundle: Path, scored_crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a manifest by which only crops as sharp as 001.png of the scored crops are unusual."""
    from mitoscope.images.stain import FEATURES, measure_crops

    with Image.open(scored_crops / "crops" / "001.png") as image:
        sharpness = measure_crops(np.asarray(image)[None])[0, -1]
    folder = tmp_path_factory.mktemp("bundles") / "strict"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    features = {name: {"mean": 0.0, "std": 0.0, "low": -99.0, "high": 99.0} for name in FEATURES}
    features["sharpness"]["high"] = sharpness - 1e-9
    del manifest["checksum"]
    manifest["training_crops"] = {"n_crops": 1, "features": features}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
