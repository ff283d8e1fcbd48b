"""The committed test case is what its generator draws, and reads as the platform's own stacks do."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import TiffImageFile

TEST = Path(__file__).parents[1]
CASE = TEST / "input" / "interf0"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_stack", TEST / "render_stack.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def committed() -> Path:
    """The one image of the case, found as inputs.json tells."""
    case: list[dict[str, dict[str, str]]] = json.loads((CASE / "inputs.json").read_text(encoding="utf-8"))
    (socket,) = case
    assert socket["interface"]["slug"] == "stacked-histopathology-roi-cropouts"
    assert socket["image"]["name"]
    (path,) = CASE.joinpath(socket["interface"]["relative_path"]).iterdir()
    return path


@pytest.fixture(scope="module")
def pages(committed: Path) -> np.ndarray:
    """uint8 (16, 128, 128, 3) as Pillow reads them."""
    with Image.open(committed) as stack:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(stack)])


@pytest.mark.slow
def test_committed_case_is_what_the_generator_draws(generator: ModuleType, pages: np.ndarray, tmp_path: Path) -> None:
    drawn = generator.render_stack()
    first, second = generator.write_case(drawn, tmp_path / "a"), generator.write_case(drawn, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "inputs.json").read_bytes() == (CASE / "inputs.json").read_bytes()
    with Image.open(first) as stack:
        again = np.stack([np.asarray(page) for page in ImageSequence.Iterator(stack)])
    assert np.array_equal(again, drawn), "the file is not lossless"
    # Another processor's exp() may differ in the last bit and tip a rounding: one grey level, hardly ever.
    change = np.abs(drawn.astype(int) - pages.astype(int))
    assert change.max() <= 1
    assert (change > 0).mean() < 1e-3


def test_a_page_depends_on_the_seed_and_its_number_alone(generator: ModuleType) -> None:
    def draw(*seed: int) -> np.ndarray:
        page: np.ndarray = generator.render_page(np.random.default_rng(seed), generator.PAGES[4])
        return page

    assert np.array_equal(draw(generator.SEED, 4), draw(generator.SEED, 4))
    assert not np.array_equal(draw(generator.SEED, 4), draw(generator.SEED + 1, 4))


def test_stack_has_sixteen_rgb_pages_with_resolution(committed: Path) -> None:
    with TiffImageFile(committed) as stack:
        assert stack.n_frames == 16
        for page in ImageSequence.Iterator(stack):
            assert (page.mode, page.size) == ("RGB", (128, 128))
            assert stack.tag_v2[296] == 3  # centimetres; the tags are those of the page at hand
            assert stack.tag_v2[282] == stack.tag_v2[283] == pytest.approx(1e4 / 0.25)
    assert committed.stat().st_size < 700_000


def test_simpleitk_reads_the_same_pages(committed: Path, pages: np.ndarray) -> None:
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(committed)))
    assert by_itk.shape == (16, 128, 128, 3)
    assert np.array_equal(by_itk, pages)


def test_pages_differ(pages: np.ndarray) -> None:
    for k in range(15):
        distance = np.abs(pages[k + 1 :].astype(int) - pages[k].astype(int)).mean(axis=(1, 2, 3))
        assert (distance > 10).all()


def test_every_page_has_a_figure_in_its_centre_and_tissue_around_it(pages: np.ndarray) -> None:
    grey = pages.mean(axis=-1)
    centre = grey[:, 40:88, 40:88].reshape(16, -1)
    border = np.ones((128, 128), dtype=bool)
    border[16:-16, 16:-16] = False
    assert (np.quantile(centre, 0.08, axis=1) < np.quantile(grey[:, border], 0.08, axis=1)).all()  # black chromatin
    red, green, blue = np.median(pages, axis=(1, 2)).T
    assert (red > green + 20).all()  # eosin takes green out of the light
    assert (blue > green).all()
